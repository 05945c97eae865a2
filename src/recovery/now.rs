//! Makes a backup now: starts the service that the timer starts, and follows it to its end.
//!
//! The service is started by a transaction of the host, so it needs nobody here, is found again after a lost connection, and
//! no apply changes the host meanwhile. Deliberately absent: a `pgbackrest backup` of our own beside the service's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::plan::backups::{BackupSet, Made};
use crate::plan::host::Endpoint;
use crate::plan::probe::{CommandState, HostProbe};
use crate::plan::restores::Repository;
use crate::plan::step::HostStep;
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::reach::{Act as _, Ask as _, Failure, HostEvent, Transaction, TransactionStep};
use crate::recovery::look::Target;
use crate::recovery::meaning::{self, Meaning};

/// Longest time for a backup: a full one of 1 TB at 25 MB/s. It goes on when this is over; nobody waits any longer.
pub const BACKUP_LIMIT_S: u32 = 12 * 3600;
/// Between two looks at a backup that runs. Each asks S3 once.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a server that is lost is looked for: a reboot takes a minute. A backup does not survive one.
const LOST_LIMIT: Duration = Duration::from_mins(5);
/// Lines of the service's journal that tell why it failed.
const JOURNAL_LINES: &str = "80";

/// What kind of backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Full,
    Differential,
}

impl Type {
    const ALL: [Self; 2] = [Self::Full, Self::Differential];

    /// The service that makes it.
    pub fn unit(self, repository: Repository) -> &'static str {
        match (repository, self) {
            (Repository::First, Self::Full) => "seawall-backup@full.service",
            (Repository::First, Self::Differential) => "seawall-backup@diff.service",
            (Repository::Copy, Self::Full) => "seawall-copy@full.service",
            (Repository::Copy, Self::Differential) => "seawall-copy@diff.service",
        }
    }
}

/// What systemd knows of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unit {
    name: &'static str,
    loaded: bool,
    active: String,
    since: String,
    invocation: String,
    status: i32,
}

impl Unit {
    fn read(name: &'static str, state: &CommandState) -> Self {
        let fields: BTreeMap<&str, &str> = state.stdout.lines().filter_map(|line| line.split_once('=')).collect();
        let text = |key: &str| fields.get(key).copied().unwrap_or_default().to_owned();
        Self {
            name,
            loaded: text("LoadState") == "loaded",
            active: text("ActiveState"),
            since: text("ExecMainStartTimestamp"),
            invocation: text("InvocationID"),
            status: text("ExecMainStatus").parse().unwrap_or(0),
        }
    }

    fn runs(&self) -> bool {
        matches!(self.active.as_str(), "activating" | "active" | "deactivating" | "reloading")
    }
}

