//! What the kernel really filters by: the answer of `iptables -S`, held against ufw's files.
//!
//! Only ufw's own chains and the way to them are looked at, and rules in INPUT that let something in past them. Chains
//! of others (Docker's, fail2ban's) that close something are theirs. The rules around those of the users are counted,
//! not read: iptables prints them in other words than the package's files have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::kinds::host_ufw::rules::Family;

/// The built-in chains with the policy that they must have.
const POLICIES: [(&str, &str); 3] = [("INPUT", "DROP"), ("FORWARD", "DROP"), ("OUTPUT", "ACCEPT")];

/// Where ufw's chains are entered from each built-in one, in this order.
const STATIONS: [&str; 6] = ["before-logging", "before", "after", "after-logging", "reject", "track"];

/// The loaded firewall of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// ufw's chains are there.
    pub running: bool,
    /// What is loaded and what should be, by what it is, where the two differ.
    pub differs: BTreeMap<String, [String; 2]>,
    /// Rules of others in INPUT through which something can get in.
    pub holes: Vec<String>,
    /// Rules of others in INPUT that only close.
    pub others: Vec<String>,
    /// Built-in chains do not lead through ufw's: jumps to take out before all are laid anew. `None` where they do, and
    /// where there is nothing of ufw's.
    pub astray: Option<Vec<String>>,
}

#[derive(Default)]
struct Table<'a> {
    policies: BTreeMap<&'a str, &'a str>,
    chains: BTreeMap<&'a str, Vec<&'a str>>,
}

fn table(text: &str) -> Result<Table<'_>, String> {
    let mut table = Table::default();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match *line.splitn(3, ' ').collect::<Vec<_>>() {
            ["-P", chain, policy] => {
                table.policies.insert(chain, policy);
            }
            ["-N", chain] => {
                table.chains.entry(chain).or_default();
            }
            ["-A", chain, rule] => table.chains.entry(chain).or_default().push(rule),
            _ => return Err(format!("iptables printed `{line}`")),
        }
    }
    Ok(table)
}

impl Table<'_> {
    /// Whether packets can be let in by a rule, or by a chain that it leads to.
    fn lets_in(&self, rule: &str, seen: &mut BTreeSet<String>) -> bool {
        match target(rule) {
            Some("ACCEPT") => true,
            Some(chain) if seen.insert(chain.to_owned()) => {
                self.chains.get(chain).is_some_and(|rules| rules.iter().any(|rule| self.lets_in(rule, seen)))
            }
            _ => false,
        }
    }
}

fn target(rule: &str) -> Option<&str> {
    let words: Vec<&str> = rule.split(' ').collect();
    words.windows(2).find(|pair| matches!(pair[0], "-j" | "-g")).map(|pair| pair[1])
}

/// A rule without what iptables adds, leaves out, and puts in another order.
fn essence(rule: &str) -> BTreeSet<String> {
    let mut parts: Vec<String> = Vec::new();
    for word in words(rule) {
        if word.starts_with('-') && word.len() > 1 && parts.last().is_none_or(|part| part != "!") {
            parts.push(word);
        } else if let Some(part) = parts.last_mut() {
            part.push(' ');
            part.push_str(&word);
        } else {
            parts.push(word);
        }
    }
    let own = |part: &String| {
        let name = part.split(' ').next().unwrap_or_default();
        // Matches are named by their options; the rest are defaults and notes.
        !matches!(name, "-m" | "--comment" | "--name" | "--mask" | "--rsource")
            && !part.starts_with("--reject-with icmp")
    };
    let same = |part: String| match part.split_once(' ') {
        Some((name @ ("-s" | "-d"), address)) if !address.contains('/') => {
            let whole = address.parse().map(|address: std::net::IpAddr| IpNet::from(address).to_string());
            whole.map_or(part.clone(), |network| format!("{name} {network}"))
        }
        Some(("--limit", limit)) => format!("--limit {}", limit.replace("minute", "min")),
        _ => part,
    };
    parts.into_iter().filter(own).map(same).collect()
}

