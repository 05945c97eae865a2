-- Indexes that PostgreSQL does not use because building them did not end: what a failed CREATE INDEX CONCURRENTLY or REINDEX
-- CONCURRENTLY leaves. They cost every write. While `being_built` is true, wait; otherwise DROP INDEX CONCURRENTLY and build it
-- again. This says nothing about damage; pg_amcheck looks for that.
SELECT
    n.nspname AS schema,
    t.relname AS "table",
    c.relname AS index,
    pg_size_pretty(pg_relation_size(c.oid)) AS size,
    i.indisready AS is_written_to,
    EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid) AS being_built
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)
ORDER BY pg_relation_size(c.oid) DESC
