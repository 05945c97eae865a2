//! Bad input and bad luck: AWS in a bad mood, names that are taken, hosts that vanish, a sandbox that is killed.
//!
//! The real binary against the sandbox.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::rehearsal::{Ended, Rehearsal, shell_word};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use seawall::sandbox::process::Process;
use serde_json::{Value, json};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the inventory calls the application's network, and one that it does not know.
const APPLICATION: &str = "198.51.100.7";
const STRANGER: &str = "192.0.2.66";
const APPLY: [&str; 3] = ["--sandbox", "apply", "--yes"];
const PLAN: [&str; 2] = ["--sandbox", "plan"];

/// Waits for a condition; never for time.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come true within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn send(signal: Signal, pid: u32) {
    kill(Pid::from_raw(i32::try_from(pid).expect("pids fit i32")), signal).expect("the process is there");
}

/// Kills a process and waits for its end: a signal is delivered when the process gets the processor next, and until then it
/// counts as running.
fn kill_now(pid: u32) {
    send(Signal::SIGKILL, pid);
    let process = i32::try_from(pid).ok().and_then(Process::of);
    eventually("a killed process is gone", || process.is_none_or(|process| !process.alive()));
}

/// Everything that the newest journal says so far.
fn journal(lab: &Rehearsal) -> String {
    lab.journals().last().map_or_else(String::new, |path| std::fs::read_to_string(path).unwrap_or_default())
}

fn wait(child: Child) -> Ended {
    Ended::from(child.wait_with_output().expect("the command ends"))
}

/// The actions of a plan by address, from its JSON.
fn planned(lab: &Rehearsal, code: i32) -> (Value, String) {
    let ended = lab.expect(code, &["--sandbox", "plan", "--format", "json"]);
    let plan: Value = serde_json::from_str(&ended.stdout).expect("JSON on stdout");
    let stages = plan["plan"]["stages"].to_string();
    (plan, stages)
}

#[test]
fn aws_in_a_bad_mood() {
    let Some(lab) = Rehearsal::begin("aws_in_a_bad_mood") else { return };
    lab.expect(0, &["sandbox", "up"]);

    lab.fault("sts", "GetCallerIdentity", "expired_token", 1);
    let expired = lab.expect(1, &PLAN);
    assert!(expired.stderr.contains("error[expired-credentials]"), "{}", expired.stderr);
    assert!(expired.stderr.contains("nothing was asked or changed"), "{}", expired.stderr);

    // Could not look is neither "nothing to do" nor "create".
    lab.fault("lightsail", "GetStaticIp", "access_denied", 1);
    let (plan, stages) = planned(&lab, 1);
    assert!(!stages.contains("allocate"), "{stages}");
    assert!(plan.to_string().contains("GetStaticIp"), "{plan}");
    lab.fault("lightsail", "GetStaticIp", "access_denied", 1);
    let unseen = lab.expect(1, &PLAN);
    assert!(unseen.stdout.contains("could not be looked at"), "{}", unseen.stdout);
    lab.fault("lightsail", "GetStaticIp", "access_denied", 1);
    let apply = lab.expect(1, &APPLY);
    assert!(apply.stderr.contains("nothing was changed"), "{}", apply.stderr);
    assert_eq!(lab.aws("lightsail", "get_instances", &json!({}))["instances"], json!([]));

    // An operation that is accepted and fails, and a call that is refused: what failed, what was not started because it
    // stands on that, all else done, and the next run heals it.
    lab.fault("sns", "CreateTopic", "access_denied", 1);
    lab.fault("lightsail", "AllocateStaticIp", "fail_operation", 1);
    let failed = lab.expect(1, &APPLY);
    let said = format!("{}{}", failed.stdout, failed.stderr);
    assert!(said.contains("lightsail.static_ip/db") && said.contains("the operation failed"), "{said}");
    let events: Vec<Value> =
        journal(&lab).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let told = |event: &str, address: &str| events.iter().any(|e| e["event"] == event && e["address"] == address);
    assert!(told("failed", "lightsail.static_ip/db") && told("failed", "sns.topic/alerts"), "{events:?}");
    assert!(told("not_started", "cloudwatch.alarm/repository-size"), "{events:?}");
    // Its key goes to an address that is not there.
    assert!(told("not_started", "iam.user/repository"), "{events:?}");
    assert!(told("verified", "host.packages/db"), "{events:?}");

    // Throttled reads and writes of every service are tried again.
    for (service, operation) in [("lightsail", "*"), ("sns", "*"), ("iam", "*"), ("s3", "GET"), ("s3", "PUT")] {
        lab.fault(service, operation, "throttle", 3);
    }
    lab.expect(0, &APPLY);
    lab.somebody_reads_alerts();
    lab.expect(0, &PLAN);
}

