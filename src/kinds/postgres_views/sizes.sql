-- What takes the disk in this database: each table with its indexes and long values. For the disk itself look at the server: WAL, logs
-- and other databases are not in here.
SELECT
    n.nspname AS schema,
    c.relname AS "table",
    pg_size_pretty(pg_total_relation_size(c.oid)) AS total,
    pg_size_pretty(pg_relation_size(c.oid)) AS rows_only,
    pg_size_pretty(pg_indexes_size(c.oid)) AS indexes,
    round(100.0 * pg_total_relation_size(c.oid) / nullif(pg_database_size(current_database()), 0), 1) AS percent_of_database,
    CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END AS estimated_rows
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY pg_total_relation_size(c.oid) DESC
