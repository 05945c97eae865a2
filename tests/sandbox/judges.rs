//! Judges that nobody here wrote: `ssh-audit` from outside and Lynis on the host, against the hardened server.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::rehearsal::Rehearsal;

/// From the Python package index, by name: Debian 12's own is from before the warnings about quantum computers.
const SSH_AUDIT: &str = "3.9.0";
/// What the index of the hardened server must reach. A container shares its kernel, so that Lynis finds its parameters
/// as they are; `docs/hardening.md` has the numbers of the last run.
const LYNIS_INDEX: u32 = 68;
/// What `docs/hardening.md` explains.
const HARDENING: &str = include_str!("../../docs/hardening.md");

/// `ssh-audit` in the project's own cache. By the project's own path: the programs of a Python environment name it.
fn ssh_audit() -> PathBuf {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(".seawall/cache");
    let folder = cache.join(format!("ssh-audit-{SSH_AUDIT}"));
    let program = folder.join("bin/ssh-audit");
    if !runs(&program) {
        let run = |command: &mut Command| assert!(command.status().expect("it starts").success(), "{command:?}");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let wanted = format!("ssh-audit=={SSH_AUDIT}");
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", &wanted]));
    }
    program
}

/// Whether a cached program is there and what it needs is, too: it names its interpreter by the path at which it was made, and
/// that is gone when the project or Python was moved.
fn runs(program: &Path) -> bool {
    Command::new(program).arg("--help").output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_tool_that_was_moved_is_noticed() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("tool");
    let write = |interpreter: &str, body: &str| {
        std::fs::write(&program, format!("#!{interpreter}\n{body}\n")).expect("a program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        runs(&program)
    };
    assert!(!runs(&program), "it is not there");
    assert!(write("/bin/sh", "exit 0"));
    assert!(!write("/nowhere/bin/python", "exit 0"), "its interpreter is gone");
    assert!(!write("/bin/sh", "exit 1"), "its modules are gone");
}

/// What is wrong with the algorithms that a server offers: `warn curve25519-sha256: …`.
fn heard(lab: &Rehearsal, program: &Path) -> Vec<String> {
    let status = lab.status();
    let address = status["hosts"][0]["address"].as_str().expect("the server's address").to_owned();
    let program = program.display().to_string();
    let argv = ["sandbox", "exec", "--", &program, "--json", "--skip-rate-test", "--timeout", "10", &address];
    // Its status tells warnings from none, which the report does better.
    let said = lab.run(&argv);
    let report: Value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", said.stdout, said.stderr));
    let mut wrong = Vec::new();
    for kind in ["kex", "key", "enc", "mac"] {
        for algorithm in report[kind].as_array().expect("a list of algorithms") {
            for level in ["fail", "warn"] {
                for note in algorithm["notes"][level].as_array().into_iter().flatten() {
                    let name = algorithm["algorithm"].as_str().unwrap_or_default();
                    wrong.push(format!("{level} {name}: {}", note.as_str().unwrap_or_default()));
                }
            }
        }
    }
    wrong
}

#[test]
fn ssh_audit_finds_no_weak_algorithm() {
    let Some(lab) = Rehearsal::open("ssh_audit_finds_no_weak_algorithm") else { return };
    let program = ssh_audit();
    assert!(heard(&lab, &program).len() > 5, "it sees what Debian's own sshd offers");

    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let wrong = heard(&lab, &program);
    let rescue = |line: &String| line.starts_with("warn curve25519-sha256") && line.contains("post-quantum");
    assert!(wrong.len() == 2 && wrong.iter().all(rescue), "only what decision 13 keeps for the rescue: {wrong:?}");

    lab.edit_inventory("rescue: lightsail-connect", "rescue: none");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    assert_eq!(heard(&lab, &program), Vec::<String>::new(), "nothing is weak without the rescue");
}

/// The index and the open suggestions of a run of Lynis on the server.
fn lynis(lab: &Rehearsal) -> (u32, Vec<String>) {
    lab.on_server(&[
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-qq",
        "-y",
        "--no-install-recommends",
        "lynis",
    ]);
    lab.on_server(&["lynis", "audit", "system", "--quick", "--quiet", "--no-colors"]);
    let report = lab.on_server(&["cat", "/var/log/lynis-report.dat"]).stdout;
    let index = report.lines().find_map(|line| line.strip_prefix("hardening_index=")).expect("an index");
    let mut open: Vec<String> = report
        .lines()
        .filter_map(|line| line.strip_prefix("suggestion[]=").or_else(|| line.strip_prefix("warning[]=")))
        .filter_map(|line| line.split('|').next())
        .map(str::to_owned)
        .collect();
    open.sort();
    open.dedup();
    (index.parse().expect("a number"), open)
}

#[test]
fn lynis_finds_nothing_that_is_not_explained() {
    let Some(lab) = Rehearsal::begin("lynis_finds_nothing_that_is_not_explained") else { return };
    lab.expect(0, &["sandbox", "up"]);
    let cloud = ["lightsail.instance/db", "lightsail.key_pair/db", "lightsail.ports/db"];
    let mut args = vec!["--sandbox", "apply", "--yes"];
    args.extend(cloud.iter().flat_map(|address| ["--only", address]));
    lab.expect(0, &args);
    lab.on_server(&["apt-get", "update", "-qq"]);
    let (before, _) = lynis(&lab);

    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let (after, open) = lynis(&lab);
    assert!(after > before && after >= LYNIS_INDEX, "index {before} before, {after} after");
    let unexplained: Vec<&String> = open.iter().filter(|id| !HARDENING.contains(&format!("`{id}`"))).collect();
    assert!(unexplained.is_empty(), "docs/hardening.md says nothing of {unexplained:?} (index {before} → {after})");
}
