//! `host.ufw`: the host's own firewall, judged by ufw's files and by what the kernel filters by.
//!
//! The second line behind Lightsail's firewall, from the same list. Everything is written as files and loaded once.
//! Deliberately absent: `ufw allow` and its kin (each is a run of its own, and its status says nothing), `ufw reload`
//! (it switches the firewall off in ufw.conf for a moment), and whatever opens a host that was closed.

pub mod filter;
mod frame;
pub mod loaded;
pub mod rules;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::firewall::{ANYWHERE, openings};
use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::operator::{self, Operator};
use crate::kinds::parts::unit;
use crate::kinds::{Declared, Kind, Opening, Owned};
use crate::plan::change::{FieldChange, FileDiff, Risk};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::remark::Remark;
use crate::plan::step::{Content, HostStep};
use crate::render::render;
use frame::{ASK_ADDED, ASK_TABLES, Added, Tables};
use loaded::Loaded;
use rules::{Family, Rule, Want};
use settings::{CONF, DEFAULTS, SETTINGS, policy, value, with_settings};

/// The package that `host.packages` installs for this section.
pub const PACKAGE: &str = "ufw";

const INIT: &str = "/usr/lib/ufw/ufw-init";
const UNIT: &str = "ufw.service";
const ASK_UNIT: [&str; 3] = ["systemctl", "is-enabled", UNIT];

pub struct HostUfw;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub rules: Vec<Want>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub conf: FileState,
    pub defaults: FileState,
    /// What systemd says about the unit that loads the rules at boot.
    pub unit: String,
    pub sides: Vec<Side>,
    /// Lines in the package's own files that are not the package's.
    pub added: Added,
    /// The package's own files with such lines.
    pub frames: BTreeMap<String, FileState>,
    /// What the kernel does with packets besides.
    pub tables: Tables,
    /// Who asks, and through which port. Not part of a plan's guard.
    #[serde(skip)]
    pub operator: Option<Operator>,
}

/// One of the two families.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    pub family: Family,
    pub file: Option<FileState>,
    pub rules: Vec<Rule>,
    pub loaded: Loaded,
}

fn wants(server: &Server) -> Vec<Want> {
    let want = |protocol: &str, port, from, why| Want { protocol: protocol.to_owned(), port, from, why };
    let mut all = Vec::new();
    for open in openings(server) {
        if open.rescue {
            let reasons: BTreeSet<String> = open.sources.into_values().collect();
            let reasons = reasons.into_iter().collect::<Vec<_>>().join("; ");
            let why = format!("{reasons}; Lightsail filters the sources");
            all.extend(ANYWHERE.map(|from| want(open.protocol, open.port, from, why.clone())));
        } else {
            all.extend(open.sources.into_iter().map(|(from, why)| want(open.protocol, open.port, from, why)));
        }
    }
    all
}

fn whole<'a>(state: &'a FileState, path: &str) -> Result<&'a str, Unseen> {
    state.text.as_deref().ok_or_else(|| Unseen::Misread(format!("{path} is not text")))
}

fn needed(answers: &Answers, path: &str) -> Result<FileState, Unseen> {
    host::file(answers, path)?.ok_or_else(|| Unseen::Misread(format!("{path} is missing, and ufw cannot do without")))
}

fn side(answers: &Answers, family: Family, added: &Added) -> Result<Side, Unseen> {
    let file = host::file(answers, family.path())?;
    let text = file.as_ref().map_or(Ok(""), |state| whole(state, family.path()))?;
    let rules = rules::parse(family, text).map_err(Unseen::Misread)?;
    let [before, after] = family.frame().map(|path| needed(answers, path));
    let (before, after) = (before?, after?);
    // As they will be: what somebody added to open something is not loaded by ours.
    let clean = |state: &FileState, path: &str| -> Result<String, Unseen> {
        let none = Vec::new();
        Ok(frame::silenced(whole(state, path)?, added.opening.get(path).unwrap_or(&none)))
    };
    let frame = [clean(&before, family.frame()[0])?, clean(&after, family.frame()[1])?];
    // Status 127: the program is not there, so nothing can have been loaded by it.
    let listing = host::command(answers, &family.ask(), &[0, 127])?;
    let loaded = if listing.ok() {
        loaded::judge(family, &listing.stdout, text, frame.each_ref().map(String::as_str)).map_err(Unseen::Misread)?
    } else {
        Loaded::default()
    };
    Ok(Side { family, file, rules, loaded })
}

