//! A real host with the PostgreSQL of its own Debian and nothing else: what kinds ask is asked there, and what they do is done
//! there, by the same programs as for an operator. It ends when dropped, also by a panic.

#![allow(clippy::print_stderr, reason = "which versions were tried is said aloud")]

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use seawall::base::address::Address;
use seawall::base::digest::Digest;
use seawall::base::release::Release;
use seawall::plan::host::Endpoint;
use seawall::plan::probe::{Answers, CommandState, HostProbe, Probe};
use seawall::plan::step::{Content, HostStep, Steps};
use seawall::reach::ssh::session::Ssh;
use seawall::reach::{Transaction, TransactionStep};
use seawall::sandbox::machines::{Machines, Options, PortRule, Spec, ensure_image};
use tokio::runtime::Runtime;

use crate::support::turn::{Turn, cache, hosts_can_run};

/// The verifier of a password, as it would come from the operator's machine; any will do here.
pub(crate) const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const NAME: &str = "db";
const PACKAGES_PORT: u16 = 3142;
/// Seconds for package lists and packages, on a machine that does other things beside it.
const INSTALL_S: u32 = 600;

pub(crate) struct PostgresHost {
    /// Major version.
    pub version: u16,
    ssh: Ssh,
    endpoint: Endpoint,
    transactions: AtomicU32,
    runtime: Runtime,
    machines: Machines,
    _folder: tempfile::TempDir,
    _turn: Turn,
}

impl PostgresHost {
    /// A new host with `postgresql-VERSION`, or `None` where there shall be none.
    pub(crate) fn begin(test: &str, release: Release, version: u16) -> Option<Self> {
        if !hosts_can_run(test) {
            return None;
        }
        let turn = Turn::beside_others();
        let runtime = Runtime::new().expect("a runtime");
        let folder = tempfile::Builder::new().prefix("seawall-postgres-").tempdir().expect("a folder");
        let key = folder.path().join("key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.expect("ssh-keygen runs").success());
        let public = std::fs::read_to_string(key.with_extension("pub")).expect("a public key").trim().to_owned();
        let (machines, endpoint) = runtime.block_on(host(folder.path(), release, public));
        let ssh = runtime.block_on(async { Ssh::new(Some(key), None) });
        let host = Self {
            version,
            ssh,
            endpoint,
            transactions: AtomicU32::new(0),
            runtime,
            machines,
            _folder: folder,
            _turn: turn,
        };
        let package = format!("postgresql-{version}");
        host.act(vec![
            program(&["apt-get", "update"]),
            program(&["apt-get", "install", "-y", "--no-install-recommends", "--", &package]),
        ]);
        eprintln!("{test}: {}", host.superuser("postgres", "select version()"));
        Some(host)
    }

    /// What the host answers to the questions of a kind.
    pub(crate) fn answers(&self, probes: Vec<Probe>) -> Answers {
        let mut questions = Vec::new();
        let mut secrets = Vec::new();
        for probe in probes {
            match probe {
                Probe::Host(question) => questions.push(question),
                Probe::Secret(secret) => secrets.push(secret),
                other @ (Probe::Cloud(_) | Probe::OnServer { .. }) => panic!("{other:?} is not a question to a host"),
            }
        }
        let mut answers = self.runtime.block_on(self.ssh.ask(&self.endpoint, &questions));
        assert_eq!(answers.unseen, None);
        let fingerprint = || Ok(Digest::of_bytes(VERIFIER.as_bytes()).to_string());
        answers.secrets.extend(secrets.into_iter().map(|secret| (secret, fingerprint())));
        answers
    }

    /// Does what a kind wants done, every secret being [`VERIFIER`].
    pub(crate) fn steps(&self, steps: &Steps) {
        self.act(steps.host().iter().cloned().map(with_verifier).collect());
    }

    fn act(&self, steps: Vec<HostStep>) {
        let address = Address::new("host.test", NAME);
        let step = |(index, step)| TransactionStep { address: address.clone(), index, step };
        let work = Transaction {
            id: format!("test-{}", self.transactions.fetch_add(1, Ordering::Relaxed)),
            guard_s: None,
            steps: steps.into_iter().enumerate().map(step).collect(),
        };
        let done = self.runtime.block_on(self.ssh.act(&self.endpoint, &work, &|_| ()));
        done.unwrap_or_else(|error| panic!("PostgreSQL {}: {error:?}: {work:?}", self.version));
    }

    /// How statements of the superuser end.
    pub(crate) fn tried(&self, database: &str, sql: &str) -> CommandState {
        let words = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c"];
        let argv: Vec<String> = words.iter().chain([&sql]).map(|&word| word.to_owned()).collect();
        let asked = Probe::Host(HostProbe::Command { argv: argv.clone() });
        self.answers(vec![asked]).commands.remove(&argv).expect("every question has an answer")
    }

    /// What statements of the superuser print; they must work.
    #[track_caller]
    pub(crate) fn superuser(&self, database: &str, sql: &str) -> String {
        let ended = self.tried(database, sql);
        assert!(ended.ok(), "PostgreSQL {}: {sql}: {}", self.version, ended.stderr);
        ended.stdout.trim().to_owned()
    }
}

impl Drop for PostgresHost {
    fn drop(&mut self) {
        if let Err(error) = self.runtime.block_on(self.machines.clone().shutdown(false)) {
            eprintln!("the lab of PostgreSQL {} did not end: {error}", self.version);
        }
    }
}

async fn host(folder: &Path, release: Release, key: String) -> (Machines, Endpoint) {
    let images = cache().join("image");
    ensure_image(&images, release, |_| {}).await.expect("an image");
    let options = Options {
        exe: Some(env!("CARGO_BIN_EXE_seawall").into()),
        packages_port: Some(PACKAGES_PORT),
        packages_cache: Some(cache().join("packages")),
        ..Options::default()
    };
    let machines = Machines::new(&folder.join("lab"), &images, options).await.expect("a lab");
    let user = "admin".to_owned();
    let spec = Spec {
        name: NAME.to_owned(),
        hostname: NAME.to_owned(),
        release,
        user: user.clone(),
        authorized_keys: vec![key],
        user_data: None,
        login_ca: None,
        gateway_names: Vec::new(),
        trusted_pem: None,
        packages_port: Some(PACKAGES_PORT),
    };
    let at = machines.create(spec, &[PortRule::tcp(22)]).await.expect("a host");
    let address = at.v4.to_string();
    let endpoint = Endpoint { server: NAME.to_owned(), address, port: 22, user, host_keys: at.host_keys };
    (machines, endpoint)
}

fn program(argv: &[&str]) -> HostStep {
    HostStep::Run {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: [("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned())].into(),
        stdin: None,
        timeout_s: INSTALL_S,
        revert: None,
        what: argv.join(" "),
    }
}

fn with_verifier(step: HostStep) -> HostStep {
    let HostStep::Run { argv, env, stdin: Some(Content::WithSecrets { template, secrets }), timeout_s, revert, what } =
        step
    else {
        return step;
    };
    let text = secrets.keys().fold(template, |text, name| text.replace(&format!("{{{{{name}}}}}"), VERIFIER));
    HostStep::Run { argv, env, stdin: Some(Content::Text(text)), timeout_s, revert, what }
}
