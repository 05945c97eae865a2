-- Who waits for a lock, and who holds it. Several rows of one blocker: begin there. `blocking_pid` 0 is a prepared transaction
-- (pg_prepared_xacts). Is the blocker idle in a transaction, its application forgot COMMIT. SELECT pg_cancel_backend(PID) stops
-- its statement, pg_terminate_backend(PID) its session; both roll back what it did.
SELECT
    w.pid AS waiting_pid,
    w.usename AS waiting_role,
    clock_timestamp() - w.state_change AS waiting_for,
    w.wait_event AS waits_for,
    left(regexp_replace(w.query, '\s+', ' ', 'g'), 500) AS waiting_query,
    p.pid AS blocking_pid,
    b.usename AS blocking_role,
    b.state AS blocking_state,
    clock_timestamp() - b.xact_start AS blocking_transaction_open_for,
    left(regexp_replace(b.query, '\s+', ' ', 'g'), 500) AS blocking_last_query
FROM pg_stat_activity w
CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS p (pid)
LEFT JOIN pg_stat_activity b ON b.pid = p.pid
WHERE w.wait_event_type = 'Lock' AND w.datname = current_database()
ORDER BY w.state_change
