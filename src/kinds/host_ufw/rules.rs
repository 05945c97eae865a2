//! ufw's rule files: what stands in them, what should, and the text that ufw itself would write.
//!
//! Each rule is a line `### tuple ### …`, which ufw reads, and below it the lines for iptables, which the kernel gets.
//! What cannot be understood is an error and never dropped. Deliberately absent: making lines for rules of others; those
//! that stay are kept letter by letter.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Begins the comment of every rule of ours.
pub const MARK: &str = "seawall: ";

const TUPLE: &str = "### tuple ###";

/// ufw keeps the two in files and chains of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    fn pick(self, v4: &'static str, v6: &'static str) -> &'static str {
        match self {
            Self::Ipv4 => v4,
            Self::Ipv6 => v6,
        }
    }

    pub fn name(self) -> &'static str {
        self.pick("ipv4", "ipv6")
    }

    /// What the names of ufw's chains begin with.
    pub fn prefix(self) -> &'static str {
        self.pick("ufw", "ufw6")
    }

    pub fn path(self) -> &'static str {
        self.pick("/etc/ufw/user.rules", "/etc/ufw/user6.rules")
    }

    /// The rules around those of the users, from the package: loopback, answers, ICMP.
    pub fn frame(self) -> [&'static str; 2] {
        match self {
            Self::Ipv4 => ["/etc/ufw/before.rules", "/etc/ufw/after.rules"],
            Self::Ipv6 => ["/etc/ufw/before6.rules", "/etc/ufw/after6.rules"],
        }
    }

    pub fn ask(self) -> [&'static str; 2] {
        [self.pick("iptables", "ip6tables"), "-S"]
    }

    pub fn restore(self) -> &'static str {
        self.pick("iptables-restore", "ip6tables-restore")
    }

    pub fn anywhere(self) -> &'static str {
        self.pick("0.0.0.0/0", "::/0")
    }

    fn of(network: &IpNet) -> Self {
        match network {
            IpNet::V4(_) => Self::Ipv4,
            IpNet::V6(_) => Self::Ipv6,
        }
    }
}

/// A rule that the inventory asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    pub protocol: String,
    pub port: u16,
    pub from: IpNet,
    pub why: String,
}

impl Want {
    pub fn is_in(&self, family: Family) -> bool {
        Family::of(&self.from) == family
    }

    /// What the rule is called: `tcp 22 from 203.0.113.0/24`.
    pub fn name(&self) -> String {
        let from = source(Family::of(&self.from), &self.address());
        format!("{} {} from {from}", self.protocol, self.port)
    }

    /// ufw's comment. ufw takes no apostrophe: people repeat `ufw show added` in a shell.
    pub fn comment(&self) -> String {
        format!("{MARK}{}", self.why.replace('\'', "’"))
    }

    /// The source as ufw writes it: one address has no prefix length.
    fn address(&self) -> String {
        if self.from.prefix_len() == self.from.max_prefix_len() {
            self.from.addr().to_string()
        } else {
            self.from.to_string()
        }
    }

    /// The rule as ufw would write it.
    pub fn rule(&self) -> Rule {
        let family = Family::of(&self.from);
        let tuple = Tuple {
            action: "allow".to_owned(),
            protocol: self.protocol.clone(),
            port: self.port.to_string(),
            to: family.anywhere().to_owned(),
            from_port: "any".to_owned(),
            from: self.address(),
            apps: None,
            direction: "in".to_owned(),
            comment: Some(self.comment()),
        };
        let from = if self.from.prefix_len() == 0 { String::new() } else { format!(" -s {}", self.address()) };
        let chain = format!("{}-user-input", family.prefix());
        let line = format!("-A {chain} -p {} --dport {}{from} -j ACCEPT", self.protocol, self.port);
        Rule { family, tuple, lines: vec![line] }
    }
}

fn source(family: Family, address: &str) -> String {
    match (address == family.anywhere(), family) {
        (false, _) => address.to_owned(),
        (true, Family::Ipv4) => "anywhere".to_owned(),
        (true, Family::Ipv6) => "anywhere (v6)".to_owned(),
    }
}

/// What ufw knows of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuple {
    /// `allow`, `deny`, `reject` or `limit`, with `route:` before it and `_log` or `_log-all` after it.
    pub action: String,
    pub protocol: String,
    pub port: String,
    pub to: String,
    pub from_port: String,
    pub from: String,
    /// Application profiles of the destination and the source.
    pub apps: Option<[String; 2]>,
    /// `in` or `out`, with interfaces: `in_eth0`, `in_eth0!out_eth1`.
    pub direction: String,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub family: Family,
    pub tuple: Tuple,
    /// What the kernel gets.
    pub lines: Vec<String>,
}

