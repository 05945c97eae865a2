//! A folder with an inventory and a sandbox of its own, driven by the real binary; ended when dropped, also by a panic.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::print_stderr, reason = "a lab that does not end is said aloud")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::support::template::{self, Held, Kind};
use crate::support::turn::{Turn, cache, hosts_can_run};

/// The project's own folder for images and emulators, as it is linked in each rehearsal.
const CACHE: &str = ".seawall/cache";

/// The home of whoever runs commands in a rehearsal.
const HOME: &str = "home";

/// The secrets that the worked example names.
const SECRETS: [(&str, &str); 5] = [
    ("SEAWALL_CIPHER_PASS", "a passphrase for rehearsals only"),
    ("SEAWALL_CERTIFICATE_PASS", "what seals a copy, for rehearsals only"),
    ("CHRONOS_APP_PASSWORD", "password of app"),
    ("CHRONOS_READONLY_PASSWORD", "password of readonly"),
    ("CHRONOS_MONITORING_PASSWORD", "password of monitoring"),
];

/// The worked example.
pub(crate) fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventories/chronos-prod.yaml");
    std::fs::read_to_string(path).expect("the worked example")
}

/// The worked example without what is between its two lines about the database.
fn without_database(example: &str) -> String {
    let (before, rest) = example.split_once(DATABASE_BEGINS).expect("the example says where the database begins");
    let (_, after) = rest.split_once(DATABASE_ENDS).expect("the example says where the database ends");
    format!("{before}{after}")
}

const DATABASE_BEGINS: &str = "    # --- The database and its backups. ---\n";
const DATABASE_ENDS: &str = "    # --- End of the database. ---\n";