/// Words as iptables quotes them.
fn words(rule: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quote, mut letters) = (None, rule.chars());
    while let Some(letter) = letters.next() {
        let word = words.last_mut().expect("there is always a word");
        match (letter, quote) {
            ('\\', _) => word.extend(letters.next()),
            (' ', None) => words.push(String::new()),
            ('"' | '\'', None) => quote = Some(letter),
            (_, Some(open)) if open == letter => quote = None,
            _ => word.push(letter),
        }
    }
    words
}

/// The rules that a file has for a chain.
fn in_file<'a>(text: &'a str, chain: &str) -> Vec<&'a str> {
    let rule = |line: &'a str| line.strip_prefix("-A ")?.split_once(' ').filter(|(name, _)| *name == chain);
    text.lines().filter_map(|line| rule(line.trim())).map(|(_, rule)| rule).collect()
}

/// How many rules a file of the package makes of a chain, or `None` where one line can become several, or fewer.
fn count(text: &str, chain: &str) -> Option<usize> {
    let plain = |rule: &&str| {
        words(rule).windows(2).all(|pair| {
            let address = matches!(pair[0].as_str(), "-s" | "-d" | "--source" | "--destination" | "--src" | "--dst");
            !address || pair[1].parse::<IpNet>().is_ok() || pair[1].parse::<std::net::IpAddr>().is_ok()
        })
    };
    let other = |line: &str| line.starts_with('-') && !line.starts_with("-A ");
    let rules = in_file(text, chain);
    (rules.iter().all(plain) && !text.lines().any(|line| other(line.trim()))).then_some(rules.len())
}

fn shown(rules: &[&str]) -> String {
    if rules.is_empty() { "no rule".to_owned() } else { rules.join(", ") }
}

fn rules(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}

/// Holds what is loaded against the files: the users' rules, and the package's before and after them.
pub fn judge(family: Family, listing: &str, user: &str, frame: [&str; 2]) -> Result<Loaded, String> {
    let table = table(listing)?;
    let prefix = family.prefix();
    let of = |chain: &str| format!("{prefix}-{chain}");
    let loaded = |chain: &str| table.chains.get(chain).cloned();
    let mut found = Loaded { running: loaded(&of("user-input")).is_some(), ..Loaded::default() };
    let mut differs = |what: String, before: String, after: String| {
        if before != after {
            found.differs.insert(what, [before, after]);
        }
    };
    if found.running {
        for (chain, policy) in POLICIES {
            let before = table.policies.get(chain).copied().unwrap_or("no policy");
            differs(format!("{chain} policy"), before.to_owned(), policy.to_owned());
        }
        let same = |found: &[&str], wanted: &[&str]| {
            found.iter().map(|rule| essence(rule)).eq(wanted.iter().map(|rule| essence(rule)))
        };
        let mut exactly = |chain: String, wanted: &[&str]| {
            let found = loaded(&chain).unwrap_or_default();
            if !same(&found, wanted) {
                // Reordered or differently written text would look alike.
                let both = |rules: &[&str]| format!("{}: {}", self::rules(rules.len()), shown(rules));
                differs(chain, both(&found), both(wanted));
            }
        };
        for chain in ["user-input", "user-output", "user-forward"].map(of) {
            exactly(chain.clone(), &in_file(user, &chain));
        }
        exactly(of("reject-input"), &[]);
        exactly(of("track-input"), &[]);
        exactly(of("skip-to-policy-input"), &["-j DROP"]);
        for (chain, text, hook) in
            [(of("before-input"), frame[0], 1), (of("not-local"), frame[0], 0), (of("after-input"), frame[1], 0)]
        {
            let found = loaded(&chain).unwrap_or_default();
            // One more than the file has: the jump to the rules of the users, which must be the last.
            if let Some(wanted) = count(text, &chain) {
                differs(chain.clone(), rules(found.len()), rules(wanted + hook));
            }
            if found.contains(&"-j ACCEPT") {
                differs(format!("{chain} open"), "-j ACCEPT".to_owned(), "nothing that accepts all".to_owned());
            }
        }
        let users = format!("-j {}", of("user-input"));
        if !loaded(&of("before-input")).unwrap_or_default().contains(&users.as_str()) {
            differs(format!("{} leads", of("before-input")), "nowhere".to_owned(), users);
        }
        for chain in ["before-logging-input", "after-logging-input", "user-logging-input", "logging-deny"].map(of) {
            let opening: Vec<&str> =
                loaded(&chain).unwrap_or_default().into_iter().filter(|rule| target(rule) == Some("ACCEPT")).collect();
            differs(chain, shown(&opening), shown(&[]));
        }
    }
    ways(family, &table, &mut found);
    Ok(found)
}

