//! What every session of ours in PostgreSQL fixes for itself, over whatever somebody set for the database, the role or the server.

/// Nobody's time limits, isolation or role; PostgreSQL's own functions before anybody else's; one form of dates, strings and
/// names; nothing compiled for one use, and no library that a database's owner named.
const FIXED: [&str; 15] = [
    "default_transaction_isolation=read\\\\ committed",
    "default_transaction_deferrable=off",
    "idle_in_transaction_session_timeout=0",
    "client_min_messages=error",
    "search_path=pg_catalog",
    "role=none",
    "local_preload_libraries=",
    "client_encoding=UTF8",
    "datestyle=ISO",
    "intervalstyle=postgres",
    "standard_conforming_strings=on",
    "quote_all_identifiers=off",
    "extra_float_digits=1",
    "jit=off",
    "row_security=on",
];

/// The `options` of a connection string (libpq), in single quotes there.
pub fn options(own: &[&str]) -> String {
    FIXED.iter().chain(own).map(|setting| format!("-c {setting}")).collect::<Vec<_>>().join(" ")
}
