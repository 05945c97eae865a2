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

/// Limits that a version brought, with that version. Older ones refuse a session that names them, and a limit of milliseconds ends
/// a session before its first statement where it is not fixed at the start. `ask.sh` has the same list.
pub const NEWER: [(u16, &str); 2] = [(14, "idle_session_timeout=0"), (17, "transaction_timeout=0")];

/// The `options` of a connection string (libpq), in single quotes there. The version is the server's major one; without it
/// nothing is fixed that an older server might refuse.
pub fn options(version: Option<u16>, own: &[&str]) -> String {
    let newer = NEWER.iter().filter(|(since, _)| version.is_some_and(|version| version >= *since));
    let all = FIXED.iter().chain(newer.map(|(_, setting)| setting)).chain(own);
    all.map(|setting| format!("-c {setting}")).collect::<Vec<_>>().join(" ")
}
