-- Statements of this database by the time that they took in all. Begin at the top: `mean_ms` says whether each run is slow,
-- `calls` whether there are too many, `cache_hit_percent` whether it reads from disk. Look at the plan with EXPLAIN
-- (ANALYZE, BUFFERS) of the statement with real values; on a busy server without ANALYZE first.
SELECT
    r.rolname AS role,
    s.calls,
    round((s.total_exec_time / 1000)::numeric, 1) AS total_s,
    round(s.mean_exec_time::numeric, 1) AS mean_ms,
    round(s.max_exec_time::numeric, 1) AS max_ms,
    round((100 * s.total_exec_time / nullif(sum(s.total_exec_time) OVER (), 0))::numeric, 1) AS percent_of_time,
    s.rows,
    round(100.0 * s.shared_blks_hit / nullif(s.shared_blks_hit + s.shared_blks_read, 0), 1) AS cache_hit_percent,
    s.temp_blks_written,
    left(regexp_replace(s.query, '\s+', ' ', 'g'), 500) AS query
FROM :"statements".pg_stat_statements s
JOIN pg_database d ON d.oid = s.dbid AND d.datname = current_database()
LEFT JOIN pg_roles r ON r.oid = s.userid
ORDER BY s.total_exec_time DESC
LIMIT 50
