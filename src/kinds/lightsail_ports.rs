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
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::cloud::{self};
use crate::kinds::firewall::{self, OpenPort};
use crate::kinds::operator::{self, Operator};
use crate::kinds::{Declared, Kind, Opening, Owned, instance_name};
use crate::plan::Place;
use crate::plan::change::{FieldChange, Risk};
use crate::plan::cloud::{PortRule, Ports};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, CloudProbe, Probe};
use crate::plan::step::CloudStep;

/// The port that sshd of a new server listens on.
const SSH: u16 = 22;
/// The one alias that Lightsail has: the addresses of its browser login.
const RESCUE_ALIAS: &str = "lightsail-connect";

pub struct LightsailPorts;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// The server's name in the inventory.
    pub server: String,
    pub instance: String,
    /// The port that sshd is wanted on.
    pub ssh_port: u16,
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
    pub operator: Option<Operator>,
}

/// Where the server sees us coming from. A server that we cannot log in to sees nobody: opening its ports must then
/// still be possible.
fn operator_of(desired: &Desired, answers: &Answers) -> Result<Option<Operator>, Unseen> {
    match answers.on_server(&desired.server, &operator::ask().map(str::to_owned)) {
        Ok(state) => Ok(operator::read(state)),
        Err(Unseen::Misread(why)) => Err(Unseen::Misread(why)),
        Err(Unseen::NotYetCreated(_) | Unseen::Unreachable(_) | Unseen::Refused(_)) => Ok(None),
    }
}

fn is_about(rule: &PortRule, port: u16) -> bool {
    rule.protocol == "tcp" && (rule.from..=rule.to).contains(&port.into())
}

/// Whether an address may connect to a TCP port by these rules.
fn lets_in(rules: &[PortRule], address: IpAddr, port: u16) -> bool {
    let networks = |rule: &PortRule| [&rule.cidrs, &rule.ipv6_cidrs].into_iter().flatten().cloned().collect::<Vec<_>>();
    let holds = |network: &String| network.parse::<IpNet>().is_ok_and(|network| network.contains(&address));
    rules.iter().filter(|rule| is_about(rule, port)).flat_map(networks).any(|network| holds(&network))
}

fn probe(desired: &Desired) -> CloudProbe {
    CloudProbe::Ports { instance: desired.instance.clone() }
}

