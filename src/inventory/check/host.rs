//! Checks of a server: zone, login, firewall, packages, kernel parameters, time, swap.

use std::collections::BTreeMap;

use crate::base::diag::Diagnostic;
use crate::base::release::BLUEPRINTS;
use crate::base::span::Span;
use crate::inventory::check::{Report, certificate, cluster, roles, text};
use crate::inventory::packages::EXCLUSIVE;
use crate::inventory::scalar::Cidr;
use crate::inventory::sections::host::Sshd;
use crate::inventory::sections::{FirewallRule, Server, Sources, SysctlValue};
use crate::inventory::similar::{choices, similar};

/// A server is not rebuilt more often than that.
const GENERATIONS: std::ops::RangeInclusive<u32> = 1..=9999;
/// MiB. Less than this helps nobody, more than the smallest bundles' disks is a slip.
const SMALLEST_SWAP: u32 = 64;
const LARGEST_SWAP: u32 = 16_384;
/// Seconds. Programs that guess passwords try again after a minute by themselves.
const SHORTEST_BAN_S: u64 = 60;
/// Rules and networks that are compared with each other. Lightsail takes 60 networks, and `policy` says so.
const MOST_COMPARED: usize = 1_000;
/// One key may fail before the right one is offered; more than CIS allows is for guessing.
const AUTH_TRIES: (u64, u64) = (2, 4);
/// Seconds. A slow line needs ten; CIS allows 60.
const LOGIN_GRACE_S: (u64, u64) = (10, 60);
/// Seconds until a dead client is dropped: Seawall's own sign of life comes every 5 s.
const IDLE_S: (u64, u64) = (30, 86_400);
/// Seconds. A login and a program need some ten; nobody wants to be locked out for longer than ten minutes.
const REVERT_AFTER_S: (u64, u64) = (30, 600);
/// UFW's comments and the port lists are read in one line.
const LONGEST_WHY: usize = 100;

pub(super) fn check(report: &mut Report<'_>) {
    for (name, server) in &report.inventory.servers {
        let base = format!("servers.{name}");
        instance(report, &base, server);
        login(report, &base, server);
        firewall(report, &base, &server.firewall);
        packages(report, &base, server);
        system(report, &base, server);
        if let Some(section) = &server.sshd {
            sshd(report, &format!("{base}.sshd"), section);
        }
        if let Some(postgres) = &server.postgres {
            cluster::check(report, &format!("{base}.postgres"), postgres);
            roles::check(report, &format!("{base}.postgres"), postgres);
        }
        if let Some(section) = &server.certificate {
            certificate::check(report, &format!("{base}.certificate"), section);
        }
        if let Some(backup) = &server.backup {
            cluster::backup(report, name, backup);
        }
    }
}

fn instance(report: &mut Report<'_>, base: &str, server: &Server) {
    report.text("bad-bundle", &format!("{base}.instance.bundle"), text::bundle(&server.instance.bundle));
    let generation = server.instance.generation;
    let place = format!("{base}.instance.generation");
    if !GENERATIONS.contains(&generation) {
        report.error("bad-generation", format!("{generation} is no generation"), &place, "1 to 9999");
    }
    let name = base.trim_start_matches("servers.");
    let other = format!("{name}-g{generation}");
    if generation > 1 && report.inventory.servers.keys().any(|server| server.as_str() == other) {
        report.error("bad-generation", format!("its instance would have the name of server `{other}`"), &place, "this");
    }
    let region = &report.inventory.aws.region;
    let zone = &server.instance.zone;
    let letter = zone.strip_prefix(region.as_str());
    if !letter.is_some_and(|rest| rest.len() == 1 && rest.bytes().all(|b| b.is_ascii_lowercase())) {
        let problem = Diagnostic::error(
            "zone-outside-region",
            format!("`{base}.instance.zone` is `{zone}`, which is no zone of `{region}`"),
        )
        .at(report.places.span(&format!("{base}.instance.zone")), "the zone")
        .at(report.places.span("aws.region"), "the region")
        .hint(format!("a zone is the region and a letter, for example `{region}a`"));
        report.found.push(problem);
    }
    let blueprint = &server.instance.blueprint;
    if !BLUEPRINTS.contains(&blueprint.as_str()) {
        let path = format!("{base}.instance.blueprint");
        let message = format!("`{path}` is `{blueprint}`, and Seawall sets up {}", choices(BLUEPRINTS));
        let label =
            similar(blueprint, BLUEPRINTS).map_or("not supported".to_owned(), |b| format!("did you mean `{b}`?"));
        report.error("unsupported-blueprint", message, &path, &label);
    }
}

