//! What the list becomes, and the readings that no recorded machine shows.

use super::*;
use crate::inventory::sections::{FirewallRule, Rescue};
use rules::{arrange, parse};

fn server(rescue: &str, firewall: &str) -> Server {
    let firewall: Vec<FirewallRule> = serde_yaml::from_str(firewall).expect("a firewall list");
    let whole = serde_json::json!({
        "instance": { "bundle": "small_3_0", "blueprint": "debian_12", "zone": "ca-central-1a" },
        "login": { "keys": [], "rescue": rescue },
        "firewall": firewall,
    });
    serde_json::from_value(whole).expect("a server")
}

const LIST: &str = "
- { port: 22, from: [203.0.113.0/24, '2001:db8::/32'], why: operators }
- { port: 22, from: [198.51.100.7/32], why: the CI's runner }
- { port: 443, from: anywhere, why: certificates }
- { port: 123, protocol: udp, from: [198.51.100.7/32], why: time }
";

fn said(wants: &[Want]) -> Vec<String> {
    wants.iter().map(|want| format!("{}: {}", want.name(), want.comment())).collect()
}

#[test]
fn without_a_rescue_the_sources_are_those_of_the_list() {
    let server = server("none", LIST);
    assert_eq!(server.login.rescue, Rescue::None);
    assert_eq!(
        said(&wants(&server)),
        [
            "tcp 22 from 198.51.100.7: seawall: the CI’s runner",
            "tcp 22 from 203.0.113.0/24: seawall: operators",
            "tcp 22 from 2001:db8::/32: seawall: operators",
            "tcp 443 from anywhere: seawall: certificates",
            "tcp 443 from anywhere (v6): seawall: certificates",
            "udp 123 from 198.51.100.7: seawall: time",
        ]
    );
}

#[test]
fn for_the_browser_login_ssh_is_open_to_anywhere_and_says_why() {
    let wants = said(&wants(&server("lightsail-connect", LIST)));
    assert_eq!(wants[0], "tcp 22 from anywhere: seawall: operators; the CI’s runner; Lightsail filters the sources");
    assert_eq!(wants[1].split(':').next(), Some("tcp 22 from anywhere (v6)"));
    assert_eq!(wants.len(), 5);
    let closed = super::wants(&server("lightsail-connect", "[{ port: 443, from: anywhere, why: x }]"));
    assert!(closed.iter().all(|want| want.port == 443), "a list without SSH opens none: {closed:?}");
}

#[test]
fn settings_are_changed_and_the_rest_is_kept() {
    let before = "# IPV6=no\nIPV6=no\nIPV6=\"no\" # mine\nDEFAULT_INPUT_POLICY=\"DROP\"\nIPT_MODULES=\"\"";
    let after = with_settings(DEFAULTS, before);
    assert_eq!(
        after,
        "# IPV6=no\nIPV6=no\nIPV6=yes\nDEFAULT_INPUT_POLICY=\"DROP\"\nIPT_MODULES=\"\"\n\
         DEFAULT_OUTPUT_POLICY=ACCEPT\nDEFAULT_FORWARD_POLICY=DROP\n"
    );
    assert_eq!(with_settings(DEFAULTS, &after), after);
    assert_eq!(value("A=\"b c\"\nAB=d\n A=e f", "A"), Some("e"));
}

/// A file of ufw's with some rules.
fn found(rules: &str) -> Vec<Rule> {
    parse(Family::Ipv4, &format!("*filter\n### RULES ###\n{rules}\n### END RULES ###\nCOMMIT\n")).expect("ufw's format")
}

const OURS: &str = "### tuple ### allow tcp 443 0.0.0.0/0 any 0.0.0.0/0 in comment=73656177616c6c3a2078
-A ufw-user-input -p tcp --dport 443 -j ACCEPT
";
const DENY: &str = "### tuple ### deny any 80,400:500 0.0.0.0/0 any 0.0.0.0/0 in_eth0
-A ufw-user-input -i eth0 -p tcp -m multiport --dports 80,400:500 -j DROP
";
const DENY_ONE: &str = "### tuple ### deny any any 0.0.0.0/0 any 192.0.2.9 in
-A ufw-user-input -s 192.0.2.9 -j DROP
";

fn names(wants: &[Want], rules: &str) -> (Vec<String>, usize) {
    let wants: Vec<&Want> = wants.iter().filter(|want| want.is_in(Family::Ipv4)).collect();
    let (rules, moved) = arrange(&wants, &found(rules));
    (
        rules.iter().map(|rule| rule.text()[0].split(' ').skip(3).take(3).collect::<Vec<_>>().join(" ")).collect(),
        moved.len(),
    )
}

#[test]
fn what_closes_keeps_its_place_unless_it_closes_what_is_declared() {
    let wants = wants(&server("none", "[{ port: 443, from: anywhere, why: x }, { port: 22, from: anywhere, why: y }]"));
    let one = "deny any any";
    let (ours, new, deny) = ("allow tcp 443", "allow tcp 22", "deny any 80,400:500");
    let in_order = |rules: &str| names(&wants, rules);
    assert_eq!(in_order(OURS), (vec![ours.to_owned(), new.to_owned()], 0));
    assert_eq!(in_order(&format!("{DENY_ONE}{OURS}")), ([one, ours, new].map(str::to_owned).to_vec(), 0));
    assert_eq!(in_order(&format!("{OURS}{DENY_ONE}")), ([ours, new, one].map(str::to_owned).to_vec(), 0));
    assert_eq!(in_order(&format!("{OURS}{DENY}")), ([ours, new, deny].map(str::to_owned).to_vec(), 0));
    assert_eq!(in_order(&format!("{DENY}{OURS}{DENY_ONE}")), ([ours, new, deny, one].map(str::to_owned).to_vec(), 1));
    assert_eq!(in_order(DENY_ONE).0[0], one, "a rule that was there first is still met first");
    let marked = DENY_ONE.replace(" in\n", " in comment=73656177616c6c3a2078\n");
    assert_eq!(in_order(&marked).0.len(), 2, "what bears our mark and is not declared goes");
}

#[test]
fn what_is_not_ufws_is_an_error() {
    let broken = [
        "-A ufw-user-input -j ACCEPT\n".to_owned(),
        OURS.replace("allow tcp", "permit tcp"),
        OURS.replace(" in comment", " sideways comment"),
        OURS.replace("comment=73", "comment=7"),
        OURS.replace("comment=73", "comment=7g"),
        OURS.replace(" any 0.0.0.0/0 in", ""),
        DENY_ONE.replace("DROP", "ACCEPT"),
        format!("{OURS}some words\n"),
    ];
    for rules in broken {
        let text = format!("*filter\n### RULES ###\n{rules}### END RULES ###\nCOMMIT\n");
        assert!(parse(Family::Ipv4, &text).is_err(), "{text}");
    }
}

#[test]
fn the_text_of_a_rule_is_read_as_the_same_rule() {
    for want in wants(&server("none", LIST)) {
        let family = if want.is_in(Family::Ipv4) { Family::Ipv4 } else { Family::Ipv6 };
        let text = want.rule().text().join("\n");
        assert_eq!(parse(family, &text).expect("ufw's format"), [want.rule()], "{text}");
    }
}

#[test]
fn lost_ways_are_laid_anew_in_one_moment() {
    let listing = "-P INPUT DROP\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N ufw-before-logging-input\n-N ufw-user-input\n\
                   -A INPUT -i lo -j ACCEPT\n-A INPUT -j ufw-before-input\n-A INPUT -p tcp -j ACCEPT\n";
    let loaded = loaded::judge(Family::Ipv4, listing, "", ["", ""]).expect("a listing");
    assert_eq!(loaded.holes, ["-p tcp -j ACCEPT"]);
    let text = loaded::repair(Family::Ipv4, &loaded).expect("a repair");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["*filter", ":INPUT ACCEPT [0:0]"], "open until the rules are there again");
    let at = |line: &str| lines.iter().position(|l| *l == line).unwrap_or_else(|| panic!("no `{line}` in\n{text}"));
    assert!(at("-D INPUT -p tcp -j ACCEPT") < at("-D INPUT -j ufw-before-input"));
    assert!(at("-D INPUT -j ufw-before-input") < at("-A INPUT -j ufw-before-logging-input"));
    assert!(at("-A INPUT -j ufw-before-logging-input") < at("-A INPUT -j ufw-before-input"));
    assert_eq!(lines.iter().filter(|line| line.starts_with("-A ")).count(), 18);
    assert!(!text.contains("lo "), "the machine may talk to itself: {text}");
}

#[test]
fn a_machine_without_any_chain_of_ufws_needs_no_repair() {
    let loaded = loaded::judge(Family::Ipv6, "-P INPUT ACCEPT\n# a warning\n", "", ["", ""]).expect("a listing");
    assert_eq!(loaded, Loaded::default());
    assert_eq!(loaded::repair(Family::Ipv6, &loaded), None);
    assert!(loaded::judge(Family::Ipv6, "what is this\n", "", ["", ""]).is_err());
}
