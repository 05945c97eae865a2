-- Transactions that are open for longer than a minute, and sessions that sit idle in one for more than ten seconds. They hold
-- locks and keep VACUUM from removing dead rows (`xmin_age`). Idle in a transaction is an application that forgot COMMIT:
-- mend it there. To end one now: SELECT pg_terminate_backend(PID); its work is rolled back.
SELECT
    a.pid,
    a.usename AS role,
    a.application_name,
    a.client_addr,
    a.state,
    clock_timestamp() - a.xact_start AS open_for,
    clock_timestamp() - a.state_change AS in_state_for,
    a.wait_event_type,
    a.wait_event,
    age(a.backend_xmin) AS xmin_age,
    left(regexp_replace(a.query, '\s+', ' ', 'g'), 500) AS last_query
FROM pg_stat_activity a
WHERE a.datname = current_database()
    AND a.backend_type = 'client backend'
    AND a.pid <> pg_backend_pid()
    AND (
        clock_timestamp() - a.xact_start > interval '1 minute'
        OR (a.state LIKE 'idle in transaction%' AND clock_timestamp() - a.state_change > interval '10 seconds')
    )
ORDER BY a.xact_start
