//! `lightsail.ports`: the cloud's firewall in front of a server.
//!
//! Lightsail replaces the whole set of ports at once and closes what is not in it, so the set is one resource: read,
//! compared and put as one. Deliberately absent: the host's own firewall, and adding or closing single ports, whose
//! effect on a port that is open already AWS does not document.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::{Inventory, Protocol, Rescue, Server, Sources};
use crate::kinds::cloud::{self, step};
use crate::kinds::{Declared, Kind, Owned, physical_name};
use crate::plan::Place;
use crate::plan::change::FieldChange;
use crate::plan::cloud::{PortRule, Ports};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, CloudProbe, Probe};
use crate::plan::step::{CloudStep, Step};

/// SSH's port, which Lightsail's browser login needs.
const SSH: i32 = 22;
/// The one alias that Lightsail has: the addresses of its browser login.
const RESCUE_ALIAS: &str = "lightsail-connect";

pub struct LightsailPorts;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// The server's name in the inventory.
    pub server: String,
    pub instance: String,
    /// Sorted, one per protocol and port.
    pub rules: Vec<PortRule>,
}

/// What is open, and who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    #[serde(flatten)]
    pub ports: Ports,
    /// The address from which the server sees us, while it does. Not part of a plan's guard: a plan that one person
    /// makes and another applies is the same plan.
    #[serde(skip)]
    pub operator: Option<IpAddr>,
}

/// Prints the address of the SSH client that this runs for. sudo takes the variable away, so it is looked for in the
/// processes above, up to the login.
const CLIENT: &str = r#"p=$$
while [ "$p" -gt 1 ]; do
    client=$(tr '\0' '\n' <"/proc/$p/environ" | sed -n 's/^SSH_CONNECTION=\([^ ]*\) .*/\1/p')
    if [ -n "$client" ]; then echo "$client" && exit; fi
    p=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$p/status")
done
exit 1"#;

fn ask_client() -> Vec<String> {
    ["sh", "-c", CLIENT].map(str::to_owned).to_vec()
}

/// Where the server sees us coming from. A server that we cannot log in to sees nobody: opening its ports must then
/// still be possible.
fn operator(desired: &Desired, answers: &Answers) -> Result<Option<IpAddr>, Unseen> {
    match answers.on_server(&desired.server, &ask_client()) {
        Ok(state) => Ok(state.stdout.trim().parse().ok()),
        Err(Unseen::Misread(why)) => Err(Unseen::Misread(why)),
        Err(Unseen::NotYetCreated(_) | Unseen::Unreachable(_) | Unseen::Refused(_)) => Ok(None),
    }
}

/// Whether an address may connect to SSH's port by these rules.
fn lets_in(rules: &[PortRule], address: IpAddr) -> bool {
    let ssh = |rule: &&PortRule| rule.protocol == "tcp" && rule.from <= SSH && SSH <= rule.to;
    let networks = |rule: &PortRule| [&rule.cidrs, &rule.ipv6_cidrs].into_iter().flatten().cloned().collect::<Vec<_>>();
    let holds = |network: &String| network.parse::<IpNet>().is_ok_and(|network| network.contains(&address));
    rules.iter().filter(ssh).flat_map(networks).any(|network| holds(&network))
}

fn probe(desired: &Desired) -> CloudProbe {
    CloudProbe::Ports { instance: desired.instance.clone() }
}

/// Who may connect to one port.
#[derive(Default)]
struct Open {
    v4: BTreeSet<String>,
    v6: BTreeSet<String>,
    aliases: BTreeSet<String>,
}

/// The rules of a server's `firewall`, merged by protocol and port. IPv4 and IPv6 are two firewalls at Lightsail: both
/// sides are stated, also when one is empty.
fn rules(server: &Server) -> Vec<PortRule> {
    let mut merged: BTreeMap<(&str, i32), Open> = BTreeMap::new();
    for rule in &server.firewall {
        let protocol = match rule.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let open = merged.entry((protocol, i32::from(rule.port))).or_default();
        match &rule.from {
            Sources::Anywhere(_) => {
                open.v4.insert("0.0.0.0/0".to_owned());
                open.v6.insert("::/0".to_owned());
            }
            Sources::Networks(networks) => {
                for network in networks {
                    let side = if network.is_v4() { &mut open.v4 } else { &mut open.v6 };
                    side.insert(network.to_string());
                }
            }
        }
    }
    let rescue = server.login.rescue == Rescue::LightsailConnect;
    if let Some(ssh) = merged.get_mut(&("tcp", SSH)).filter(|_| rescue) {
        ssh.aliases.insert(RESCUE_ALIAS.to_owned());
    }
    let rule = |((protocol, port), open): ((&str, i32), Open)| PortRule {
        protocol: protocol.to_owned(),
        from: port,
        to: port,
        cidrs: open.v4.into_iter().collect(),
        ipv6_cidrs: open.v6.into_iter().collect(),
        aliases: open.aliases.into_iter().collect(),
    };
    let mut rules: Vec<PortRule> = merged.into_iter().map(rule).collect();
    rules.sort();
    rules
}

