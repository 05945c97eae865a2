-- WAL that replication slots keep on this disk. An inactive slot keeps it for ever, and keeps VACUUM from removing dead rows
-- (`xmin_age`): if its reader will not come back, SELECT pg_drop_replication_slot(NAME). `wal_status` lost: its reader must be set up
-- anew.
SELECT
    s.slot_name,
    s.slot_type,
    s.database,
    s.active,
    s.wal_status,
    pg_size_pretty(
        pg_wal_lsn_diff(
            CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
            s.restart_lsn
        )
    ) AS wal_kept,
    pg_size_pretty(s.safe_wal_size) AS until_lost,
    greatest(age(s.xmin), age(s.catalog_xmin)) AS xmin_age
FROM pg_replication_slots s
ORDER BY s.restart_lsn
