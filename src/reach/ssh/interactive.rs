//! A program on a host with this terminal: `ssh` itself, over the connection that is there.

use std::io::IsTerminal as _;
use std::process::Stdio;

use crate::base::shell::quote_all;
use crate::plan::host::Endpoint;
use crate::reach::ssh::error::HostError;
use crate::reach::ssh::session::Ssh;

impl Ssh {
    /// Runs a program as root with this process's own input and output, and gives its exit status.
    ///
    /// # Errors
    /// Why it could not be started.
    pub async fn interactive(&self, at: &Endpoint, argv: &[&str]) -> Result<i32, HostError> {
        let session = self.connect(at).await?;
        let line = quote_all(argv).map_err(|nul| HostError::Local(nul.to_string()))?;
        let line = if at.user == "root" { line } else { format!("sudo -n -- {line}") };
        let mut ssh = tokio::process::Command::new("ssh");
        // The control socket leads to the host whose key was proven; no configuration and no other way is looked at.
        ssh.args(["-F", "none", "-o", "ControlMaster=no", "-o", "ProxyCommand=false", "-S"])
            .arg(session.control_socket());
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            ssh.arg("-t");
        }
        ssh.args(["--", at.server.as_str(), &line]);
        ssh.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        let status = ssh.status().await.map_err(|error| HostError::Local(error.to_string()))?;
        Ok(status.code().unwrap_or(-1))
    }
}
