//! Changes that would lock their operator out, each applied for real as a plan whose steps were made bad: the host comes
//! back by itself, the exit code is 5, and the next plan is right.
//!
//! No command applies a plan that nobody proposes, so a process of these tests' own does, with the program's own parts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Parser as _;
use seawall::cli::apply::{Approved, act};
use seawall::cli::args::{Cli, DataArgs, OnlyArgs};
use seawall::cli::exit::Stop;
use seawall::cli::session::Session;
use seawall::cli::work::{Work, holder, store_failed};
use seawall::engine::file::PlanFile;
use seawall::engine::lock;
use seawall::plan::change::Change;
use seawall::plan::check::check;
use seawall::plan::step::{CloudStep, Content, HostStep, Steps};
use seawall::reach::look::Look;

use crate::support::rehearsal::{Ended, Rehearsal};

const SSHD: &str = "host.sshd/db";
const UFW: &str = "host.ufw/db";
const PORTS: &str = "lightsail.ports/db";
const BANS: &str = "host.fail2ban/db";
/// The address that the sandbox gives its operator: of the inventory's network for port 22.
const OPERATOR: &str = "203.0.113.10";
const USERS: &str = "host.users/db";
/// The host's limit in these tests, in the inventory's words: short, and long enough for a good change on a busy machine.
const LIMIT: &str = "sshd: { revert_after: 45s }";

/// A host that is up and has nothing of ours that may lock out: what follows is its first run. In a process that [`as_it_is`]
/// started there is a plan to apply instead, and nothing follows.
fn fresh(test: &str) -> Option<Rehearsal> {
    if let Some(plan) = std::env::var_os(PLAN) {
        apply_as_it_is(Path::new(&plan));
    }
    let lab = Rehearsal::open(test)?;
    lab.edit_inventory("sshd: {}", LIMIT);
    Some(lab)
}

/// A saved plan of everything that is left, with one change made bad.
fn bad_plan(lab: &Rehearsal, name: &str, address: &str, spoil: impl Fn(&mut Change)) -> PathBuf {
    let good = format!("plans/{name}-good.json");
    lab.expect(2, &["--sandbox", "plan", "--out", &good]);
    let mut file = PlanFile::read(&lab.path().join(&good)).expect("a saved plan");
    let changes = file.plan.stages.iter_mut().flat_map(|stage| &mut stage.changes);
    let mut found: Vec<&mut Change> = changes.filter(|change| change.address.to_string() == address).collect();
    assert_eq!(found.len(), 1, "{address} is in the plan");
    spoil(found[0]);
    let bad = lab.path().join(format!("plans/{name}-bad.json"));
    PlanFile::new(file.header, file.plan).save(&bad).expect("a sealed plan");
    bad
}

/// Names the plan that [`apply_as_it_is`] applies, in the process of its own that does it.
const PLAN: &str = "SEAWALL_TESTS_PLAN_AS_IT_IS";

/// Applies the plan of a file as it stands there, in a rehearsal's folder, and ends the process as `seawall apply` would.
fn apply_as_it_is(plan: &Path) -> ! {
    let file = PlanFile::read(plan).expect("a saved plan");
    let cli = Cli::try_parse_from(["seawall", "--sandbox", "status"]).expect("a command");
    let mut session = Session::new(cli.global);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let applied = runtime.block_on(async {
        let (only, data) = (OnlyArgs::default(), DataArgs::default());
        let (work, world) = Work::to_act(&mut session, &only, &data, false).await?;
        let stores = work.stores(&world).await.map_err(|failure| store_failed(&failure))?;
        let lock = lock::take(&stores.all(), &holder("apply")).await.map_err(Stop::failed)?;
        let approved = Approved {
            plan: check(file.plan).expect("a plan that keeps the promises of plans"),
            already: BTreeSet::new(),
            unchanged: Vec::new(),
            snapshot: work.look(&Look::of(&world)).await,
            nonce: file.header.nonce,
        };
        let applied = act(&mut session, &work, &world, stores.widest(), &approved).await;
        lock::release(&stores.all(), lock).await.map_err(|failure| store_failed(&failure))?;
        applied
    });
    if let Some(ssh) = session.ssh.take() {
        runtime.block_on(ssh.close());
    }
    let exit = applied.unwrap_or_else(|stop| {
        session.show_diagnostics(&stop.diagnostics);
        stop.exit
    });
    drop(session);
    std::process::exit(exit as i32);
}

