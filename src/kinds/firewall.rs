//! The one `firewall` list of a server, merged: what the cloud's firewall and the host's own are both made from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::inventory::scalar::Cidr;
use crate::inventory::sections::{Protocol, Rescue, Server, Sources};

/// Everybody, as the two networks that firewalls know it by.
pub const ANYWHERE: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// Who may connect to one port, and why.
pub struct OpenPort {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    pub port: u16,
    /// Each network with the reasons of all rules that name it.
    pub sources: BTreeMap<IpNet, String>,
    /// Lightsail's browser login may connect, too. Which addresses that is only Lightsail's own firewall knows.
    pub rescue: bool,
}

impl OpenPort {
    /// Why all of a network may connect, or `None` where a part of it may not.
    pub fn lets_in(&self, network: &IpNet) -> Option<String> {
        let holds = self.sources.iter().filter(|(source, _)| source.contains(network));
        if let Some((_, why)) = holds.max_by_key(|(source, _)| source.prefix_len()) {
            return Some(why.clone());
        }
        // Neighbours may hold together what none of them holds alone.
        let whole = IpNet::aggregate(&self.sources.keys().copied().collect());
        let parts = self.sources.iter().filter(|(source, _)| network.contains(*source));
        let reasons: BTreeSet<&str> = parts.map(|(_, why)| why.as_str()).collect();
        let held = whole.iter().any(|source| source.contains(network));
        held.then(|| reasons.into_iter().collect::<Vec<_>>().join("; "))
    }

    /// The parts of a network that may connect, each with the reason: all of it, or what is open within it.
    pub fn common_with(&self, network: &IpNet) -> Vec<(IpNet, String)> {
        if let Some(why) = self.lets_in(network) {
            return vec![(*network, why)];
        }
        let parts = self.sources.iter().filter(|(source, _)| network.contains(*source));
        parts.map(|(source, why)| (*source, why.clone())).collect()
    }
}

/// What a server opens at a TCP port, if anything.
pub fn opening(server: &Server, port: u16) -> Option<OpenPort> {
    openings(server).into_iter().find(|open| open.protocol == "tcp" && open.port == port)
}

/// The rules of a server, merged by protocol and port, in this order.
pub fn openings(server: &Server) -> Vec<OpenPort> {
    let mut merged: BTreeMap<(&'static str, u16), BTreeMap<IpNet, Vec<&str>>> = BTreeMap::new();
    for rule in &server.firewall {
        let protocol = match rule.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let networks = match &rule.from {
            Sources::Anywhere(_) => ANYWHERE.to_vec(),
            Sources::Networks(networks) => networks.iter().map(Cidr::net).collect(),
        };
        let sources = merged.entry((protocol, rule.port)).or_default();
        for network in networks {
            let reasons = sources.entry(network).or_default();
            if !reasons.contains(&rule.why.as_str()) {
                reasons.push(&rule.why);
            }
        }
    }
    let browser = server.login.rescue == Rescue::LightsailConnect;
    let opening = |((protocol, port), sources): ((&'static str, u16), BTreeMap<IpNet, Vec<&str>>)| OpenPort {
        protocol,
        port,
        sources: sources.into_iter().map(|(network, reasons)| (network, reasons.join("; "))).collect(),
        rescue: browser && (protocol, port) == ("tcp", server.ssh_port()),
    };
    merged.into_iter().map(opening).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    #[test]
    fn a_network_is_let_in_whole_or_not_at_all() {
        let sources =
            [("198.51.100.0/25", "a"), ("198.51.100.128/25", "b"), ("198.51.100.7/32", "app"), ("::/0", "v6")];
        let sources = sources.map(|(network, why)| (net(network), why.to_owned())).into();
        let open = OpenPort { protocol: "tcp", port: 5432, sources, rescue: false };
        let said = |network| open.lets_in(&net(network));
        assert_eq!(said("198.51.100.7/32").as_deref(), Some("app"), "the narrowest one speaks");
        assert_eq!(said("198.51.100.8/32").as_deref(), Some("a"));
        assert_eq!(said("198.51.100.0/24").as_deref(), Some("a; app; b"), "two halves are a whole");
        assert_eq!(said("198.51.100.0/23"), None);
        assert_eq!(said("2001:db8::/32").as_deref(), Some("v6"));
        assert_eq!(said("192.0.2.1/32"), None);
        let common = |network| open.common_with(&net(network)).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(common("198.51.100.8/32"), [net("198.51.100.8/32")]);
        assert_eq!(common("198.51.0.0/16").len(), 3, "what is open within it");
        assert_eq!(common("192.0.2.0/24"), []);
    }
}
