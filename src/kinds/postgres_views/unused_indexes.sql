-- Indexes that no query used since `counted_since`. They cost every write. Before DROP INDEX CONCURRENTLY: has the counter run
-- over a month's end, and does a standby use it? Unique indexes and those of constraints are not listed: they guard data. An unused
-- index is not a broken one.
SELECT
    s.schemaname AS schema,
    s.relname AS "table",
    s.indexrelname AS index,
    pg_size_pretty(pg_relation_size(s.indexrelid)) AS size,
    s.idx_scan AS scans,
    d.stats_reset AS counted_since
FROM pg_stat_user_indexes s
JOIN pg_index i ON i.indexrelid = s.indexrelid
LEFT JOIN pg_stat_database d ON d.datname = current_database()
WHERE s.idx_scan = 0
    AND NOT i.indisunique
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = s.indexrelid)
ORDER BY pg_relation_size(s.indexrelid) DESC
