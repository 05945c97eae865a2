//! Transactions whose connection, starter, unit or host goes away.

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use seawall::base::address::Address;
use seawall::reach::HostEvent;
use seawall::reach::TransactionStep;

use crate::ssh::Host;
use crate::ssh::command;
use crate::ssh::folder;
use crate::ssh::run;
use crate::ssh::said;
use crate::ssh::transaction;
use crate::ssh::write;

/// Ends the process that holds our connection, by its id.
fn cut(control_socket: &std::path::Path) {
    let check =
        Command::new("ssh").arg("-S").arg(control_socket).args(["-O", "check", "none"]).output().expect("ssh runs");
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    let pid = said.split(['=', ')']).nth(1).expect("`Master running (pid=1)`").to_owned();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_stops_nothing() {
    let Some(host) = Host::begin("a_lost_connection_stops_nothing").await else { return };
    let ssh = host.ssh();
    let socket = ssh.connect(&host.endpoint).await.expect("a connection").control_socket().to_owned();
    let work = transaction(vec![folder(), write("b", "b"), run(&["sleep", "3"]), write("c", "c")]);
    let events = Mutex::new(Vec::new());
    let note = |event: HostEvent| {
        if event == (HostEvent::Begun { position: 2 }) {
            cut(&socket);
        }
        events.lock().expect("no panic").push(event);
    };
    ssh.act(&host.endpoint, &work, &note).await.expect("done");
    let events = events.into_inner().expect("no panic");
    let steps = |wanted: fn(usize) -> HostEvent| {
        (0..4).all(|n| events.iter().filter(|&event| *event == wanted(n)).count() == 1)
    };
    assert!(steps(|position| HostEvent::Begun { position }), "{events:?}");
    assert!(steps(|position| HostEvent::Done { position }), "{events:?}");
    let found: Vec<&HostEvent> = events.iter().filter(|event| matches!(event, HostEvent::Reattached { .. })).collect();
    assert_eq!(found.len(), 1, "{events:?}");
    assert_eq!(ssh.counters.sessions(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_outlives_the_one_who_started_it() {
    let Some(host) = Host::begin("a_transaction_outlives_the_one_who_started_it").await else { return };
    let work = transaction(vec![folder(), run(&["sleep", "3"]), write("outlived", "yes")]);
    let begun = tokio::sync::Notify::new();
    let note = |event| {
        if event == (HostEvent::Begun { position: 1 }) {
            begun.notify_one();
        }
    };
    let first = host.ssh();
    tokio::select! {
        _ = first.act(&host.endpoint, &work, &note) => panic!("it ended while its second step slept"),
        () = begun.notified() => drop(first),
    }
    let second = host.ssh();
    assert_eq!(second.running(&host.endpoint).await.expect("a list"), std::slice::from_ref(&work.id));
    let events = Mutex::new(Vec::new());
    let note = |event| events.lock().expect("no panic").push(event);
    second.act(&host.endpoint, &work, &note).await.expect("done");
    assert_eq!(events.into_inner().expect("no panic").len(), 6);
}

#[tokio::test]
async fn a_unit_that_is_killed_is_noticed_and_its_lock_can_be_taken_away() {
    let Some(host) = Host::begin("a_unit_that_is_killed_is_noticed_and_its_lock_can_be_taken_away").await else {
        return;
    };
    let ssh = host.ssh();
    let mut work = transaction(vec![folder()]);
    let unit = format!("seawall-apply-{}.service", work.id);
    let kill = run(&["systemctl", "kill", "--signal=KILL", &unit]);
    work.steps.push(TransactionStep { address: Address::new("host.test", "db"), index: 1, step: kill });
    let failure = ssh.act(&host.endpoint, &work, &|_| ()).await.expect_err("killed");
    assert_eq!(failure.code.as_deref(), Some("end-not-seen"));
    assert!(failure.what.contains("1 of 2 steps are known done"), "{failure}");
    let holder = ssh.unlock(&host.endpoint).await.expect("unlocked").expect("a holder");
    assert_eq!(holder.transaction, work.id);
    ssh.act(&host.endpoint, &transaction(vec![run(&["true"])]), &|_| ()).await.expect("done");
}

#[tokio::test]
async fn a_rebooted_host_is_found_again_and_says_what_is_done() {
    let Some(host) = Host::begin("a_rebooted_host_is_found_again_and_says_what_is_done").await else { return };
    let ssh = host.ssh();
    let work = transaction(vec![folder(), run(&["systemctl", "reboot"]), run(&["sleep", "25"]), write("e", "e")]);
    let events = Mutex::new(Vec::new());
    let note = |event| events.lock().expect("no panic").push(event);
    // In microseconds: two boots fit into one second.
    let age = ["systemctl", "show", "--property", "UserspaceTimestampMonotonic"];
    let before = ssh.ask(&host.endpoint, &[command(&age)]).await;
    let start = Instant::now();
    let failure = ssh.act(&host.endpoint, &work, &note).await.expect_err("rebooted");
    said("reboot until the end was known", start);
    let events = events.into_inner().expect("no panic");
    assert_eq!(failure.code.as_deref(), Some("end-not-seen"), "{failure}");
    assert!(failure.what.contains("of 4 steps are known done"), "{failure}");
    assert!(!events.contains(&HostEvent::Done { position: 3 }), "{events:?}");
    loop {
        let now = ssh.ask(&host.endpoint, &[command(&age)]).await;
        if now.unseen.is_none() && now.commands != before.commands {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(90), "{now:?}");
    }
    ssh.unlock(&host.endpoint).await.expect("no unit runs");
    ssh.act(&host.endpoint, &transaction(vec![run(&["true"])]), &|_| ()).await.expect("done");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_power_cut_the_journal_says_what_is_done() {
    let Some(host) = Host::begin("after_a_power_cut_the_journal_says_what_is_done").await else { return };
    let ssh = host.ssh();
    let work = transaction(vec![folder(), write("f", "f"), run(&["sleep", "25"])]);
    let slept = tokio::sync::Notify::new();
    let note = |event| {
        if event == (HostEvent::Begun { position: 2 }) {
            slept.notify_one();
        }
    };
    let start = Instant::now();
    let cut = async {
        slept.notified().await;
        host.cut_power().await;
    };
    let (ended, ()) = tokio::join!(ssh.act(&host.endpoint, &work, &note), cut);
    let failure = ended.expect_err("no power");
    said("power cut until the end was known", start);
    assert_eq!(failure.code.as_deref(), Some("end-not-seen"), "{failure}");
    assert!(failure.what.contains("2 of 3 steps are known done, and step 3 (run sleep) had begun"), "{failure}");
    assert_eq!(failure.position, Some(2));
    let holder = ssh.unlock(&host.endpoint).await.expect("unlocked").expect("a holder");
    assert_eq!(holder.transaction, work.id);
}