/// The rules of a server's `firewall`. IPv4 and IPv6 are two firewalls at Lightsail: both sides are stated, also when
/// one is empty.
fn rules(server: &Server) -> Vec<PortRule> {
    let rule = |open: OpenPort| {
        let of = |v4: bool| {
            let networks = open.sources.keys().filter(|network| matches!(network, IpNet::V4(_)) == v4);
            networks.map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect()
        };
        PortRule {
            protocol: open.protocol.to_owned(),
            from: open.port.into(),
            to: open.port.into(),
            cidrs: of(true),
            ipv6_cidrs: of(false),
            aliases: open.rescue.then(|| RESCUE_ALIAS.to_owned()).into_iter().collect(),
        }
    };
    let mut rules: Vec<PortRule> = firewall::openings(server).into_iter().map(rule).collect();
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

A list that would close SSH's port to the address from which you are connected is refused. After a change a new login must
work, or the ports are put back as they were (exit code 5). Where sshd moves to another port, both are open until sshd has
been proven behind the new one.

The whole set is put in one call and read back until it is equal, because that call closes every port it does not name.
The host's own firewall is a second line, made from the same list: `host.ufw`.

servers:
  db:
    firewall:
      - { port: 22, from: [203.0.113.0/24], why: operators }
      - { port: 443, from: anywhere, why: certificate validation }";

    const RISK: Risk = Risk::MayLockOut;

    const GOES_WITH_SERVER: bool = true;

    type Step = CloudStep;
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
                    instance: instance_name(environment, server.as_str(), section),
                    ssh_port: section.ssh_port(),
                    rules: rules(section),
                },
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let mut probes = cloud::probe(probe(desired));
        probes.push(Probe::OnServer {
            server: desired.server.clone(),
            argv: operator::ask().map(str::to_owned).to_vec(),
        });
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        cloud::read(answers, &probe(desired)).and_then(|ports| match operator_of(desired, answers) {
            Ok(operator) => Observed::Present(Actual { ports, operator }),
            Err(why) => Observed::Unknown(why),
        })
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { server: _, instance: _, ssh_port: _, rules: wanted } = desired;
        let Actual { ports: Ports { rules: found }, operator: _ } = actual;
        let (wanted, found) = (by_name(wanted), by_name(found));
        let names: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
        // By sources, not by entries: one port in two entries is as open as in one.
        let of = |named: &BTreeMap<String, Vec<&PortRule>>, name: &str| named.get(name).map(|rules| sources(rules));
        let changes = names.into_iter().map(|name| FieldChange::new(name, of(&found, name), of(&wanted, name)));
        changes.filter(|field| field.before != field.after).collect()
    }

    fn refusals(desired: &Desired, actual: &Actual, _: &[FieldChange]) -> Vec<Diagnostic> {
        let port = desired.ssh_port;
        let shut_out = |operator: &Operator| !lets_in(&desired.rules, operator.address, port);
        let refusal = |operator: Operator| {
            Diagnostic::error(
                "operator-shut-out",
                format!(
                    "port {port} of `{}` would be closed to {}, from where you are connected now",
                    desired.server, operator.address
                ),
            )
            .note("nobody could undo it over SSH from there")
            .hint("add a network that holds this address, or apply from one that the list lets in")
        };
        actual.operator.filter(shut_out).map(refusal).into_iter().collect()
    }

    fn opening(desired: &Desired, actual: Option<&Actual>) -> Option<Opening<Vec<CloudStep>>> {
        // sshd of a new server listens on its own port until it is told otherwise.
        let port = actual.map_or(Some(SSH), |actual| actual.operator.map(|operator| operator.port))?;
        let kept: Vec<PortRule> = match actual {
            None if desired.ssh_port == SSH => return None,
            None => {
                let new = desired.rules.iter().filter(|rule| is_about(rule, desired.ssh_port));
                new.map(|rule| PortRule { from: SSH.into(), to: SSH.into(), ..rule.clone() }).collect()
            }
            Some(actual) => {
                let operator = actual.operator?;
                if lets_in(&desired.rules, operator.address, port) {
                    return None;
                }
                actual.ports.rules.iter().filter(|rule| is_about(rule, port)).cloned().collect()
            }
        };
        // sshd is still behind a port that goes: it stays open until sshd has been proven behind the new one.
        let mut rules: Vec<PortRule> = desired.rules.iter().cloned().chain(kept).collect();
        rules.sort();
        let first = Desired { rules: rules.clone(), ..desired.clone() };
        let fields = actual.map_or_else(|| Self::describe(&first), |actual| Self::diff(&first, actual));
        let instance = desired.instance.clone();
        Some(Opening { fields, steps: vec![CloudStep::PutPorts { instance, rules }], until: "host.sshd" })
    }

    fn undo(desired: &Desired, actual: &Actual) -> Vec<CloudStep> {
        // Where nobody was let in before, nobody can be shut out.
        let put_back =
            |_| CloudStep::PutPorts { instance: desired.instance.clone(), rules: actual.ports.rules.clone() };
        actual.operator.map(put_back).into_iter().collect()
    }

    fn steps(desired: &Desired, _: Option<&Actual>, _: &[FieldChange]) -> Vec<CloudStep> {
        let Desired { server: _, instance, ssh_port: _, rules } = desired.clone();
        vec![CloudStep::PutPorts { instance, rules }]
    }

    fn remove(_: &Owned) -> Vec<CloudStep> {
        // Ports go with their instance. On an instance that stays, "no rules" would lock everybody out.
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        by_name(&desired.rules).iter().map(|(name, r)| FieldChange::new(name, None, Some(sources(r)))).collect()
    }
}
