//! Getting in, asking, and what is done beside transactions.

use std::time::Duration;
use std::time::Instant;

use seawall::base::secret::Secret;
use seawall::plan::host::Endpoint;
use seawall::plan::observed::Observed;
use seawall::plan::observed::Unseen;
use seawall::plan::probe::HostProbe;
use seawall::reach::ssh::manifest::manifest_probes;
use seawall::reach::ssh::manifest::parse_manifest;

use crate::ssh::CLOSED;
use crate::ssh::FOLDER;
use crate::ssh::Host;
use crate::ssh::command;
use crate::ssh::file;
use crate::ssh::folder;
use crate::ssh::run;
use crate::ssh::said;
use crate::ssh::text;
use crate::ssh::transaction;

const PACKAGES: [&str; 6] =
    ["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n", "openssh-server", "sudo"];

/// About as much as the plan of a server asks.
fn questions() -> Vec<HostProbe> {
    let files = "/etc/ssh/sshd_config /etc/ssh/moduli /etc/ssh/ssh_config /etc/passwd /etc/fstab /etc/hosts \
                 /etc/no-such-file /etc/sudoers /etc/adduser.conf /proc/swaps";
    let units = "systemctl show -p Id,LoadState,ActiveState,UnitFileState ssh cron nginx";
    let sysctl = "sysctl -e net.ipv4.tcp_syncookies net.ipv4.conf.all.rp_filter";
    let words = |line: &'static str| line.split_whitespace().collect::<Vec<_>>();
    let mut probes: Vec<HostProbe> = words(files).into_iter().map(file).collect();
    probes.extend([&words(units), &words(sysctl), &words("id -u")].map(|argv| command(argv)));
    probes.push(command(&PACKAGES));
    probes.push(HostProbe::Glob { pattern: "/etc/ssh/*_config".to_owned() });
    probes.extend(manifest_probes());
    probes
}

#[tokio::test]
async fn one_connection_and_one_program_answer_everything() {
    let Some(host) = Host::begin("one_connection_and_one_program_answer_everything").await else { return };
    let ssh = host.ssh();
    let probes = questions();
    for what in ["cold", "warm", "warm again"] {
        let start = Instant::now();
        let answers = ssh.ask(&host.endpoint, &probes).await;
        said(what, start);
        assert_eq!(answers.unseen, None);
        assert_eq!(answers.command(&["id", "-u"]).expect("an answer").stdout, "0\n");
        assert_eq!(answers.file("/etc/no-such-file"), Observed::Absent);
        assert!(text(&answers, "/etc/passwd").is_some_and(|text| text.starts_with("root:")));
        assert!(answers.command(&PACKAGES).expect("an answer").stdout.contains("openssh-server"));
        assert_eq!(answers.glob("/etc/ssh/*_config"), Ok(vec!["/etc/ssh/ssh_config", "/etc/ssh/sshd_config"]));
        parse_manifest(&answers).expect("a manifest");
    }
    assert_eq!((ssh.counters.sessions(), ssh.counters.execs()), (1, 3));
    let left = ssh.ask(&host.endpoint, &[HostProbe::Glob { pattern: "/run/seawall-ask.*".to_owned() }]).await;
    assert_eq!(left.glob("/run/seawall-ask.*").map(|found| found.len()), Ok(1), "only that question's own folder");
}

