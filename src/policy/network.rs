//! Rules about who can reach what.
//!
//! Networks that hold a large part of the internet count as anywhere: two halves are no restriction.

use ipnet::IpNet;

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::scalar::Cidr;
use crate::inventory::sections::{FirewallRule, Inventory, Protocol, Server, Sources};
use crate::policy::Rule;

/// The port that PostgreSQL listens on.
const POSTGRES: u16 = 5432;
/// Source addresses per firewall that Lightsail takes (AWS Lightsail guide, instance firewalls).
const MOST_SOURCES: usize = 60;

const WORLD_OPEN_DATABASE: Rule = Rule {
    id: "world-open-database",
    severity: Severity::Error,
    wants: "a database is reachable from named networks only",
    source: "CIS PostgreSQL 17, 5.2-5.6: no wide networks",
};
const WORLD_OPEN_SSH: Rule = Rule {
    id: "world-open-ssh",
    severity: Severity::Warning,
    wants: "operators log in from named networks",
    source: "Lightsail opens port 22 to anywhere by default; every scanner finds it within minutes",
};
const BROADER_RULE_WINS: Rule = Rule {
    id: "broader-rule-wins",
    severity: Severity::Warning,
    wants: "no network is listed that a wider one makes pointless",
    source: "AWS Lightsail guide: rules only allow, the most permissive one counts",
};
const SSH_UNREACHABLE: Rule = Rule {
    id: "ssh-unreachable",
    severity: Severity::Error,
    wants: "somebody can log in, Seawall included",
    source: "what is not in the firewall list is closed, also to Seawall itself",
};
const TOO_MANY_SOURCES: Rule = Rule {
    id: "too-many-sources",
    severity: Severity::Error,
    wants: "a firewall has at most 60 source networks",
    source: "AWS Lightsail guide: limit per instance firewall",
};
const STATIC_IP_NEEDS_IPV4: Rule = Rule {
    id: "static-ip-needs-ipv4",
    severity: Severity::Error,
    wants: "a static IP goes to an instance that has IPv4",
    source: "AWS Lightsail guide: static IPs are IPv4 only",
};

const ACME_PORT_UNREACHABLE: Rule = Rule {
    id: "acme-port-unreachable",
    severity: Severity::Error,
    wants: "the issuer of the certificate can look at the server, at each renewal",
    source: "Let's Encrypt validates from many addresses that it does not publish",
};

pub(super) const RULES: &[Rule] = &[
    WORLD_OPEN_DATABASE,
    WORLD_OPEN_SSH,
    BROADER_RULE_WINS,
    SSH_UNREACHABLE,
    TOO_MANY_SOURCES,
    STATIC_IP_NEEDS_IPV4,
    ACME_PORT_UNREACHABLE,
];

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    for (name, server) in &inventory.servers {
        let base = format!("servers.{name}");
        for (index, rule) in server.firewall.iter().enumerate() {
            let path = format!("{base}.firewall[{index}].from");
            found.extend(world_open(&base, server, rule, &path, places));
        }
        let too_many = too_many_sources(&base, server, places);
        // Every network is compared with every other, so this is done only for lists that are short enough for Lightsail.
        if too_many.is_none() {
            found.extend(broader(&base, server, places));
        }
        found.extend(too_many);
        found.extend(ssh_unreachable(&base, server, places));
        found.extend(acme_port_unreachable(&base, server, places));
        if server.instance.static_ip && server.instance.bundle.contains("_ipv6_") {
            let rule = STATIC_IP_NEEDS_IPV4;
            let bundle = &server.instance.bundle;
            let finding = rule
                .broken(
                    format!("`{base}` keeps a static IP, and its bundle `{bundle}` has no IPv4"),
                    format!("bundle `{bundle}`, `static_ip: true`"),
                )
                .at(places.span(&format!("{base}.instance.bundle")), "IPv6 only")
                .hint(format!("take `{}`, or set `static_ip: false`", bundle.replace("_ipv6", "")));
            found.push(rule.cite(finding));
        }
    }
}

/// The part of the sources that is as good as anywhere, in words.
fn world(sources: &Sources) -> Option<String> {
    match sources {
        Sources::Anywhere(_) => Some("anywhere".to_owned()),
        Sources::Networks(networks) => networks
            .iter()
            .find(|network| network.is_as_good_as_anywhere())
            .map(|network| format!("`{network}`, which is as good as anywhere")),
    }
}

/// Many networks that together hold a large part of the internet, in words: more than two of the widest that are allowed.
fn together(sources: &Sources) -> Option<String> {
    let Sources::Networks(networks) = sources else { return None };
    let nets = IpNet::aggregate(&networks.iter().map(Cidr::net).collect::<Vec<_>>());
    // In units of the widest network of each family.
    let share = |net: &IpNet| {
        let (widest, length) = if matches!(net, IpNet::V4(_)) { (8, 32) } else { (16, 128) };
        let part = f64::from(length - i32::from(net.prefix_len())) - f64::from(length - widest);
        (matches!(net, IpNet::V4(_)), part.exp2())
    };
    let sum = |v4: bool| nets.iter().map(share).filter(|(is_v4, _)| *is_v4 == v4).map(|(_, part)| part).sum::<f64>();
    let wide = sum(true) > 2.0 || sum(false) > 2.0;
    wide.then(|| format!("{} networks, which together are as good as anywhere", networks.len()))
}

/// A rule as it was written.
fn declared(rule: &FirewallRule) -> String {
    format!("port {} is declared open for `{}`", rule.port, rule.why)
}

/// The ports that a server opens.
fn ports(server: &Server) -> String {
    let word = |protocol: Protocol| match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let open: Vec<String> =
        server.firewall.iter().map(|rule| format!("{}/{}", rule.port, word(rule.protocol))).collect();
    if open.is_empty() { "no port is open".to_owned() } else { format!("open are {}", open.join(", ")) }
}

