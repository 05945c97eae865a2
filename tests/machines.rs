//! Real hosts on this computer: login, firewall, reboot, stop and start, packages, and that nothing is left behind.
//!
//! The image and packages are kept in `.seawall/`.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use seawall::base::release::Release;
use seawall::sandbox::machines::HostState;
use seawall::sandbox::machines::MachineError;
use seawall::sandbox::machines::Machines;
use seawall::sandbox::machines::Options;
use seawall::sandbox::machines::PortRule;
use seawall::sandbox::machines::Running;
use seawall::sandbox::machines::Spec;
use seawall::sandbox::machines::doctor;
use seawall::sandbox::machines::ensure_image;
use seawall::sandbox::machines::exec_from;
use seawall::sandbox::machines::prune;

use crate::support::turn::{Turn, cache, hosts_can_run};

/// How long a killed lab may take to be gone, and a condition in a guest to come true.
const SOON: Duration = Duration::from_secs(15);
const PACKAGES_PORT: u16 = 3142;
const OPERATOR: &str = "203.0.113.10";
const STRANGER: &str = "198.51.100.66";

fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_seawall"))
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn lab(state: &Path) -> Machines {
    let images = cache().join("image");
    ensure_image(&images, Release::Debian12, say).await.expect("an image");
    let options = Options {
        operator: Some(OPERATOR.parse().expect("an address")),
        packages_port: Some(PACKAGES_PORT),
        packages_cache: Some(cache().join("packages")),
        exe: Some(exe().to_owned()),
        ..Options::default()
    };
    Machines::new(state, &images, options).await.expect("a lab")
}

/// A key pair in a folder; gives back the public half.
fn key(folder: &Path) -> String {
    let file = folder.join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).status();
    assert!(made.expect("ssh-keygen runs").success());
    std::fs::read_to_string(file.with_extension("pub")).expect("a public key").trim().to_owned()
}

fn spec(name: &str, key: &str) -> Spec {
    Spec {
        name: name.to_owned(),
        hostname: name.to_owned(),
        release: Release::Debian12,
        user: "admin".to_owned(),
        authorized_keys: vec![key.to_owned()],
        user_data: None,
        login_ca: None,
        gateway_names: vec!["s3.eu-central-1.amazonaws.com".to_owned()],
        trusted_pem: None,
        packages_port: Some(PACKAGES_PORT),
    }
}

/// One command over ssh, strict about the host key that the lab told.
fn ssh(folder: &Path, at: &Running, user: &str, command: &str) -> Output {
    let known = folder.join("known_hosts");
    let lines: Vec<String> = at.host_keys.iter().map(|key| format!("{} {key}\n", at.v4)).collect();
    std::fs::write(&known, lines.concat()).expect("a known_hosts file");
    Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "StrictHostKeyChecking=yes"])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(folder.join("key"))
        .arg(format!("{user}@{}", at.v4))
        .arg(command)
        .stdin(Stdio::null())
        .output()
        .expect("ssh runs")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether a TCP connection from an address of the lab is answered, by a port that is open or by a refusal of the host.