impl Target {
    /// Starts a backup and follows it. `id` names the transaction and is new.
    ///
    /// # Errors
    /// What is wrong, and whether anything was started.
    pub async fn backup_now(
        &self,
        world: &World,
        kind: Type,
        id: &str,
        on_progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Made, Diagnostic> {
        let begun = Instant::now();
        on_progress("looking at the repository");
        let at = self.endpoint(world).await.map_err(|why| self.unseen(&why))?;
        let units = self.units(world, &at).await.map_err(|why| self.unseen(&why))?;
        if let Some(unit) = units.iter().find(|unit| unit.runs()) {
            return Err(self.running(&format!("`{}` runs since {}", unit.name, unit.since)));
        }
        if !units.iter().any(|unit| unit.name == kind.unit(self.repository) && unit.loaded) {
            let problem =
                Diagnostic::error("backup-not-set-up", format!("`{}` has no service that makes backups", self.server));
            return Err(problem
                .note("nothing was started")
                .hint("`seawall plan` shows what is missing, `seawall apply` makes it"));
        }
        let before = self.info(&Look::of(world), &at).await.map_err(|why| self.unseen(&why))?;
        if before.status.lock.backup.held {
            return Err(self.running("pgBackRest holds the lock; it was not started by a service of Seawall"));
        }
        let before: BTreeSet<String> = before.backup.into_iter().map(|backup| backup.label).collect();
        let transaction = start(kind.unit(self.repository), id, &self.server);
        let quiet = |_: HostEvent| ();
        let done = tokio::select! {
            done = world.act_host(&at, &transaction, &quiet) => done,
            never = self.tell(world, &at, kind.unit(self.repository), on_progress) => match never {},
        };
        if let Err(failure) = done {
            return Err(self.failed(world, &at, kind, &failure).await);
        }
        self.made(world, &before, begun).await
    }

    /// Follows the backup that runs, whoever started it; `None` where none does.
    ///
    /// # Errors
    /// Why it failed, or why its end was not seen.
    pub async fn follow(&self, world: &World, on_progress: &(dyn Fn(&str) + Sync)) -> Result<Option<Made>, Diagnostic> {
        let begun = Instant::now();
        let at = self.endpoint(world).await.map_err(|why| self.unseen(&why))?;
        // In this order: a backup that ends between the two looks is seen not to run, and not taken for an old one.
        let before = self.info(&Look::of(world), &at).await.map_err(|why| self.unseen(&why))?;
        let before: BTreeSet<String> = before.backup.into_iter().map(|backup| backup.label).collect();
        let units = self.units(world, &at).await.map_err(|why| self.unseen(&why))?;
        let Some(unit) = units.into_iter().find(Unit::runs) else { return Ok(None) };
        let watch = async {
            let mut lost: Option<Instant> = None;
            loop {
                sleep(LOOK_EVERY).await;
                match self.units(world, &at).await {
                    Ok(units) => {
                        lost = None;
                        if let Some(now) = units.into_iter().find(|now| now.name == unit.name && !now.runs()) {
                            return Ok(now);
                        }
                    }
                    Err(why) if lost.get_or_insert_with(Instant::now).elapsed() > LOST_LIMIT => {
                        return Err(self.unseen(&why));
                    }
                    Err(_) => {}
                }
            }
        };
        let ended = tokio::select! {
            ended = watch => ended?,
            never = self.tell(world, &at, unit.name, on_progress) => match never {},
        };
        if ended.active == "failed" {
            return Err(self.why(world, &at, &ended).await);
        }
        self.made(world, &before, begun).await.map(Some)
    }

    /// Says again and again what the service is at.
    async fn tell(
        &self,
        world: &World,
        at: &Endpoint,
        unit: &str,
        on_progress: &(dyn Fn(&str) + Sync),
    ) -> std::convert::Infallible {
        let journal = words(&["journalctl", "-u", unit, "-n", "1", "-o", "cat", "--no-pager"]);
        on_progress("started");
        let look = Look::of(world);
        loop {
            sleep(LOOK_EVERY).await;
            let probes = [HostProbe::Command { argv: journal.clone() }];
            let (answers, info) = futures::join!(world.host(at, &probes), self.info(&look, at));
            let done = info.ok().map(|stanza| stanza.status.lock.backup);
            let share = done.and_then(|lock| lock.size.zip(lock.size_complete));
            let line = answers.commands.get(&journal).map(|state| state.stdout.trim().to_owned()).unwrap_or_default();
            // Without the time stamp and the process of pgBackRest's lines.
            let line = line.split("INFO: ").last().unwrap_or_default();
            match share {
                Some((size, complete)) if size > 0 => {
                    on_progress(&format!("{} of {} MB: {line}", complete / 1_000_000, size / 1_000_000));
                }
                _ => on_progress(line),
            }
        }
    }

    async fn units(&self, world: &World, at: &Endpoint) -> Result<Vec<Unit>, String> {
        let shows = Type::ALL.map(|kind| {
            let unit = kind.unit(self.repository);
            (unit, words(&["systemctl", "show", "-p", PROPERTIES, unit]))
        });
        let probes: Vec<HostProbe> = shows.iter().map(|(_, argv)| HostProbe::Command { argv: argv.clone() }).collect();
        let answers = world.host(at, &probes).await;
        let mut units = Vec::new();
        for (name, argv) in shows {
            let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
            units.push(Unit::read(name, answers.command(&argv).map_err(|why| why.to_string())?));
        }
        Ok(units)
    }

    /// The backup that is there now and was not before.
    async fn made(&self, world: &World, before: &BTreeSet<String>, begun: Instant) -> Result<Made, Diagnostic> {
        let seen = self.look(&Look::of(world), &mut |_| ()).await;
        let known = self.judged(&seen);
        let new: Option<BackupSet> = known.backups.iter().rev().find(|backup| !before.contains(&backup.label)).cloned();
        let Some(backup) = new else {
            let mut problem =
                Diagnostic::error("backup-failed", "the service ended well, and the repository has no new backup");
            problem.notes.extend(known.unseen);
            return Err(problem.hint("`seawall backup verify` looks at the repository as a whole"));
        };
        let window = known.windows.into_iter().rev().find(|window| window.backups.contains(&backup.label));
        Ok(Made { backup, took_s: begun.elapsed().as_secs(), window })
    }

    /// Why a backup that was started failed.
    async fn failed(&self, world: &World, at: &Endpoint, kind: Type, failure: &Failure) -> Diagnostic {
        if failure.position.is_some()
            && let Ok(units) = self.units(world, at).await
            && let Some(unit) =
                units.into_iter().find(|unit| unit.name == kind.unit(self.repository) && unit.active == "failed")
        {
            return self.why(world, at, &unit).await;
        }
        let problem =
            Diagnostic::error("backup-not-followed", format!("the backup of `{}` was not seen to end", self.stanza()))
                .note(failure.to_string());
        problem
            .hint(failure.hint.clone().unwrap_or_else(|| "`seawall backup list` shows whether it was made".to_owned()))
    }

    /// What a service that failed said.
    async fn why(&self, world: &World, at: &Endpoint, unit: &Unit) -> Diagnostic {
        let id = format!("_SYSTEMD_INVOCATION_ID={}", unit.invocation);
        let journal = words(&["journalctl", &id, "-n", JOURNAL_LINES, "-o", "cat", "--no-pager"]);
        let answers = world.host(at, &[HostProbe::Command { argv: journal.clone() }]).await;
        let said = answers.commands.get(&journal).map(|state| state.stdout.clone()).unwrap_or_default();
        let number = meaning::number(&said).unwrap_or(unit.status);
        meaning::of(number, &said).diagnostic(self.stanza(), number, &said).note("no backup was made")
    }

    fn running(&self, who: &str) -> Diagnostic {
        Meaning::Running.finding(self.stanza()).note(who).note("nothing was started by this run")
    }

    fn unseen(&self, why: &str) -> Diagnostic {
        Diagnostic::error("backup-unseen", format!("the backups of `{}` could not be looked at", self.server))
            .note(why)
            .hint("`seawall status` shows whether the server answers")
    }
}

/// What is asked of systemd.
const PROPERTIES: &str = "LoadState,ActiveState,ExecMainStartTimestamp,InvocationID,ExecMainStatus";

fn start(unit: &str, id: &str, server: &str) -> Transaction {
    let step = HostStep::Run {
        argv: words(&["systemctl", "start", unit]),
        env: BTreeMap::new(),
        stdin: None,
        timeout_s: BACKUP_LIMIT_S,
        revert: None,
        what: format!("run {unit}"),
    };
    let address = Address::new("pgbackrest.repo", server);
    Transaction { id: id.to_owned(), guard_s: None, steps: vec![TransactionStep { address, index: 0, step }] }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(stdout: &str) -> Unit {
        Unit::read("x", &CommandState { status: 0, stdout: stdout.to_owned(), stderr: String::new() })
    }

    #[test]
    fn a_service_that_is_being_started_is_one_that_runs() {
        let running =
            unit("LoadState=loaded\nActiveState=activating\nExecMainStartTimestamp=Sat 2026-11-21 14:50:28 UTC\n");
        assert!(running.runs() && running.loaded);
        assert_eq!(running.since, "Sat 2026-11-21 14:50:28 UTC");
        let failed = unit("LoadState=loaded\nActiveState=failed\nExecMainStatus=29\nInvocationID=374083923bab\n");
        assert_eq!((failed.runs(), failed.status, failed.invocation.as_str()), (false, 29, "374083923bab"));
        assert!(!unit("LoadState=not-found\nActiveState=inactive\n").loaded);
        assert!(!unit("").loaded);
    }

    #[test]
    fn the_service_is_run_and_nothing_else() {
        let work = start(Type::Differential.unit(Repository::First), "backup-x", "db");
        let [only] = work.steps.as_slice() else { panic!("one step") };
        assert_eq!(only.step.summary(), "run seawall-backup@diff.service");
        assert_eq!(work.guard_s, None);
    }
}