#[test]
fn an_answer_that_is_lost_and_a_server_that_never_runs() {
    let Some(lab) = Rehearsal::begin("an_answer_that_is_lost_and_a_server_that_never_runs") else { return };
    lab.expect(0, &["sandbox", "up"]);

    // The instance is made and the answer never comes: a second try may not make a second one, nor give up silently.
    lab.fault("lightsail", "CreateInstances", "timeout_after_effect", 1);
    let lost = lab.run(&APPLY);
    assert!([0, 1].contains(&lost.code), "{}{}", lost.stdout, lost.stderr);
    let instances = lab.aws("lightsail", "get_instances", &json!({}));
    assert_eq!(instances["instances"].as_array().map(Vec::len), Some(1), "{instances}");
    lab.expect(0, &APPLY);
    lab.somebody_reads_alerts();
    lab.expect(0, &PLAN);

    // The next one stays pending for ever; whoever waits may leave, and leaves no lock.
    lab.expect(0, &["sandbox", "down", "--wipe"]);
    lab.expect(0, &["sandbox", "up"]);
    lab.fault("lightsail", "CreateInstances", "stuck_pending", 1);
    let child = lab.start(&APPLY);
    eventually("the instance is pending", || {
        let status = lab.status();
        status["hosts"][0]["state"] == "pending" && status["hosts"][0]["address"].is_string()
    });
    send(Signal::SIGINT, child.id());
    let interrupted = wait(child);
    assert_eq!(interrupted.code, 130, "{}", interrupted.stderr);
    assert!(interrupted.stderr.contains("error[interrupted]"), "{}", interrupted.stderr);
    let next = lab.expect(0, &["--sandbox", "apply", "--yes", "--only", "sns.topic/alerts"]);
    assert!(!next.stderr.contains("took over"), "the lock was given back: {}", next.stderr);
}

#[test]
fn names_that_others_have() {
    let Some(lab) = Rehearsal::begin("names_that_others_have") else { return };
    lab.expect(0, &["sandbox", "up"]);
    let instance = json!({
        "instanceNames": ["chronos-prod-db"], "availabilityZone": "ca-central-1a",
        "blueprintId": "debian_12", "bundleId": "nano_3_0",
    });
    lab.aws("lightsail", "create_instances", &instance);
    let topic = lab.aws("sns", "create_topic", &json!({ "Name": "chronos-prod-alerts" }));
    eventually("the other's server runs", || lab.status()["hosts"][0]["state"] == "running");
    let before = lab.aws("lightsail", "get_instance", &json!({ "instanceName": "chronos-prod-db" }));
    let attributes = json!({ "TopicArn": topic["TopicArn"] });
    let policy = lab.aws("sns", "get_topic_attributes", &attributes)["Attributes"].clone();

    let plan = lab.expect(3, &PLAN);
    let said = format!("{}{}", plan.stdout, plan.stderr);
    assert!(said.contains("not-ours") && said.contains("`lightsail.instance/db` exists already"), "{said}");
    assert!(said.contains("`sns.topic/alerts` exists already"), "{said}");
    lab.expect(3, &APPLY);
    let after = lab.aws("lightsail", "get_instance", &json!({ "instanceName": "chronos-prod-db" }));
    assert_eq!(after["instance"], before["instance"], "what is not ours is not touched");
    assert_eq!(lab.aws("sns", "get_topic_attributes", &attributes)["Attributes"], policy);
    assert_eq!(lab.aws("lightsail", "get_key_pairs", &json!({}))["keyPairs"], json!([]), "nothing is half-done");

    lab.aws("lightsail", "delete_instance", &json!({ "instanceName": "chronos-prod-db" }));
    lab.aws("sns", "delete_topic", &json!({ "TopicArn": topic["TopicArn"] }));
    eventually("the other's server is gone", || lab.status()["hosts"] == json!([]));
    let bucket = json!({
        "Bucket": "project-chronos-backups", "CreateBucketConfiguration": { "LocationConstraint": "ca-central-1" },
    });
    let made = lab.outsider(Some("210987654321"), "s3", "create_bucket", &bucket);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let taken = lab.run(&APPLY);
    let said = format!("{}{}", taken.stdout, taken.stderr);
    assert!([1, 3].contains(&taken.code), "{}: {said}", taken.code);
    assert!(said.contains("project-chronos-backups") && said.contains("not in account"), "{said}");
    assert_eq!(lab.aws("lightsail", "get_instances", &json!({}))["instances"], json!([]), "nothing is half-done");
}