fn reaches(state: &Path, from: &str, to: &str, port: u16) -> bool {
    let from: IpAddr = from.parse().expect("an address");
    let script = format!(
        "import socket,sys\ntry: socket.create_connection(('{to}',{port}),1.5)\nexcept ConnectionRefusedError: pass\nexcept OSError: sys.exit(9)"
    );
    let argv: Vec<OsString> = ["python3", "-c", &script].iter().map(OsString::from).collect();
    let output = exec_from(state, Some(exe()), from, &argv).expect("a lab").output().expect("python runs");
    match output.status.code() {
        Some(0) => true,
        Some(9) => false,
        _ => panic!("{}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn only_from(port: u16, cidr: &str) -> PortRule {
    let mut rule = PortRule::tcp(port);
    rule.cidrs = vec![cidr.parse().expect("a network")];
    rule.ipv6_cidrs = vec![];
    rule
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < SOON, "{what} does not become true");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_live_behind_a_real_firewall() {
    let folder = tempfile::tempdir().expect("a folder");
    if !hosts_can_run("two_hosts_live_behind_a_real_firewall") {
        return;
    }
    let _turn = Turn::beside_others();
    let state = folder.path().join("lab");
    let key = key(folder.path());
    let machines = lab(&state).await;
    let since = Instant::now();
    let db = machines.create(spec("db", &key), &[PortRule::tcp(22)]).await.expect("a host");
    let answers = since.elapsed();
    assert_eq!(said(&ssh(folder.path(), &db, "admin", "sudo -n id -u")), "0");
    say(&format!("create to sshd {} ms, to a login {} ms", answers.as_millis(), since.elapsed().as_millis()));
    let mut other = spec("web", &key);
    other.user = "ubuntu".to_owned();
    other.user_data = Some("echo launched > /root/launched".to_owned());
    other.trusted_pem = Some(authority());
    other.login_ca = Some(key.clone());
    let ssh_port = [PortRule::tcp(22)];
    let (web, third) = tokio::join!(machines.create(other, &ssh_port), machines.create(spec("third", &key), &ssh_port));
    let (web, third) = (web.expect("a second host"), third.expect("a third host"));
    said(&ssh(folder.path(), &third, "admin", "true"));
    let twice = machines.create(spec("third", &key), &ssh_port).await;
    assert!(matches!(twice, Err(MachineError::Exists { .. })));
    let script = "cloud-init status --wait && sudo cat /root/launched && whoami";
    assert_eq!(said(&ssh(folder.path(), &web, "ubuntu", script)), "status: done\nlaunched\nubuntu");
    trust(folder.path(), &web, &key);
    assert_eq!(said(&ssh(folder.path(), &db, "admin", "systemctl is-system-running --wait")), "running");
    let from = said(&ssh(folder.path(), &db, "admin", "echo $SSH_CONNECTION"));
    assert!(from.starts_with(OPERATOR), "{from}");

    firewall(&machines, &state, &db).await;
    no_way_out(folder.path(), &machines, &db);
    settings(folder.path(), &db);
    power(folder.path(), &machines, &db).await;
    addresses(folder.path(), &machines, &db).await;
    let install = "sudo apt-get -qq update && sudo DEBIAN_FRONTEND=noninteractive apt-get -qq install -y tree >/dev/null && tree --version";
    let db = machines.status("db").await.expect("a host").at;
    let version = said(&ssh(folder.path(), &db, "admin", install));
    assert!(version.starts_with("tree v"), "{version}");

    machines.delete("web").await.expect("a deletion");
    assert!(!state.join("hosts/web").exists());
    let pid = machines.status("db").await.expect("a host").pid.expect("a process");
    machines.shutdown(false).await.expect("an end");
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!state.join("hosts").exists());
}

/// A certificate authority as PEM.
fn authority() -> String {
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names are fine");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "lab test authority");
    let key = rcgen::KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate").pem()
}

/// The extra authority is trusted by OpenSSL's folder and by the bundle; the login authority is sshd's.
fn trust(folder: &Path, web: &Running, key: &str) {
    let script = "openssl verify /usr/local/share/ca-certificates/lab.crt && sudo sshd -T | grep -i ^trustedusercakeys && cat /etc/ssh/lightsail_instance_ca.pub";
    let expected = format!(
        "/usr/local/share/ca-certificates/lab.crt: OK\ntrustedusercakeys /etc/ssh/lightsail_instance_ca.pub\n{key}"
    );
    assert_eq!(said(&ssh(folder, web, "ubuntu", &format!("PATH=$PATH:/usr/sbin; {script}"))), expected);
    let bundle =
        "openssl verify -no-CApath -CAfile /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates/lab.crt";
    assert!(said(&ssh(folder, web, "ubuntu", bundle)).ends_with("OK"));
}

async fn firewall(machines: &Machines, state: &Path, db: &Running) {
    let (v4, v6) = (db.v4.to_string(), db.v6.to_string());
    assert!(reaches(state, STRANGER, &v4, 22));
    assert!(reaches(state, "2001:db8::66", &v6, 22));
    assert!(!reaches(state, STRANGER, &v4, 8080));
    machines.set_ports("db", &[only_from(22, "203.0.113.0/24"), PortRule::tcp(8080)]).await.expect("a rule set");
    assert!(reaches(state, "203.0.113.77", &v4, 22));
    assert!(!reaches(state, STRANGER, &v4, 22));
    assert!(!reaches(state, "2001:db8::66", &v6, 22));
    // Nothing listens there: the firewall lets it through and the host refuses.
    assert!(reaches(state, STRANGER, &v4, 8080));
}

/// A host finds the lab's services on the gateway, and nothing of this computer or beyond.
fn no_way_out(folder: &Path, machines: &Machines, db: &Running) {
    let front = machines.listen(8443).expect("a listener in the lab");
    let gateway = machines.gateway();
    let script = "timeout 2 bash -c '</dev/tcp/s3.eu-central-1.amazonaws.com/8443' && getent hosts s3.eu-central-1.amazonaws.com";
    let found = said(&ssh(folder, db, "admin", script));
    assert!(found.starts_with(&gateway.to_string()), "{found}");
    drop(front);
    let mut own = gateway.octets();
    own[3] = 254;
    let open = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    let port = open.local_addr().expect("an address").port();
    let own = Ipv4Addr::from(own);
    assert!(std::net::TcpStream::connect((own, port)).is_ok());
    let script = format!("timeout 2 bash -c '</dev/tcp/{own}/{port}'");
    assert!(!ssh(folder, db, "admin", &script).status.success(), "a host reaches this computer");
    let outside = Instant::now();
    assert!(!ssh(folder, db, "admin", "getent hosts example.org").status.success());
    assert!(!ssh(folder, db, "admin", "timeout 9 bash -c '</dev/tcp/192.0.2.1/80'").status.success());
    assert!(outside.elapsed() < Duration::from_secs(5), "what cannot be reached hangs");
}

/// What belongs to this computer's kernel cannot be changed from a host, and says so; what is the network's is the host's.
fn settings(folder: &Path, db: &Running) {
    let net = "sudo sysctl -qw net.ipv4.tcp_keepalive_time=77 && sudo sysctl -n net.ipv4.tcp_keepalive_time";
    assert_eq!(said(&ssh(folder, db, "admin", net)), "77");
    let kernel = ssh(folder, db, "admin", "sudo sysctl -w vm.swappiness=7");
    assert!(!kernel.status.success(), "a host sets this computer's kernel");
    let swap = "sudo fallocate -l 8M /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile >/dev/null && sudo swapon /swapfile";
    assert!(!ssh(folder, db, "admin", swap).status.success(), "a host turns on this computer's swap");
    assert!(!std::fs::read_to_string("/proc/swaps").expect("a list").contains("/swapfile"));
    let clock = ssh(folder, db, "admin", "sudo date -s @0");
    assert!(!clock.status.success(), "a host sets the clock");
}

async fn power(folder: &Path, machines: &Machines, db: &Running) {
    let boot = |at: &Running| said(&ssh(folder, at, "admin", "cat /proc/sys/kernel/random/boot_id"));
    let first = boot(db);
    said(&ssh(folder, db, "admin", "echo kept > kept"));
    let since = Instant::now();
    let again = machines.reboot("db").await.expect("a reboot");
    say(&format!("reboot {} ms", since.elapsed().as_millis()));
    assert_eq!(&again, db);
    assert_ne!(boot(db), first);
    // A reboot from inside keeps network and firewall as well.
    let second = boot(db);
    ssh(folder, db, "admin", "sudo systemctl reboot");
    eventually("the host is up again", || {
        let output = ssh(folder, db, "admin", "cat /proc/sys/kernel/random/boot_id");
        output.status.success() && said(&output) != second
    })
    .await;
    machines.stop("db").await.expect("a stop");
    assert_eq!(machines.status("db").await.expect("a host").state, HostState::Stopped);
    assert!(!ssh(folder, db, "admin", "true").status.success());
    machines.start("db").await.expect("a start");
    assert_eq!(said(&ssh(folder, db, "admin", "cat kept")), "kept");
}

async fn addresses(folder: &Path, machines: &Machines, db: &Running) {
    let fixed = machines.reserve_address().expect("an address");
    let moved = machines.set_public_address("db", Some(fixed)).await.expect("a move");
    assert_eq!((moved.v4, moved.v6), (fixed, db.v6));
    assert!(!ssh(folder, db, "admin", "true").status.success());
    said(&ssh(folder, &moved, "admin", "true"));
    let again = machines.set_public_address("db", None).await.expect("a move back");
    assert_ne!(again.v4, fixed);
    machines.release_address(fixed).expect("a release");
    said(&ssh(folder, &again, "admin", "true"));
}

/// Set for the process that is killed: the folder in which it keeps its lab.
const KILLED: &str = "SEAWALL_TEST_LAB";

/// The process that is killed.
async fn the_lab_that_is_killed(folder: &Path) {
    let public = std::fs::read_to_string(folder.join("key.pub")).expect("a key");
    let machines = lab(&folder.join("lab")).await;
    machines.create(spec("db", public.trim()), &[PortRule::tcp(22)]).await.expect("a host");
    std::fs::write(folder.join("up"), machines.gateway().to_string()).expect("a mark");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_lab_leaves_folders_only() {
    if let Some(folder) = std::env::var_os(KILLED) {
        return the_lab_that_is_killed(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    if !hosts_can_run("a_killed_lab_leaves_folders_only") {
        return;
    }
    // Alone: the number of a lab that is gone may be another's at once.
    let _turn = Turn::alone();
    let state = folder.path().join("lab");
    key(folder.path());
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "machines::a_killed_lab_leaves_folders_only", "--nocapture"])
        .env(KILLED, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("a child");
    let since = Instant::now();
    while !folder.path().join("up").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "the lab ended by itself");
        assert!(since.elapsed() < Duration::from_mins(5), "the lab does not come up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let processes = || {
        let listed = Command::new("ps").args(["-eo", "pid,args"]).output().expect("ps runs");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        text.matches(&state.display().to_string()).count()
    };
    let gateway = std::fs::read_to_string(folder.path().join("up")).expect("a gateway");
    let link = format!("/sys/class/net/seawall{}", gateway.split('.').nth(2).expect("a number"));
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(state.join("lab.json")).expect("a record")).expect("JSON");
    let holder = file["holder"].as_u64().expect("a pid");
    assert!(processes() > 0 && Path::new(&link).exists());
    assert!(Path::new(&format!("/proc/{holder}")).exists());
    assert!(prune(&state, Some(exe())).await.is_err(), "a living lab is pruned");
    let killed = Instant::now();
    child.kill().expect("a kill");
    child.wait().expect("an end");
    eventually("every process is gone", || processes() == 0 && !Path::new(&format!("/proc/{holder}")).exists()).await;
    say(&format!("killed lab: processes gone after {} ms", killed.elapsed().as_millis()));
    eventually("the link is gone", || !Path::new(&link).exists()).await;
    let mounts = std::fs::read_to_string("/proc/mounts").expect("mounts");
    assert!(!mounts.contains(&state.display().to_string()));
    assert!(exec_from(&state, Some(exe()), OPERATOR.parse().expect("an address"), &[]).is_err());

    // The next lab in the folder goes on with the host that the killed one had.
    let machines = lab(&state).await;
    assert_eq!(machines.status("db").await.expect("a host").state, HostState::Stopped);
    let db = machines.start("db").await.expect("a start");
    said(&ssh(folder.path(), &db, "admin", "true"));
    machines.shutdown(true).await.expect("an end");
    prune(&state, Some(exe())).await.expect("a clean-up");
    assert!(!state.join("hosts").exists());
}

#[tokio::test]
async fn the_doctor_says_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    // A program that cannot do what is tried, on any computer.
    let told = doctor(Some(Path::new("/bin/false")), folder.path()).await;
    assert!(matches!(told, Err(MachineError::CannotRun { missing }) if !missing.is_empty()));
}