/// The command that does it.
fn as_it_is(lab: &Rehearsal, plan: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    // Each test of this file would do: it looks for a plan first.
    command.args(["--exact", "sandbox::lockout::what_would_lock_out_is_put_back", "--nocapture"]);
    let environment = lab.command(&[]);
    let environment = environment.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    command.current_dir(lab.path()).env_clear().envs(environment).env(PLAN, plan);
    command.stdin(Stdio::null());
    command
}

/// Applies a plan as it is, and it must be put back.
#[track_caller]
fn put_back(lab: &Rehearsal, plan: &Path) -> Ended {
    let ended = Ended::from(as_it_is(lab, plan).output().expect("this program runs"));
    assert_eq!(ended.code, 5, "--- stdout\n{}\n--- stderr\n{}", ended.stdout, ended.stderr);
    ended
}

/// Applies a bad plan and looks whether the host came back.
#[track_caller]
fn comes_back(lab: &Rehearsal, bad: &Path, address: &str) -> String {
    let ended = put_back(lab, bad);
    assert!(ended.stdout.contains("Rolled back: "), "{}", ended.stdout);
    assert!(ended.stdout.contains(address), "{}", ended.stdout);
    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains(address), "what was put back is still to be done: {}", plan.stdout);
    let left = lab.on_server(&["find", "/etc/systemd/system", "-name", "seawall-deadman-*"]);
    assert_eq!(left.stdout, "", "no timer is left");
    ended.stdout
}

/// The good plan works after the bad ones.
#[track_caller]
fn then_works(lab: &Rehearsal) {
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
    let drop_in = lab.on_server(&["cat", "/etc/ssh/sshd_config.d/00-seawall.conf"]);
    assert!(drop_in.stdout.contains("AllowUsers admin"), "{}", drop_in.stdout);
}

/// Replaces text in the file that a change writes to `path`; takes its validation away where `unchecked`.
fn rewrite(change: &mut Change, path: &str, unchecked: bool, with: impl Fn(&str) -> String) {
    let mut done = false;
    let Steps::Host(steps) = &mut change.steps else { panic!("{} is on no host", change.address) };
    for step in steps {
        if let HostStep::WriteFile { path: at, content: Content::Text(text), validate, .. } = step
            && at == path
        {
            *text = with(text);
            if unchecked {
                *validate = None;
            }
            done = true;
        }
    }
    assert!(done, "{} writes no {path}", change.address);
}

fn sshd(change: &mut Change, with: impl Fn(&str) -> String) {
    rewrite(change, "/etc/ssh/sshd_config.d/00-seawall.conf", false, with);
}

/// A step after those that are there, before the record.
fn then_run(change: &mut Change, argv: &[&str]) {
    let step = HostStep::Run {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: std::collections::BTreeMap::new(),
        stdin: None,
        timeout_s: 20,
        revert: None,
        what: argv.join(" "),
    };
    let Steps::Host(steps) = &mut change.steps else { panic!("{} is on no host", change.address) };
    steps.insert(steps.len() - 1, step);
}