/// Whether a TCP connection from an address of the lab gets an answer, be it a refusal.
fn reaches(lab: &Rehearsal, from: &str, to: &str, port: u16) -> bool {
    let script = format!(
        "import socket,sys\ntry: socket.create_connection(('{to}',{port}),1.5)\nexcept ConnectionRefusedError: pass\nexcept OSError: sys.exit(9)"
    );
    let ended = lab.run(&["sandbox", "exec", "--from", from, "--", "python3", "-c", &script]);
    assert!([0, 1].contains(&ended.code), "{}", ended.stderr);
    ended.code == 0
}

#[test]
fn a_server_in_bad_nights() {
    let Some(lab) = Rehearsal::base("a_server_in_bad_nights") else { return };
    others_can_use_it(&lab);
    ports_are_filtered(&lab);
    the_way_to_the_host_is_lost(&lab);
    a_disk_is_full(&lab);
    the_daemon_is_killed(&lab);
    let inventory = lab.inventory();
    lab.edit_inventory("account: \"123456789012\"", "account: \"123456789013\"");
    let other = lab.expect(1, &PLAN);
    assert!(other.stderr.contains("error[other-sandbox]") && other.stderr.contains("123456789012"), "{}", other.stderr);
    lab.write_inventory(&inventory);
    lab.expect(0, &PLAN);
}

/// Plain ssh and botocore, with what `sandbox status` tells and nothing else.
fn others_can_use_it(lab: &Rehearsal) {
    let status = lab.status();
    let host = &status["hosts"][0];
    let text = |name: &str| host[name].as_str().unwrap_or_else(|| panic!("{name}: {host}")).to_owned();
    assert_eq!(text("user"), "admin");
    let known = std::fs::read_to_string(text("known_hosts_file")).expect("known_hosts");
    assert!(known.starts_with(&format!("{},{} ssh-", text("address"), text("ipv6"))), "{known}");
    for address in [text("address"), text("ipv6")] {
        let ssh = Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-i", &text("key_file")])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", text("known_hosts_file")))
            .arg(format!("{}@{address}", text("user")))
            .arg("sudo -n id -u")
            .output();
        let ended = Ended::from(ssh.expect("ssh runs"));
        assert_eq!(ended.stdout.trim(), "0", "{address}: {}", ended.stderr);
        if status["operator_address"].as_str().is_some_and(|operator| !operator.contains(':')) {
            // The operator's network is IPv4 only, so its door on IPv6 may be shut.
            break;
        }
    }
    let pasted = Command::new("sh").arg("-c").arg(format!("{} hostname", text("ssh_command"))).output();
    assert_eq!(pasted.expect("sh runs").status.code(), Some(0));
    let buckets = lab.aws("s3", "list_buckets", &json!({}));
    assert_eq!(buckets["Buckets"][0]["Name"], "project-chronos-backups");
    // Hosts have no way to the lab's own paths.
    let look = "import urllib.request as r, urllib.error as e
try: print(r.urlopen('https://s3.ca-central-1.amazonaws.com/_sandbox/status').status)
except e.HTTPError as error: print(error.code)";
    assert_eq!(lab.on_server(&["python3", "-c", look]).stdout.trim(), "403");
}

/// Runs a script on the server as root.
#[track_caller]
fn script(lab: &Rehearsal, shell: &str) -> Ended {
    lab.on_server(&["sh", "-ec", shell])
}

fn ports_are_filtered(lab: &Rehearsal) {
    let status = lab.status();
    let v4 = status["hosts"][0]["address"].as_str().expect("an address").to_owned();
    let v6 = status["hosts"][0]["ipv6"].as_str().expect("an address").to_owned();
    let operator = status["operator_address"].as_str().expect("an address").to_owned();
    assert!(reaches(lab, &operator, &v4, 22), "the operator has a way in");
    assert!(!reaches(lab, STRANGER, &v4, 22), "22 is the operator's");
    assert!(!reaches(lab, "2001:db8::66", &v6, 22), "also on IPv6");
    assert!(reaches(lab, APPLICATION, &v4, 5432), "the application's port is open to it");
    assert!(!reaches(lab, STRANGER, &v4, 5432), "and to nobody else");
    assert!(!reaches(lab, "2001:db8::66", &v6, 5432), "also on IPv6");
    for (from, to) in [(STRANGER, &v4), ("2001:db8::66", &v6)] {
        assert!(reaches(lab, from, to, 443), "443 is open to anybody: {to}");
        assert!(!reaches(lab, from, to, 80), "80 was open at birth, and is closed: {to}");
    }
}

