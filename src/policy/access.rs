//! Rules about who can log in.

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::sections::{Inventory, Rescue};
use crate::policy::Rule;

const NO_WAY_BACK: Rule = Rule {
    id: "no-way-back",
    severity: Severity::Warning,
    wants: "losing one key does not lose the server",
    source: "without Lightsail's certificate authority in sshd's trust, the console cannot log in either",
};

const RESCUE_NEEDS_PORT_22: Rule = Rule {
    id: "rescue-needs-port-22",
    severity: Severity::Error,
    wants: "a rescue that is promised works",
    source: "AWS Lightsail guide: the browser-based SSH client connects to port 22",
};

pub(super) const RULES: &[Rule] = &[NO_WAY_BACK, RESCUE_NEEDS_PORT_22];
/// The port of Lightsail's browser login.
const RESCUE_PORT: u16 = 22;

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    for (name, server) in &inventory.servers {
        let path = format!("servers.{name}.login.rescue");
        if server.login.rescue == Rescue::None && server.login.keys.len() == 1 {
            let finding = NO_WAY_BACK
                .broken(
                    format!("whoever loses the only key of `servers.{name}` loses the server"),
                    "one key, `rescue: none`",
                )
                .at(places.span(&path), "no rescue")
                .at(places.span(&format!("servers.{name}.login.keys")), "and one key")
                .hint("add a second key that is kept elsewhere, or write `rescue: lightsail-connect`");
            found.push(NO_WAY_BACK.cite(finding));
        }
        let port = server.ssh_port();
        if server.login.rescue == Rescue::LightsailConnect && port != RESCUE_PORT {
            let finding = RESCUE_NEEDS_PORT_22
                .broken(
                    format!("Lightsail's browser login cannot reach sshd of `servers.{name}`"),
                    format!("sshd on port {port}, `rescue: lightsail-connect`"),
                )
                .at(places.span(&format!("servers.{name}.sshd.port")), "not 22")
                .at(places.span(&path), "promised here")
                .hint("leave sshd on port 22, or write `rescue: none` and keep a second key elsewhere");
            found.push(RESCUE_NEEDS_PORT_22.cite(finding));
        }
    }
}
