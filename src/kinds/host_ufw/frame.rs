//! What stands beside ufw's own rules: lines that somebody put into the package's files, programs that run when it loads, and
//! tables of the kernel that packets pass before ufw sees them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kinds::host;
use crate::kinds::host_ufw::rules::Family;

/// Prints `FILE LINE` for every rule in the package's files that the package does not have, and `runs FILE` for a program that
/// ufw would run. Comments may differ.
const ADDED: &str = r#"cd /etc/ufw || exit
for file in before.rules after.rules before6.rules after6.rules; do
    shipped=/usr/share/ufw/iptables/$file
    [ -f $shipped ] || continue
    grep -vxF -f $shipped -- $file | grep '^[[:space:]]*[-:]' | sed 's/^[[:space:]]*//' | while read -r line; do
        printf '%s %s\n' "$file" "$line"
    done
done
for file in before.init after.init; do
    if [ -x $file ]; then printf 'runs %s\n' $file; fi
done"#;
/// Every table of the kernel but the one that ufw fills, and the names of nftables' own.
const TABLES: &str = r"for family in iptables ip6tables; do
    printf '== %s\n' $family
    $family-save 2>/dev/null | sed '/^\*filter/,/^COMMIT/d; /^#/d'
done
if command -v nft >/dev/null; then nft list tables; fi";

pub(super) const ASK_ADDED: [&str; 3] = ["sh", "-c", ADDED];
pub(super) const ASK_TABLES: [&str; 3] = ["sh", "-c", TABLES];

/// Targets that only close, count, mark, or change where an answer seems to come from.
const CLOSING: [&str; 15] = [
    "DROP",
    "REJECT",
    "LOG",
    "NFLOG",
    "MASQUERADE",
    "SNAT",
    "NOTRACK",
    "CT",
    "MARK",
    "CONNMARK",
    "TCPMSS",
    "CLASSIFY",
    "DSCP",
    "CHECKSUM",
    "SET",
];
/// Targets that lead a packet to another port or host than the one it was sent to.
const LEADING: [&str; 4] = ["REDIRECT", "DNAT", "NETMAP", "TPROXY"];
/// nftables' tables that iptables, Docker and fail2ban make.
const KNOWN: [&str; 4] = ["ip ", "ip6 ", "inet f2b-table", "inet docker"];

/// What was put into the package's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// File to the lines that open something.
    pub opening: BTreeMap<String, Vec<String>>,
    /// File to the lines that do not.
    pub others: BTreeMap<String, Vec<String>>,
    /// Programs that run as root whenever the firewall is loaded.
    pub runs: Vec<String>,
}

pub(super) fn path(file: &str) -> String {
    format!("/etc/ufw/{file}")
}

pub(super) fn added(printed: &str) -> Result<Added, String> {
    let mut found = Added::default();
    for line in printed.lines() {
        let (file, rule) = line.split_once(' ').ok_or_else(|| format!("ufw's files were answered `{line}`"))?;
        if file == "runs" {
            found.runs.push(path(rule));
        } else {
            let list = if opens(rule) { &mut found.opening } else { &mut found.others };
            list.entry(path(file)).or_default().push(rule.to_owned());
        }
    }
    Ok(found)
}

fn target(rule: &str) -> Option<&str> {
    let mut words = rule.split_whitespace();
    words.find(|word| matches!(*word, "-j" | "-g" | "--jump" | "--goto"))?;
    words.next()
}

/// Whether a line lets something in, or leads to what may.
fn opens(rule: &str) -> bool {
    if rule.starts_with(':') || rule.starts_with("-P") {
        return rule.contains(" ACCEPT") && ["INPUT", "FORWARD"].iter().any(|chain| rule.contains(chain));
    }
    target(rule).is_some_and(|target| !CLOSING.contains(&target) && target != "RETURN" && !target.starts_with("ufw"))
}

/// A file's text without these lines in effect.
pub(super) fn silenced(text: &str, lines: &[String]) -> String {
    host::silenced(text, |line| lines.iter().any(|other| words(line) == words(other)))
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// A rule that leads packets past ufw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    pub family: Family,
    pub table: String,
    /// Chain and rule, as iptables prints them after `-A`.
    pub rule: String,
}