#[test]
fn what_would_lock_out_is_put_back() {
    let Some(lab) = fresh("what_would_lock_out_is_put_back") else { return };

    // The first run of all: nothing of ours is there to go back to.
    let bad = bad_plan(&lab, "port", SSHD, |change| sshd(change, |text| text.replace("Port 22\n", "Port 2222\n")));
    let said = comes_back(&lab, &bad, SSHD);
    assert!(said.contains("/etc/ssh/sshd_config.d/00-seawall.conf is as it was"), "{said}");
    assert!(said.contains("ran `systemctl reload-or-restart ssh.service`"), "{said}");
    lab.on_server(&["test", "!", "-e", "/etc/ssh/sshd_config.d/00-seawall.conf"]);

    let bad = bad_plan(&lab, "users", SSHD, |change| {
        sshd(change, |text| text.replace("AllowUsers admin", "AllowUsers somebody"));
    });
    comes_back(&lab, &bad, SSHD);

    let bad = bad_plan(&lab, "root", SSHD, |change| {
        sshd(change, |text| {
            text.replace("PasswordAuthentication no", "PasswordAuthentication yes")
                .replace("AuthenticationMethods publickey", "")
        });
    });
    let said = comes_back(&lab, &bad, SSHD);
    assert!(said.contains("not by key alone"), "what should be refused is checked, too: {said}");

    // Whoever is connected stays so: only a new connection shows that nobody gets in any more.
    let bad = bad_plan(&lab, "firewall", UFW, |change| {
        rewrite(change, "/etc/ufw/user.rules", false, |text| {
            let kept: Vec<&str> = text.lines().filter(|line| !line.contains(" 22 ")).collect();
            kept.join("\n") + "\n"
        });
    });
    let said = comes_back(&lab, &bad, UFW);
    assert!(said.contains("/etc/ufw/user.rules is as it was"), "{said}");
    assert!(said.contains("ran `/usr/lib/ufw/ufw-init force-stop`"), "the firewall was off before: {said}");

    let bad = bad_plan(&lab, "algorithms", SSHD, |change| {
        sshd(change, |text| text.replace("KexAlgorithms -", "KexAlgorithms rot13,"));
    });
    let said = comes_back(&lab, &bad, SSHD);
    assert!(said.contains("Bad SSH2 KexAlgorithms") || said.contains("rot13"), "{said}");

    then_works(&lab);
}

#[test]
fn ports_of_the_cloud_that_shut_out_are_put_back() {
    let Some(lab) = Rehearsal::base("ports_of_the_cloud_that_shut_out_are_put_back") else { return };
    lab.edit_inventory("sshd: {}", LIMIT);
    then_works(&lab);
    lab.edit_inventory("      - { port: 443, from: anywhere, why: certificate validation }\n", "");
    let bad = bad_plan(&lab, "ports", PORTS, |change| {
        let Steps::Cloud(steps) = &mut change.steps else { panic!("{} is not in the cloud", change.address) };
        for step in steps {
            if let CloudStep::PutPorts { rules, .. } = step {
                rules.retain(|rule| rule.from != 22);
            }
        }
    });
    let ended = put_back(&lab, &bad);
    assert!(ended.stdout.contains("open ports of chronos-prod-db, as it was"), "{}", ended.stdout);
    assert!(ended.stdout.contains("not started  host.ufw/db"), "nothing else is risked then: {}", ended.stdout);
    then_works(&lab);
}

#[test]
fn sudo_that_is_broken_comes_back_by_the_hosts_own_timer() {
    let Some(lab) = fresh("sudo_that_is_broken_comes_back_by_the_hosts_own_timer") else { return };
    let bad = bad_plan(&lab, "sudo", USERS, |change| {
        rewrite(change, "/etc/sudoers.d/90-seawall-admin", true, |_| "Defaults requiretty\n".to_owned());
    });
    let said = comes_back(&lab, &bad, USERS);
    assert!(said.contains("may not become root"), "{said}");
    assert!(said.contains("/etc/sudoers.d/90-seawall-admin is as it was"), "{said}");
    then_works(&lab);
}

#[test]
fn a_ban_of_the_operator_is_lifted() {
    let Some(lab) = fresh("a_ban_of_the_operator_is_lifted") else { return };
    // A ban ends connections that are open, too: only the host itself can undo it.
    let bad =
        bad_plan(&lab, "ban", BANS, |change| then_run(change, &["fail2ban-client", "set", "sshd", "banip", OPERATOR]));
    let said = comes_back(&lab, &bad, BANS);
    assert!(said.contains("ran `fail2ban-client unban --all`"), "{said}");
    then_works(&lab);
}

#[test]
fn a_reboot_in_the_middle_does_not_lose_the_timer() {
    let Some(lab) = fresh("a_reboot_in_the_middle_does_not_lose_the_timer") else { return };
    let bad = bad_plan(&lab, "reboot", SSHD, |change| {
        sshd(change, |text| text.replace("AllowUsers admin", "AllowUsers somebody"));
        then_run(change, &["systemctl", "reboot"]);
        then_run(change, &["sleep", "15"]);
    });
    comes_back(&lab, &bad, SSHD);
    then_works(&lab);
}

