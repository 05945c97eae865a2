//! How a repository comes to be, and how one that is there is mended: configuration, stanza, archive, first backup.

use crate::kinds::host::{self, QUICK_S, run};
use crate::kinds::parts::unit::Unit;
use crate::kinds::parts::{self, Close, Difference};
use crate::kinds::pgbackrest::{FIRST, FIRST_BACKUP_S, Layout, mark_gap};
use crate::kinds::pgbackrest_repo::files::{archive_conf, archive_file, parts_of, stop_of};
use crate::kinds::pgbackrest_repo::{Actual, Desired};
use crate::kinds::postgres::{MAINTENANCE, reload, tell};
use crate::plan::change::FieldChange;
use crate::plan::step::{Content, HostStep};

/// Seconds to archive one segment and find it.
const CHECK_S: u32 = 180;

/// The table of the heartbeat: one row, in the database that is always there.
const HEARTBEAT: &str = "create schema if not exists seawall;
create table if not exists seawall.heartbeat (id integer primary key check (id = 1), at timestamptz not null);
comment on table seawall.heartbeat is 'One row, written every minute by seawall-heartbeat.timer. After a restore it says how far back the data is.';
insert into seawall.heartbeat (id, at) values (1, now()) on conflict (id) do update set at = excluded.at;
";

/// Takes a `pgbackrest stop` back. The one for all stanzas is taken back without the name of one.
fn start(desired: &Desired, path: &str) -> HostStep {
    let stanza = format!("--stanza={}", desired.stanza);
    let mut argv = vec!["runuser", "-u", "postgres", "--", "pgbackrest"];
    argv.extend((path == stop_of(&desired.stanza)).then_some(stanza.as_str()));
    argv.push("start");
    run(&argv, QUICK_S, format!("take {path} back: let pgBackRest work again"))
}

/// Everything that `fields` says differs; all of it where nothing is there yet. The repository comes before archiving,
/// and archiving before the first backup.
pub(super) fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
    let new = actual.is_none();
    let differs = |path: &str| new || host::differs(fields, path);
    let mut differences = parts_of(desired).differences(actual.map(|actual| &actual.parts));
    // A warning of pgBackRest's is about a file that is as it should be, or one beside it: written again, it is checked.
    if host::differs(fields, "configuration") {
        let files = parts_of(desired).files.into_iter().filter(|file| file.path == FIRST.conf);
        let field = fields.iter().find(|field| field.path == "configuration");
        differences.extend(field.cloned().map(|field| Difference { field, closes: files.map(Close::Write).collect() }));
    }
    let closing = parts::close(&differences);
    let mut steps = if new { FIRST.directories() } else { Vec::new() };
    steps.extend(gone(actual.map(|actual| actual.left.as_slice()).unwrap_or_default()));
    steps.extend(closing.files);
    steps.extend(FIRST.secret_steps(&desired.cipher_pass, differs));
    let started = host::differs(fields, "stop");
    for path in actual.into_iter().flat_map(|actual| &actual.stops).filter(|_| started) {
        steps.push(start(desired, path));
    }
    if differs("heartbeat") {
        steps.push(tell(
            desired.cluster,
            MAINTENANCE,
            Content::Text(HEARTBEAT.to_owned()),
            "make the table of the heartbeat",
        ));
    }
    if differs("stanza") {
        steps.extend(FIRST.stanza(&desired.stanza, &[]));
    }
    let archive = archive_conf(desired);
    let archiving = differs(&archive) || differs("archive_command") || differs("archive_timeout");
    if archiving {
        steps.push(archive_file(desired).step());
        steps.push(reload(desired.cluster));
        if desired.copied && host::differs(fields, "archive_command") {
            steps.push(mark_gap("archive_command was another one"));
        }
    }
    if archiving || started || differs("stanza") || differs(FIRST.pass[0]) || differs(FIRST.conf) {
        let what = "archive one segment of WAL and find it in the repository";
        steps.push(FIRST.pgbackrest(&desired.stanza, &["check"], CHECK_S, what));
    }
    steps.extend(closing.start);
    if differs("full backup") {
        let argv = ["systemctl", "start", "seawall-backup@full.service"];
        steps.push(run(&argv, FIRST_BACKUP_S, "make a full backup"));
    }
    steps
}

