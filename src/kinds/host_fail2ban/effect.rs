//! What fail2ban says about itself: the configuration that it would load, and the values that it runs with, in the
//! same words, so that both can be compared with what is wanted and with each other.
//!
//! `fail2ban-client -d` prints one list a line as Python writes it; `fail2ban-client -i` prints an answer after each
//! prompt. Deliberately absent: what fail2ban can be told and Seawall does not set.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::plan::change::FieldChange;

/// `jail.what` to a value, for example `sshd.retries` to `5`.
pub(super) type Effect = BTreeMap<String, String>;

/// Before every answer of `fail2ban-client -i`.
const PROMPT: &str = "fail2ban> ";
/// What stands in `action` when the action's own command was changed into one that adds no address to a set.
const BANS_NOTHING: &str = " that bans nothing";

/// What each jail is asked while it runs: the last words of `get JAIL …`.
const QUESTIONS: [&str; 15] = [
    "maxretry",
    "findtime",
    "bantime",
    "bantime.increment",
    "bantime.maxtime",
    "ignoreip",
    "ignorecommand",
    "actions",
    "action nftables type",
    "action nftables port",
    "action nftables actionban",
    "journalmatch",
    "logpath",
    "failregex",
    "ignoreregex",
];
/// And what the server is asked after all jails.
const OF_SERVER: [&str; 3] = ["get dbpurgeage", "get logtarget", "status"];
/// After the questions of a jail: who is banned.
const BANNED: &str = "banip";

/// What runs: values, addresses banned by jail, and all jails.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Running {
    pub(super) effect: Effect,
    pub(super) banned: BTreeMap<String, usize>,
    pub(super) jails: BTreeSet<String>,
}

/// What differs from what is wanted. A jail that is not there at all is one difference, not ten.
pub(super) fn differences(side: &str, found: &Effect, wanted: &Effect) -> Vec<FieldChange> {
    let jail_of = |what: &str| what.split('.').next().unwrap_or_default().to_owned();
    let there: BTreeSet<String> = found.keys().map(|what| jail_of(what)).collect();
    let mut fields = Vec::new();
    for (what, value) in wanted {
        let jail = jail_of(what);
        if there.contains(&jail) {
            fields.extend(FieldChange::between(&format!("{side}.{what}"), &found.get(what), &Some(value)));
        } else if !fields.iter().any(|field: &FieldChange| field.path == format!("{side}.{jail}")) {
            fields.push(FieldChange::new(format!("{side}.{jail}"), None, Some(Value::from("as in the inventory"))));
        }
    }
    fields
}

/// Networks in one order and form, without those that another one holds.
pub(super) fn networks(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let parsed = texts.into_iter().map(|text| {
        let text = text.as_ref();
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(|network| network.trunc()).map_err(|_| text.to_owned())
    });
    let (nets, names): (Vec<_>, Vec<_>) = parsed.partition(Result::is_ok);
    let nets = IpNet::aggregate(&nets.into_iter().filter_map(Result::ok).collect());
    let nets: BTreeSet<String> = nets.iter().map(ToString::to_string).collect();
    let names: BTreeSet<String> = names.into_iter().filter_map(Result::err).collect();
    nets.into_iter().chain(names).collect::<Vec<_>>().join(" ")
}

/// How a jail acts: the actions' names, and for nftables what it closes.
pub(super) fn action(names: &str, kind: &str, ports: &str, command: &str) -> String {
    let bans = command.starts_with("nft ") && command.contains(" add element ");
    let mut text = [names, kind, ports].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    if !bans {
        text.push_str(BANS_NOTHING);
    }
    text
}

/// Patterns and exceptions of a jail. How they read is the filter's business; how many there are must not change
/// while it runs.
fn patterns(found: usize, ignored: usize) -> String {
    format!("{found}, with {ignored} exceptions")
}