#[tokio::test]
async fn what_keeps_us_out_is_told_apart() {
    let Some(host) = Host::begin("what_keeps_us_out_is_told_apart").await else { return };
    let ssh = host.ssh();
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE7m3sGBRkt8lBZ7dWSvwZ8Ltnh2pJWeWpjYPQQqIu1H".to_owned();
    let good = &host.endpoint;
    let cases = [
        ("host-key-mismatch", Endpoint { host_keys: vec![other], ..good.clone() }),
        ("permission-denied", Endpoint { user: "nobody".to_owned(), ..good.clone() }),
        ("connection-refused", Endpoint { port: CLOSED, ..good.clone() }),
        ("no-host-keys", Endpoint { host_keys: Vec::new(), ..good.clone() }),
    ];
    for (code, at) in cases {
        let Some(error) = ssh.fresh(&at).await.err() else { panic!("{code}: let in") };
        assert_eq!(error.code(), code, "{error}");
        if code == "host-key-mismatch" {
            let pinned = "SHA256:v+mxQosNtPXNxorIrbvBz9OOih2glG2FFwvsvGSdDGQ";
            let text = error.to_string();
            assert!(text.contains(pinned) && text.matches("SHA256:").count() == 2, "{text}");
        }
        let unseen = ssh.ask(&at, &[file("/etc/passwd")]).await.unseen.expect("a reason");
        assert_eq!(matches!(unseen, Unseen::Unreachable(_)), code == "connection-refused", "{unseen}");
    }
}

#[tokio::test]
async fn who_may_not_become_root_is_told_so() {
    let Some(host) = Host::begin("who_may_not_become_root_is_told_so").await else { return };
    let ssh = host.ssh();
    let good = &host.endpoint;
    let plain = "useradd -m seawall-plain && install -d -o seawall-plain /home/seawall-plain/.ssh && \
                 install -o seawall-plain -m 600 \"$(getent passwd \"$1\" | cut -d: -f6)/.ssh/authorized_keys\" /home/seawall-plain/.ssh/";
    let make = transaction(vec![run(&["sh", "-c", plain, "sh", &good.user])]);
    ssh.act(good, &make, &|_| ()).await.expect("done");
    let at = Endpoint { user: "seawall-plain".to_owned(), ..good.clone() };
    let unseen = ssh.ask(&at, &[file("/etc/passwd")]).await.unseen.expect("a reason");
    let failure = ssh.act(&at, &transaction(vec![folder()]), &|_| ()).await.expect_err("no sudo");
    ssh.forget(&at).await;
    let remove = ["sh", "-c", "loginctl terminate-user seawall-plain; userdel -f -r seawall-plain || [ $? = 12 ]"];
    ssh.act(good, &transaction(vec![run(&remove)]), &|_| ()).await.expect("done");
    assert!(matches!(&unseen, Unseen::Refused(why) if why.contains("sudo-refused")), "{unseen}");
    assert_eq!(failure.code.as_deref(), Some("sudo-refused"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_delivered_and_a_first_boot_is_waited_for() {
    let Some(host) = Host::begin("a_key_is_delivered_and_a_first_boot_is_waited_for").await else { return };
    let ssh = host.ssh();
    let key = Secret::new(b"[default]\nkey = \xff\0\n".to_vec());
    let path = format!("{FOLDER}/keys/credentials");
    ssh.deliver_key(&host.endpoint, &path, "adm", &key).await.expect("delivered");
    let answers = ssh.ask(&host.endpoint, &[file(&path)]).await;
    let Observed::Present(state) = answers.file(&path) else { panic!("{:?}", answers.file(&path)) };
    assert_eq!(
        (state.owner.as_str(), state.group.as_str(), state.mode.as_str(), state.size),
        ("root", "adm", "640", 19)
    );
    let error = ssh.deliver_key(&host.endpoint, &path, "no-such-group", &key).await.expect_err("no group");
    assert!(error.what.contains("there is no group no-such-group"), "{error}");

    let marker = "/var/lib/cloud/instance/boot-finished";
    let steps = vec![run(&["mkdir", "-p", "/var/lib/cloud/instance"]), run(&["sleep", "2"]), run(&["touch", marker])];
    let work = transaction(steps);
    let start = Instant::now();
    let (made, ready) = tokio::join!(ssh.act(&host.endpoint, &work, &|_| ()), ssh.wait_ready(&host.endpoint));
    made.expect("done");
    ready.expect("ready");
    assert!(start.elapsed() < Duration::from_secs(20));
}