/// What a restore needs where there is nothing yet: pgBackRest's configuration, passphrase and keys, and the program. No
/// archiving, no timers, no stanza.
pub(super) fn before_restore(desired: &Desired) -> Vec<HostStep> {
    before(desired, &FIRST)
}

/// The same where nothing may ever be written: pgBackRest gets no other key than the one that reads.
pub(super) fn before_rehearsal(desired: &Desired) -> Vec<HostStep> {
    let [(_, writes), (reading, reads)] = FIRST.keys;
    before(desired, &Layout { keys: [(reading, writes), (reading, reads)], ..FIRST })
}

fn before(desired: &Desired, layout: &Layout) -> Vec<HostStep> {
    let mut steps = layout.directories();
    steps.extend(parts::close(&parts_of(desired).differences(None)).files);
    steps.extend(layout.secret_steps(&desired.cipher_pass, |_| true));
    steps
}

/// Takes away units whose line in the schedule is gone.
fn gone(left: &[String]) -> Vec<HostStep> {
    let units = left.iter().filter_map(|path| Some(Unit::named(path.rsplit('/').next()?)));
    let (timers, others): (Vec<Unit>, Vec<Unit>) = units.partition(|unit| unit.name.strip_suffix(".timer").is_some());
    let mut steps: Vec<HostStep> = others.iter().map(|unit| host::remove_file(&unit.path())).collect();
    if !timers.is_empty() {
        steps.extend(parts::remove(&timers, &[]));
    } else if !others.is_empty() {
        steps.push(parts::reload());
    }
    steps
}

/// Takes away what runs and what archives. The repository, its passphrase and the keys stay: without them it is noise.
pub(super) fn remove(desired: &Desired) -> Vec<HostStep> {
    let mut steps = parts::remove(&parts_of(desired).units, &[&archive_conf(desired)]);
    steps.push(reload(desired.cluster));
    steps
}

#[cfg(test)]
mod tests {
    use crate::kinds::pgbackrest::PROVE;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    /// Whether a repository whose first file is `content`, encrypted with `with`, opens with what a file declares.
    fn opens(content: &str, with: &str, declared: &str) -> bool {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs_err::write(at("plain"), content).expect("a file");
        let pass = format!("pass:{with}");
        let encrypt = ["enc", "-aes-256-cbc", "-md", "sha1", "-pass", &pass, "-in", &at("plain"), "-out", &at("info")];
        let made = Command::new("openssl").args(encrypt).stderr(std::process::Stdio::null()).status();
        assert!(made.expect("openssl runs").success());
        fs_err::write(at("pass"), format!("{declared}\n")).expect("a file");
        fs_err::write(at("pgbackrest"), format!("#!/bin/sh\nexec cat {}\n", at("info"))).expect("a file");
        fs_err::set_permissions(at("pgbackrest"), std::fs::Permissions::from_mode(0o755)).expect("its mode");
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let proof = Command::new("sh").args(["-c", PROVE, "sh", "main", &at("pass")]).env("PATH", path).output();
        proof.expect("sh runs").status.success()
    }

    #[test]
    fn the_declared_passphrase_is_proven_and_no_other() {
        let info = "[backrest]\nbackrest-format=5\n";
        let pass = "a passphrase of some length = and more";
        assert!(opens(info, pass, pass));
        // As pgBackRest would have read a part of it, or what somebody else wrote.
        for other in ["a passphrase of some length", "a passphrase of some length = and morf", ""] {
            assert!(!opens(info, pass, other), "{other:?}");
        }
        assert!(!opens("something else\n", pass, pass));
    }
}