/// Holds the lock of dpkg on the server, so that an installation waits in the middle.
fn hold_packages(lab: &Rehearsal) {
    let hold = "import fcntl, signal
file = open('/var/lib/dpkg/lock-frontend', 'w')
fcntl.lockf(file, fcntl.LOCK_EX)
open('/run/held', 'w').close()
signal.pause()";
    let unit = format!("systemd-run --quiet --unit=held python3 -c {}", shell_word(hold));
    script(lab, &format!("rm -f /run/held; {unit}; until [ -e /run/held ]; do sleep 0.05; done"));
}

/// Starts an apply that waits in the middle of an installation on the server.
fn apply_that_waits(lab: &Rehearsal) -> Child {
    hold_packages(lab);
    let before = lab.journals().len();
    let child = lab.start(&APPLY);
    eventually("the packages are being installed", || {
        lab.journals().len() > before && journal(lab).contains("install ")
    });
    child
}

/// The ssh clients that a command in a lab's folder has started.
fn ssh_clients(lab: &Rehearsal) -> Vec<u32> {
    let is_ours = |folder: &Path| {
        let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        name.trim() == "ssh" && std::fs::read_link(folder.join("cwd")).is_ok_and(|place| place == lab.path())
    };
    let entries = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok).map(|entry| entry.path());
    entries.filter(|path| is_ours(path)).filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}

/// The connection breaks in the middle of a step and port 22 is shut; when it is open again the apply finds its
/// transaction and finishes.
fn the_way_to_the_host_is_lost(lab: &Rehearsal) {
    let name = json!({ "instanceName": "chronos-prod-db" });
    let ports = lab.aws("lightsail", "get_instance_port_states", &name)["portStates"].clone();
    let mut infos = ports.as_array().expect("a list").clone();
    for info in infos.iter_mut().filter_map(Value::as_object_mut) {
        info.remove("state");
    }
    lab.edit_inventory("packages: [htop, jq]", "packages: [htop, jq, tree]");
    let child = apply_that_waits(lab);
    let shut: Vec<&Value> = infos.iter().filter(|info| info["fromPort"] != 22).collect();
    lab.aws("lightsail", "put_instance_public_ports", &json!({ "instanceName": "chronos-prod-db", "portInfos": shut }));
    let lost = ssh_clients(lab);
    assert!(!lost.is_empty(), "the apply has a connection");
    for pid in &lost {
        // One that spoke through another ends with it.
        let killed = kill(Pid::from_raw(i32::try_from(*pid).expect("pids fit i32")), Signal::SIGKILL);
        assert!(matches!(killed, Ok(()) | Err(Errno::ESRCH)), "{killed:?}");
    }
    eventually("it looks for the host again", || ssh_clients(lab).iter().any(|pid| !lost.contains(pid)));
    lab.aws(
        "lightsail",
        "put_instance_public_ports",
        &json!({ "instanceName": "chronos-prod-db", "portInfos": infos }),
    );
    script(lab, "systemctl stop held");
    let ended = wait(child);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(journal(lab).contains("reattached"), "{}", journal(lab));
    lab.expect(0, &PLAN);
}

/// A file system without room: a clear failure, the original whole, and healed when there is room again.
fn a_disk_is_full(lab: &Rehearsal) {
    let file = "/etc/sysctl.d/60-seawall.conf";
    let before = lab.on_server(&["cat", file]).stdout;
    lab.on_server(&["mount", "-t", "tmpfs", "-o", "size=8k,mode=755", "tmpfs", "/etc/sysctl.d"]);
    script(lab, "cd /etc/sysctl.d; echo kept > 60-seawall.conf; head -c 9000 /dev/zero > full || true");
    let full = lab.expect(1, &APPLY);
    let said = format!("{}{}", full.stdout, full.stderr);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(lab.on_server(&["cat", file]).stdout, "kept\n", "the original is whole");
    assert_eq!(lab.on_server(&["ls", "-A", "/etc/sysctl.d"]).stdout, "60-seawall.conf\nfull\n", "nothing half-written");
    lab.on_server(&["umount", "/etc/sysctl.d"]);
    lab.expect(0, &APPLY);
    lab.expect(0, &PLAN);
    assert_eq!(lab.on_server(&["cat", file]).stdout, before);
}

