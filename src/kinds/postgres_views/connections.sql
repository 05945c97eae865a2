-- Connections of the whole cluster by role and state, beside the role's limit and the server's. Near `server_limit` nobody gets in:
-- look for many `idle` (a pool that is too large) or `idle in transaction` (long_transactions says who).
SELECT
    coalesce(a.usename, '(background)') AS role,
    a.datname AS database,
    coalesce(a.state, a.backend_type) AS state,
    count(*) AS connections,
    max(clock_timestamp() - a.state_change) AS longest_in_state,
    nullif(max(r.rolconnlimit), -1) AS role_limit,
    current_setting('max_connections')::integer AS server_limit
FROM pg_stat_activity a
LEFT JOIN pg_roles r ON r.oid = a.usesysid
GROUP BY 1, 2, 3
ORDER BY connections DESC, role
