-- How far the oldest transactions are from the point where PostgreSQL stops taking writes (100 percent). Autovacuum begins by itself
-- at `autovacuum_freeze_max_age`, about 10 percent. Above 40: find what holds it back (long_transactions, replication_slots,
-- pg_prepared_xacts), then VACUUM (FREEZE) the oldest tables of the oldest database.
SELECT * FROM (
    SELECT
        'database' AS what,
        d.datname::text AS name,
        age(d.datfrozenxid) AS transactions,
        mxid_age(d.datminmxid) AS multixacts,
        round(100.0 * greatest(age(d.datfrozenxid), mxid_age(d.datminmxid)) / 2147483647, 1) AS percent
    FROM pg_database d
    ORDER BY percent DESC
) databases
UNION ALL
SELECT * FROM (
    SELECT
        'table of ' || current_database(),
        format('%I.%I', n.nspname, c.relname),
        age(c.relfrozenxid),
        mxid_age(c.relminmxid),
        round(100.0 * greatest(age(c.relfrozenxid), mxid_age(c.relminmxid)) / 2147483647, 1) AS percent
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 't') AND c.relfrozenxid <> '0'::xid
    ORDER BY percent DESC, pg_relation_size(c.oid) DESC
    LIMIT 20
) tables