/// Rules by what a person calls them: `tcp 22`, `tcp 8000-8080`.
fn by_name(rules: &[PortRule]) -> BTreeMap<String, Vec<&PortRule>> {
    let mut named: BTreeMap<String, Vec<&PortRule>> = BTreeMap::new();
    for rule in rules {
        let ports = if rule.from == rule.to { rule.from.to_string() } else { format!("{}-{}", rule.from, rule.to) };
        named.entry(format!("{} {ports}", rule.protocol)).or_default().push(rule);
    }
    named
}

fn sources(rules: &[&PortRule]) -> Value {
    let parts = rules.iter().flat_map(|rule| [&rule.cidrs, &rule.ipv6_cidrs, &rule.aliases]);
    let sources: BTreeSet<String> = parts.flatten().cloned().collect();
    if sources.is_empty() { Value::from("nobody") } else { Value::from_iter(sources) }
}

impl Kind for LightsailPorts {
    const NAME: &'static str = "lightsail.ports";
    const SUMMARY: &'static str = "the cloud's firewall in front of a server";
    const EXPLAIN: &'static str = "\
Opens exactly the ports of the server's `firewall` list in Lightsail's own firewall, for IPv4 and IPv6, and closes
everything else. Lightsail opens 22 and 80 to the world on every new server; the first apply closes what is not declared.
With `login.rescue: lightsail-connect`, port 22 is also open to Lightsail's browser login.

A list that would close port 22 to the address from which you are connected is refused.

The whole set is put in one call and read back until it is equal, because that call closes every port it does not name.
The host's own firewall is a second line that this kind does not manage.

servers:
  db:
    firewall:
      - { port: 22, from: [203.0.113.0/24], why: operators }
      - { port: 443, from: anywhere, why: certificate validation }";

    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let environment = inventory.environment.as_str();
        let servers = inventory.servers.iter();
        servers
            .map(|(server, section)| Declared {
                address: Address::new(Self::NAME, server.as_str()),
                place: Place::Cloud,
                after: vec![Address::new("lightsail.instance", server.as_str())],
                path: format!("servers.{server}.firewall"),
                desired: Desired {
                    server: server.to_string(),
                    instance: physical_name(environment, server.as_str(), ""),
                    rules: rules(section),
                },
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let mut probes = cloud::probe(probe(desired));
        probes.push(Probe::OnServer { server: desired.server.clone(), argv: ask_client() });
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        cloud::read(answers, &probe(desired)).and_then(|ports| match operator(desired, answers) {
            Ok(operator) => Observed::Present(Actual { ports, operator }),
            Err(why) => Observed::Unknown(why),
        })
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { server: _, instance: _, rules: wanted } = desired;
        let Actual { ports: Ports { rules: found }, operator: _ } = actual;
        let (wanted, found) = (by_name(wanted), by_name(found));
        let names: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
        // By sources, not by entries: one port in two entries is as open as in one.
        let of = |named: &BTreeMap<String, Vec<&PortRule>>, name: &str| named.get(name).map(|rules| sources(rules));
        let changes = names.into_iter().map(|name| FieldChange::new(name, of(&found, name), of(&wanted, name)));
        changes.filter(|field| field.before != field.after).collect()
    }

    fn refusals(desired: &Desired, actual: &Actual, _: &[FieldChange]) -> Vec<Diagnostic> {
        let shut_out = |address: &IpAddr| !lets_in(&desired.rules, *address);
        let refusal = |address: IpAddr| {
            Diagnostic::error(
                "operator-shut-out",
                format!(
                    "port 22 of `{}` would be closed to {address}, from where you are connected now",
                    desired.server
                ),
            )
            .note("nobody could undo it over SSH from there")
            .hint("add a network that holds this address, or apply from one that the list lets in")
        };
        actual.operator.filter(shut_out).map(refusal).into_iter().collect()
    }

    fn steps(desired: &Desired, _: Option<&Actual>, _: &[FieldChange]) -> Vec<Step> {
        let Desired { server: _, instance, rules } = desired.clone();
        vec![step(CloudStep::PutPorts { instance, rules })]
    }

    fn remove(_: &Owned) -> Vec<Step> {
        // Ports go with their instance. On an instance that stays, "no rules" would lock everybody out.
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        by_name(&desired.rules).iter().map(|(name, r)| FieldChange::new(name, None, Some(sources(r)))).collect()
    }
}