fn world_open(base: &str, server: &Server, rule: &FirewallRule, path: &str, places: &Places) -> Option<Diagnostic> {
    if rule.protocol != Protocol::Tcp {
        return None;
    }
    let from = world(&rule.from).or_else(|| together(&rule.from))?;
    let pool = server.pgbouncer.as_ref().map(|pool| pool.port);
    if rule.port == POSTGRES || Some(rule.port) == pool {
        let what = if rule.port == POSTGRES { "the database" } else { "the connection pool" };
        let finding = WORLD_OPEN_DATABASE
            .broken(format!("{what} of `{base}` is open to {from}"), declared(rule))
            .at(places.span(path), format!("port {} for everybody", rule.port))
            .hint("name the networks of the applications: `from: [198.51.100.7/32]`; people go through SSH");
        return Some(WORLD_OPEN_DATABASE.cite(finding));
    }
    if rule.port == server.ssh_port() {
        let port = rule.port;
        let finding = WORLD_OPEN_SSH
            .broken(format!("port {port} of `{base}` is open to {from}"), declared(rule))
            .at(places.span(path), "everybody may try to log in")
            .hint("name the networks that operators come from");
        return Some(WORLD_OPEN_SSH.cite(finding));
    }
    None
}

/// Networks of one port that lie within another of the same port. Equal ones are `check`'s.
fn broader(base: &str, server: &Server, places: &Places) -> Vec<Diagnostic> {
    let listed: Vec<(&FirewallRule, &Cidr, String)> = server
        .firewall
        .iter()
        .enumerate()
        .flat_map(|(index, rule)| {
            let networks: &[Cidr] = match &rule.from {
                Sources::Networks(networks) => networks,
                Sources::Anywhere(_) => &[],
            };
            networks
                .iter()
                .enumerate()
                .map(move |(place, network)| (rule, network, format!("{base}.firewall[{index}].from[{place}]")))
        })
        .collect();
    let mut found = Vec::new();
    for (rule, narrow, path) in &listed {
        let wider = listed.iter().find(|(other, wide, _)| {
            let same_port = other.port == rule.port && other.protocol == rule.protocol;
            // A rule that another one opens to the world is an error of the inventory already.
            let contradicts =
                !std::ptr::eq(*other, *rule) && wide.is_as_good_as_anywhere() && !narrow.is_as_good_as_anywhere();
            same_port && contains(wide.net(), narrow.net()) && !contradicts
        });
        if let Some((_, wide, wide_path)) = wider {
            let finding = BROADER_RULE_WINS
                .broken(
                    format!("`{narrow}` is already within `{wide}`, so it limits nothing on port {}", rule.port),
                    format!("port {}: `{wide}` holds `{narrow}`", rule.port),
                )
                .at(places.span(path), "pointless")
                .at(places.span(wide_path), "the wider one")
                .hint("take out the one that you do not mean");
            found.push(BROADER_RULE_WINS.cite(finding));
        }
    }
    found
}

fn contains(wide: IpNet, narrow: IpNet) -> bool {
    wide != narrow && wide.contains(&narrow)
}

fn ssh_unreachable(base: &str, server: &Server, places: &Places) -> Option<Diagnostic> {
    let port = server.ssh_port();
    let opens_ssh = |rule: &FirewallRule| rule.port == port && rule.protocol == Protocol::Tcp;
    if server.firewall.iter().any(opens_ssh) {
        return None;
    }
    let finding = SSH_UNREACHABLE
        .broken(format!("no rule of `{base}` opens port {port}: nobody could log in, Seawall included"), ports(server))
        .at(places.span(&format!("{base}.firewall")), format!("port {port} is not in it"))
        .hint(format!("add `- {{ port: {port}, from: [203.0.113.0/24], why: operators }}` with your network"));
    Some(SSH_UNREACHABLE.cite(finding))
}

fn acme_port_unreachable(base: &str, server: &Server, places: &Places) -> Option<Diagnostic> {
    let section = server.certificate.as_ref().filter(|section| section.issuer.is_public())?;
    let port = section.challenge.port()?;
    let opens =
        |rule: &FirewallRule| rule.port == port && rule.protocol == Protocol::Tcp && world(&rule.from).is_some();
    if server.firewall.iter().any(opens) {
        return None;
    }
    let finding = ACME_PORT_UNREACHABLE
        .broken(
            format!("the certificate of `{base}` is validated on port {port}, which is not open to anywhere"),
            ports(server),
        )
        .at(places.span(&format!("{base}.certificate")), format!("needs port {port}"))
        .hint(format!(
            "add `- {{ port: {port}, from: anywhere, why: certificate validation }}` to `{base}.firewall`, or take `issuer: private`"
        ));
    Some(ACME_PORT_UNREACHABLE.cite(finding))
}

fn too_many_sources(base: &str, server: &Server, places: &Places) -> Option<Diagnostic> {
    let count: usize = server
        .firewall
        .iter()
        .map(|rule| match &rule.from {
            Sources::Networks(networks) => networks.len(),
            // Sent as one IPv4 and one IPv6 network.
            Sources::Anywhere(_) => 2,
        })
        .sum();
    (count > MOST_SOURCES).then(|| {
        let finding = TOO_MANY_SOURCES
            .broken(
                format!("`{base}.firewall` lists {count} source networks, and Lightsail takes {MOST_SOURCES}"),
                format!("{} rules, anywhere counts as two networks", server.firewall.len()),
            )
            .at(places.span(&format!("{base}.firewall")), format!("{count} networks"))
            .hint("merge neighbouring networks, or let the callers come through one address");
        TOO_MANY_SOURCES.cite(finding)
    })
}
