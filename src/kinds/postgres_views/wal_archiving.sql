-- Whether WAL leaves the server; what has not left is lost with it. `failing` true, or `since_last` far above `archive_timeout` while
-- something writes: read PostgreSQL's log for what archive_command says. `segments_waiting` fill the disk; never delete them by
-- hand.
SELECT
    current_setting('archive_mode') AS archive_mode,
    current_setting('archive_timeout') AS archive_timeout,
    a.archived_count,
    a.last_archived_wal,
    a.last_archived_time,
    clock_timestamp() - a.last_archived_time AS since_last,
    a.failed_count,
    a.last_failed_wal,
    a.last_failed_time,
    coalesce(a.last_failed_time > a.last_archived_time, a.last_failed_time IS NOT NULL) AS failing,
    (SELECT count(*) FROM pg_ls_archive_statusdir() f WHERE f.name LIKE '%.ready') AS segments_waiting,
    a.stats_reset AS counted_since
FROM pg_stat_archiver a
