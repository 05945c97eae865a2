//! From where whoever runs this is connected to a server, as the server sees it.

use std::net::IpAddr;

use crate::plan::probe::CommandState;

/// Who asks, and through which door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    pub address: IpAddr,
    /// The port of sshd that let us in.
    pub port: u16,
}

/// Prints the address of the SSH client that this runs for, and the server's port. sudo takes the variable away, so it is
/// looked for in the processes above, up to the login.
const CLIENT: &str = r#"p=$$
while [ "$p" -gt 1 ]; do
    client=$(tr '\0' '\n' <"/proc/$p/environ" | sed -n 's/^SSH_CONNECTION=\([^ ]*\) .* \([0-9]*\)$/\1 \2/p')
    if [ -n "$client" ]; then echo "$client" && exit; fi
    p=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$p/status")
done
exit 1"#;

/// The command that asks.
pub(crate) fn ask() -> [&'static str; 3] {
    ["sh", "-c", CLIENT]
}

/// Nobody, where the server cannot tell.
pub(crate) fn read(said: &CommandState) -> Option<Operator> {
    let (address, port) = said.stdout.trim().split_once(' ')?;
    Some(Operator { address: address.parse().ok()?, port: port.parse().ok()? })
}
