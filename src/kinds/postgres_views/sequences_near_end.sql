-- Sequences that have used half of what they or their column can count to; at the end every INSERT fails. Where the column is the
-- limit, it must become bigint, which rewrites the table: plan it long before. `used_percent` is unknown where you may not read the
-- sequence; ask as postgres.
WITH counted AS (
    SELECT
        s.schemaname AS schema,
        s.sequencename AS sequence,
        t.relname AS "table",
        a.attname AS "column",
        format_type(a.atttypid, NULL) AS column_type,
        s.last_value,
        least(
            s.max_value,
            CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE s.max_value END
        ) AS ends_at,
        s.increment_by,
        s.cycle,
        has_sequence_privilege(c.oid, 'SELECT, USAGE') AS readable
    FROM pg_sequences s
    JOIN pg_namespace n ON n.nspname = s.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.sequencename AND c.relkind = 'S'
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
        AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    LEFT JOIN pg_class t ON t.oid = d.refobjid
    LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
)
SELECT
    schema,
    sequence,
    "table",
    "column",
    column_type,
    last_value,
    ends_at,
    round(100.0 * last_value / ends_at, 1) AS used_percent,
    CASE WHEN NOT readable THEN 'you may not read it' END AS unknown_because
FROM counted
WHERE increment_by > 0 AND NOT cycle AND (NOT readable OR last_value > ends_at / 2)
ORDER BY used_percent DESC NULLS LAST
