-- An estimate of what each table would shrink by, from the planner's statistics; it is rough where ANALYZE was long ago and
-- for wide columns that are stored out of line. Dead rows are reused, so some is healthy. Above half of a large table: see
-- whether long_transactions or neglected_tables says why before thinking of VACUUM FULL, which locks the table for as long as
-- it takes.
WITH row_width AS (
    SELECT s.starelid, sum((1 - s.stanullfrac) * s.stawidth) AS bytes
    FROM pg_statistic s
    WHERE NOT s.stainherit
    GROUP BY s.starelid
), sized AS (
    SELECT
        n.nspname AS schema,
        c.relname AS "table",
        c.reltuples::bigint AS estimated_rows,
        pg_relation_size(c.oid) AS bytes,
        -- 24 bytes of header and 4 of line pointer, data in steps of 8.
        ceil(
            c.reltuples * (28 + 8 * ceil(w.bytes / 8))
            / ((current_setting('block_size')::integer - 24) * coalesce(f.percent, 100) / 100.0)
        ) * current_setting('block_size')::integer AS needed
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN row_width w ON w.starelid = c.oid
    LEFT JOIN LATERAL (
        SELECT o.option_value::integer AS percent
        FROM pg_options_to_table(c.reloptions) o
        WHERE o.option_name = 'fillfactor'
    ) f ON true
    WHERE c.relkind IN ('r', 'm')
        AND c.relpersistence <> 't'
        AND c.reltuples > 0
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
)
SELECT
    schema,
    "table",
    estimated_rows,
    pg_size_pretty(bytes) AS size,
    pg_size_pretty(greatest(bytes - needed, 0)::bigint) AS estimated_waste,
    round((100 * greatest(bytes - needed, 0) / nullif(bytes, 0))::numeric, 1) AS waste_percent
FROM sized
ORDER BY bytes - needed DESC
