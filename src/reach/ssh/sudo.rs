//! Whether sudo on a host keeps what is fed to the programs that it starts: our programs and their secrets come that way.
//!
//! sudo can write the input of programs below `/var/log/sudo-io` (sudoers(5), `log_input`). There is no option with which
//! a caller could leave that away, so a host that does it is asked first and gets no secret.

use std::time::Duration;

use tokio::time::timeout;

use crate::reach::ssh::error::{HostError, place};
use crate::reach::ssh::session::Session;

/// What sudo says of its rules for the user that asks. It needs no password where any rule needs none.
const ASK: &str = "LC_ALL=C sudo -n -l";
/// For that answer.
const LIMIT: Duration = Duration::from_secs(20);

impl Session {
    /// Proves that nothing keeps what is sent to programs over this connection.
    ///
    /// # Errors
    /// That sudo keeps it, or that this could not be found out.
    pub(crate) async fn keeps_no_input(&self) -> Result<(), HostError> {
        let at = self.endpoint();
        if at.user == "root" {
            return Ok(());
        }
        let late = || HostError::TimedOut { at: place(at), seconds: LIMIT.as_secs() };
        let said = timeout(LIMIT, self.as_login(ASK)).await.map_err(|_| late())??;
        if said.status != 0 {
            let line = said.stderr.lines().next().unwrap_or_default().to_owned();
            return Err(HostError::SudoRefused { at: place(at), user: at.user.clone(), why: line });
        }
        if logs_input(&String::from_utf8_lossy(&said.stdout)) {
            return Err(HostError::SudoLogsInput { at: place(at), user: at.user.clone() });
        }
        Ok(())
    }
}

/// Whether the last word about it in sudo's answer is that input is logged. A rule with the tag `LOG_INPUT` counts wherever it
/// stands: which of several rules would be taken is sudo's own affair.
fn logs_input(rules: &str) -> bool {
    let mut logs = false;
    for word in rules.split(|c: char| c.is_whitespace() || matches!(c, ',' | ':' | '(' | ')')) {
        match word {
            "LOG_INPUT" => return true,
            "log_input" | "log_stdin" => logs = true,
            "!log_input" => logs = false,
            _ => {}
        }
    }
    logs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As sudo 1.9.13 prints them.
    #[test]
    fn rules_that_keep_input_are_known() {
        let says = |defaults: &str, tag: &str| {
            format!(
                "Matching Defaults entries for admin on db:\n    env_reset, mail_badpass,\n    {defaults}use_pty\n\n\
                 User admin may run the following commands on db:\n    (ALL : ALL) {tag}NOPASSWD: ALL\n"
            )
        };
        for (defaults, tag, logs) in [
            ("", "", false),
            ("log_input, ", "", true),
            ("log_output, ", "", false),
            ("log_output, log_stdin, ", "", true),
            ("log_input, !log_input, ", "", false),
            ("!log_input, ", "LOG_INPUT: ", true),
            ("", "NOLOG_INPUT: ", false),
        ] {
            assert_eq!(logs_input(&says(defaults, tag)), logs, "{defaults} {tag}");
        }
    }
}