fn look(answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let Some(conf) = host::file(answers, CONF)? else {
        return Ok(None);
    };
    let defaults = needed(answers, DEFAULTS)?;
    whole(&conf, CONF)?;
    whole(&defaults, DEFAULTS)?;
    // A status other than 0 says that it is not enabled; the word says what it is.
    let unit = answers.command(&ASK_UNIT)?.stdout.trim().to_owned();
    let added = frame::added(&host::command(answers, &ASK_ADDED, &[0, 1])?.stdout).map_err(Unseen::Misread)?;
    let tables = frame::tables(&answers.command(&ASK_TABLES)?.stdout).map_err(Unseen::Misread)?;
    let sides = Family::BOTH.into_iter().map(|family| side(answers, family, &added)).collect::<Result<_, _>>()?;
    let mut frames = BTreeMap::new();
    for path in added.opening.keys() {
        frames.insert(path.clone(), needed(answers, path)?);
    }
    let operator = operator::read(answers.command(&operator::ask())?);
    Ok(Some(Actual { conf, defaults, unit, sides, added, frames, tables, operator }))
}

impl Actual {
    /// The package's files with what must not be loaded taken out of effect: path, as it is, and the new text.
    fn cleaned(&self) -> impl Iterator<Item = (&str, &FileState, String)> {
        self.frames.iter().map(|(path, state)| {
            let text = state.text.as_deref().unwrap_or_default();
            (path.as_str(), state, frame::silenced(text, &self.added.opening[path]))
        })
    }

    fn setting(&self, file: &str, key: &str) -> Option<&str> {
        let state = if file == CONF { &self.conf } else { &self.defaults };
        value(state.text.as_deref()?, key)
    }
}

fn arranged(desired: &Desired, family: Family, found: &[Rule]) -> (Vec<Rule>, Vec<(Rule, String)>) {
    let wanted: Vec<&Want> = desired.rules.iter().filter(|want| want.is_in(family)).collect();
    rules::arrange(&wanted, found)
}

/// A rule file as it should be.
fn rule_file(desired: &Desired, family: Family, found: &[Rule]) -> Wanted<'static> {
    let rules: Vec<Vec<String>> = arranged(desired, family, found).0.iter().map(Rule::text).collect();
    let context = serde_json::json!({ "address": desired.address, "prefix": family.prefix(), "rules": rules });
    let text = render("ufw.rules", &context).expect("the template and its context are tested together");
    Wanted { path: family.path(), owner: "root", group: "root", mode: "0640", text }
}

/// Every file that must be written, in the order that is safe to be interrupted in: rules before what loads them.
fn to_write(desired: &Desired, actual: Option<&Actual>) -> Vec<(Wanted<'static>, Option<FileState>)> {
    let Some(actual) = actual else {
        let conf = render("ufw.conf", &serde_json::json!({ "address": desired.address }));
        let conf = conf.expect("the template and its context are tested together");
        let rules = Family::BOTH.map(|family| rule_file(desired, family, &[]));
        return rules.into_iter().chain([Wanted::public(CONF, conf)]).map(|file| (file, None)).collect();
    };
    let low = actual.setting(CONF, "LOGLEVEL") == Some("low");
    let sides = actual.sides.iter().filter(|side| !low || arranged(desired, side.family, &side.rules).0 != side.rules);
    let rules = sides.map(|side| (rule_file(desired, side.family, &side.rules), side.file.clone()));
    let settings = [(DEFAULTS, &actual.defaults), (CONF, &actual.conf)].into_iter().filter_map(|(path, state)| {
        let text = state.text.as_deref().unwrap_or_default();
        let wrong = |(file, key, wanted, _): (&str, &str, &str, &str)| file == path && value(text, key) != Some(wanted);
        let wanted = Wanted::public(path, with_settings(path, text));
        SETTINGS.into_iter().any(wrong).then(|| (wanted, Some(state.clone())))
    });
    rules.chain(settings).collect()
}

