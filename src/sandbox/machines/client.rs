//! A client of the lab with an address of its own: a command in a fresh network namespace on one more veth.
//!
//! Tests and people see with it what somebody at that address sees. The namespace ends with the command.

use std::ffi::OsString;
use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use nix::sched::CloneFlags;
use nix::sched::unshare;

use crate::sandbox::machines::supervise::ended;

/// The kernel takes a dead client's link away a moment after its end; a new client at the same address waits this long.
const SAME_ADDRESS_LIMIT: Duration = Duration::from_secs(5);
const SAME_ADDRESS_POLL: Duration = Duration::from_millis(50);

/// `__client HOLDER GATEWAY ADDRESS COMMAND…`. Returns only when it failed.
pub(super) fn client(args: &[OsString]) -> ExitCode {
    ended(become_client(args))
}

fn become_client(args: &[OsString]) -> io::Result<()> {
    let usage = || io::Error::other("a client needs: HOLDER GATEWAY ADDRESS COMMAND");
    let word = |index: usize| args.get(index).and_then(|arg| arg.to_str()).ok_or_else(usage);
    let holder: u32 = word(0)?.parse().map_err(|_| usage())?;
    let gateway: Ipv4Addr = word(1)?.parse().map_err(|_| usage())?;
    let address: IpAddr = word(2)?.parse().map_err(|_| usage())?;
    let (program, rest) = args.get(3..).and_then(<[OsString]>::split_first).ok_or_else(usage)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    let pid = std::process::id();
    let (link, length) = (format!("c{pid}"), if address.is_ipv4() { 32 } else { 128 });
    let lab = format!("--net=/proc/{holder}/ns/net");
    let tool = ["nsenter", lab.as_str(), "ip", "-batch", "-"];
    let wire = format!(
        "link add {link} type veth peer name eth0 netns {pid}\naddr add fe80::1/64 dev {link} nodad\nlink set {link} up\n"
    );
    batch(&tool, &wire)?;
    let since = Instant::now();
    while let Err(error) = batch(&tool, &format!("route add {address}/{length} dev {link}\n")) {
        if !error.to_string().contains("File exists") || since.elapsed() > SAME_ADDRESS_LIMIT {
            return Err(error);
        }
        sleep(SAME_ADDRESS_POLL);
    }
    let routes = if address.is_ipv4() {
        format!("route add {gateway} dev eth0\nroute add default via {gateway} dev eth0\n")
    } else {
        "route add ::/0 via fe80::1 dev eth0\n".to_owned()
    };
    let nodad = if address.is_ipv4() { "" } else { " nodad" };
    let own = format!("link set lo up\nlink set eth0 up\naddr add {address}/{length} dev eth0{nodad}\n{routes}");
    batch(&["ip", "-batch", "-"], &own)?;
    let error = Command::new(program).args(rest).exec();
    Err(io::Error::other(format!("cannot run `{}`: {error}", program.to_string_lossy())))
}

/// Runs `ip` on lines of input. It takes milliseconds and waits for nobody, so there is no limit here.
fn batch(argv: &[&str], input: &str) -> io::Result<()> {
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
