-- Indexes that are the same as another one of their table: same method, columns, order and condition. Keep the one that a constraint
-- needs (`guards_data`) and drop the others with DROP INDEX CONCURRENTLY.
SELECT
    n.nspname AS schema,
    t.relname AS "table",
    array_agg(c.relname ORDER BY i.indisprimary DESC, i.indisunique DESC, c.relname) AS indexes,
    array_agg(i.indisunique ORDER BY i.indisprimary DESC, i.indisunique DESC, c.relname) AS guards_data,
    pg_size_pretty(sum(pg_relation_size(c.oid))) AS size_of_all
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
GROUP BY
    n.nspname, t.relname, i.indrelid, c.relam, i.indkey::text, i.indclass::text, i.indcollation::text, i.indoption::text,
    pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)
HAVING count(*) > 1
ORDER BY sum(pg_relation_size(c.oid)) DESC