/// Whether the built-in chains lead through ufw's, and what else stands in INPUT.
fn ways(family: Family, table: &Table<'_>, found: &mut Loaded) {
    let prefix = family.prefix();
    let mut jumps: Vec<String> = Vec::new();
    let mut straight = true;
    for (chain, _) in POLICIES {
        let side = chain.to_lowercase();
        let wanted: Vec<String> = STATIONS.iter().map(|station| format!("-j {prefix}-{station}-{side}")).collect();
        let rules = table.chains.get(chain).cloned().unwrap_or_default();
        let ours = |rule: &str| target(rule).is_some_and(|target| target.starts_with(&format!("{prefix}-")));
        let there: Vec<&str> = rules.iter().copied().filter(|rule| ours(rule)).collect();
        straight &= there == wanted;
        jumps.extend(there.iter().map(|rule| format!("-D {chain} {rule}")));
        if chain == "INPUT" {
            if found.running && there != wanted {
                let lead = |rules: &[&str]| format!("leads to {}", shown(rules).replace("-j ", ""));
                let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
                found.differs.insert(chain.to_owned(), [lead(&there), lead(&wanted)]);
            }
            for rule in rules.into_iter().filter(|rule| !ours(rule)) {
                // What the machine says to itself is let in by ufw as well.
                let within = rule.starts_with("-i lo ");
                let hole = !within && table.lets_in(rule, &mut BTreeSet::new());
                let list = if hole { &mut found.holes } else { &mut found.others };
                if !within {
                    list.push(rule.to_owned());
                }
            }
        } else if found.running && there != wanted {
            found.differs.insert(chain.to_owned(), ["does not lead through ufw".to_owned(), "does".to_owned()]);
        }
    }
    let first = format!("{prefix}-before-logging-input");
    let anything = !jumps.is_empty() || table.chains.contains_key(first.as_str());
    found.astray = (anything && !straight).then_some(jumps);
}

/// Input for `iptables-restore --noflush` that takes out holes and lays the ways through ufw's chains anew, in one
/// moment; `None` where there is nothing to repair.
///
/// ufw itself lays them only when its first chain is not there: after `iptables -F` its reload would close INPUT with
/// no way to any rule. The policy is open until the load that follows: the chains are empty until then.
pub fn repair(family: Family, loaded: &Loaded) -> Option<String> {
    if loaded.holes.is_empty() && loaded.astray.is_none() {
        return None;
    }
    let prefix = family.prefix();
    let mut text = "*filter\n".to_owned();
    let sides = POLICIES.map(|(chain, _)| (chain, chain.to_lowercase()));
    let stations = || sides.iter().flat_map(|(chain, side)| STATIONS.map(|station| (chain, side, station)));
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a String takes all");
    if loaded.astray.is_some() {
        line(format_args!(":INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]"));
        for (_, side, station) in stations() {
            line(format_args!(":{prefix}-{station}-{side} - [0:0]"));
        }
    }
    for hole in &loaded.holes {
        line(format_args!("-D INPUT {hole}"));
    }
    if let Some(jumps) = &loaded.astray {
        for jump in jumps {
            line(format_args!("{jump}"));
        }
        for (chain, side, station) in stations() {
            line(format_args!("-A {chain} -j {prefix}-{station}-{side}"));
        }
    }
    line(format_args!("COMMIT"));
    Some(text)
}
