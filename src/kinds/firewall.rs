//! The one `firewall` list of a server, merged: what the cloud's firewall and the host's own are both made from.

use std::collections::BTreeMap;
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
