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

pub(super) const RULES: &[Rule] = &[NO_WAY_BACK];

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
    }
}