fn rule_fields(desired: &Desired, side: &Side) -> Vec<FieldChange> {
    let (rules, moved) = arranged(desired, side.family, &side.rules);
    let field = |name: String, before: Option<String>, after: Option<String>| {
        FieldChange::new(format!("rules.{name}"), before.map(Value::from), after.map(Value::from))
    };
    let mut fields = Vec::new();
    for rule in rules.iter().filter(|rule| !side.rules.contains(rule)) {
        // Every rule that is not there yet is ours.
        let same = side.rules.iter().find(|found| found.name() == rule.name());
        let before = same.map(|found| {
            if found.tuple == rule.tuple {
                format!("allow, and the kernel gets `{}`", found.lines.join("`, `"))
            } else {
                found.standing()
            }
        });
        fields.push(field(rule.name(), before, Some(rule.standing())));
    }
    let names: BTreeSet<String> = rules.iter().map(Rule::name).collect();
    let gone = side.rules.iter().filter(|rule| !names.contains(&rule.name()));
    fields.extend(gone.map(|rule| field(rule.name(), Some(rule.standing()), None)));
    fields.extend(moved.into_iter().map(|(rule, want)| {
        let before = Value::from(format!("before `{want}`, which it blocks"));
        FieldChange::new(format!("order.{}", rule.name()), Some(before), Some(Value::from("after our rules")))
    }));
    if fields.is_empty() && rules != side.rules {
        // Only an edited file has a rule of ours twice; ufw takes it, and deletes one of the two when asked.
        let path = format!("order.{}", side.family.name());
        fields.push(FieldChange::new(path, Some(Value::from("a rule twice")), Some(Value::from("each rule once"))));
    }
    fields
}

fn loaded_fields(family: Family, loaded: &Loaded) -> Vec<FieldChange> {
    let Loaded { running: _, differs, holes, others: _, astray: _ } = loaded;
    let path = |what: &str| format!("loaded.{}.{what}", family.name());
    let differs = differs.iter().map(|(what, [before, after])| {
        FieldChange::new(path(what), Some(Value::from(before.as_str())), Some(Value::from(after.as_str())))
    });
    let hole = |rule: &String| {
        FieldChange::new(path(&format!("INPUT {rule}")), Some(Value::from("lets in past ufw (not ours)")), None)
    };
    differs.chain(holes.iter().map(hole)).collect()
}

/// Takes up what is on disk: the users' rules alone where nothing else differs, in one moment; else everything.
fn load(actual: Option<&Actual>, fields: &[FieldChange], families: &[Family]) -> Vec<HostStep> {
    let any = |prefix: &str| fields.iter().any(|field| field.path.starts_with(prefix));
    let disturbed = actual.is_none() || any("active") || any("loaded.");
    if !disturbed && !any("ipv6") && !any("policy.") {
        let restore = |family: &Family| {
            let argv = [family.restore(), "--noflush", family.path()];
            host::run_guarded(&argv, &argv, QUICK_S, format!("load the rules for {}", family.name()))
        };
        return families.iter().map(restore).collect();
    }
    let mut steps = Vec::new();
    for side in actual.iter().flat_map(|actual| &actual.sides) {
        if let Some(text) = loaded::repair(side.family, &side.loaded) {
            steps.push(HostStep::Run {
                argv: [side.family.restore(), "--noflush"].map(str::to_owned).to_vec(),
                env: BTreeMap::new(),
                stdin: Some(Content::Text(text)),
                timeout_s: QUICK_S,
                // What follows has one that is enough for both.
                revert: None,
                what: format!("lead {} through ufw again", side.family.name()),
            });
        }
    }
    // What was loaded before is on no disk where it differed from the files: only an open host is surely one that can
    // be reached again, and Lightsail's firewall still stands before it.
    let off = actual.is_none_or(|actual| actual.setting(CONF, "ENABLED") != Some("yes"));
    let revert = if disturbed || off { "force-stop" } else { "force-reload" };
    steps.push(host::run_guarded(&[INIT, "force-reload"], &[INIT, revert], QUICK_S, "load the firewall"));
    steps
}

