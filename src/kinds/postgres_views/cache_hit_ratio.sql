-- How much of what tables and indexes were asked for came from PostgreSQL's memory, the most read from disk first. Below 99 percent
-- for a table that matters, the working set does not fit: look at slow_queries for what reads so much before buying memory. The
-- system's own cache is not seen here.
SELECT
    s.schemaname AS schema,
    s.relname AS "table",
    s.heap_blks_read + coalesce(s.idx_blks_read, 0) + coalesce(s.toast_blks_read, 0) AS blocks_read,
    round(100.0 * s.heap_blks_hit / nullif(s.heap_blks_hit + s.heap_blks_read, 0), 2) AS table_hit_percent,
    round(100.0 * s.idx_blks_hit / nullif(s.idx_blks_hit + s.idx_blks_read, 0), 2) AS index_hit_percent,
    d.stats_reset AS counted_since
FROM pg_statio_user_tables s
LEFT JOIN pg_stat_database d ON d.datname = current_database()
ORDER BY blocks_read DESC