impl Rule {
    /// Whether it lets something in, or through.
    pub fn opens(&self) -> bool {
        let verb = self.verb();
        !matches!(verb, "deny" | "reject") && (self.routed() || !self.tuple.direction.starts_with("out"))
    }

    /// What of ours it stands for.
    pub fn want(&self) -> Option<Want> {
        let why = self.tuple.comment.as_deref()?.strip_prefix(MARK)?.to_owned();
        let (protocol, port) = (self.tuple.protocol.clone(), self.tuple.port.parse().ok()?);
        let want = Want { protocol, port, from: network(&self.tuple.from)?, why };
        self.is(&want).then_some(want)
    }

    fn routed(&self) -> bool {
        self.tuple.action.starts_with("route:")
    }

    fn verb(&self) -> &str {
        let action = self.tuple.action.trim_start_matches("route:");
        action.split('_').next().unwrap_or(action)
    }

    pub fn is_marked(&self) -> bool {
        self.tuple.comment.as_deref().is_some_and(|comment| comment.starts_with(MARK))
    }

    /// What to call it: short for a plain opening of a port, else as ufw puts it.
    pub fn name(&self) -> String {
        let Tuple { action, protocol, port, to, from_port, from, apps, direction, comment: _ } = &self.tuple;
        let from = source(self.family, from);
        let any = |text: &str| text == "any" || text == self.family.anywhere();
        if action == "allow" && direction == "in" && apps.is_none() && any(to) && any(from_port) {
            return format!("{protocol} {port} from {from}");
        }
        let mut words = vec![action.replace("route:", "route "), protocol.clone(), port.clone()];
        let apps = apps.iter().flatten().filter(|app| *app != "-");
        words.extend(apps.map(|app| format!("({})", app.replace("%20", " "))));
        if !any(to) {
            words.push(format!("to {to}"));
        }
        words.push(format!("from {from}"));
        if !any(from_port) {
            words.push(format!("port {from_port}"));
        }
        if direction != "in" {
            words.push(direction.replace('!', " ").replace('_', " on "));
        }
        words.join(" ")
    }

    /// What it does and whose it is: `limit (not ours)`.
    pub fn standing(&self) -> String {
        let Tuple { action, comment, .. } = &self.tuple;
        match comment {
            Some(comment) if self.is_marked() => format!("{action}, {comment}"),
            Some(comment) => format!("{action}, {comment} (not ours)"),
            None => format!("{action} (not ours)"),
        }
    }

    /// Whether it opens exactly what is wanted, whoever made it.
    fn is(&self, want: &Want) -> bool {
        let Tuple { action, protocol, port, to, from_port, from, apps, direction, comment: _ } = &self.tuple;
        action == "allow"
            && *protocol == want.protocol
            && *port == want.port.to_string()
            && to == self.family.anywhere()
            && from_port == "any"
            && network(from) == Some(want.from)
            && apps.is_none()
            && direction == "in"
    }

    /// Whether nothing of what is wanted gets past this rule, on an interface at least.
    fn blocks(&self, want: &Want) -> bool {
        let Tuple { protocol, port, to, from_port, from, .. } = &self.tuple;
        let holds = |part: &str| {
            let (low, high) = part.split_once(':').unwrap_or((part, part));
            let bound = |text: &str| text.parse::<u16>().ok();
            bound(low).zip(bound(high)).is_some_and(|(low, high)| (low..=high).contains(&want.port))
        };
        matches!(self.verb(), "deny" | "reject")
            && !self.routed()
            && self.tuple.direction.starts_with("in")
            && want.is_in(self.family)
            && (protocol == "any" || *protocol == want.protocol)
            && (port == "any" || port.split(',').any(holds))
            && to == self.family.anywhere()
            && from_port == "any"
            && network(from).is_some_and(|from| from.contains(&want.from))
    }

    /// Its lines in a file of ufw's.
    pub fn text(&self) -> Vec<String> {
        let Tuple { action, protocol, port, to, from_port, from, apps, direction, comment } = &self.tuple;
        let apps = apps.as_ref().map(|[to, from]| format!(" {to} {from}")).unwrap_or_default();
        let comment = comment.as_ref().map(|text| format!(" comment={}", hex(text))).unwrap_or_default();
        let tuple = format!("{TUPLE} {action} {protocol} {port} {to} {from_port} {from}{apps} {direction}{comment}");
        [tuple].into_iter().chain(self.lines.iter().cloned()).collect()
    }
}

/// An address or a network.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn hex(text: &str) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).expect("half a byte is one digit");
    text.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Option<String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    String::from_utf8(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()).ok()
}