fn login(report: &mut Report<'_>, base: &str, server: &Server) {
    let login = &server.login;
    report.text("bad-account-name", &format!("{base}.login.user"), text::account(&login.user));
    let path = format!("{base}.login.keys");
    if login.keys.is_empty() {
        report.error("no-login-key", format!("`{path}` is empty: nobody could log in"), &path, "no key").hint =
            Some("add your public key: `cat ~/.ssh/id_ed25519.pub`".to_owned());
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (index, key) in login.keys.iter().enumerate() {
        if let Some(first) = seen.insert(key.identity(), index) {
            let problem = Diagnostic::error("duplicate-login-key", format!("`{path}` has the same key twice"))
                .at(report.places.span(&format!("{path}[{index}]")), "again here")
                .at(report.places.span(&format!("{path}[{first}]")), "first here")
                .hint("two lines that differ only in their comment are one key: keep one");
            report.found.push(problem);
        }
    }
}

fn firewall(report: &mut Report<'_>, base: &str, rules: &[FirewallRule]) {
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("{base}.firewall[{index}]");
        report.text("bad-text", &format!("{path}.why"), text::line(&rule.why, LONGEST_WHY));
        if rule.port == 0 {
            report.error("out-of-range", format!("`{path}.port` must be 1 or more"), &path, "no such port");
        }
        let Sources::Networks(networks) = &rule.from else {
            continue;
        };
        if networks.is_empty() {
            let from = format!("{path}.from");
            report
                .error("empty-sources", format!("`{from}` names no network: nobody could connect"), &from, "empty")
                .hint = Some("name the networks, or take the rule out".to_owned());
        }
        report.repeats("duplicate-network", &format!("{path}.from"), networks);
    }
    if sources(rules) > MOST_COMPARED {
        return;
    }
    for (second, rule) in rules.iter().enumerate() {
        let same_port = |other: &FirewallRule| other.port == rule.port && other.protocol == rule.protocol;
        let mut earlier = rules[..second].iter().enumerate().filter(|(_, other)| same_port(other));
        let problem = earlier.find_map(|(first, _)| twice(report, base, rules, first, second));
        report.found.extend(problem);
    }
}

/// Rules and networks in a firewall.
fn sources(rules: &[FirewallRule]) -> usize {
    let networks = |rule: &FirewallRule| match &rule.from {
        Sources::Networks(networks) => networks.len(),
        Sources::Anywhere(_) => 1,
    };
    rules.len() + rules.iter().map(networks).sum::<usize>()
}

/// Two rules of one port: the same twice, or one that makes the other pointless. Disjoint lists are fine.
fn twice(report: &Report<'_>, base: &str, rules: &[FirewallRule], first: usize, second: usize) -> Option<Diagnostic> {
    let (a, b) = (&rules[first], &rules[second]);
    let place = |index: usize| report.places.span(&format!("{base}.firewall[{index}].from"));
    let problem = match (&a.from, &b.from) {
        (Sources::Networks(left), Sources::Networks(right)) => {
            // `0.0.0.0/0` and its halves are another word for anywhere.
            let (wide, narrow, world) = match (swallows(left, right), swallows(right, left)) {
                (Some(world), _) => (first, second, Some(world)),
                (None, Some(world)) => (second, first, Some(world)),
                (None, None) => (first, second, None),
            };
            if let Some(world) = world {
                return Some(contradiction(
                    base,
                    a.port,
                    &format!("`{world}`, which is as good as anywhere"),
                    [place(wide), place(narrow)],
                ));
            }
            let shared = left.iter().find(|network| right.contains(network))?;
            Diagnostic::error(
                "duplicate-firewall-rule",
                format!("`{base}.firewall` opens port {} for `{shared}` twice", a.port),
            )
            .at(place(second), "again here")
            .at(place(first), "first here")
            .hint("one rule per port and purpose: merge the two")
        }
        (Sources::Anywhere(_), Sources::Anywhere(_)) => Diagnostic::error(
            "duplicate-firewall-rule",
            format!("`{base}.firewall` opens port {} to anywhere twice", a.port),
        )
        .at(place(second), "again here")
        .at(place(first), "first here"),
        (open, _) => {
            let (wide, narrow) = if matches!(open, Sources::Anywhere(_)) { (first, second) } else { (second, first) };
            contradiction(base, a.port, "anywhere", [place(wide), place(narrow)])
        }
    };
    Some(problem)
}

/// A network of `wide` that is as good as anywhere and holds one of `narrow` that is not.
fn swallows<'a>(wide: &'a [Cidr], narrow: &[Cidr]) -> Option<&'a Cidr> {
    let named = |network: &&Cidr| !network.is_as_good_as_anywhere();
    wide.iter().find(|wide| {
        wide.is_as_good_as_anywhere() && narrow.iter().filter(named).any(|narrow| wide.net().contains(&narrow.net()))
    })
}

fn contradiction(base: &str, port: u16, world: &str, [wide, narrow]: [Span; 2]) -> Diagnostic {
    Diagnostic::error("contradictory-sources", format!("`{base}.firewall` limits port {port} and opens it to {world}"))
        .at(wide, "anywhere wins")
        .at(narrow, "so this limits nothing")
        .note("firewall rules only allow: the most permissive one counts")
        .hint("take out the rule that you do not mean")
}

