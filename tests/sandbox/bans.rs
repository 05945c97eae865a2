//! Bans on a real Debian server: who fails to log in is shut out, and the operator never is.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::json;

use crate::support::rehearsal::{Ended, Rehearsal, Tampering, tampering};

/// How long a ban may take: the journal is polled, and a busy machine is slow.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
pub(super) const ATTACKER: &str = "198.51.100.66";
const BYSTANDER: &str = "198.51.100.67";
/// What is done to fail2ban, its files and what it has loaded; `tamper.rs` does it.
pub(super) const TAMPERINGS: [Tampering; 13] = [
    of_bans("rm /etc/fail2ban/jail.d/zzzz-seawall.local"),
    of_bans("sed -i 's/^maxretry = .*$/maxretry = 300/' /etc/fail2ban/jail.d/zzzz-seawall.local"),
    of_bans("systemctl mask --now fail2ban"),
    of_bans("fail2ban-client stop sshd"),
    of_bans("fail2ban-client set sshd maxretry 5000"),
    of_bans("fail2ban-client set sshd addignoreip 198.51.0.0/16"),
    of_bans("fail2ban-client set sshd action nftables actionban true"),
    of_bans("fail2ban-client set sshd delfailregex 19"),
    of_bans("rm /etc/fail2ban/filter.d/sshd.conf"),
    of_bans("sed -i 's/Connection (/Konnection (/' /etc/fail2ban/filter.d/sshd.conf"),
    of_bans("rm /etc/fail2ban/action.d/nftables.conf"),
    of_bans("rm /var/log/fail2ban.log"),
    of_bans("chmod a-x /usr/local/lib/seawall/never-ban"),
];

const fn of_bans(command: &'static str) -> Tampering {
    tampering("host.fail2ban/db", command)
}

/// Where the server sees us coming from: the newest login with a key.
const CLIENT: &str =
    "journalctl -q -u ssh -g '^Accepted publickey' -n 1 -o cat | sed 's/.* from \\([^ ]*\\) port .*/\\1/'";

#[test]
fn an_attacker_is_banned_and_the_operator_never_is() {
    let Some(lab) = Rehearsal::base("an_attacker_is_banned_and_the_operator_never_is") else { return };
    lab.edit_inventory("fail2ban: {}", "fail2ban: { retries: 3 }");
    // The lab took the operator's address from the inventory that it started with. From here on nobody is named: only
    // the login with a key tells the operator from the others.
    lab.edit_inventory("from: [203.0.113.0/24], why: operators", "from: anywhere, why: operators");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
    let caller = Caller::new(&lab);

    assert!(caller.reaches(Some(ATTACKER)) && caller.reaches(Some(BYSTANDER)), "nobody is banned yet");
    let started = Instant::now();
    while caller.reaches(Some(ATTACKER)) {
        assert!(started.elapsed() < PATIENCE, "not banned within {PATIENCE:?}");
        caller.fails_to_log_in(Some(ATTACKER));
    }
    assert!(caller.reaches(Some(BYSTANDER)), "a ban is for one address");

    // More than the attacker was allowed, and seen by fail2ban: its decision is in its log.
    for _ in 0..6 {
        caller.fails_to_log_in(None);
    }
    let ours = lab.on_server(&["sh", "-c", CLIENT]).stdout.trim().to_owned();
    let ignored = format!("[sshd] Ignore {ours} by command");
    let ignored = || lab.on_server(&["cat", "/var/log/fail2ban.log"]).stdout.contains(&ignored);
    let started = Instant::now();
    while !ignored() {
        assert!(started.elapsed() < PATIENCE, "the operator's failures were not looked at within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(caller.reaches(None));
    let status = lab.on_server(&["fail2ban-client", "status", "sshd"]).stdout;
    assert!(status.contains(ATTACKER) && !status.contains(&ours), "{status}");

    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("jail `sshd` bans 1 address"), "a ban is no difference: {}", plan.stdout);
    lab.expect(0, &["--sandbox", "drift"]);

    a_named_network_is_never_banned(&lab);
    an_overruling_file_is_named_and_kept(&lab);
    the_filter_for_postgresql_knows_its_lines(&lab);

    lab.edit_inventory("    fail2ban: { retries: 3 }", "");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let left = lab.on_server(&["sh", "-c", "ls /etc/fail2ban/*.d/*seawall* /usr/local/lib/seawall/*; true"]);
    assert_eq!(left.stdout, "");
    let state = lab.on_server(&["sh", "-c", "systemctl is-active fail2ban; true"]);
    assert_eq!(state.stdout.trim(), "inactive");
    // sshd itself holds back an address whose logins it still waits for.
    let started = Instant::now();
    while !caller.reaches(Some(ATTACKER)) {
        assert!(started.elapsed() < PATIENCE, "a ban outlives its service");
    }
}

/// Somebody who connects to the server from an address of the lab, with a key that opens nothing.
pub(super) struct Caller<'a> {
    lab: &'a Rehearsal,
    server: String,
    key: PathBuf,
}

