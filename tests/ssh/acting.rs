//! Transactions that run to their end, well or badly.

use std::sync::Mutex;
use std::time::Instant;

use seawall::base::address::Address;
use seawall::base::secret::SecretRef;
use seawall::plan::probe::HostProbe;
use seawall::plan::step::Content;
use seawall::plan::step::HostStep;
use seawall::reach::HostEvent;
use seawall::reach::ssh::manifest::manifest_probes;
use seawall::reach::ssh::manifest::parse_manifest;
use serde_json::json;

use crate::ssh::FOLDER;
use crate::ssh::Host;
use crate::ssh::command;
use crate::ssh::file;
use crate::ssh::folder;
use crate::ssh::run;
use crate::ssh::said;
use crate::ssh::text;
use crate::ssh::transaction;
use crate::ssh::write;

#[tokio::test]
async fn a_transaction_is_done_and_a_second_one_finds_nothing_to_do() {
    let Some(host) = Host::begin("a_transaction_is_done_and_a_second_one_finds_nothing_to_do").await else { return };
    let ssh = host.ssh();
    let address = Address::new("host.test", "db");
    let record = |desired| HostStep::Record { address: address.clone(), desired };
    for _ in 0..2 {
        let events = Mutex::new(Vec::new());
        let work = transaction(vec![
            folder(),
            write("a.conf", "a 'quoted' $(id)\n"),
            run(&["true"]),
            record(Some(json!({"a": 1}))),
        ]);
        let start = Instant::now();
        let note = |event| events.lock().expect("no panic").push(event);
        ssh.act(&host.endpoint, &work, &note).await.expect("done");
        said("a transaction of four steps", start);
        assert_eq!(events.lock().expect("no panic").len(), 8);
        let mut probes = manifest_probes();
        probes.push(file("/srv/seawall-test/a.conf"));
        probes.push(HostProbe::Glob { pattern: "/run/seawall/*".to_owned() });
        let answers = ssh.ask(&host.endpoint, &probes).await;
        assert_eq!(text(&answers, "/srv/seawall-test/a.conf").as_deref(), Some("a 'quoted' $(id)\n"));
        let found = parse_manifest(&answers).expect("a manifest");
        assert!(found.iter().any(|found| found.record == Ok((address.clone(), json!({"a": 1})))), "{found:?}");
        assert_eq!(answers.glob("/run/seawall/*"), Ok(vec![]));
    }
    let forget = transaction(vec![record(None)]);
    ssh.act(&host.endpoint, &forget, &|_| ()).await.expect("done");
    let answers = ssh.ask(&host.endpoint, &manifest_probes()).await;
    let found = parse_manifest(&answers).expect("a manifest");
    assert!(found.iter().all(|found| found.record.as_ref().is_ok_and(|(other, _)| *other != address)), "{found:?}");
    assert_eq!(ssh.counters.sessions(), 1);
}

