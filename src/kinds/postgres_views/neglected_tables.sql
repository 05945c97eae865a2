-- Tables that autovacuum should have been at by its own rule and was not, or that it may not touch. Look for long_transactions and
-- replication_slots first, which keep dead rows from going; then whether autovacuum keeps up (pg_stat_progress_vacuum). VACUUM
-- (ANALYZE) of the table is safe at any time.
WITH judged AS (
    SELECT
        s.schemaname AS schema,
        s.relname AS "table",
        s.n_live_tup AS live_rows,
        s.n_dead_tup AS dead_rows,
        coalesce(o.threshold, current_setting('autovacuum_vacuum_threshold')::double precision)
            + coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::double precision)
            * greatest(c.reltuples, 0) AS due_at,
        coalesce(o.enabled, current_setting('autovacuum')::boolean) AS autovacuum,
        s.n_mod_since_analyze AS changes_since_analyze,
        greatest(s.last_vacuum, s.last_autovacuum) AS last_vacuum,
        greatest(s.last_analyze, s.last_autoanalyze) AS last_analyze
    FROM pg_stat_user_tables s
    JOIN pg_class c ON c.oid = s.relid
    LEFT JOIN LATERAL (
        SELECT
            max(r.option_value) FILTER (WHERE r.option_name = 'autovacuum_vacuum_threshold')::double precision AS threshold,
            max(r.option_value) FILTER (WHERE r.option_name = 'autovacuum_vacuum_scale_factor')::double precision AS scale,
            max(r.option_value) FILTER (WHERE r.option_name = 'autovacuum_enabled')::boolean AS enabled
        FROM pg_options_to_table(c.reloptions) r
    ) o ON true
)
SELECT
    schema,
    "table",
    live_rows,
    dead_rows,
    due_at::bigint AS due_at_dead_rows,
    round(100.0 * dead_rows / nullif(live_rows + dead_rows, 0), 1) AS dead_percent,
    autovacuum,
    changes_since_analyze,
    last_vacuum,
    last_analyze
FROM judged
WHERE dead_rows > 2 * due_at OR NOT autovacuum OR (last_analyze IS NULL AND live_rows > 10000)
ORDER BY dead_rows DESC
