//! What can go wrong on the way to a host, told apart, with what to do about each.
//!
//! `ssh` says it in words only; [`HostError::from_log`] is the one place that reads them.

use crate::plan::host::Endpoint;
use crate::plan::observed::Unseen;
use crate::reach::Failure;

/// Why a host could not be asked or told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("no host key of `{0}` is known, so nothing was sent to it")]
    NoHostKeys(String),
    #[error("a host key of `{server}` cannot be used: {why}")]
    BadHostKey { server: String, why: String },
    #[error("connection to {0} was refused: nothing listens there")]
    ConnectionRefused(String),
    #[error("{at} did not answer within {seconds} s")]
    TimedOut { at: String, seconds: u64 },
    #[error("no way to {at}: {why}")]
    NoRoute { at: String, why: String },
    #[error("{at} closed the connection before the login: {why}")]
    Closed { at: String, why: String },
    #[error("host key of {at} is not the pinned one: pinned {}, offered {}", pinned.join(", "), offered.as_deref().unwrap_or("a key of another type"))]
    HostKeyMismatch { at: String, pinned: Vec<String>, offered: Option<String> },
    #[error("{user} was not let in at {at}: {why}")]
    PermissionDenied { at: String, user: String, why: String },
    #[error("{user} may not become root on {at}: {why}")]
    SudoRefused { at: String, user: String, why: String },
    #[error("sudo on {at} keeps what {user} sends to programs, and secrets would be sent")]
    SudoLogsInput { at: String, user: String },
    #[error("the connection to {0} was lost")]
    Lost(String),
    #[error("the answer of {at} was not understood: {why}")]
    Misread { at: String, why: String },
    #[error("`ssh` could not be run here: {0}")]
    Local(String),
}

impl HostError {
    /// Reads what `ssh` logged when the login failed. `pinned` are the fingerprints that were accepted.
    pub fn from_log(at: &Endpoint, log: &str, pinned: Vec<String>, limit_s: u64) -> Self {
        let place = place(at);
        let has = |text: &str| log.contains(text);
        let why = || last_line(log);
        if has("HOST IDENTIFICATION HAS CHANGED") || has("Host key verification failed") || has("host key is known for")
        {
            let offered = log.split_whitespace().find(|word| word.starts_with("SHA256:"));
            return Self::HostKeyMismatch {
                at: place,
                pinned,
                offered: offered.map(|word| word.trim_end_matches('.').to_owned()),
            };
        }
        if has("Permission denied (") {
            let user = at.user.clone();
            let why = why();
            return Self::PermissionDenied { at: place, user, why };
        }
        if has("Connection refused") {
            return Self::ConnectionRefused(place);
        }
        if has("timed out") {
            return Self::TimedOut { at: place, seconds: limit_s };
        }
        if has("No route to host") || has("unreachable") || has("Could not resolve") {
            return Self::NoRoute { at: place, why: why() };
        }
        Self::Closed { at: place, why: why() }
    }