/// What would be loaded, and why something would not, from the text of `fail2ban-client -d`.
pub(super) fn loaded(dump: &str) -> (Effect, Option<String>) {
    let lines: Vec<Vec<Value>> = dump.lines().filter_map(literal).collect();
    let mut jails: BTreeMap<&str, Jail<'_>> = BTreeMap::new();
    let (mut effect, mut problem) = (Effect::new(), None);
    for line in &lines {
        let words: Vec<&str> = line.iter().map(|value| value.as_str().unwrap_or_default()).collect();
        match words.as_slice() {
            ["config-error", why] => problem = Some((*why).to_owned()),
            ["set", "dbpurgeage", age] => drop(effect.insert("server.history".to_owned(), (*age).to_owned())),
            ["set", "logtarget", target] => drop(effect.insert("server.log".to_owned(), (*target).to_owned())),
            ["add", jail, backend] => jails.entry(jail).or_default().backend = backend,
            ["set" | "multi-set", jail, what, rest @ ..] => jails.entry(jail).or_default().set(what, rest, &line[3..]),
            _ => {}
        }
    }
    for (name, jail) in jails.iter().filter(|(_, jail)| !jail.backend.is_empty()) {
        jail.tell(name, &mut effect);
    }
    (effect, problem)
}

/// A jail as it is put together line by line.
#[derive(Default)]
struct Jail<'a> {
    backend: &'a str,
    plain: BTreeMap<&'static str, String>,
    ignore: Vec<&'a str>,
    actions: Vec<&'a str>,
    nftables: BTreeMap<String, String>,
    journal: Vec<&'a str>,
    files: Vec<&'a str>,
    patterns: usize,
    exceptions: usize,
}

impl<'a> Jail<'a> {
    fn set(&mut self, what: &str, words: &[&'a str], values: &[Value]) {
        let many = || values.iter().map(|value| value.as_array().map_or(1, Vec::len)).sum::<usize>();
        match what {
            "addignoreip" => self.ignore.extend(words),
            "addaction" => self.actions.extend(words),
            "addjournalmatch" => self.journal.extend(words),
            "addlogpath" => self.files.extend(words.first()),
            "addfailregex" => self.patterns += many(),
            "addignoreregex" => self.exceptions += many(),
            "action" if words.first() == Some(&"nftables") => {
                let pairs = values.get(1).and_then(Value::as_array).into_iter().flatten();
                self.nftables = pairs.filter_map(|pair| Some((text(pair.get(0)?), text(pair.get(1)?)))).collect();
            }
            _ => {
                if let (Some((_, name)), Some(value)) = (PLAIN.iter().find(|(key, _)| *key == what), values.first()) {
                    self.plain.insert(name, text(value));
                }
            }
        }
    }

    fn tell(&self, name: &str, effect: &mut Effect) {
        let of = |key: &str| self.nftables.get(key).map_or("", String::as_str);
        let mut say = |what: &str, value: String| drop(effect.insert(format!("{name}.{what}"), value));
        for (what, value) in &self.plain {
            say(what, value.clone());
        }
        say("never", networks(&self.ignore));
        say("action", action(&self.actions.join(" "), of("type"), of("port"), of("actionban")));
        say("reads", if self.backend == "systemd" { self.journal.join(" ") } else { self.files.join(" ") });
        say("patterns", patterns(self.patterns, self.exceptions));
    }
}

/// Options of one value: fail2ban's name and ours.
const PLAIN: [(&str, &str); 6] = [
    ("maxretry", "retries"),
    ("findtime", "within"),
    ("bantime", "ban"),
    ("bantime.increment", "longer_each_time"),
    ("bantime.maxtime", "longest"),
    ("ignorecommand", "never_if"),
];

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The questions to a running server about these jails, one a line.
pub(super) fn questions(jails: &[&str]) -> Vec<String> {
    let of = |jail: &&str| {
        let jail = (*jail).to_owned();
        QUESTIONS.iter().chain([&BANNED]).map(move |what| format!("get {jail} {what}")).collect::<Vec<_>>()
    };
    jails.iter().flat_map(of).chain(OF_SERVER.map(str::to_owned)).collect()
}

/// What runs, from the answers to [`questions`]. A jail that does not run has no values.
pub(super) fn running(jails: &[&str], said: &str) -> Running {
    let mut answers = format!("\n{said}");
    answers = answers.replace(&format!("\n{PROMPT}"), "\n\0");
    let mut answers = answers.split("\n\0").skip(1).map(|answer| answer.trim().to_owned());
    let mut next = || answers.next().unwrap_or_default();
    let mut running = Running::default();
    for jail in jails {
        let said: BTreeMap<&str, String> = QUESTIONS.iter().map(|&what| (what, next())).collect();
        let banned = next();
        // `Sorry but the jail 'x' does not exist`, or nothing at all.
        if said["maxretry"].parse::<u32>().is_err() {
            continue;
        }
        let mut say = |what: &str, value: String| drop(running.effect.insert(format!("{jail}.{what}"), value));
        for (theirs, ours) in PLAIN {
            say(ours, said[theirs].clone());
        }
        say("never", networks(items(&said["ignoreip"])));
        let names = items(&said["actions"]).join(" ");
        let [kind, ports, ban] =
            ["type", "port", "actionban"].map(|part| said[&*format!("action nftables {part}")].as_str());
        say("action", action(&names, kind, ports, ban));
        let reads = if said["logpath"].starts_with("Current") { &said["logpath"] } else { &said["journalmatch"] };
        say("reads", items(reads).join(" "));
        say("patterns", patterns(items(&said["failregex"]).len(), items(&said["ignoreregex"]).len()));
        running.banned.insert((*jail).to_owned(), banned.split_whitespace().count());
    }
    let [age, target, status] = OF_SERVER.map(|_| next());
    let mut say = |what: &str, said: &str| {
        let value = items(said).join(" ").trim_end_matches("seconds").to_owned();
        if !value.is_empty() {
            running.effect.insert(what.to_owned(), value);
        }
    };
    say("server.history", &age);
    say("server.log", &target);
    let list = status.split_once("Jail list:").map_or("", |(_, list)| list);
    running.jails = list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    running
}

/// The lines below the heading of an answer, without the tree's branches.
fn items(answer: &str) -> Vec<&str> {
    answer.lines().skip(1).map(|line| line.trim_start_matches(['|', '`', '-', ' ']).trim_end()).collect()
}

/// A list as Python prints it: texts in either quote, numbers, `True`, `False`, `None`, and lists of these.
fn literal(line: &str) -> Option<Vec<Value>> {
    let mut rest = line.trim().strip_prefix('[')?;
    list(&mut rest)
}

fn list(rest: &mut &str) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    loop {
        *rest = rest.trim_start_matches([',', ' ']);
        let first = rest.chars().next()?;
        match first {
            ']' => {
                *rest = &rest[1..];
                return Some(found);
            }
            '[' => {
                *rest = &rest[1..];
                found.push(Value::from(list(rest)?));
            }
            '\'' | '"' => found.push(Value::from(quoted(rest, first)?)),
            _ => {
                let end = rest.find([',', ']'])?;
                found.push(Value::from(&rest[..end]));
                *rest = &rest[end..];
            }
        }
    }
}