fn tuple(line: &str) -> Option<Tuple> {
    let (line, comment) = match line.split_once(" comment=") {
        Some((line, comment)) => (line, Some(unhex(comment.trim())?)),
        None => (line, None),
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let (apps, direction) = match words.as_slice() {
        [_, _, _, _, _, _, direction] => (None, *direction),
        [_, _, _, _, _, _, to, from, direction] => (Some([(*to).to_owned(), (*from).to_owned()]), *direction),
        _ => return None,
    };
    let known = |action: &str| {
        let action = action.trim_start_matches("route:");
        matches!(action.split('_').next(), Some("allow" | "deny" | "reject" | "limit"))
    };
    let side = direction.split('_').next();
    let word = |at: usize| words[at].to_owned();
    (known(words[0]) && matches!(side, Some("in" | "out"))).then(|| Tuple {
        action: word(0),
        protocol: word(1),
        port: word(2),
        to: word(3),
        from_port: word(4),
        from: word(5),
        apps,
        direction: direction.to_owned(),
        comment,
    })
}

/// The rules of a file. Lines around them that ufw writes itself do not count; anything else that touches the chains of
/// the users would be lost with the next command of ufw, and is an error here.
pub fn parse(family: Family, text: &str) -> Result<Vec<Rule>, String> {
    let path = family.path();
    let misread = |number: usize, line: &str| format!("line {} of {path} is not ufw's: `{line}`", number + 1);
    let mut rules: Vec<Rule> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix(TUPLE) {
            let tuple = tuple(rest).ok_or_else(|| misread(number, line))?;
            rules.push(Rule { family, tuple, lines: Vec::new() });
            inside = true;
        } else if line.starts_with('#') || line.starts_with('*') || line.starts_with(':') || line == "COMMIT" {
            inside = false;
        } else if let Some(chain) = line.strip_prefix("-A ").or_else(|| line.strip_prefix("-I ")) {
            let chain = chain.split(' ').next().unwrap_or_default().trim_start_matches(family.prefix());
            let users = ["-user-input", "-user-output", "-user-forward"].contains(&chain);
            match rules.last_mut().filter(|_| inside && chain.starts_with("-user-")) {
                Some(rule) => rule.lines.push(line.to_owned()),
                None if users => return Err(misread(number, line)),
                None => {}
            }
        } else if !line.is_empty() {
            return Err(misread(number, line));
        }
    }
    let hidden = |rule: &&Rule| !rule.opens() && !rule.tuple.direction.starts_with("out") && accepts(&rule.lines);
    match rules.iter().find(hidden) {
        Some(rule) => Err(format!("`{}` in {path} lets in, other than ufw thinks", rule.name())),
        None => Ok(rules),
    }
}

fn accepts(lines: &[String]) -> bool {
    lines.iter().any(|line| line.ends_with("-j ACCEPT") || line.contains("-j ACCEPT ") || line.contains("limit-accept"))
}

/// The rules as they should be, and which rules of others had to make room.
///
/// Order counts only between what opens and what blocks: rules of others that block stay where they are, unless nothing
/// of something that is declared would get past them.
pub fn arrange(wanted: &[&Want], found: &[Rule]) -> (Vec<Rule>, Vec<(Rule, String)>) {
    let mut missing: Vec<&Want> = wanted.to_vec();
    let mut rules: Vec<Rule> = Vec::new();
    let mut end_of_ours = None;
    for rule in found {
        if let Some(at) = missing.iter().position(|want| rule.is(want)) {
            rules.push(missing.remove(at).rule());
            end_of_ours = Some(rules.len());
        } else if !rule.opens() && !rule.is_marked() {
            rules.push(rule.clone());
        }
    }
    let at = end_of_ours.unwrap_or(rules.len());
    rules.splice(at..at, missing.into_iter().map(Want::rule));

    let mut moved = Vec::new();
    for at in (0..rules.len()).rev() {
        let behind = &rules[at + 1..];
        let blocked = wanted.iter().find(|want| rules[at].blocks(want) && behind.iter().any(|rule| rule.is(want)));
        if let Some(want) = blocked {
            moved.push((rules[at].clone(), want.name()));
        }
    }
    moved.reverse();
    rules.retain(|rule| !moved.iter().any(|(other, _)| other == rule));
    let ours = |rule: &Rule| wanted.iter().any(|want| rule.is(want));
    let behind = rules.iter().rposition(ours).map_or(rules.len(), |last| last + 1);
    rules.splice(behind..behind, moved.iter().map(|(rule, _)| rule.clone()));
    (rules, moved)
}
