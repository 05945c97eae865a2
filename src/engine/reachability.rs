//! One proof of who can reach what: Lightsail's ports, the host's firewall and the listening sockets, together.
//!
//! Pure. A source reaches a port only if all of its network passes both firewalls and a program listens on an address of
//! its family. Each firewall is judged as it filters (first match for the host's, any match for Lightsail's), not by what
//! is declared. Deliberately absent: which clients a listening program accepts. Only sshd's kind knows that.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::base::address::Address;
use crate::engine::resolve::Resolved;
use crate::engine::snapshot::{Snapshot, observed};
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::Kind as _;
use crate::kinds::firewall::openings;
use crate::kinds::host_ufw::filter::Filter;
use crate::kinds::host_ufw::{self, HostUfw};
use crate::kinds::lightsail_ports::{self, LightsailPorts};
use crate::plan::cloud::PortRule;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, HostProbe};
use crate::plan::reachability::{Exposure, Gate, Path, Reachability};

/// Listening sockets, with their programs.
const ASK_LISTENERS: [&str; 2] = ["ss", "-HOltunp"];
/// Where other resources of the account come from; Lightsail's firewall does not filter them (AWS Lightsail guide, VPC
/// peering and private addresses).
const PRIVATE: &str = "172.26.0.0/16";

/// The question that every host is asked.
pub fn probes() -> Vec<HostProbe> {
    vec![HostProbe::Command { argv: ASK_LISTENERS.map(str::to_owned).to_vec() }]
}

/// Who can reach what, for every server that is there.
pub fn reachability(inventory: &Inventory, resolved: &Resolved, snapshot: &Snapshot) -> Vec<Reachability> {
    let servers = inventory.servers.iter();
    servers.filter_map(|(name, server)| of_server(name.as_str(), server, resolved, snapshot)).collect()
}

fn of_server(name: &str, server: &Server, resolved: &Resolved, snapshot: &Snapshot) -> Option<Reachability> {
    let mut unseen = Vec::new();
    let cloud = match look::<lightsail_ports::Actual>(LightsailPorts::NAME, name, resolved, snapshot)? {
        Ok(actual) => Some(actual.ports.rules),
        Err(Unseen::NotYetCreated(_)) => return None,
        Err(why) => {
            unseen.push(format!("Lightsail's ports: {why}"));
            None
        }
    };
    let host = match look::<host_ufw::Actual>(HostUfw::NAME, name, resolved, snapshot) {
        Some(Ok(actual)) => Some(actual.filters()),
        Some(Err(why)) => {
            unseen.push(format!("the host's firewall: {why}"));
            None
        }
        None => None,
    };
    let answers = &snapshot.hosts.get(name)?.answers;
    let listeners = match listeners(answers) {
        Ok(listeners) => listeners,
        Err(why) => {
            unseen.push(format!("listening programs: {why}"));
            Vec::new()
        }
    };
    unseen.dedup();
    let declared = declared(server, cloud.as_deref(), host.as_deref(), &listeners);
    let undeclared = undeclared(server, cloud.as_deref(), host.as_deref(), &listeners);
    Some(Reachability { server: name.to_owned(), declared, undeclared, unseen })
}