#[tokio::test]
async fn a_secret_is_in_its_file_and_nowhere_else() {
    let Some(host) = Host::begin("a_secret_is_in_its_file_and_nowhere_else").await else { return };
    let ssh = host.ssh();
    let poison = format!("poison{}", transaction(Vec::new()).id.replace('-', ""));
    let HostStep::WriteFile { path, owner, group, mode, .. } = write("secret", "") else { unreachable!("it is one") };
    let argv = vec!["printf".to_owned(), poison.clone()];
    let content = Content::WithSecrets {
        template: "pass = {{pass}}\n".to_owned(),
        secrets: [("pass".to_owned(), SecretRef::Command { command: argv }.into())].into(),
    };
    let secret = HostStep::WriteFile { path: path.clone(), owner, group, mode, content, validate: None };
    let remove = HostStep::Run {
        argv: ["rm", "-f", &path].map(str::to_owned).to_vec(),
        env: [].into(),
        stdin: None,
        timeout_s: 5,
        revert: None,
        what: "remove the last run's secret".to_owned(),
    };
    // The process list, what runs and what is kept are searched while the transaction runs and after it.
    let search = format!("ps -eo args > {FOLDER}/ps; cp -r /run/seawall {FOLDER}/run");
    let clean = run(&["rm", "-rf", &format!("{FOLDER}/run")]);
    let work = transaction(vec![folder(), remove, clean, secret, run(&["sh", "-c", &search])]);
    ssh.act(&host.endpoint, &work, &|_| ()).await.expect("done");
    // Twice, so that the search itself is not what is found: the word is put together on the host.
    let (head, tail) = poison.split_at(8);
    let grep = format!(
        "w={head}; w=${{w}}{tail}; journalctl --no-pager -q | grep -c $w; grep -rl $w /srv /var/lib/seawall /var/log /run /tmp 2>/dev/null | grep -v seawall-ask"
    );
    let argv = ["sh", "-c", &grep];
    let answers = ssh.ask(&host.endpoint, &[command(&argv), file(&path)]).await;
    assert_eq!(answers.command(&argv).expect("an answer").stdout, format!("0\n{path}\n"));
    assert_eq!(text(&answers, &path), Some(format!("pass = {poison}\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_transaction_runs_once_and_another_waits_outside() {
    let Some(host) = Host::begin("the_same_transaction_runs_once_and_another_waits_outside").await else { return };
    let (first, second) = (host.ssh(), host.ssh());
    let append = format!("echo ran >> {FOLDER}/count");
    let work = transaction(vec![
        folder(),
        HostStep::RemoveFile { path: format!("{FOLDER}/count") },
        run(&["sh", "-c", &append]),
        run(&["sleep", "3"]),
    ]);
    let begun = tokio::sync::Notify::new();
    let note = |event| {
        if event == (HostEvent::Begun { position: 3 }) {
            begun.notify_one();
        }
    };
    let late = async {
        begun.notified().await;
        assert_eq!(second.running(&host.endpoint).await.expect("a list"), std::slice::from_ref(&work.id));
        let locked = second.act(&host.endpoint, &transaction(vec![run(&["true"])]), &|_| ()).await.expect_err("locked");
        assert_eq!(locked.code.as_deref(), Some("host-locked"));
        assert!(locked.what.contains(&work.id), "{locked}");
        let kept = second.unlock(&host.endpoint).await.expect_err("its unit runs");
        assert_eq!(kept.code.as_deref(), Some("transaction-runs"));
        second.act(&host.endpoint, &work, &|_| ()).await.expect("attached and done");
    };
    let (done, ()) = tokio::join!(first.act(&host.endpoint, &work, &note), late);
    done.expect("done");
    let answers = first.ask(&host.endpoint, &[file("/srv/seawall-test/count")]).await;
    assert_eq!(text(&answers, "/srv/seawall-test/count").as_deref(), Some("ran\n"));
    assert!(first.running(&host.endpoint).await.expect("a list").is_empty());
}

#[tokio::test]
async fn a_full_disk_leaves_the_file_as_it_was() {
    let Some(host) = Host::begin("a_full_disk_leaves_the_file_as_it_was").await else { return };
    let ssh = host.ssh();
    let small = format!("{FOLDER}/small");
    let setup = vec![
        folder(),
        run(&["mkdir", "-p", &small]),
        run(&["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "none", &small]),
        write("small/conf", "before\n"),
    ];
    ssh.act(&host.endpoint, &transaction(setup), &|_| ()).await.expect("done");
    let full = ssh
        .act(&host.endpoint, &transaction(vec![write("small/conf", &"x".repeat(200_000)), write("d", "d")]), &|_| ())
        .await;
    let answers = ssh.ask(&host.endpoint, &[file(&format!("{small}/conf")), command(&["ls", "-A", &small])]).await;
    ssh.act(&host.endpoint, &transaction(vec![run(&["umount", &small])]), &|_| ()).await.expect("done");
    let full = full.expect_err("it does not fit");
    assert!(full.what.contains("No space left on device") && full.what.contains("1 not started"), "{full}");
    assert_eq!(full.position, Some(0));
    assert_eq!(text(&answers, &format!("{small}/conf")).as_deref(), Some("before\n"));
    assert_eq!(answers.command(&["ls", "-A", &small]).expect("an answer").stdout, "conf\n");
}
