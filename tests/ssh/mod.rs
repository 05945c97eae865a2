//! Questions and transactions against a real host with systemd and sshd, one of the sandbox for each test.
//!

mod acting;
mod asking;
mod losing;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use seawall::base::address::Address;
use seawall::base::release::Release;
use seawall::plan::host::Endpoint;
use seawall::plan::probe::{Answers, HostProbe};
use seawall::plan::step::{Content, HostStep};
use seawall::reach::ssh::session::Ssh;
use seawall::reach::{Transaction, TransactionStep};
use seawall::sandbox::machines::{HostState, Machines, Options, PortRule, Spec, ensure_image};

use crate::support::turn::{Turn, cache, hosts_can_run};

const NAME: &str = "db";
/// A port that the firewall lets through and nobody listens on.
const CLOSED: u16 = 1;
const FOLDER: &str = "/srv/seawall-test";

/// A host that nobody needs. It ends with its owner.
struct Host {
    endpoint: Endpoint,
    machines: Machines,
    folder: tempfile::TempDir,
    _turn: Turn,
}

impl Host {
    /// A new host, or `None` where there shall be none.
    async fn begin(test: &str) -> Option<Self> {
        if !hosts_can_run(test) {
            return None;
        }
        let turn = Turn::beside_others();
        let exe = Path::new(env!("CARGO_BIN_EXE_seawall"));
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.expect("ssh-keygen runs").success());
        let public = std::fs::read_to_string(key.with_extension("pub")).expect("a public key").trim().to_owned();
        let images = cache().join("image");
        ensure_image(&images, Release::Debian12, say).await.expect("an image");
        let options = Options { exe: Some(exe.to_owned()), ..Options::default() };
        let machines = Machines::new(&folder.path().join("lab"), &images, options).await.expect("a lab");
        let spec = Spec {
            name: NAME.to_owned(),
            hostname: NAME.to_owned(),
            release: Release::Debian12,
            user: "admin".to_owned(),
            authorized_keys: vec![public],
            user_data: None,
            login_ca: None,
            gateway_names: Vec::new(),
            trusted_pem: None,
            packages_port: None,
        };
        let at = machines.create(spec, &[PortRule::tcp(22), PortRule::tcp(CLOSED)]).await.expect("a host");
        let endpoint = Endpoint {
            server: NAME.to_owned(),
            address: at.v4.to_string(),
            port: 22,
            user: "admin".to_owned(),
            host_keys: at.host_keys,
        };
        Some(Self { endpoint, machines, folder, _turn: turn })
    }

    fn ssh(&self) -> Ssh {
        Ssh::new(Some(self.folder.path().join("key")), None)
    }

    /// Takes the power away and gives it back.
    async fn cut_power(&self) {
        let pid = self.machines.status(NAME).await.expect("a status").pid.expect("a process");
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().expect("kill runs").success());
        let since = Instant::now();
        while self.machines.status(NAME).await.expect("a status").state != HostState::Stopped {
            assert!(since.elapsed() < Duration::from_secs(15), "the host goes on without power");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.machines.start(NAME).await.expect("a start");
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn file(path: &str) -> HostProbe {
    HostProbe::File { path: path.to_owned() }
}

fn command(argv: &[&str]) -> HostProbe {
    HostProbe::Command { argv: argv.iter().map(|&word| word.to_owned()).collect() }
}

fn write(name: &str, text: &str) -> HostStep {
    HostStep::WriteFile {
        path: format!("{FOLDER}/{name}"),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: "0640".to_owned(),
        content: Content::Text(text.to_owned()),
        validate: None,
    }
}

fn run(argv: &[&str]) -> HostStep {
    HostStep::Run {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: [].into(),
        stdin: None,
        timeout_s: 30,
        revert: None,
        what: format!("run {}", argv[0]),
    }
}

fn folder() -> HostStep {
    HostStep::MakeDirectory {
        path: FOLDER.to_owned(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: "0755".to_owned(),
    }
}

/// A transaction with an id that was not used before.
fn transaction(steps: Vec<HostStep>) -> Transaction {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let address = Address::new("host.test", "db");
    Transaction {
        id: format!("test-{}", since.as_nanos()),
        guard_s: None,
        steps: steps
            .into_iter()
            .enumerate()
            .map(|(index, step)| TransactionStep { address: address.clone(), index, step })
            .collect(),
    }
}

fn text(answers: &Answers, path: &str) -> Option<String> {
    answers.file(path).present().and_then(|state| state.text.clone())
}

fn said(what: &str, start: Instant) {
    say(&format!("measured: {what}: {} ms", start.elapsed().as_millis()));
}