    /// A stable word for scripts and documentation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoHostKeys(_) => "no-host-keys",
            Self::BadHostKey { .. } => "bad-host-key",
            Self::ConnectionRefused(_) => "connection-refused",
            Self::TimedOut { .. } => "timed-out",
            Self::NoRoute { .. } => "no-route",
            Self::Closed { .. } => "connection-closed",
            Self::HostKeyMismatch { .. } => "host-key-mismatch",
            Self::PermissionDenied { .. } => "permission-denied",
            Self::SudoRefused { .. } => "sudo-refused",
            Self::SudoLogsInput { .. } => "sudo-logs-input",
            Self::Lost(_) => "connection-lost",
            Self::Misread { .. } => "misread",
            Self::Local(_) => "ssh-not-run",
        }
    }

    /// Something to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoHostKeys(_) => "the cloud witnesses host keys some minutes after boot; wait and try again",
            Self::ConnectionRefused(_) => "is sshd running, and on this port?",
            Self::TimedOut { .. } => "does the firewall let this machine's address in?",
            Self::HostKeyMismatch { .. } => {
                "if you rebuilt this server, let the cloud witness its new keys; if not, do not log in before you know why"
            }
            Self::PermissionDenied { .. } => "is the key in `login.keys`, and is its private half loaded here?",
            Self::SudoRefused { .. } => "the login user needs passwordless sudo for every command",
            Self::SudoLogsInput { .. } => {
                "let sudo keep the output of this user's programs and not their input (`log_output`)"
            }
            Self::Local(_) => "install the OpenSSH client",
            Self::Closed { .. } => "a server that is still booting, or a ban, looks like this",
            Self::NoRoute { .. } | Self::BadHostKey { .. } | Self::Lost(_) | Self::Misread { .. } => return None,
        })
    }

    /// Whether trying again a little later can help.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::ConnectionRefused(_)
                | Self::TimedOut { .. }
                | Self::NoRoute { .. }
                | Self::Closed { .. }
                | Self::Lost(_)
        )
    }

    /// The failure of an effect.
    pub fn failure(&self) -> Failure {
        Failure {
            what: self.to_string(),
            position: None,
            code: Some(self.code().to_owned()),
            hint: self.hint().map(str::to_owned),
        }
    }
}

impl From<&HostError> for Unseen {
    fn from(error: &HostError) -> Self {
        let text = match error.hint() {
            Some(hint) => format!("{error} ({}; {hint})", error.code()),
            None => format!("{error} ({})", error.code()),
        };
        match error {
            HostError::NoHostKeys(_)
            | HostError::BadHostKey { .. }
            | HostError::HostKeyMismatch { .. }
            | HostError::PermissionDenied { .. }
            | HostError::SudoRefused { .. }
            | HostError::SudoLogsInput { .. } => Self::Refused(text),
            HostError::Misread { .. } => Self::Misread(text),
            HostError::ConnectionRefused(_)
            | HostError::TimedOut { .. }
            | HostError::NoRoute { .. }
            | HostError::Closed { .. }
            | HostError::Lost(_)
            | HostError::Local(_) => Self::Unreachable(text),
        }
    }
}

/// The host as messages name it: `db (192.0.2.7:22)`.
pub fn place(at: &Endpoint) -> String {
    format!("`{}` ({}:{})", at.server, at.address, at.port)
}

/// The last line with something in it: `ssh` says what mattered last.
fn last_line(log: &str) -> String {
    let line = log.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("without a word").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &str) -> HostError {
        let at = Endpoint {
            server: "db".to_owned(),
            address: "192.0.2.7".to_owned(),
            port: 22,
            user: "admin".to_owned(),
            host_keys: Vec::new(),
        };
        HostError::from_log(&at, log, vec!["SHA256:pinned".to_owned()], 10)
    }

    #[test]
    fn what_ssh_says_is_told_apart() {
        // Lines as OpenSSH 9.2 prints them.
        let cases = [
            ("connect to host 192.0.2.7 port 22: Connection refused\r\n", "connection-refused"),
            ("connect to host 192.0.2.7 port 22: Connection timed out", "timed-out"),
            ("Connection timed out during banner exchange\nConnection to 192.0.2.7 port 22 timed out", "timed-out"),
            ("connect to host 192.0.2.7 port 22: No route to host", "no-route"),
            ("admin@192.0.2.7: Permission denied (publickey).", "permission-denied"),
            (
                "No ED25519 host key is known for db and you have requested strict checking.\nHost key verification failed.",
                "host-key-mismatch",
            ),
            ("kex_exchange_identification: Connection closed by remote host", "connection-closed"),
        ];
        for (log, code) in cases {
            assert_eq!(read(log).code(), code, "{log}");
        }
    }

    #[test]
    fn both_fingerprints_are_shown() {
        let log = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nThe fingerprint for the ED25519 key sent by the remote host is\nSHA256:other.\nHost key verification failed.";
        let text = read(log).to_string();
        assert!(text.contains("pinned SHA256:pinned") && text.contains("offered SHA256:other"), "{text}");
        assert!(matches!(Unseen::from(&read(log)), Unseen::Refused(_)));
    }
}