impl Kind for HostUfw {
    const NAME: &'static str = "host.ufw";
    const SUMMARY: &'static str = "the host's own firewall: what the list opens, and nothing else";
    const RISK: Risk = Risk::MayLockOut;
    const EXPLAIN: &'static str = "\
Manages: ufw, from the same `firewall` list as Lightsail's firewall: incoming and routed traffic is denied, outgoing is
allowed, for IPv4 and IPv6, now and after a reboot; blocked packets are logged (`low`). Rules of ours have a comment,
`seawall: ` and the `why`. Looked at are ufw's files and what the kernel filters by: flushed chains, an open policy, or a
rule in front of ufw that lets something in are differences, and are healed.

With `login.rescue: lightsail-connect` port 22 is open to anywhere here: the browser login comes from addresses of AWS
that only Lightsail's firewall knows, so that one alone filters the sources of SSH. With `rescue: none` ufw has exactly
the declared sources.

Rules of others that open something (`ufw allow`, `ufw limit`, routed ones too) are differences: the list is all that is
open. One that opens what is declared becomes ours. Rules of others that deny or reject stay where they are and are
remarked on; where one stands before a declared rule and nothing would get past it, it is put behind ours. A rule file
that is not in ufw's format is not touched.

Lines in the package's before.rules and after.rules that the package does not have are differences where they open something,
and are commented out before anything is loaded. before.init and after.init, which ufw would run as root, are made no
programs; rules of the kernel's other tables that lead packets to another port past ufw are taken out.

Does not manage: what the package has in before.rules and after.rules, chains of Docker and fail2ban, and
ports that Docker publishes, which never pass INPUT. ufw loads /etc/ufw/sysctl.conf, which host.sysctl may set otherwise.
When the list goes, the firewall stays as it is and is forgotten: taking out rules could lock you out, and switching it
off would open the host.