/// The pid of the sandbox's daemon.
fn daemon(lab: &Rehearsal) -> u32 {
    let text = std::fs::read(lab.path().join(".seawall/sandbox/state.json")).expect("a state");
    let state: Value = serde_json::from_slice(&text).expect("JSON");
    state["process"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
}

/// Killed in the middle of an apply: the command fails, and the next start has everything that was.
fn the_daemon_is_killed(lab: &Rehearsal) {
    lab.on_server(&["touch", "/root/kept"]);
    lab.edit_inventory("packages: [htop, jq, tree]", "packages: [htop, jq, tree, pv]");
    let child = apply_that_waits(lab);
    kill_now(daemon(lab));
    let down = lab.expect(1, &["sandbox", "status"]);
    assert!(down.stderr.contains("error[no-sandbox]") && down.stderr.contains("sandbox up"), "{}", down.stderr);
    lab.expect(0, &["sandbox", "up"]);
    let ended = wait(child);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("host.packages/db"), "{}", ended.stderr);
    lab.on_server(&["test", "-e", "/root/kept"]);
    lab.expect(0, &APPLY);
    lab.expect(0, &PLAN);
}

/// Processes, mounts and links whose names or arguments show a folder's lab.
fn traces(folder: &Path) -> Vec<String> {
    let name = folder.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let text = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        let place = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if text.contains(&name) || place.starts_with(folder) {
            found.push(text);
        }
    }
    let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
    found.extend(mounts.lines().filter(|line| line.contains(&name)).map(str::to_owned));
    found
}

fn links() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").expect("links").filter_map(Result::ok);
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("seawall"))
        .collect()
}

/// Alone: it looks at every lab's link that this computer has.
#[test]
fn labs_begin_and_end_cleanly() {
    let Some(lab) = Rehearsal::begin_alone("labs_begin_and_end_cleanly") else { return };
    let before = links();
    let down = lab.expect(1, &["sandbox", "status"]);
    assert!(down.stderr.contains("seawall sandbox up"), "{}", down.stderr);
    lab.expect(0, &["sandbox", "down"]);
    lab.expect(0, &["sandbox", "up"]);
    let first = daemon(&lab);
    lab.expect(0, &["sandbox", "up"]);
    assert_eq!(daemon(&lab), first, "up twice is one sandbox");

    let other = Rehearsal::within_turn();
    other.expect(0, &["sandbox", "up"]);
    let instance = json!({
        "instanceNames": ["one"], "availabilityZone": "ca-central-1a", "blueprintId": "debian_12", "bundleId": "nano_3_0",
    });
    for each in [&lab, &other] {
        each.aws("lightsail", "create_instances", &instance);
        eventually("a server runs", || each.status()["hosts"][0]["state"] == "running");
    }
    let address = |lab: &Rehearsal| lab.status()["hosts"][0]["address"].clone();
    assert_ne!(address(&lab), address(&other), "two labs are two networks");

    // Killed: nothing runs on, and what is on disk goes on or goes away.
    let port = lab.status()["endpoint"].clone();
    kill_now(first);
    eventually("a killed sandbox leaves nothing running", || traces(lab.path()).is_empty());
    eventually("its link is gone", || links().len() == before.len() + 1);
    let number = port.as_str().and_then(|text| text.rsplit_once(':')).expect("a port").1.parse().expect("a number");
    let squatter = std::net::TcpListener::bind(("127.0.0.1", number)).expect("the port is free");
    lab.expect(0, &["sandbox", "up"]);
    assert_ne!(lab.status()["endpoint"], port, "a port that is taken is not fought for");
    drop(squatter);
    assert_eq!(lab.status()["hosts"][0]["state"], "running");
    kill_now(daemon(&lab));
    lab.expect(0, &["sandbox", "down", "--wipe"]);
    lab.expect(0, &["sandbox", "down", "--wipe"]);
    assert!(!lab.path().join(".seawall/sandbox").exists());
    eventually("nothing is left", || traces(lab.path()).is_empty());
    other.expect(0, &["sandbox", "down"]);
    other.expect(0, &["sandbox", "down"]);
    assert_eq!(traces(other.path()), [] as [String; 0]);
    assert!(other.path().join(".seawall/sandbox").exists(), "its state stays");
    other.expect(0, &["sandbox", "up"]);
    assert_eq!(other.status()["hosts"][0]["state"], "running");
    drop(other);
    eventually("its link is gone", || links() == before);
}
