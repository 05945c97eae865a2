//! A folder with an inventory and a sandbox of its own, driven by the real binary; ended when dropped, also by a panic.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::print_stderr, reason = "a skip, and a lab that does not end, are said aloud")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One lab at a time: two cores, and every lab brings an emulator and servers.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The project's own folder for images and emulators, shared by all rehearsals.
const CACHE: &str = ".seawall/cache";

/// The secrets that the worked example names.
const SECRETS: [(&str, &str); 4] = [
    ("SEAWALL_CIPHER_PASS", "a passphrase for rehearsals only"),
    ("CHRONOS_APP_PASSWORD", "password of app"),
    ("CHRONOS_READONLY_PASSWORD", "password of readonly"),
    ("CHRONOS_MONITORING_PASSWORD", "password of monitoring"),
];

/// The worked example.
fn example() -> String {
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
    /// Held by the first of a test's rehearsals.
    _turn: Option<MutexGuard<'static, ()>>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
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
    /// A folder with the worked example as its inventory, or `None` with the reason on stderr where hosts cannot run.
    pub(crate) fn begin(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("{test}: skipped: real machines need root");
            return None;
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self::set_up(Some(turn)))
    }

    /// The same with the example's database and backups, which the others leave out: they cost each apply some 20 s.
    pub(crate) fn begin_with_database(test: &str) -> Option<Self> {
        let rehearsal = Self::begin(test)?;
        rehearsal.write_inventory(&example());
        Some(rehearsal)
    }

    /// One more folder beside a first one, for tests of two labs at once.
    pub(crate) fn another() -> Self {
        Self::set_up(None)
    }

    fn set_up(turn: Option<MutexGuard<'static, ()>>) -> Self {
        let folder = tempfile::Builder::new().prefix("seawall-rehearsal-").tempdir().expect("a temporary folder");
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cache = project.join(CACHE);
        std::fs::create_dir_all(&cache).expect("the project's cache folder");
        std::fs::create_dir_all(folder.path().join(".seawall")).expect("a folder for the sandbox");
        std::os::unix::fs::symlink(&cache, folder.path().join(CACHE)).expect("a link to the cache");
        std::fs::create_dir_all(folder.path().join("inventories")).expect("a folder for the inventory");
        let rehearsal = Self { folder, _turn: turn };
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

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null()).env("NO_COLOR", "1").env("USER", "tester");
        for (variable, secret) in SECRETS {
            command.env(variable, secret);
        }
        for variable in ["AWS_PROFILE", "AWS_ENDPOINT_URL", "SEAWALL_INVENTORY", "CLICOLOR_FORCE"] {
            command.env_remove(variable);
        }
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

    /// Starts a command and leaves it running.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let child = self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        child.expect("the binary starts")
    }

    /// Runs a command on the server as root.
    #[track_caller]
    pub(crate) fn on_server(&self, words: &[&str]) -> Ended {
        // ssh joins its arguments and the login shell splits them again.
        let quoted: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
        let mut args = vec!["sandbox", "ssh", "db", "--", "sudo"];
        args.extend(quoted.iter().map(String::as_str));
        self.expect(0, &args)
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
        let venv = venvs.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.join("complete").exists());
        let output = Command::new(venv.expect("an emulator is installed").join("bin/python"))
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

/// A word in quotes for a shell.
pub(crate) fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        let ended = self.run(&["sandbox", "down", "--wipe"]);
        if ended.code != 0 {
            eprintln!("the sandbox did not end: {}", ended.stderr);
        }
    }
}
