//! The cloud's firewall in front of each host, as nftables text. It sits outside of the host, in the lab's namespace,
//! is stateful, and defaults to dropping without an answer, as Lightsail's does.
//!
//! Connections that are open when a port closes stay open: security groups behave so.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use ipnet::Ipv4Net;
use ipnet::Ipv6Net;
use serde::Deserialize;
use serde::Serialize;

/// What a rule lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    /// `from` is the ICMP type, -1 for all.
    Icmp,
    /// `from` is the ICMPv6 type, -1 for all.
    Icmpv6,
    /// Everything; the ports do not count.
    All,
}

/// One open range. An empty list of a family lets nobody of that family in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRule {
    pub protocol: Protocol,
    pub from: i32,
    pub to: i32,
    pub cidrs: Vec<Ipv4Net>,
    pub ipv6_cidrs: Vec<Ipv6Net>,
}

impl PortRule {
    /// One TCP port, open to everybody.
    pub fn tcp(port: u16) -> Self {
        Self {
            protocol: Protocol::Tcp,
            from: port.into(),
            to: port.into(),
            cidrs: vec![Ipv4Net::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a prefix length")],
            ipv6_cidrs: vec![Ipv6Net::new(Ipv6Addr::UNSPECIFIED, 0).expect("0 is a prefix length")],
        }
    }

    /// What the rule matches beside the source address, per family; `None` where the family cannot.
    fn matches(&self, v6: bool) -> Option<String> {
        let ports = || {
            let from = self.from.clamp(0, 65535);
            let to = self.to.clamp(from, 65535);
            format!("{from}-{to}")
        };
        let kind = |word: &str| match u8::try_from(self.from) {
            Ok(kind) => format!("{word} type {kind}"),
            Err(_) => format!("meta l4proto {}", if v6 { "icmpv6" } else { "icmp" }),
        };
        match self.protocol {
            Protocol::Tcp => Some(format!("tcp dport {}", ports())),
            Protocol::Udp => Some(format!("udp dport {}", ports())),
            Protocol::Icmp => (!v6).then(|| kind("icmp")),
            Protocol::Icmpv6 => v6.then(|| kind("icmpv6")),
            Protocol::All => Some(String::new()),
        }
    }
}

/// The tables of a fresh lab. `operator` are the addresses that traffic from this computer appears to come from;
/// `uplink` are the addresses it really has.
pub(super) fn lab(uplink_link: &str, uplink: (Ipv4Addr, Ipv6Addr), operator: (Ipv4Addr, Ipv6Addr)) -> String {
    let ((up4, up6), (as4, as6)) = (uplink, operator);
    // The filter comes after the translation, so that rules see the operator's address as the cloud would. What is
    // nowhere in the lab is routed to the uplink and refused before it gets there: the lab has no way out, not even to
    // this computer's services, and nobody waits for a time-out to learn it. (The kernel's own answers for unreachable
    // routes are rationed per host. Refusals belong to no connection yet, hence their own accept.) The drop below is the second lock on the same door.
    format!(
        "table inet lab {{
 map guests {{ type ifname : verdict; }}
 chain nowhere {{ meta l4proto tcp reject with tcp reset; reject with icmpx type no-route; }}
 chain forward {{ type filter hook forward priority filter; policy accept;
  oifname \"{uplink_link}\" ct state new jump nowhere
 }}
 chain filter {{ type filter hook postrouting priority srcnat + 10; policy accept;
  icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, destination-unreachable }} accept
  icmp type destination-unreachable accept
  ct state vmap {{ established : accept, related : accept, invalid : drop }}
  oifname \"{uplink_link}\" drop
  oifname vmap @guests
 }}
 chain source {{ type nat hook postrouting priority srcnat; policy accept;
  oifname != \"{uplink_link}\" ip saddr {up4} snat ip to {as4}
  oifname != \"{uplink_link}\" ip6 saddr {up6} snat ip6 to {as6}
 }}
}}
"
    )
}

/// Adds a guest behind `link`, with nothing open.
pub(super) fn add_guest(link: &str) -> String {
    format!(
        "add chain inet lab {link}\nadd rule inet lab {link} drop\nadd element inet lab guests {{ \"{link}\" : jump {link} }}\n"
    )
}

/// Takes a guest away again.
pub(super) fn remove_guest(link: &str) -> String {
    format!(
        "delete element inet lab guests {{ \"{link}\" : jump {link} }}\nflush chain inet lab {link}\ndelete chain inet lab {link}\n"
    )
}

/// Replaces everything that is open for a guest, in one transaction.
pub(super) fn replace(link: &str, rules: &[PortRule]) -> String {
    let mut text = format!("flush chain inet lab {link}\n");
    for rule in rules {
        // Overlapping intervals are an error to nft and a habit of people.
        let v4 = Ipv4Net::aggregate(&rule.cidrs);
        let v6 = Ipv6Net::aggregate(&rule.ipv6_cidrs);
        add(&mut text, link, "ip", &v4, rule.matches(false));
        add(&mut text, link, "ip6", &v6, rule.matches(true));
    }
    writeln!(text, "add rule inet lab {link} drop").expect("a String takes all");
    text
}

fn add(text: &mut String, link: &str, family: &str, from: &[impl ToString], matches: Option<String>) {
    let Some(matches) = matches.filter(|_| !from.is_empty()) else {
        return;
    };
    let from: Vec<String> = from.iter().map(ToString::to_string).collect();
    let from = from.join(", ");
    writeln!(text, "add rule inet lab {link} {family} saddr {{ {from} }} {matches} accept")
        .expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_set_opens_what_it_says_and_drops_the_rest() {
        let mut rule = PortRule::tcp(22);
        rule.cidrs = vec!["203.0.113.0/24".parse().expect("a network"), "203.0.113.7/32".parse().expect("a network")];
        rule.ipv6_cidrs.clear();
        let ping = PortRule { protocol: Protocol::Icmp, from: 8, to: -1, ..PortRule::tcp(0) };
        assert_eq!(
            replace("g7", &[rule, ping]),
            "flush chain inet lab g7\n\
             add rule inet lab g7 ip saddr { 203.0.113.0/24 } tcp dport 22-22 accept\n\
             add rule inet lab g7 ip saddr { 0.0.0.0/0 } icmp type 8 accept\n\
             add rule inet lab g7 drop\n"
        );
    }
}