impl<'a> Caller<'a> {
    pub(super) fn new(lab: &'a Rehearsal) -> Self {
        let server = lab.status()["hosts"][0]["address"].as_str().expect("a server with an address").to_owned();
        let key = lab.path().join("nobodys-key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.expect("ssh-keygen runs").success());
        Self { lab, server, key }
    }

    /// Runs a program in the lab, from an address or from the operator's.
    fn run(&self, from: Option<&str>, program: &[&str]) -> Ended {
        let mut args = vec!["sandbox", "exec"];
        args.extend(from.iter().flat_map(|address| ["--from", *address]));
        args.push("--");
        args.extend(program);
        self.lab.run(&args)
    }

    pub(super) fn reaches(&self, from: Option<&str>) -> bool {
        self.run(from, &["ssh-keyscan", "-T", "3", "-t", "ed25519", &self.server]).stdout.contains("ssh-ed25519")
    }

    pub(super) fn fails_to_log_in(&self, from: Option<&str>) {
        let key = self.key.to_str().expect("a path of this test");
        // A ban that comes in the middle of a login leaves it waiting for ever.
        let mut program = vec!["timeout", "10", "ssh", "-F", "/dev/null", "-i", key];
        for option in [
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ConnectTimeout=3",
        ] {
            program.extend(["-o", option]);
        }
        let login = format!("admin@{}", self.server);
        program.extend([login.as_str(), "true"]);
        assert_ne!(self.run(from, &program).code, 0, "a key that nobody declared opens the door");
    }
}

fn a_named_network_is_never_banned(lab: &Rehearsal) {
    let before = lab.inventory();
    lab.edit_inventory("from: anywhere, why: operators", "from: [203.0.113.0/24, 192.0.2.0/24], why: operators");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let never = lab.on_server(&["fail2ban-client", "get", "sshd", "ignoreip"]).stdout;
    assert!(never.contains("203.0.113.0/24") && never.contains("192.0.2.0/24"), "{never}");
    let tried = lab.on_server(&["fail2ban-client", "status", "sshd"]).stdout;
    assert!(tried.contains(ATTACKER), "a restart forgets no ban: {tried}");
    lab.write_inventory(&before);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
}

fn an_overruling_file_is_named_and_kept(lab: &Rehearsal) {
    let off = |name: &str| format!("printf '[sshd]\\nenabled = false\\n' >/etc/fail2ban/jail.d/{name}");
    lab.on_server(&["sh", "-c", &off("zzz.local")]);
    lab.on_server(&["systemctl", "restart", "fail2ban"]);
    // Read before ours, so it has no effect; the server needs a moment to start.
    let started = Instant::now();
    while lab.run(&["--sandbox", "drift"]).code != 0 {
        assert!(started.elapsed() < PATIENCE, "a file that is read before ours had an effect");
    }
    lab.on_server(&["sh", "-c", &off("zzzzz.local")]);
    let plan = lab.expect(3, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("fail2ban-overruled") && plan.stdout.contains("zzzzz.local"), "{}", plan.stdout);
    lab.on_server(&["rm", "/etc/fail2ban/jail.d/zzz.local", "/etc/fail2ban/jail.d/zzzzz.local"]);
    lab.expect(0, &["--sandbox", "plan"]);
}

/// The real `fail2ban-regex` on lines as PostgreSQL 15 writes them, and on names that were made up to ban others.
fn the_filter_for_postgresql_knows_its_lines(lab: &Rehearsal) {
    let filter = seawall::render::render("fail2ban-postgresql.conf", &json!({ "address": "host.fail2ban/db" }));
    let filter = base64::engine::general_purpose::STANDARD.encode(filter.expect("the template renders"));
    let write = format!("echo {filter} | base64 -d >/etc/fail2ban/filter.d/tried.conf");
    lab.on_server(&["sh", "-c", &write]);
    let failed = "FATAL:  password authentication failed for user";
    let lines = [
        (format!("app=[unknown],client=192.0.2.1 {failed} \"app\""), "192.0.2.1"),
        ("app=[unknown],client=2001:db8::7 FATAL:  no pg_hba.conf entry for host \"2001:db8::7\", user \"app\", database \"app\", no encryption".to_owned(), "2001:db8::7"),
        ("app=[unknown],client=192.0.2.1 FATAL:  pg_hba.conf rejects connection for host \"192.0.2.1\"".to_owned(), "192.0.2.1"),
        // A user of the name `x,client=192.0.2.9 FATAL: …`: the message repeats it.
        (format!("user=x,client=192.0.2.9 {failed},db=app,app=[unknown],client=192.0.2.1 {failed} \"x,client=192.0.2.9 {failed}\""), ""),
        ("app=psql,client=192.0.2.1 LOG:  connection authorized: user=app database=app".to_owned(), ""),
        (format!("app=psql,client=192.0.2.1 ERROR:  relation \"{failed}\" does not exist"), ""),
        (format!("app=[unknown],client=[local] {failed} \"app\""), ""),
    ];
    for (line, address) in lines {
        let line = format!("2026-11-21 11:50:00.123 UTC [811] {line}");
        let said = lab.on_server(&["sh", "-c", "fail2ban-regex -o ip \"$1\" tried; true", "sh", &line]);
        assert_eq!(said.stdout.trim(), address, "{line}");
    }
    lab.on_server(&["rm", "/etc/fail2ban/filter.d/tried.conf"]);
}