fn packages(report: &mut Report<'_>, base: &str, server: &Server) {
    let packages = &server.packages;
    for (index, package) in packages.iter().enumerate() {
        let path = format!("{base}.packages[{index}]");
        report.text("bad-package-name", &path, text::package(package));
    }
    report.repeats("duplicate-package", &format!("{base}.packages"), packages);
    let by = |name: &str| {
        let section = match name {
            "systemd-timesyncd" => server.time.is_some().then_some("time"),
            "ufw" => (!server.firewall.is_empty()).then_some("firewall"),
            "docker.io" => server.compose.is_some().then_some("compose"),
            _ => None,
        };
        section.or_else(|| packages.iter().any(|listed| listed == name).then_some("packages"))
    };
    for (name, others) in EXCLUSIVE {
        let Some(section) = by(name) else { continue };
        for (index, other) in packages.iter().enumerate().filter(|(_, listed)| others.contains(&listed.as_str())) {
            let path = format!("{base}.packages[{index}]");
            let problem = Diagnostic::error(
                "package-conflict",
                format!("`{other}` cannot be beside `{name}`, which `{base}.{section}` installs"),
            )
            .at(report.places.span(&path), "one of them would be removed")
            .hint(match section {
                "packages" => format!("take `{name}` or `{other}` out"),
                _ => format!("take `{other}` out, or leave `{section}` away"),
            });
            report.found.push(problem);
        }
    }
}

fn system(report: &mut Report<'_>, base: &str, server: &Server) {
    for (parameter, value) in server.sysctl.iter().flat_map(|sysctl| &sysctl.settings) {
        let path = format!("{base}.sysctl.settings.{parameter}");
        if let Err(why) = text::sysctl(parameter) {
            let problem = Diagnostic::error("bad-sysctl-name", why).at(report.places.key(&path), format!("`{path}`"));
            report.found.push(problem);
        }
        if let SysctlValue::Text(text) = value {
            report.text("bad-text", &path, text::line(text, 256));
        }
    }
    if let Some(bans) = &server.fail2ban {
        let mut wrong = |field: &str, why: String| {
            let path = format!("{base}.fail2ban.{field}");
            report.error("bad-ban", format!("`{path}` {why}"), &path, "out of range");
        };
        if bans.retries == 0 {
            wrong("retries", "is 0, and at least one failure must be allowed".to_owned());
        }
        for (field, span) in [("within", bans.within), ("ban", bans.ban)] {
            if span.seconds() < SHORTEST_BAN_S {
                wrong(field, format!("is {span}, and at least {SHORTEST_BAN_S}s are needed"));
            }
        }
        if bans.longest_ban < bans.ban {
            wrong("longest_ban", format!("is {}, and the first ban lasts {} already", bans.longest_ban, bans.ban));
        }
    }
    if let Some(time) = &server.time {
        report.text("bad-time-zone", &format!("{base}.time.zone"), text::time_zone(&time.zone));
        for (index, name) in time.servers.iter().enumerate() {
            let good = name.parse::<std::net::IpAddr>().is_ok() || text::host_name(name).is_ok();
            let verdict = if good { Ok(()) } else { Err(format!("`{name}` is not a time server's name or address")) };
            report.text("bad-time-server", &format!("{base}.time.servers[{index}]"), verdict);
        }
    }
    if let Some(swap) = &server.swap
        && !(SMALLEST_SWAP..=LARGEST_SWAP).contains(&swap.size_mib)
    {
        let path = format!("{base}.swap.size_mib");
        let message = format!("`{path}` must be {SMALLEST_SWAP} to {LARGEST_SWAP} MiB, and this is {}", swap.size_mib);
        report.error("bad-swap-size", message, &path, "MiB, not bytes");
    }
}

fn sshd(report: &mut Report<'_>, base: &str, section: &Sshd) {
    for (index, user) in section.allow_users.iter().enumerate() {
        report.text("bad-account-name", &format!("{base}.allow_users[{index}]"), text::account(user));
    }
    report.repeats("duplicate-user", &format!("{base}.allow_users"), &section.allow_users);
    let mut within = |name: &str, value: u64, (least, most): (u64, u64), unit: &str| {
        if !(least..=most).contains(&value) {
            let path = format!("{base}.{name}");
            let message = format!("`{path}` must be {least} to {most}{unit}, and this is {value}{unit}");
            report.error("out-of-range", message, &path, "not within");
        }
    };
    within("port", section.port.into(), (1, u16::MAX.into()), "");
    within("max_auth_tries", section.max_auth_tries.into(), AUTH_TRIES, "");
    within("login_grace", section.login_grace.seconds(), LOGIN_GRACE_S, " s");
    within("idle", section.idle.seconds(), IDLE_S, " s");
    within("revert_after", section.revert_after.seconds(), REVERT_AFTER_S, " s");
}
