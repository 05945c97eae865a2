//! `host.sshd`: who may log in over SSH and how, judged by what sshd itself says it would do.
//!
//! One drop-in that sorts first, because sshd takes the first value that it reads. Lines of other files that win all the
//! same are commented out: an earlier file, what stands before the `Include`, `Match` blocks, and lists that add up. All of
//! it is guarded: a new login proves it, or the host puts it back. Deliberately absent: host keys (the cloud has
//! witnessed them), and any way to allow passwords or root.

mod effect;
mod foreign;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::{Inventory, Rescue};
use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::parts::unit::{self, Over};
use crate::kinds::{Declared, Kind, Opening, Owned, parts};
use crate::plan::change::{FieldChange, FileDiff, Proof, Risk};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;
use crate::render::render;

const PATH: &str = "/etc/ssh/sshd_config.d/00-seawall.conf";
const MAIN: &str = "/etc/ssh/sshd_config";
/// Signs of life that may stay unanswered; with the interval this is when a dead client is dropped.
const ALIVE_COUNT: u64 = 2;
/// Debian's unit of sshd. That of its socket is not here: masking it is how socket activation is switched off.
const SERVICES: [&str; 1] = ["ssh.service"];
const ASK_SERVICE: [&str; 6] =
    ["systemctl", "show", "--timestamp=unix", "-p", "ActiveState,UnitFileState,StateChangeTimestamp", "ssh.service"];
const CHECK_ALONE: [&str; 4] = ["/usr/sbin/sshd", "-t", "-f", "{}"];
/// Ubuntu 22.10 and later start sshd by a socket, which then owns the port.
const ASK_SOCKET: [&str; 3] = ["systemctl", "is-active", "ssh.socket"];
/// Where Debian's unit takes options from.
const DEFAULTS: &str = "/etc/default/ssh";
/// The command line of the running daemon, which names itself as the listener in it.
const RUNNING: &str =
    r#"pid=$(systemctl show -p MainPID --value ssh.service) && [ "$pid" != 0 ] && tr '\0' ' ' <"/proc/$pid/cmdline""#;
const ASK_RUNNING: [&str; 3] = ["sh", "-c", RUNNING];
/// When each file was last changed in any way; the folder's own time tells of files that are gone.
const ASK_CHANGED: [&str; 7] = ["find", MAIN, "/etc/ssh/sshd_config.d", "-maxdepth", "1", "-printf", "@%Cs\\n"];

pub struct HostSshd;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    /// The login user comes first.
    pub users: Vec<String>,
    pub port: u16,
    pub max_auth_tries: u32,
    pub login_grace_s: u64,
    pub idle_s: u64,
    pub forwarding: bool,
    /// Lightsail's browser login stays possible.
    pub rescue: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub file: Option<FileState>,
    pub main: FileState,
    /// Other drop-ins, by path.
    pub others: BTreeMap<String, foreign::Other>,
    /// What sshd would do, by kind of client; or why it would not start.
    pub effect: Result<BTreeMap<String, effect::Settings>, String>,
    /// The daemon runs with the files as they are now.
    pub loaded: bool,
    pub active: bool,
    /// What the running daemon was given on its command line: it beats every file.
    pub options: String,
    /// What the next start would give it.
    pub defaults: Option<FileState>,
    /// The authority of Lightsail's browser login, where the image has one.
    pub authority: Option<FileState>,
    pub enabled: bool,
    /// What stands over its units.
    pub over: Over,
    pub socket: bool,
}

impl Desired {
    fn text(&self, ports: &[u16]) -> String {
        let context = serde_json::json!({
            "address": self.address,
            "ports": ports,
            "users": self.users.join(" "),
            "max_auth_tries": self.max_auth_tries,
            "login_grace": self.login_grace_s,
            "alive_interval": self.alive_interval(),
            "disable_forwarding": if self.forwarding { "no" } else { "yes" },
            "tcp_forwarding": if self.forwarding { "local" } else { "no" },
            "trusted_ca": effect::trusted_authority(self),
            "weak_kex": effect::weak_kex(self).join(","),
            "weak_host_keys": effect::WEAK_HOST_KEYS.join(","),
            "weak_ciphers": effect::WEAK_CIPHERS.join(","),
            "weak_macs": effect::WEAK_MACS.join(","),
        });
        render("sshd.conf", &context).expect("the template and its context are tested together")
    }

