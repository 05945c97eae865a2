//! What a second repository is asked, and what waits for it.

use serde::{Deserialize, Serialize};

use crate::kinds::host;
use crate::kinds::pgbackrest::{COPY, COPY_SPOOL, ask, script, words};
use crate::kinds::pgbackrest_copy::files::parts_of;
use crate::kinds::pgbackrest_copy::{Actual, Desired};
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command, glob};

/// Timers of ours that come and go with lines of the schedule.
const SCHEDULED: &str = "/etc/systemd/system/seawall-copy-*.timer";

/// As postgres, whose folder it is: lines `now SECONDS`, `gap SECONDS WHY`, `waits COUNT SECONDS FILE` with the oldest file and when it
/// came, and `said TEXT`, what pgBackRest said last where something waits.
const SPOOL: &str = r#"runuser -u postgres -- sh -c 'cd "$1" 2>/dev/null || exit 66
export LC_ALL=C
echo "now $(date +%s)"
for mark in gap gap.closing; do [ ! -f "$mark" ] || echo "gap $(head -n 1 "$mark" | head -c 200)"; done
count=$(find queue -type f | wc -l)
[ "$count" = 0 ] || echo "waits $count $(find queue -type f -printf "%T@ %f\n" | sort -n | head -n 1 | sed "s/\.[0-9]* / /")"
[ "$count" = 0 ] || echo "said $(grep -a . said 2>/dev/null | tail -n 1 | head -c 300)"' sh "$1""#;

/// How that ends where there is no spool.
const NO_SPOOL: i32 = 66;

/// What waits for a repository, and what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spool {
    /// Seconds since 1970.
    pub now: i64,
    /// Why the repository lacks WAL, where it does.
    pub gap: Option<String>,
    /// How many files wait, and since when the oldest one does, in seconds since 1970, with its name.
    pub waits: Option<(u64, i64, String)>,
    /// What pgBackRest said last.
    pub said: Option<String>,
}

/// Asks what waits; [`spool`] reads the answer.
pub fn spool_probe() -> Probe {
    ask(&script(SPOOL, &[COPY_SPOOL]))
}

/// What waits; `None` where there is no spool.
///
/// # Errors
/// Why that could not be seen.
pub fn spool(answers: &Answers) -> Result<Option<Spool>, Unseen> {
    let said = host::command(answers, &words(&script(SPOOL, &[COPY_SPOOL])), &[0, NO_SPOOL])?;
    Ok(said.ok().then(|| read(&said.stdout)))
}

fn read(stdout: &str) -> Spool {
    let mut found = Spool::default();
    for line in stdout.lines() {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        match word {
            "now" => found.now = rest.parse().unwrap_or_default(),
            "gap" => found.gap = Some(rest.split_once(' ').map_or(rest, |(_, why)| why).to_owned()),
            "waits" => {
                let mut fields = rest.splitn(3, ' ');
                let mut next = || fields.next();
                found.waits = (|| Some((next()?.parse().ok()?, next()?.parse().ok()?, next()?.to_owned())))();
            }
            "said" if !rest.is_empty() => found.said = Some(rest.to_owned()),
            _ => {}
        }
    }
    found
}

fn access() -> [&'static str; 5] {
    ["stat", "-c", "%a %U:%G", "--", COPY_SPOOL]
}

pub(super) fn probes(desired: &Desired) -> Vec<Probe> {
    let mut probes = parts_of(desired).probes();
    probes.extend(COPY.secret_probes(&desired.cipher_pass));
    probes.extend([COPY.info_probe(&desired.stanza), command(&access()), spool_probe(), glob(SCHEDULED)]);
    probes
}

pub(super) fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let wanted = parts_of(desired);
    let seen = wanted.look(answers)?;
    if !seen.files.contains_key(COPY.conf) {
        return Ok(None);
    }
    let is_wanted = |path: &&str| wanted.files.iter().any(|file| file.path == **path);
    let ours = |path: &&str| {
        let name = path.strip_prefix("/etc/systemd/system/seawall-copy-").unwrap_or_default();
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
    };
    let left = answers.glob(SCHEDULED)?.into_iter().filter(ours).filter(|path| !is_wanted(path));
    let left = left.map(str::to_owned).collect();
    let said = COPY.said(answers, &desired.stanza)?;
    let (repository, unreadable) = match said.repository {
        Ok(repository) => (Some(repository), None),
        Err(why) => (None, Some(why)),
    };
    let access = answers.command(&access())?;
    let spool = spool(answers)?;
    Ok(Some(Actual {
        parts: seen,
        secrets: COPY.secrets(answers, &desired.cipher_pass)?,
        left,
        warnings: said.warnings,
        spool: if access.ok() { access.stdout.trim() } else { "none" }.to_owned(),
        gap: spool.as_ref().and_then(|spool| spool.gap.clone()),
        repository,
        unreadable,
        waiting: spool.unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_read() {
        let found = read(
            "now 2000\ngap 1900 000000010000000000000007 was not kept: the disk is nearly full\n\
             waits 3 1000 000000010000000000000004\nsaid ERROR: [101]: no way\n",
        );
        assert_eq!(found.now, 2000);
        assert_eq!(found.gap.as_deref(), Some("000000010000000000000007 was not kept: the disk is nearly full"));
        assert_eq!(found.waits, Some((3, 1000, "000000010000000000000004".to_owned())));
        assert_eq!(found.said.as_deref(), Some("ERROR: [101]: no way"));
        assert_eq!(read("now 5\nsaid \nwaits x\n"), Spool { now: 5, ..Spool::default() });
    }
}