    servers:
      db:
        firewall:
          - { port: 22, from: [203.0.113.0/24], why: operators }
          - { port: 443, from: anywhere, why: certificate validation }
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter().filter(|(_, server)| !server.firewall.is_empty());
        servers
            .map(|(name, server)| {
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired { address: address.clone(), rules: wants(server) };
                host::declared(address, name, &["host.packages"], "firewall", desired)
            })
            .collect()
    }

    fn probes(_desired: &Desired) -> Vec<Probe> {
        let mut probes = vec![file(CONF), file(DEFAULTS), command(&ASK_UNIT), command(&operator::ask())];
        for family in Family::BOTH {
            probes.push(file(family.path()));
            probes.extend(family.frame().map(file));
            probes.push(command(&family.ask()));
        }
        probes.extend([command(&ASK_ADDED), command(&ASK_TABLES)]);
        probes
    }

    fn read(_desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, rules: _ } = desired;
        let Actual { conf: _, defaults: _, unit, sides, added, frames: _, tables, operator: _ } = actual;
        let running = sides.iter().all(|side| side.loaded.running);
        let mut fields: Vec<FieldChange> = FieldChange::between("active", &running, &true).into_iter().collect();
        for (file, key, wanted, path) in SETTINGS {
            let found = actual.setting(file, key);
            fields.extend(FieldChange::between(path, &found.map(policy), &Some(policy(wanted))));
        }
        fields.extend(FieldChange::between("boot.service", unit, &"enabled"));
        for (path, lines) in &added.opening {
            let one =
                |line: &String| FieldChange::new(format!("{path} {line}"), Some(Value::from("opens (not ours)")), None);
            fields.extend(lines.iter().map(one));
        }
        let runs =
            |path: &String| FieldChange::new(path, Some(Value::from("runs whenever the firewall is loaded")), None);
        fields.extend(added.runs.iter().map(runs));
        fields.extend(tables.leads.iter().map(|lead| {
            let path = format!("loaded.{}.{} {}", lead.family.name(), lead.table, lead.rule);
            FieldChange::new(path, Some(Value::from("leads past ufw (not ours)")), None)
        }));
        for side in sides {
            fields.extend(rule_fields(desired, side));
            fields.extend(loaded_fields(side.family, &side.loaded));
        }
        let mut seen = BTreeSet::new();
        fields.retain(|field| seen.insert(field.path.clone()));
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let mut steps = Vec::new();
        let mut written = Vec::new();
        for (wanted, _) in to_write(desired, actual) {
            let family = Family::BOTH.into_iter().find(|family| family.path() == wanted.path);
            match family {
                Some(family) => {
                    steps.push(wanted.step(Some(&[family.restore(), "--noflush", "--test", "{}"])));
                    written.push(family);
                }
                // ufw's boot program reads these two as a shell does.
                None => steps.push(wanted.step(Some(&["sh", "-n", "{}"]))),
            }
        }
        for (path, state, text) in actual.iter().flat_map(|actual| actual.cleaned()) {
            let mode = format!("0{}", state.mode);
            steps.push(Wanted { path, owner: &state.owner, group: &state.group, mode: &mode, text }.step(None));
        }
        for path in actual.iter().flat_map(|actual| &actual.added.runs) {
            steps.push(host::run(&["chmod", "a-x", "--", path], QUICK_S, format!("let nothing run from {path}")));
        }
        for family in Family::BOTH {
            if let Some(text) = actual.and_then(|actual| frame::take_out(family, &actual.tables.leads)) {
                steps.push(HostStep::Run {
                    argv: [family.restore(), "--noflush"].map(str::to_owned).to_vec(),
                    env: BTreeMap::new(),
                    stdin: Some(Content::Text(text)),
                    timeout_s: QUICK_S,
                    revert: None,
                    what: format!("take out what leads {} past ufw", family.name()),
                });
            }
        }
        if let Some(actual) = actual.filter(|_| host::differs(fields, "boot.service")) {
            steps.extend(unit::unmask(&actual.unit, &[UNIT], "unmask ufw"));
            steps.push(host::run(&["systemctl", "enable", UNIT], QUICK_S, "load the firewall at boot"));
        }
        let at_boot = |field: &FieldChange| field.path.starts_with("boot.") || field.path.starts_with("/etc/ufw/");
        if !fields.iter().all(at_boot) {
            steps.extend(load(actual, fields, &written));
        }
        steps
    }

    fn opening(desired: &Desired, actual: Option<&Actual>) -> Option<Opening<Vec<HostStep>>> {
        let actual = actual?;
        let operator = actual.operator?;
        let ours = |want: &Want| want.port == operator.port && want.protocol == "tcp";
        if desired.rules.iter().any(ours) {
            return None;
        }
        // sshd is still behind a port that goes: its rules stay until sshd has been proven behind the new one.
        let found = actual.sides.iter().flat_map(|side| &side.rules);
        let kept: Vec<Want> = found.filter_map(Rule::want).filter(ours).collect();
        if kept.is_empty() {
            return None;
        }
        let rules = desired.rules.iter().cloned().chain(kept).collect();
        let first = Desired { address: desired.address.clone(), rules };
        let fields = Self::diff(&first, actual);
        let steps = if fields.is_empty() { Vec::new() } else { Self::steps(&first, Some(actual), &fields) };
        Some(Opening { fields, steps, until: "host.sshd" })
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        // Taking rules out could lock everybody out; switching it off would open the host.
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let field = |path: String, value: &str| FieldChange::new(path, None, Some(Value::from(value)));
        let mut fields = vec![FieldChange::new("active", None, Some(Value::from(true)))];
        fields.extend(SETTINGS.map(|(_, _, wanted, path)| field(path.to_owned(), policy(wanted))));
        let rules = desired.rules.iter();
        fields.extend(rules.map(|want| field(format!("rules.{}", want.name()), &want.rule().standing())));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let ours = to_write(desired, actual).into_iter().map(|(wanted, before)| wanted.diff(before.as_ref()));
        let cleaned = actual.iter().flat_map(|actual| actual.cleaned());
        let cleaned = cleaned.map(|(path, state, text)| FileDiff {
            path: path.to_owned(),
            before: state.text.clone(),
            after: Some(text),
        });
        ours.chain(cleaned).collect()
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let mut remarks: Vec<String> = Vec::new();
        for (path, lines) in &actual.added.others {
            remarks.extend(lines.iter().map(|line| format!("`{line}` in {path} is not the package's and stays")));
        }
        let foreign = actual.tables.foreign.iter();
        remarks.extend(foreign.map(|table| {
            format!("nftables has the table `{table}`, which is not ours: look at it with `nft list table {table}`")
        }));
        for side in &actual.sides {
            let stays = |rule: &&Rule| !rule.is_marked();
            let (rules, _) = arranged(desired, side.family, &side.rules);
            let kept = rules.iter().filter(stays).map(Rule::name);
            remarks.extend(kept.map(|name| format!("`{name}` in ufw is not ours and stays")));
            let others = side.loaded.others.iter();
            remarks
                .extend(others.map(|rule| format!("`{rule}` in INPUT ({}) is not ours and stays", side.family.name())));
        }
        remarks.into_iter().map(Remark::from).collect()
    }
}