    fn drop_in(&self) -> Wanted<'static> {
        self.drop_in_on(&[self.port])
    }

    fn drop_in_on(&self, ports: &[u16]) -> Wanted<'static> {
        Wanted { path: PATH, owner: "root", group: "root", mode: "0600", text: self.text(ports) }
    }

    fn alive_interval(&self) -> u64 {
        (self.idle_s / ALIVE_COUNT).max(1)
    }
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let Some(main) = host::file(answers, MAIN)? else { return Ok(None) };
    if main.text.is_none() {
        return Err(Unseen::Misread(format!("{MAIN} is not text")));
    }
    let others = host::command(answers, &foreign::ask(), &[0])?;
    let others = foreign::read(&others.stdout).map_err(Unseen::Misread)?;
    let effect = host::command(answers, &effect::ask(desired), &[0])?;
    let service = host::command(answers, &ASK_SERVICE, &[0])?;
    let service = host::properties(&service.stdout);
    let of = |key: &str| service.get(key).copied().unwrap_or_default();
    let changed = host::command(answers, &ASK_CHANGED, &[0])?;
    let seconds = |text: &str| text.trim_start_matches('@').parse::<u64>().ok();
    let newest = changed.stdout.lines().filter_map(seconds).max().unwrap_or(u64::MAX);
    let socket = answers.command(&ASK_SOCKET)?.ok();
    let running = answers.command(&ASK_RUNNING)?;
    Ok(Some(Actual {
        file: host::file(answers, PATH)?,
        main,
        others,
        effect: effect::read(&effect.stdout),
        // A reload is a change of state. Within one second both orders look the same; ours is write, then reload.
        loaded: seconds(of("StateChangeTimestamp")).is_some_and(|at| at >= newest),
        active: of("ActiveState") == "active" || socket,
        options: if running.ok() { options(&running.stdout) } else { String::new() },
        defaults: host::file(answers, DEFAULTS)?,
        authority: host::file(answers, effect::LIGHTSAIL_AUTHORITY)?,
        enabled: of("UnitFileState") == "enabled" || socket,
        over: unit::look_debian(&SERVICES, answers)?,
        socket,
    }))
}

/// The options in the command line of a daemon, without those that Debian's unit gives it.
fn options(running: &str) -> String {
    let listener = running.split(" [listener]").next().unwrap_or_default().trim();
    let given = listener.strip_prefix("sshd: ").unwrap_or(listener);
    let given = given.split_whitespace().skip(1).filter(|word| *word != "-D");
    given.collect::<Vec<_>>().join(" ")
}

/// The defaults with the line commented out that gives the daemon options.
fn without_options(text: &str) -> String {
    let gives = |line: &str| {
        let rest = line.trim_start().strip_prefix("SSHD_OPTS=");
        rest.is_some_and(|value| !value.trim().trim_matches(['"', '\'']).trim().is_empty())
    };
    host::silenced(text, gives)
}

impl Actual {
    /// The file of defaults with its new text, where it must change.
    fn quiet_defaults(&self) -> Option<(foreign::Other, String)> {
        let file = foreign::Other::of(self.defaults.as_ref()?);
        let text = without_options(&file.text);
        (text != file.text).then_some((file, text))
    }

    /// The ports that sshd listens on by its files.
    fn ports(&self) -> Vec<u16> {
        let settings = self.effect.as_ref().ok().and_then(|effect| effect.values().next());
        let ports = settings.and_then(|settings| settings.get("port")).map(String::as_str).unwrap_or_default();
        ports.split_whitespace().filter_map(|port| port.parse().ok()).collect()
    }

    /// Other files with the lines commented out that would win over ours: path, how it is now, and its new text.
    fn silenced(&self, desired: &Desired) -> Vec<(&str, foreign::Other, String)> {
        let main = foreign::Other::of(&self.main);
        let new = foreign::main(&main.text, &effect::wanted(desired));
        let mut silenced = Vec::new();
        if new != main.text {
            silenced.push((MAIN, main, new));
        }
        for (path, other) in &self.others {
            let new = foreign::drop_in(path, PATH, &other.text, &effect::wanted(desired));
            if new != other.text {
                silenced.push((path.as_str(), other.clone(), new));
            }
        }
        silenced
    }
}