/// What a kind observed on a server. `None` where the inventory does not ask for it; an absent one is "not seen".
fn look<T: serde::de::DeserializeOwned>(
    kind: &str,
    server: &str,
    resolved: &Resolved,
    snapshot: &Snapshot,
) -> Option<Result<T, Unseen>> {
    let wanted = resolved.wanted(&Address::new(kind, server))?;
    Some(match observed(resolved, snapshot, wanted) {
        Observed::Present(value) => serde_json::from_value(value).map_err(|error| Unseen::Misread(error.to_string())),
        Observed::Absent => Err(Unseen::NotYetCreated(wanted.address.clone())),
        Observed::Unknown(why) => Err(why),
    })
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listener {
    protocol: String,
    port: u16,
    v4: bool,
    v6: bool,
    program: String,
}

impl Listener {
    fn hears(&self, from: &IpNet) -> bool {
        if matches!(from, IpNet::V4(_)) { self.v4 } else { self.v6 }
    }
}

fn declared(server: &Server, cloud: Option<&[PortRule]>, host: Option<&[Filter]>, listeners: &[Listener]) -> Vec<Path> {
    let mut paths = Vec::new();
    for open in openings(server) {
        for (from, why) in &open.sources {
            let gate = |open: Option<bool>| match open {
                Some(true) => Gate::Open,
                Some(false) => Gate::Closed,
                None => Gate::Unknown,
            };
            let listener = listeners.iter().find(|listener| {
                listener.protocol == open.protocol && listener.port == open.port && listener.hears(from)
            });
            paths.push(Path {
                protocol: open.protocol.to_owned(),
                port: open.port,
                from: from.to_string(),
                why: why.clone(),
                cloud: gate(cloud.map(|rules| cloud_lets_in(rules, open.protocol, open.port, from))),
                host: gate(host.map(|filters| host_lets_in(filters, open.protocol, open.port, from))),
                listener: listener.map(|listener| listener.program.clone()),
            });
        }
    }
    paths
}

/// What answers sources that nobody declared: from the internet through both firewalls, or from the account's private
/// network through the host's firewall alone.
fn undeclared(
    server: &Server,
    cloud: Option<&[PortRule]>,
    host: Option<&[Filter]>,
    listeners: &[Listener],
) -> Vec<Exposure> {
    let (Some(cloud), Some(host)) = (cloud, host) else { return Vec::new() };
    let openings = openings(server);
    let private: IpNet = PRIVATE.parse().expect("a network");
    let mut found = BTreeSet::new();
    for listener in listeners {
        let Listener { protocol, port, program, .. } = listener;
        let declared = openings.iter().find(|open| open.protocol == *protocol && open.port == *port);
        let is_declared =
            |from: &IpNet| declared.is_some_and(|open| open.sources.keys().any(|network| network.contains(from)));
        let rules = cloud.iter().filter(|rule| about(rule, protocol, *port)).flat_map(networks);
        for outer in rules.chain([private]).filter(|outer| listener.hears(outer)) {
            let inner = host.iter().filter(|filter| filter.allows && filter.is_about(protocol, *port));
            for inner in inner {
                let Some(both) = narrower(outer, inner.from) else { continue };
                // The account's own network is let in on purpose where the browser login is.
                let rescue = both == private && declared.is_some_and(|open| open.rescue);
                if !is_declared(&both) && !rescue && host_lets_in(host, protocol, *port, &both) {
                    found.insert(Exposure {
                        protocol: protocol.clone(),
                        port: *port,
                        from: both.to_string(),
                        listener: program.clone(),
                    });
                }
            }
        }
    }
    found.into_iter().collect()
}

fn about(rule: &PortRule, protocol: &str, port: u16) -> bool {
    let port = i32::from(port);
    (rule.protocol == protocol && rule.from <= port && port <= rule.to) || rule.protocol == "all"
}

fn networks(rule: &PortRule) -> Vec<IpNet> {
    rule.cidrs.iter().chain(&rule.ipv6_cidrs).filter_map(|network| network.parse().ok()).collect()
}

/// Lightsail's rules only allow, so one rule that covers the whole network is enough.
fn cloud_lets_in(rules: &[PortRule], protocol: &str, port: u16, from: &IpNet) -> bool {
    let mut about = rules.iter().filter(|rule| about(rule, protocol, port));
    about.any(|rule| networks(rule).iter().any(|network| network.contains(from)))
}

/// The first rule that covers the whole network decides. A rule that refuses only a part of it is skipped; the kind says
/// so in a remark.
fn host_lets_in(filters: &[Filter], protocol: &str, port: u16, from: &IpNet) -> bool {
    let mut about = filters.iter().filter(|filter| filter.is_about(protocol, port));
    about.find(|filter| filter.from.contains(from)).is_some_and(|filter| filter.allows)
}

/// What two networks have in common: the smaller one if the other holds it, else nothing.
fn narrower(a: IpNet, b: IpNet) -> Option<IpNet> {
    if a.contains(&b) {
        Some(b)
    } else if b.contains(&a) {
        Some(a)
    } else {
        None
    }
}

/// Reads `ss -Hltunp`: protocol, state, two queues, local address and port, peer, program.
fn listeners(answers: &Answers) -> Result<Vec<Listener>, Unseen> {
    let listed = answers.command(&ASK_LISTENERS)?;
    if !listed.ok() {
        return Err(Unseen::Misread(format!("`ss` ended with status {}: {}", listed.status, listed.stderr.trim())));
    }
    let mut found: Vec<Listener> = Vec::new();
    for line in listed.stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [protocol, _, _, _, local, ..] = words.as_slice() else {
            return Err(Unseen::Misread(format!("`ss` printed `{line}`")));
        };
        let Some((address, port)) = local.rsplit_once(':') else { continue };
        let Ok(port) = port.parse() else { continue };
        let address = address.split('%').next().unwrap_or(address).trim_matches(['[', ']']);
        let (v4, v6) = match address.parse::<std::net::IpAddr>() {
            Ok(address) if address.is_loopback() => continue,
            Ok(address) => (address.is_ipv4(), address.is_ipv6()),
            // `*`: both.
            Err(_) => (true, true),
        };
        let program = words.last().and_then(|word| word.strip_prefix("users:((\"")?.split('"').next());
        let program = program.unwrap_or("a program").to_owned();
        let same =
            |other: &&mut Listener| other.protocol == *protocol && other.port == port && other.program == program;
        match found.iter_mut().find(same) {
            Some(other) => (other.v4, other.v6) = (other.v4 || v4, other.v6 || v6),
            None => found.push(Listener { protocol: (*protocol).to_owned(), port, v4, v6, program }),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::probe::CommandState;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn filter(allows: bool, port: u16, from: &str) -> Filter {
        Filter { allows, protocol: Some("tcp".to_owned()), ports: vec![(port, port)], from: net(from) }
    }

    #[test]
    fn the_first_rule_about_all_of_a_network_decides() {
        let rules = [filter(false, 22, "203.0.113.0/25"), filter(true, 22, "0.0.0.0/0")];
        assert!(!host_lets_in(&rules, "tcp", 22, &net("203.0.113.7/32")));
        assert!(host_lets_in(&rules, "tcp", 22, &net("198.51.100.7/32")));
        assert!(!host_lets_in(&rules, "tcp", 443, &net("198.51.100.7/32")), "what fits none is refused");
        assert!(!host_lets_in(&rules, "tcp", 22, &net("2001:db8::/32")), "the families are two firewalls");
    }

    #[test]
    fn listeners_are_read_with_their_families() {
        let stdout = "\
tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\"sshd\",pid=1,fd=3))
tcp LISTEN 0 128 [::]:22 [::]:* users:((\"sshd\",pid=1,fd=4))
tcp LISTEN 0 244 127.0.0.1:5432 0.0.0.0:* users:((\"postgres\",pid=2,fd=5))
udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:((\"resolved\",pid=3,fd=6))
tcp LISTEN 0 5 *:8080 *:* users:((\"python3\",pid=4,fd=3))
";
        let mut answers = Answers::default();
        let state = CommandState { status: 0, stdout: stdout.to_owned(), stderr: String::new() };
        answers.commands.insert(ASK_LISTENERS.map(str::to_owned).to_vec(), state);
        let found = listeners(&answers).expect("read");
        let shown: Vec<_> = found.iter().map(|l| (l.program.as_str(), l.port, l.v4, l.v6)).collect();
        assert_eq!(shown, [("sshd", 22, true, true), ("python3", 8080, true, true)]);
        assert!(listeners(&Answers::default()).is_err(), "not asked is not nobody");
    }
}