/// What the other tables hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    pub leads: Vec<Lead>,
    /// Tables of nftables that are nobody's whom this program knows.
    pub foreign: Vec<String>,
}

pub(super) fn tables(printed: &str) -> Result<Tables, String> {
    let mut found = Tables::default();
    let (mut family, mut table) = (Family::Ipv4, "");
    for line in printed.lines() {
        if let Some(program) = line.strip_prefix("== ") {
            family = if program == "ip6tables" { Family::Ipv6 } else { Family::Ipv4 };
        } else if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            // Docker leads to its containers; that their ports are on the loopback is `host.compose`'s.
            let leads = target(rule).is_some_and(|target| LEADING.contains(&target)) && !rule.starts_with("DOCKER");
            if leads {
                found.leads.push(Lead { family, table: table.to_owned(), rule: rule.to_owned() });
            }
        } else if let Some(name) = line.strip_prefix("table ") {
            if !KNOWN.iter().any(|known| name.starts_with(known)) {
                found.foreign.push(name.to_owned());
            }
        } else if !line.starts_with(':') && line != "COMMIT" && !line.trim().is_empty() {
            return Err(format!("the kernel's tables were answered `{line}`"));
        }
    }
    Ok(found)
}

/// Input for `iptables-restore --noflush` that takes these rules of a family out, in one moment for each table.
pub(super) fn take_out(family: Family, leads: &[Lead]) -> Option<String> {
    let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for lead in leads.iter().filter(|lead| lead.family == family) {
        tables.entry(&lead.table).or_default().push(format!("-D {}\n", lead.rule));
    }
    let texts = tables.iter().map(|(table, rules)| format!("*{table}\n{}COMMIT\n", rules.concat()));
    let text = texts.collect::<Vec<_>>().concat();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_is_told_from_what_closes() {
        for rule in [
            "-A ufw-before-input -p tcp --dport 8081 -j ACCEPT",
            "-I ufw-before-input 1 -j mine",
            "-A PREROUTING -p tcp --dport 443 -j REDIRECT --to-ports 22",
            ":INPUT ACCEPT [0:0]",
            "-P INPUT ACCEPT",
        ] {
            assert!(opens(rule), "{rule}");
        }
        for rule in [
            "-A ufw-before-input -s 192.0.2.0/24 -j DROP",
            "-A POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE",
            ":POSTROUTING ACCEPT [0:0]",
            ":mine - [0:0]",
        ] {
            assert!(!opens(rule), "{rule}");
        }
    }

    #[test]
    fn only_the_lines_that_open_go() {
        let text = "*filter\n# ok\n  -A ufw-before-input   -j ACCEPT\n-A ufw-before-input -j DROP\n";
        let new = silenced(text, &["-A ufw-before-input -j ACCEPT".to_owned()]);
        let gone = "*filter\n# ok\n# not in effect by Seawall:   -A ufw-before-input   -j ACCEPT\n-A ufw-before-input -j DROP\n";
        assert_eq!(new, gone);
    }

    #[test]
    fn rules_that_lead_past_ufw_are_found_and_taken_out() {
        let printed = "== iptables\n*nat\n:PREROUTING ACCEPT [4:240]\n:DOCKER - [0:0]\n\
                       -A PREROUTING -p tcp -m tcp --dport 443 -j REDIRECT --to-ports 22\n\
                       -A DOCKER ! -i br-1 -p tcp --dport 80 -j DNAT --to-destination 172.18.0.2:80\n\
                       -A POSTROUTING -j MASQUERADE\nCOMMIT\n== ip6tables\ntable ip nat\ntable inet f2b-table\ntable inet evil\n";
        let found = tables(printed).expect("tables");
        assert_eq!(found.foreign, ["inet evil"]);
        let rule = "PREROUTING -p tcp -m tcp --dport 443 -j REDIRECT --to-ports 22";
        assert_eq!(found.leads, [Lead { family: Family::Ipv4, table: "nat".to_owned(), rule: rule.to_owned() }]);
        assert_eq!(take_out(Family::Ipv4, &found.leads), Some(format!("*nat\n-D {rule}\nCOMMIT\n")));
        assert_eq!(take_out(Family::Ipv6, &found.leads), None);
        assert!(tables("iptables: not found").is_err());
    }
}