pub(crate) struct Rehearsal {
    folder: tempfile::TempDir,
    /// The template that its servers stand on.
    template: Option<Held>,
    /// Held by the first of a test's rehearsals.
    turn: Option<Turn>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Something that is done to a server behind our back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tampering {
    pub command: &'static str,
    /// The resource that must notice. Those of one round are different ones.
    pub address: &'static str,
    /// What drift must say besides.
    pub says: &'static str,
}

/// One that drift has no words of its own for.
pub(crate) const fn tampering(address: &'static str, command: &'static str) -> Tampering {
    Tampering { command, address, says: "" }
}

/// The rounds of lists whose members are all of one resource: the first of each, then the second of each, and so on.
pub(crate) fn rounds(lists: &[&[Tampering]]) -> Vec<Vec<Tampering>> {
    let longest = lists.iter().map(|list| list.len()).max().unwrap_or_default();
    (0..longest).map(|index| lists.iter().filter_map(|list| list.get(index)).copied().collect()).collect()
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Rehearsal {
    /// A server with everything of the worked example but the database and its backups, ready to log in. `None` where
    /// hosts cannot run and somebody said that such tests shall be skipped; so are the other ways to begin.
    pub(crate) fn base(test: &str) -> Option<Self> {
        Self::clone_of(test, Kind::Base)
    }

    /// A server with everything of the worked example, ready to log in.
    pub(crate) fn database(test: &str) -> Option<Self> {
        Self::clone_of(test, Kind::Database)
    }

    /// A server with everything of the worked example but its database and what may lock out: sshd, firewall, users, bans.
    pub(crate) fn open(test: &str) -> Option<Self> {
        Self::clone_of(test, Kind::Open)
    }

    /// Nothing but a folder with the worked example, without its database, as the inventory. For tests whose subject is
    /// the first apply, and for those that need no server.
    pub(crate) fn begin(test: &str) -> Option<Self> {
        hosts_can_run(test).then(|| Self::with(Turn::beside_others(), Self::within_turn))
    }

    /// The same with the whole worked example as the inventory.
    pub(crate) fn begin_with_database(test: &str) -> Option<Self> {
        let rehearsal = Self::begin(test)?;
        rehearsal.write_inventory(&example());
        Some(rehearsal)
    }

    /// The same, with no lab beside it.
    pub(crate) fn begin_alone(test: &str) -> Option<Self> {
        hosts_can_run(test).then(|| Self::with(Turn::alone(), Self::within_turn))
    }

    fn clone_of(test: &str, kind: Kind) -> Option<Self> {
        hosts_can_run(test).then(|| Self::with(Turn::beside_others(), || Self::clone_within_turn(kind)))
    }

    fn with(turn: Turn, begin: impl FnOnce() -> Self) -> Self {
        let mut rehearsal = begin();
        rehearsal.turn = Some(turn);
        rehearsal
    }

    /// A clone for somebody who has a turn.
    pub(crate) fn clone_within_turn(kind: Kind) -> Self {
        let mut rehearsal = Self::within_turn();
        if kind == Kind::Database {
            rehearsal.write_inventory(&example());
        }
        let held = kind.hold(&rehearsal.inventory());
        rehearsal.expect(0, &["sandbox", "up", "--from", &held.name]);
        rehearsal.template = Some(held);
        // A login answers before the boot has ended. What is done to a unit that is still starting is another test's subject.
        rehearsal.tried_on_server(&["timeout", "60", "systemctl", "is-system-running", "--wait"]);
        rehearsal
    }

    /// One more folder with the worked example, without its database, for somebody who has a turn.
    pub(crate) fn within_turn() -> Self {
        let folder = tempfile::Builder::new().prefix("seawall-rehearsal-").tempdir().expect("a temporary folder");
        let link = |to: &Path, name: &str| {
            std::fs::create_dir_all(to).expect("a folder of the project's cache");
            std::os::unix::fs::symlink(to, folder.path().join(name)).expect("a link into the cache");
        };
        for name in [".seawall", "inventories", HOME] {
            std::fs::create_dir_all(folder.path().join(name)).expect("a folder of this rehearsal");
        }
        link(&cache(), CACHE);
        link(&template::folder(), ".seawall/templates");
        let rehearsal = Self { folder, template: None, turn: None };
        rehearsal.write_inventory(&without_database(&example()));
        rehearsal
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn inventory_path(&self) -> PathBuf {
        self.path().join("inventories/chronos-prod.yaml")
    }

    pub(crate) fn inventory(&self) -> String {
        std::fs::read_to_string(self.inventory_path()).expect("the inventory of this rehearsal")
    }

    pub(crate) fn write_inventory(&self, text: &str) {
        std::fs::write(self.inventory_path(), text).expect("the inventory of this rehearsal is written");
    }

    /// Replaces a part of the inventory that must be there.
    pub(crate) fn edit_inventory(&self, from: &str, to: &str) {
        let text = self.inventory();
        assert!(text.contains(from), "the inventory has no {from:?}");
        self.write_inventory(&text.replacen(from, to, 1));
    }

    /// A file that the inventory may name as a secret's place; it is relative to where commands run.
    pub(crate) fn write_secret(&self, name: &str, value: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path().join(name);
        std::fs::write(&path, value).expect("a secret of this rehearsal is written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("only we may read it");
    }

    /// The program, with nothing of the environment that tests were started in but where programs are, and how this
    /// computer's own tools reach packages.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let passed =
            |name: &str| name == "PATH" || name.starts_with("PIP_") || name.to_ascii_lowercase().ends_with("_proxy");
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null()).env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passed)));
        command.env("HOME", self.path().join(HOME)).env("LANG", "C.UTF-8");
        command.envs([("NO_COLOR", "1"), ("USER", "tester")]).envs(SECRETS);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().expect("the binary runs"))
    }

    /// Runs a command that must end with a code.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.code, code, "{args:?}\n--- stdout\n{}\n--- stderr\n{}", ended.stdout, ended.stderr);
        ended
    }

    /// Tampers with the server in ways that do not touch each other, each with the resource that must notice and what
    /// drift says of it. Drift names each, one apply heals all, and the next plan is empty.
    #[track_caller]
    pub(crate) fn tampered(&self, round: &[Tampering]) {
        // In one session: a tampering may be a limit of sessions.
        let each = ["bash", "-ec", "for command; do bash -c \"$command\"; done", "round"];
        let commands = round.iter().map(|tampering| tampering.command);
        self.on_server(&each.into_iter().chain(commands).collect::<Vec<_>>());
        self.healed(round);
    }

    /// The same after the tamperings were done.
    #[track_caller]
    pub(crate) fn healed(&self, round: &[Tampering]) {
        let drift = self.expect(2, &["--sandbox", "drift"]).stdout;
        for Tampering { command, address, says } in round {
            assert!(drift.contains(address), "`{command}` was not found: {drift}");
            assert!(drift.contains(says), "`{command}`: drift does not say {says:?}: {drift}");
        }
        let count = format!("{} changed behind us", round.len());
        assert!(drift.contains(&count), "{round:?}, and not {count}: {drift}");
        self.expect(0, &["--sandbox", "apply", "--yes"]);
        let plan = self.run(&["--sandbox", "plan"]);
        assert!(plan.code == 0 && plan.stdout.contains("No changes"), "{round:?} was not healed: {}", plan.stdout);
    }

    /// Starts a command and leaves it running.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let child = self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        child.expect("the binary starts")
    }

    /// Runs a command on the server as root.
    #[track_caller]
    pub(crate) fn on_server(&self, words: &[&str]) -> Ended {
        let ended = self.tried_on_server(words);
        assert_eq!(ended.code, 0, "{words:?}: {}{}", ended.stdout, ended.stderr);
        ended
    }

    /// The same for a command that may fail.
    pub(crate) fn tried_on_server(&self, words: &[&str]) -> Ended {
        // ssh joins its arguments and the login shell splits them again.
        let quoted: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
        let mut args = vec!["sandbox", "ssh", "db", "--", "sudo"];
        args.extend(quoted.iter().map(String::as_str));
        self.run(&args)
    }

    /// Runs statements on the server as superuser; gives back what they print.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, statements: &str) -> String {
        let psql = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c"];
        self.on_server(&[&psql[..], &[statements]].concat()).stdout.trim().to_owned()
    }

    /// Ships what was written and waits, at most a minute, until PostgreSQL says that it is in the archive. Gives the moment
    /// after what was written, by the server's clock.
    #[track_caller]
    pub(crate) fn archived(&self) -> String {
        let moment = self.sql("postgres", "select clock_timestamp()");
        // A commit behind the moment: a restore stops at the first one that is later, and an empty segment is not switched.
        self.sql("postgres", "select pg_logical_emit_message(true, 'test', 'later'), pg_current_xact_id()");
        let segment = self.sql("postgres", "select pg_walfile_name(pg_switch_wal())");
        let wait = "for i in $(seq 240); do \
            [ \"$(runuser -u postgres -- psql -XAtqd postgres -c \"select last_archived_wal >= '$0' from pg_stat_archiver\")\" = t ] && exit 0; \
            sleep 0.25; done; exit 1";
        self.on_server(&["sh", "-c", wait, &segment]);
        moment
    }

    /// Confirms the subscription of the worked example, as the person behind its address does: a topic that nobody hears is not
    /// well, and every plan ends with 2 beside it.
    #[track_caller]
    pub(crate) fn somebody_reads_alerts(&self) {
        self.expect(0, &["sandbox", "confirm", "ops@automatonicai.com"]);
    }

    /// Makes the next calls of an operation go wrong.
    pub(crate) fn fault(&self, service: &str, operation: &str, kind: &str, times: u32) {
        let times = times.to_string();
        self.expect(0, &["sandbox", "fault", service, operation, "--kind", kind, "--times", &times]);
    }

    /// What an outside tool needs, as the sandbox tells it.
    pub(crate) fn status(&self) -> serde_json::Value {
        let ended = self.expect(0, &["sandbox", "status", "--format", "json"]);
        serde_json::from_str(&ended.stdout).expect("JSON on stdout")
    }

    /// Calls AWS as somebody else's program would: botocore, and nothing but what `sandbox status` tells. `account`
    /// is another account, which the emulator serves at its own port.
    pub(crate) fn outsider(
        &self,
        account: Option<&str>,
        service: &str,
        call: &str,
        params: &serde_json::Value,
    ) -> Ended {
        let status = self.status();
        let environment = status["environment"].as_object().expect("an object");
        let environment = environment.iter().map(|(name, value)| (name, value.as_str().unwrap_or_default()));
        let venvs = std::fs::read_dir(self.path().join(CACHE)).expect("the cache can be listed");
        // The seal stands beside the environment that the sandbox itself has made.
        let sealed = venvs.filter_map(Result::ok).map(|entry| entry.path()).find_map(|path| {
            let folder = path.with_extension("");
            let is_seal = path.extension().is_some_and(|ending| ending == "seal");
            (is_seal && folder.join("bin/python").exists()).then_some(folder)
        });
        let output = Command::new(sealed.expect("an emulator is installed").join("bin/python"))
            // What it would write beside the modules would break the seal.
            .arg("-B")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/outsider.py"))
            .args([service, call, &params.to_string()])
            .args(account)
            .env_clear()
            .envs(environment)
            .output();
        Ended::from(output.expect("python runs"))
    }

    /// The same, and it must work. Returns the answer.
    #[track_caller]
    pub(crate) fn aws(&self, service: &str, call: &str, params: &serde_json::Value) -> serde_json::Value {
        let ended = self.outsider(None, service, call, params);
        assert_eq!(ended.code, 0, "{service} {call}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).expect("JSON on stdout")
    }

    /// The journals that applies left, oldest first.
    pub(crate) fn journals(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = std::fs::read_dir(self.path().join("plans"))
            .map(|entries| entries.filter_map(|e| e.ok().map(|e| e.path().join("journal.jsonl"))).collect())
            .unwrap_or_default();
        found.retain(|path| path.exists());
        found.sort();
        found
    }
}

/// A word for a shell.
pub(crate) fn shell_word(text: &str) -> String {
    seawall::base::shell::word(text)
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        let ended = self.run(&["sandbox", "down", "--wipe"]);
        if ended.code != 0 {
            eprintln!("the sandbox did not end: {}", ended.stderr);
        }
    }
}