impl Kind for HostSshd {
    const NAME: &'static str = "host.sshd";
    const SUMMARY: &'static str = "who may log in over SSH, and how";
    const EXPLAIN: &'static str = "\
Manages: /etc/ssh/sshd_config.d/00-seawall.conf: keys only, no root, named users only, no forwarding unless declared, and
no weak algorithm. Judged by `sshd -T` for the login user and root, from inside and outside, and for every Match block; and
by whether the daemon has loaded what is on disk. Lines of other files that win over ours (an earlier file, a line before
the Include, a Match block, lists that add up) are commented out, which the plan shows as a diff, and so are options in
/etc/default/ssh; a daemon that runs with options of its own is started anew.

A change is kept only if a new login works, becomes root, and if a login without a key and one as root are refused.
Otherwise the host puts everything back by itself after `revert_after`, also after a reboot, and the exit code is 5.

Does not manage: host keys. `login.rescue: lightsail-connect` trusts the image's certificate authority for Lightsail's browser
login (/etc/ssh/lightsail_instance_ca.pub) and no other; `none` trusts none. When the section goes, the file goes and sshd has its defaults again.

    servers:
      db:
        sshd: { max_auth_tries: 3, login_grace: 30s, idle: 10m, forwarding: false, revert_after: 90s }
";
    const RISK: Risk = Risk::MayLockOut;

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let sshd = server.sshd.as_ref()?;
                let address = Address::new(Self::NAME, name.as_str());
                let more = sshd.allow_users.iter().filter(|user| **user != server.login.user).cloned();
                let desired = Desired {
                    address: address.clone(),
                    users: std::iter::once(server.login.user.clone()).chain(more).collect(),
                    port: sshd.port,
                    max_auth_tries: sshd.max_auth_tries,
                    login_grace_s: sshd.login_grace.seconds(),
                    idle_s: sshd.idle.seconds(),
                    forwarding: sshd.forwarding,
                    rescue: server.login.rescue == Rescue::LightsailConnect,
                };
                // The user and the keys that the new login needs come first.
                Some(host::declared(address, name, &["host.users"], "sshd", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        vec![
            file(PATH),
            file(MAIN),
            command(&foreign::ask()),
            command(&effect::ask(desired)),
            command(&ASK_SERVICE),
            command(&ASK_SOCKET),
            command(&ASK_CHANGED),
            command(&ASK_RUNNING),
            file(DEFAULTS),
            file(effect::LIGHTSAIL_AUTHORITY),
            unit::probe_debian(&SERVICES),
        ]
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired {
            address: _,
            users: _,
            port: _,
            max_auth_tries: _,
            login_grace_s: _,
            idle_s: _,
            forwarding: _,
            rescue: _,
        } = desired;
        let Actual {
            file,
            main: _,
            others: _,
            effect,
            loaded,
            active,
            options,
            defaults: _,
            authority: _,
            enabled,
            over,
            socket: _,
        } = actual;
        let mut fields: Vec<FieldChange> = desired.drop_in().change(file.as_ref()).into_iter().collect();
        for (path, _, _) in actual.silenced(desired) {
            fields.push(FieldChange::new(
                path,
                Some(Value::from("lines that win")),
                Some(Value::from("commented out")),
            ));
        }
        match effect {
            Ok(effect) => fields.extend(effect::differences(desired, effect)),
            Err(why) => fields.push(FieldChange::new(
                "configuration",
                Some(Value::from(why.as_str())),
                Some(Value::from("accepted by sshd")),
            )),
        }
        if actual.quiet_defaults().is_some() {
            let (before, after) = ("options for sshd", "commented out");
            fields.push(FieldChange::new(DEFAULTS, Some(Value::from(before)), Some(Value::from(after))));
        }
        fields.extend(FieldChange::between("options", options, &String::new()));
        fields.extend(parts::fields(over.differences()));
        fields.extend(FieldChange::between("loaded", loaded, &true));
        fields.extend(FieldChange::between("active", active, &true));
        fields.extend(FieldChange::between("enabled", enabled, &true));
        fields
    }

    fn refusals(_: &Desired, actual: &Actual, _: &[FieldChange]) -> Vec<Diagnostic> {
        let refusal = |why: &String| {
            Diagnostic::error("sshd-broken", "sshd does not accept its configuration as it is on disk")
                .note(why.clone())
                .note("it runs on with what it loaded before, and would not start again")
                .hint("mend or remove the file by hand; Seawall does not change what it cannot read")
        };
        actual.effect.as_ref().err().map(refusal).into_iter().collect()
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let mut steps = actual.map_or_else(Vec::new, |actual| parts::close(&actual.over.differences()).files);
        let socket = actual.is_some_and(|actual| actual.socket);
        if socket {
            // A socket-activated sshd has this folder only while it runs, and tests nothing without it.
            steps.push(host::directory("/run/sshd", "root", "root", "0755"));
        }
        if actual.is_none() || host::differs(fields, PATH) {
            steps.push(desired.drop_in().step(Some(&CHECK_ALONE)));
        }
        for (path, other, text) in actual.map(|actual| actual.silenced(desired)).unwrap_or_default() {
            let wanted = Wanted { path, owner: &other.owner, group: &other.group, mode: &other.mode, text };
            steps.push(wanted.step(None));
        }
        if let Some((other, text)) = actual.and_then(Actual::quiet_defaults) {
            let foreign::Other { owner, group, mode, text: _ } = &other;
            steps.push(Wanted { path: DEFAULTS, owner, group, mode, text }.step(None));
        }
        steps.push(host::run(&["/usr/sbin/sshd", "-t"], QUICK_S, "have sshd check all of its files"));
        if host::differs(fields, "enabled") {
            steps.push(host::run(&["systemctl", "enable", "ssh.service"], QUICK_S, "start sshd at boot"));
        }
        let load: &[&[&str]] = if socket {
            &[&["systemctl", "daemon-reload"], &["systemctl", "restart", "ssh.socket"]]
        } else if actual.is_some_and(|actual| !actual.options.is_empty()) {
            // A reload keeps the command line. Connections that are there stay.
            &[&["systemctl", "restart", "ssh.service"]]
        } else {
            &[&["systemctl", "reload-or-restart", "ssh.service"]]
        };
        steps.extend(load.iter().map(|argv| host::run_guarded(argv, argv, QUICK_S, argv[1..].join(" "))));
        steps
    }

    fn opening(desired: &Desired, actual: Option<&Actual>) -> Option<Opening<Vec<HostStep>>> {
        let actual = actual?;
        let listening = actual.ports();
        if listening.is_empty() || listening.contains(&desired.port) {
            return None;
        }
        // The new port is added and proven; only then is the old one closed.
        let ports: Vec<u16> = std::iter::once(desired.port).chain(listening.iter().copied()).collect();
        let words = |ports: &[u16]| Value::from(ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" "));
        let fields = vec![FieldChange::new("Port", Some(words(&listening)), Some(words(&ports)))];
        let mut steps = Self::steps(desired, Some(actual), &[]);
        let place = usize::from(actual.socket);
        steps.insert(place, desired.drop_in_on(&ports).step(Some(&CHECK_ALONE)));
        Some(Opening { fields, steps, until: Self::NAME })
    }

