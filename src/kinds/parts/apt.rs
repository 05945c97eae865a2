//! Packages of Debian: what dpkg says of them, and the runs of apt that install them.

use std::collections::BTreeMap;

use crate::kinds::host;
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command};
use crate::plan::step::HostStep;

/// The kind that installs what other kinds need, in one run of apt. Named here, because it knows all of them.
pub(crate) const KIND: &str = "host.packages";

/// Seconds for `apt-get update`: two small archives take seconds; a mirror that hangs must not hold the host for long.
pub(crate) const UPDATE_S: u32 = 240;
/// Seconds for one installation, the wait for the lock included: a database server's packages take half a minute on an
/// idle machine and minutes on a burstable one without credit.
const INSTALL_S: u32 = 1_200;
/// First boot runs apt by itself; wait this many seconds for its lock instead of failing.
pub(crate) const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

/// Words of `apt-get install`: without removing anything. When that is why it fails, the last line names what is in the way.
const INSTALL: &str = r#"apt-get install --no-remove "$@"
status=$?
[ "$status" != 0 ] || exit 0
gone=$(LC_ALL=C apt-get install --simulate "$@" 2>/dev/null | sed -n 's/^Remv \([^ ]*\).*/\1/p' | tr '\n' ' ')
[ -z "$gone" ] || echo "nothing was installed: it would remove ${gone% }, which no plan names; decide for one and take the other out by hand" >&2
exit "$status""#;

fn query<'a>(packages: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    let mut argv = vec!["dpkg-query", "-W", "-f=${db:Status-Abbrev}|${Package}\\n", "--"];
    argv.extend(packages.into_iter().map(String::as_str));
    argv
}

pub(crate) fn probe<'a>(packages: impl IntoIterator<Item = &'a String>) -> Probe {
    command(&query(packages))
}

/// Status of each package that dpkg knows: wish, state, and a third letter where it must be installed again.
pub(crate) fn look<'a>(
    packages: impl IntoIterator<Item = &'a String>,
    answers: &Answers,
) -> Result<BTreeMap<String, String>, Unseen> {
    // Status 1: some packages are not known to dpkg; the others are listed all the same.
    let listed = host::command(answers, &query(packages), &[0, 1])?;
    let mut status = BTreeMap::new();
    for line in listed.stdout.lines() {
        let (state, name) =
            line.split_once('|').ok_or_else(|| Unseen::Misread(format!("dpkg-query printed `{line}`")))?;
        // Listed with `un`: dpkg has heard of it, nothing of it is there.
        if !state.starts_with("un") {
            status.insert(name.to_owned(), state.trim_end().to_owned());
        }
    }
    Ok(status)
}

/// The status of a package. dpkg names it without the architecture that may be asked for, as in `libc6:amd64`.
pub(crate) fn status<'a>(found: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    found.get(name.split(':').next().unwrap_or(name)).map(String::as_str)
}

/// Installed for real: wished for or on hold, and in state `installed`. `iU`, `iF`, `rc`, `iiR` and the like are not.
pub(crate) fn installed(status: &str) -> bool {
    matches!(status, "ii" | "hi")
}

/// Unpacked, half configured or waiting for triggers: an interrupted run. apt refuses until dpkg has caught up.
pub(crate) fn interrupted(found: &BTreeMap<String, String>) -> bool {
    found.values().any(|status| status.chars().nth(1).is_some_and(|state| "UFHWt".contains(state)))
}

pub(crate) fn catch_up() -> HostStep {
    run(&["dpkg", "--configure", "-a", "--force-confold"], INSTALL_S, "finish interrupted installations")
}

/// Ends with status 0 even when no archive answered; then the installation fails, or reading again does.
pub(crate) fn update() -> HostStep {
    run(&["apt-get", "update", "-o", LOCK_TIMEOUT], UPDATE_S, "fetch package lists")
}

/// A configuration file that somebody changed stays; no question is ever asked, and nothing is removed.
pub(crate) fn install(packages: &[&str]) -> HostStep {
    install_with(&[], packages, INSTALL_S, &format!("install {}", packages.join(", ")))
}

pub(crate) fn install_with(options: &[&str], packages: &[&str], timeout_s: u32, what: &str) -> HostStep {
    let mut argv = vec!["sh", "-c", INSTALL, "sh", "-y", "--no-install-recommends", "-o", LOCK_TIMEOUT];
    argv.extend(["-o", "Dpkg::Options::=--force-confold"]);
    argv.extend(options);
    argv.push("--");
    argv.extend(packages);
    run(&argv, timeout_s, what)
}

/// Takes packages out that cannot be beside one that is wanted. Not apt's `remove`, which takes along what stands on them.
pub(crate) fn remove(packages: &[&str], wanted: &str) -> HostStep {
    let argv = [&["dpkg", "--remove", "--"], packages].concat();
    run(&argv, INSTALL_S, &format!("remove {}: {wanted} cannot be beside it", packages.join(", ")))
}

/// A run of apt or dpkg that asks nothing: not debconf, and not needrestart where it is installed. That lists what should be started
/// again and does not do it: a database is restarted when a plan says so.
pub(crate) fn run(argv: &[&str], timeout_s: u32, what: &str) -> HostStep {
    let env = [("DEBIAN_FRONTEND", "noninteractive"), ("NEEDRESTART_MODE", "l")];
    HostStep::Run {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: env.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        stdin: None,
        timeout_s,
        revert: None,
        what: what.to_owned(),
    }
}