#[test]
fn a_network_that_is_cut_right_after_the_change_is_waited_for() {
    let Some(lab) = fresh("a_network_that_is_cut_right_after_the_change_is_waited_for") else { return };
    // Longer than the host's limit: nobody can tell the host anything. Answers to operators go nowhere.
    let cut = "ip route add blackhole 203.0.113.0/24; sleep 60; ip route del blackhole 203.0.113.0/24";
    let bad = bad_plan(&lab, "cut", SSHD, |change| {
        then_run(change, &["systemd-run", "--quiet", "--collect", "sh", "-c", cut]);
    });
    comes_back(&lab, &bad, SSHD);
    then_works(&lab);
}

#[test]
fn a_seawall_that_is_killed_after_the_change_leaves_a_host_that_comes_back() {
    use std::time::{Duration, Instant};

    let test = "a_seawall_that_is_killed_after_the_change_leaves_a_host_that_comes_back";
    let Some(lab) = fresh(test) else { return };
    let bad = bad_plan(&lab, "killed", SSHD, |change| {
        then_run(change, &["sleep", "5"]);
    });
    let mut child = as_it_is(&lab, &bad).stdout(Stdio::null()).spawn().expect("this program runs");
    let started = Instant::now();
    let armed = |journal: &PathBuf| std::fs::read_to_string(journal).is_ok_and(|text| text.contains("\"armed\""));
    while !lab.journals().iter().any(armed) {
        assert!(started.elapsed() < Duration::from_mins(2), "the host was not armed");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    // Nobody is left to prove anything.
    let gone = || {
        let looked = lab.run(&[
            "sandbox",
            "ssh",
            "db",
            "--",
            "sudo",
            "test",
            "!",
            "-e",
            "/etc/ssh/sshd_config.d/00-seawall.conf",
        ]);
        let lock = lab.run(&["sandbox", "ssh", "db", "--", "sudo", "test", "!", "-e", "/var/lib/seawall/lock"]);
        looked.code == 0 && lock.code == 0 && started.elapsed() > Duration::from_secs(10)
    };
    while !gone() {
        assert!(started.elapsed() < Duration::from_mins(2), "the host did not put it back");
        std::thread::sleep(Duration::from_millis(500));
    }
    then_works(&lab);
}

#[test]
fn sshd_moves_to_another_port_and_back() {
    let test = "sshd_moves_to_another_port_and_back";
    let Some(lab) = Rehearsal::base(test) else { return };
    lab.edit_inventory("sshd: {}", LIMIT);
    then_works(&lab);
    let listens =
        |port: &str| lab.on_server(&["sh", "-c", &format!("ss -Hltn sport = :{port} | wc -l")]).stdout.trim() != "0";

    lab.edit_inventory(LIMIT, "sshd: { revert_after: 45s, port: 2222 }");
    let refused = lab.expect(3, &["--sandbox", "plan"]);
    let said = refused.stdout + &refused.stderr;
    assert!(said.contains("ssh-unreachable") && said.contains("rescue-needs-port-22"), "{said}");
    lab.edit_inventory("{ port: 22, from", "{ port: 2222, from");
    lab.edit_inventory("rescue: lightsail-connect", "rescue: none");

    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("after host.sshd/db"), "what closes comes later: {}", plan.stdout);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let again = lab.expect(0, &["--sandbox", "plan"]);
    assert!(again.stdout.contains("No changes"), "{}", again.stdout);
    assert!(listens("2222") && !listens("22"), "the old listener is gone");

    lab.edit_inventory("sshd: { revert_after: 45s, port: 2222 }", LIMIT);
    lab.edit_inventory("{ port: 2222, from", "{ port: 22, from");
    lab.edit_inventory("rescue: none", "rescue: lightsail-connect");
    then_works(&lab);
    assert!(listens("22") && !listens("2222"), "the old listener is gone");
}

#[test]
fn a_new_server_comes_up_on_port_22_and_moves_at_once() {
    let Some(lab) = Rehearsal::begin("a_new_server_comes_up_on_port_22_and_moves_at_once") else { return };
    lab.edit_inventory("sshd: {}", "sshd: { port: 2222 }");
    lab.edit_inventory("{ port: 22, from", "{ port: 2222, from");
    lab.edit_inventory("rescue: lightsail-connect", "rescue: none");
    lab.expect(0, &["sandbox", "up"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.somebody_reads_alerts();
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
    assert!(plan.stdout.contains("tcp 2222 from 203.0.113.0/24, operators"), "{}", plan.stdout);
}