    fn remove(_: &Owned) -> Vec<HostStep> {
        let load = ["systemctl", "reload-or-restart", "ssh.service"];
        vec![host::remove_file(PATH), host::run_guarded(&load, &load, QUICK_S, "reload-or-restart ssh.service")]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: &str, value: String| FieldChange::new(path, None, Some(Value::from(value)));
        let mut fields: Vec<FieldChange> = desired.drop_in().change(None).into_iter().collect();
        let wanted = effect::wanted(desired).into_iter().filter(|(_, value)| !value.is_empty());
        fields.extend(wanted.map(|(name, value)| new(name, value)));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let mut files = vec![desired.drop_in().diff(actual.and_then(|actual| actual.file.as_ref()))];
        for (path, other, text) in actual.map(|actual| actual.silenced(desired)).unwrap_or_default() {
            files.push(FileDiff { path: path.to_owned(), before: Some(other.text), after: Some(text) });
        }
        if let Some((other, text)) = actual.and_then(Actual::quiet_defaults) {
            files.push(FileDiff { path: DEFAULTS.to_owned(), before: Some(other.text), after: Some(text) });
        }
        files
    }

    fn proofs(desired: &Desired) -> Vec<Proof> {
        let mut proofs = vec![Proof::KeysOnly];
        if !desired.users.iter().any(|user| user == "root") {
            proofs.push(Proof::RefusesUser("root".to_owned()));
        }
        proofs
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let mut remarks = actual.over.remarks();
        let remark = "`login.rescue` is lightsail-connect, and the image has no certificate authority of Lightsail's: its browser \
                      login will not work";
        remarks.extend((desired.rescue && actual.authority.is_none()).then(|| remark.into()));
        remarks
    }
}
