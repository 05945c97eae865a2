//! The questions about fail2ban that need more than one word, and the check of a file before it is put in place.

use crate::kinds::host;
use crate::kinds::host_fail2ban::jails::{POSTGRES, REPEATERS, SSHD, SSHD_JOURNAL, names};
use crate::kinds::host_fail2ban::{Desired, effect};
use crate::plan::step::HostStep;

/// Seconds for asking everything once: five starts of Python, on a small server.
const REMEMBER_S: u32 = 60;

/// What only depends on files, asked again only when they are others ([decision 30](../../../docs/decisions/0030-what-fail2bans-files-come-to.md)).
const FILES: &str = include_str!("files.sh");
/// Remembers the answers on the host, in root's own folder.
const REMEMBER: &str = "remember";
/// Asks a running server many things at once: each call of the client costs 60 ms of Python. How a pattern reads is
/// not needed, how many there are is.
pub(super) const ASK_RUNNING: &str =
    r#"printf '%s\n' "$@" | fail2ban-client -i 2>/dev/null | sed 's/^\([|`]- \[[0-9]*\]\): .*/\1/'"#;
/// Recorded from OpenSSH 9.2: what remains of somebody who has no key.
pub(super) const FAILED_LOGIN: &str =
    "{}: Connection closed by authenticating user admin 192.0.2.1 port 39276 [preauth]";
pub(super) const SSHD_FILTER: &str = "sshd[mode=aggressive]";
/// Recorded from fail2ban 1.0.2.
pub(super) const A_BAN: &str = "2026-11-21 11:38:01,123 fail2ban.actions        [1863]: NOTICE  [sshd] Ban 192.0.2.1";
/// Recorded from PostgreSQL 15.
pub(super) const FAILED_PASSWORD: &str = "2026-11-21 11:50:00.123 UTC [811] app=[unknown],client=192.0.2.1 FATAL:  password authentication failed for user \"app\"";
pub(super) const CAUGHT: &str = "192.0.2.1";

/// Loads the whole configuration with one file exchanged, without touching the real one.
pub(super) const CHECK: &str = r#"tree=$(mktemp -d) && cp -a /etc/fail2ban/. "$tree" && cp -- "$2" "$tree/$1" && fail2ban-client -c "$tree" -t
status=$?
rm -rf -- "$tree"
exit "$status""#;

pub(super) fn ask_running(desired: &Desired) -> Vec<String> {
    let fixed = ["sh", "-c", ASK_RUNNING, "sh"].map(str::to_owned);
    fixed.into_iter().chain(effect::questions(&names(desired))).collect()
}

fn ask_files(desired: &Desired, verb: &'static str) -> Vec<&'static str> {
    let mut argv = vec!["sh", "-c", FILES, "sh", verb, SSHD_JOURNAL];
    argv.extend([SSHD, SSHD_FILTER, FAILED_LOGIN, REPEATERS, "recidive", A_BAN]);
    if desired.postgres {
        argv.extend([POSTGRES, "seawall-postgresql", FAILED_PASSWORD]);
    }
    argv
}

/// Prints the configuration that would be loaded.
pub(super) fn ask_loaded(desired: &Desired) -> Vec<&'static str> {
    ask_files(desired, "loads")
}

/// Prints a line for each jail, with [`CAUGHT`] where its filter knows a failed login.
pub(super) fn ask_caught(desired: &Desired) -> Vec<&'static str> {
    ask_files(desired, "catches")
}

pub(super) fn remember(desired: &Desired) -> HostStep {
    host::run(&ask_files(desired, REMEMBER), REMEMBER_S, "remember what fail2ban's files come to")
}

/// Whether each jail's filter knows a failed login, from the answer to [`ask_caught`].
pub(super) fn caught(jail: &str, said: &str) -> Option<bool> {
    let line = said.lines().find_map(|line| line.strip_prefix(jail)?.strip_prefix(' '))?;
    Some(line.trim() == CAUGHT)
}