fn quoted(rest: &mut &str, quote: char) -> Option<String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => {
                *rest = &rest[at + 1..];
                return Some(text);
            }
            '\\' => text.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            c => text.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_one_form() {
        assert_eq!(networks(["::1", "127.0.0.1/8", "10.0.0.7", "10.0.0.0/24"]), "10.0.0.0/24 127.0.0.0/8 ::1/128");
        assert_eq!(networks(["host.example", "192.0.2.1"]), "192.0.2.1/32 host.example");
    }

    #[test]
    fn lists_are_read_as_python_prints_them() {
        let read = literal(r#"['set', "it's", 5, True, ['a\\d', "b\n", []]]"#).expect("a list");
        assert_eq!(
            read,
            serde_json::json!(["set", "it's", "5", "True", ["a\\d", "b\n", []]]).as_array().cloned().expect("a list")
        );
        for broken in ["", "no list", "['never ends", "['a', 'b'"] {
            assert_eq!(literal(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_reason_for_not_loading_is_kept() {
        let (effect, problem) = loaded("['set', 'logtarget', '/l']\n['config-error', \"Jail 'x' skipped\"]\nnoise\n");
        assert_eq!(effect, Effect::from([("server.log".to_owned(), "/l".to_owned())]));
        assert_eq!(problem.as_deref(), Some("Jail 'x' skipped"));
    }

    #[test]
    fn a_server_that_is_not_there_runs_nothing() {
        let said = "Fail2Ban v1.0.2 reads log file that contains password failure report\n\nfail2ban> \n";
        assert_eq!(running(&["sshd"], said), Running::default());
        assert_eq!(running(&["sshd"], ""), Running::default());
    }
}
