//! The questions about fail2ban that need more than one word, and the check of a file before it is put in place.

use crate::kinds::host_fail2ban::jails::{POSTGRES, REPEATERS, SSHD, SSHD_JOURNAL, names};
use crate::kinds::host_fail2ban::{Desired, effect};

pub(super) const ASK_LOADED: [&str; 2] = ["fail2ban-client", "-d"];
/// Asks a running server many things at once: each call of the client costs 60 ms of Python. How a pattern reads is
/// not needed, how many there are is.
pub(super) const ASK_RUNNING: &str =
    r#"printf '%s\n' "$@" | fail2ban-client -i 2>/dev/null | sed 's/^\([|`]- \[[0-9]*\]\): .*/\1/'"#;
/// Takes the newest login from where the jail looks for failures, and makes of its beginning the line of a failed one,
/// so that the filter is tried on how this host's sshd really writes.
pub(super) const TRY_SSHD: &str = r#"seen=$(journalctl -q --no-pager -o short -n 1 --grep='^Accepted ' "$1")
case $seen in *': Accepted '*) ;; *) exit 3 ;; esac
fail2ban-regex -o ip "${seen%%: Accepted *}: $2" "$3""#;
/// Recorded from OpenSSH 9.2: what remains of somebody who has no key.
pub(super) const FAILED_LOGIN: &str = "Connection closed by authenticating user admin 192.0.2.1 port 39276 [preauth]";
pub(super) const SSHD_FILTER: &str = "sshd[mode=aggressive]";
/// Recorded from fail2ban 1.0.2.
pub(super) const A_BAN: &str = "2026-11-21 11:38:01,123 fail2ban.actions        [1863]: NOTICE  [sshd] Ban 192.0.2.1";
/// Recorded from PostgreSQL 15.
pub(super) const FAILED_PASSWORD: &str = "2026-11-21 11:50:00.123 UTC [811] user=app,db=app,app=[unknown],client=192.0.2.1 FATAL:  password authentication failed for user \"app\"";
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

/// For each jail, a command that prints [`CAUGHT`] where its filter knows a failed login.
pub(super) fn ask_caught(desired: &Desired) -> Vec<(&'static str, Vec<&'static str>)> {
    let regex = |line: &'static str, filter: &'static str| vec!["fail2ban-regex", "-o", "ip", line, filter];
    let mut asked = vec![
        (SSHD, vec!["sh", "-c", TRY_SSHD, "sh", SSHD_JOURNAL, FAILED_LOGIN, SSHD_FILTER]),
        (REPEATERS, regex(A_BAN, "recidive")),
    ];
    if desired.postgres {
        asked.push((POSTGRES, regex(FAILED_PASSWORD, "seawall-postgresql")));
    }
    asked
}
