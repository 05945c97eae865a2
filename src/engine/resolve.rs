//! From the inventory to the resources that it asks for. Offline and pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::inventory::sections::{Inventory, Protocol, Server};
use crate::kinds::instance_name;
use crate::kinds::table::Wanted;
use crate::kinds::{self, KINDS};
use crate::plan::Place;
use crate::plan::order::layers;

/// Everything that the inventory asks for, and the names of its servers' instances in the cloud.
#[derive(Clone)]
pub struct Resolved {
    pub environment: String,
    pub account: String,
    pub region: String,
    /// In address order.
    pub wanted: Vec<Wanted>,
    pub servers: BTreeMap<String, ServerRef>,
}

/// How a server of the inventory is found and logged in to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRef {
    /// Address of its instance resource.
    pub address: Address,
    /// Physical name of its instance.
    pub instance: String,
    pub login: String,
    /// The port that sshd is wanted on.
    pub port: u16,
    /// TCP ports of the firewall list.
    pub declared_tcp: BTreeSet<u16>,
    /// After how many seconds the server puts a change back that may have locked everybody out.
    pub revert_after_s: u32,
}

impl Resolved {
    /// The wanted resource of an address.
    pub fn wanted(&self, address: &Address) -> Option<&Wanted> {
        self.wanted.iter().find(|wanted| wanted.address == *address)
    }

    /// Keeps only the named resources. An address that the inventory does not ask for is an error.
    pub fn only(mut self, addresses: &[Address]) -> Result<Self, Diagnostics> {
        if addresses.is_empty() {
            return Ok(self);
        }
        let mut problems = Diagnostics::default();
        for address in addresses {
            if self.wanted(address).is_none() {
                let near = self
                    .wanted
                    .iter()
                    .map(|wanted| wanted.address.to_string())
                    .min_by_key(|known| strsim::damerau_levenshtein(known, &address.to_string()));
                let problem =
                    Diagnostic::error("unknown-address", format!("the inventory asks for no resource `{address}`"));
                problems.push(match near {
                    Some(near) => problem.hint(format!("did you mean `{near}`?")),
                    None => problem,
                });
            }
        }
        if problems.has_errors() {
            return Err(problems);
        }
        self.wanted.retain(|wanted| addresses.contains(&wanted.address));
        Ok(self)
    }
}

/// Asks every kind which resources the inventory declares.
pub fn resolve(inventory: &Inventory) -> Result<Resolved, Diagnostics> {
    let mut wanted: Vec<Wanted> = KINDS.iter().flat_map(|kind| (kind.declare)(inventory)).collect();
    wanted.sort_by(|a, b| a.address.cmp(&b.address));
    let needs: BTreeMap<Address, BTreeSet<Address>> =
        wanted.iter().map(|w| (w.address.clone(), w.after.iter().cloned().collect())).collect();
    if let Err(cycle) = layers(&needs) {
        return Err(Diagnostic::error("needs-in-a-circle", cycle.to_string())
            .note("this is a bug in seawall: kinds decide what they need, not inventories")
            .into());
    }
    let environment = inventory.environment.to_string();
    let servers = inventory
        .servers
        .iter()
        .map(|(name, server)| {
            let server = ServerRef {
                address: Address::new(kinds::SERVER, name.as_str()),
                instance: instance_name(&environment, name.as_str(), server),
                login: server.login.user.clone(),
                port: server.ssh_port(),
                declared_tcp: declared_tcp(server),
                revert_after_s: revert_after_s(server),
            };
            (name.to_string(), server)
        })
        .collect();
    Ok(Resolved {
        environment,
        account: inventory.aws.account.clone(),
        region: inventory.aws.region.clone(),
        wanted,
        servers,
    })
}

fn declared_tcp(server: &Server) -> BTreeSet<u16> {
    server.firewall.iter().filter(|rule| rule.protocol == Protocol::Tcp).map(|rule| rule.port).collect()
}

/// The server's own limit, or the default where it has no section for sshd. `check` holds it within bounds.
fn revert_after_s(server: &Server) -> u32 {
    let sshd = server.sshd.clone().unwrap_or_default();
    u32::try_from(sshd.revert_after.seconds()).unwrap_or(u32::MAX)
}

/// The resources of one place.
pub fn at<'a>(wanted: &'a [Wanted], place: &'a Place) -> impl Iterator<Item = &'a Wanted> {
    wanted.iter().filter(move |w| w.place == *place)
}
