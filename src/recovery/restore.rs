//! Carries out a restore: an order on the server, the service that carries it out there, and what it tells.
//!
//! The server's own program decides whether the target was reached (`programs/restore`): it sees PostgreSQL's log, and needs
//! nobody here. Deliberately absent: a restore that runs from here, which a lost connection would leave half done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::plan::backups::Backups;
use crate::plan::drills::Broken;
use crate::plan::host::Endpoint;
use crate::plan::observed::Observed;
use crate::plan::probe::HostProbe;
use crate::plan::restores::{End, Goal, Hook, Purpose, Repository, RestorePlan, Standing, Told};
use crate::plan::step::{Content, HostStep};
use crate::reach::aws::objects::Listed;
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::reach::{Act as _, Ask, HostEvent, Transaction, TransactionStep};
use crate::recovery::goal::{self, Wish, choose};
use crate::recovery::look::Target;

/// The program on the server.
pub const PROGRAM: &str = "/usr/local/lib/seawall/restore";
/// Orders, root's.
const ORDERS: &str = "/etc/seawall/restores";
/// Restores in place that wait for a decision, the newest last.
const WAITING: &str = "/etc/seawall/restores/in-place";
/// What postgres restores into.
pub(super) const HOME: &str = "/var/lib/postgresql/seawall-restores";
/// Between two looks at a restore that runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a server that is lost is looked for; the restore goes on there.
const LOST_LIMIT: Duration = Duration::from_mins(5);
/// A service that has ended without a word is waited for this long: its last word may be on its way.
const SILENT_LIMIT: Duration = Duration::from_secs(15);
/// For a restore in place: as long as a backup of the same size may take.
const IN_PLACE_S: u32 = 12 * 3600;
/// What a shell exits with where there is no such program.
const NO_PROGRAM: i32 = 127;
/// To start or end a copy.
const QUICK_S: u32 = 120;

/// A question that the restored database must answer with something other than nothing, 0 or false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub database: String,
    pub sql: String,
    pub expect: Option<String>,
}

/// The order's `key=value` lines. The program reads them and never runs them.
fn order(plan: &RestorePlan, checks: &[Check], broken: Option<Broken>) -> String {
    let (kind, target) = goal::target(&plan.goal);
    // No timeline of a real server comes near it.
    let timeline = if broken == Some(Broken::Timeline) { plan.timeline + 1000 } else { plan.timeline };
    let mut lines = vec![
        ("purpose".to_owned(), plan.purpose.word().to_owned()),
        ("set".to_owned(), plan.set.clone()),
        ("timeline".to_owned(), timeline.to_string()),
        ("type".to_owned(), kind.to_owned()),
        ("target".to_owned(), target),
        ("bytes".to_owned(), plan.bytes.unwrap_or_default().to_string()),
        ("wal".to_owned(), plan.needs.room.wal_bytes.to_string()),
    ];
    // Where one of them was raised after the backup, the backup's own is too small for the WAL that follows.
    let copies = plan.needs.numbers.iter().filter_map(|number| Some((number.name.clone(), number.copy?.to_string())));
    lines.extend(copies);
    match plan.repository {
        Repository::First => {}
        Repository::Copy => lines.push(("repository".to_owned(), "copy".to_owned())),
    }
    lines.extend(plan.ttl_s.map(|ttl| ("ttl".to_owned(), ttl.to_string())));
    match broken {
        Some(Broken::Segment) => {
            lines.push(("break".to_owned(), "segment".to_owned()));
            lines.push(("hide".to_owned(), plan.first_segment.clone()));
        }
        Some(Broken::Passphrase) => lines.push(("break".to_owned(), "passphrase".to_owned())),
        Some(Broken::StorageClass | Broken::Timeline) | None => {}
    }
    for (number, check) in (1..).zip(checks) {
        lines.push((format!("check-{number}-database"), check.database.clone()));
        lines.push((format!("check-{number}-sql"), check.sql.clone()));
        lines.extend(check.expect.clone().map(|expect| (format!("check-{number}-expect"), expect)));
    }
    for (number, hook) in (1..).zip(&plan.hooks) {
        let Hook { run, promoted: _, database, user, limit_s } = hook;
        let mut line = |key: String, value: String| lines.push((format!("hook-{number}-{key}"), value));
        line("user".to_owned(), user.clone());
        line("database".to_owned(), database.clone());
        line("limit".to_owned(), limit_s.to_string());
        line("words".to_owned(), run.len().to_string());
        for (word, text) in (1..).zip(run) {
            line(format!("word-{word}"), text.clone());
        }
    }
    // A line break would be an order of its own. What inventories and repositories may say has none.
    let one_line = |value: &str| value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let lines: Vec<String> = lines.iter().map(|(key, value)| format!("{key}={}\n", one_line(value))).collect();
    format!("# A restore that was ordered with Seawall; {PROGRAM} reads it.\n{}", lines.concat())
}

fn steps(plan: &RestorePlan, checks: &[Check], broken: Option<Broken>) -> Vec<HostStep> {
    let folder = |path: &str, owner: &str, group: &str, mode: &str| HostStep::MakeDirectory {
        path: path.to_owned(),
        owner: owner.to_owned(),
        group: group.to_owned(),
        mode: mode.to_owned(),
    };
    let begin = match plan.purpose {
        Purpose::Beside | Purpose::Drill => {
            run(&["systemctl", "start", &unit(&plan.name)], QUICK_S, format!("start {}", unit(&plan.name)))
        }
        Purpose::InPlace | Purpose::Rehearsal => {
            run(&[PROGRAM, "in-place", &plan.name], IN_PLACE_S, "restore in place".to_owned())
        }
    };
    vec![
        folder(ORDERS, "root", "postgres", "0750"),
        folder(HOME, "postgres", "postgres", "0700"),
        HostStep::WriteFile {
            path: format!("{ORDERS}/{}.conf", plan.name),
            owner: "root".to_owned(),
            group: "postgres".to_owned(),
            mode: "0640".to_owned(),
            content: Content::Text(order(plan, checks, broken)),
            validate: None,
        },
        begin,
    ]
}

fn run(argv: &[&str], timeout_s: u32, what: String) -> HostStep {
    HostStep::Run {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: BTreeMap::new(),
        stdin: None,
        timeout_s,
        revert: None,
        what,
    }
}

fn unit(name: &str) -> String {
    format!("seawall-restore@{name}.service")
}

/// Whether a name may be one of a restore: it becomes part of paths and of a unit's name.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 40 && !name.starts_with('-') && name.chars().all(plain)
}

impl Target {
    /// What is in the repository, and its objects, or why they could not be listed.
    pub async fn known(&self, look: &Look) -> (Backups, Result<Vec<Listed>, String>) {
        let seen = self.look(look, &mut |_| ()).await;
        let known = self.judged(&seen);
        (known, seen.objects.map(Option::unwrap_or_default))
    }

    /// Chooses backup, timeline and target from what is in the repository now.
    ///
    /// # Errors
    /// Why the goal cannot be reached.
    pub async fn planned(
        &self,
        look: &Look,
        goal: Goal,
        purpose: Purpose,
        wish: &Wish,
        name: &str,
    ) -> Result<RestorePlan, Diagnostic> {
        let (known, objects) = self.known(look).await;
        let plan = choose(&known, &objects.unwrap_or_default(), goal, purpose, wish, name);
        let plan = plan.map(|plan| self.with_hooks(plan)).map_err(|why| self.pointed(why))?;
        Ok(self.with_needs(look, &known, plan).await)
    }

    /// Orders a restore and follows it to its end, or, for a copy, until it can be used.
    ///
    /// # Errors
    /// Why it was not begun, or that its end was not seen. A restore that failed is no error here: it told its end.
    pub async fn restore(
        &self,
        world: &World,
        plan: &RestorePlan,
        checks: &[Check],
        broken: Option<Broken>,
        on_progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Told, Diagnostic> {
        let at = self.endpoint(world).await.map_err(|why| self.restore_unseen(&why))?;
        // What another one of that name has told must not be taken for this one's.
        let there = self.standing(world, &at).await.map_err(|why| self.restore_unseen(&why))?;
        if there.iter().any(|one| one.name == plan.name) {
            let problem =
                Diagnostic::error("restore-name-taken", format!("a restore `{}` is on `{}`", plan.name, self.server));
            let hint = format!(
                "take another --name, or look at it: seawall restore list; `seawall restore drop {}` removes a copy",
                plan.name
            );
            return Err(problem.note("nothing was restored").hint(hint));
        }
        let transaction = self.transaction(&plan.name, steps(plan, checks, broken));
        let quiet = |_: HostEvent| ();
        let begun = world.act_host(&at, &transaction, &quiet);
        if matches!(plan.purpose, Purpose::InPlace | Purpose::Rehearsal) {
            // It goes on in the transaction; what it tells is watched beside it.
            let watch = async {
                loop {
                    sleep(LOOK_EVERY).await;
                    if let Ok((told, _)) = self.told(world, &at, &plan.name).await {
                        on_progress(&words(&told));
                    }
                }
            };
            let ended = tokio::select! { ended = begun => ended, never = watch => never };
            let told = self.told(world, &at, &plan.name).await.map(|(told, _)| told);
            return match (ended, told) {
                (Ok(()), Ok(told)) | (Err(_), Ok(told @ Told { end: Some(End::Failed { .. }), .. })) => Ok(told),
                (Err(failure), _) => Err(self.not_carried_out(plan, &failure.to_string())),
                (Ok(()), Err(why)) => Err(self.restore_unseen(&why)),
            };
        }
        begun.await.map_err(|failure| self.not_carried_out(plan, &failure.to_string()))?;
        self.followed(world, &at, &plan.name, on_progress).await
    }

    async fn followed(
        &self,
        world: &World,
        at: &Endpoint,
        name: &str,
        on_progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Told, Diagnostic> {
        let (mut lost, mut silent): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            sleep(LOOK_EVERY).await;
            match self.told(world, at, name).await {
                Ok((told, _)) if told.end.is_some() => return Ok(told),
                Ok((told, is_running)) => {
                    lost = None;
                    on_progress(&words(&told));
                    if is_running {
                        silent = None;
                    } else if silent.get_or_insert_with(Instant::now).elapsed() > SILENT_LIMIT {
                        let problem =
                            Diagnostic::error("restore-failed", format!("the restore `{name}` ended without a word"));
                        return Err(problem
                            .note(format!("it was at: {}", words(&told)))
                            .hint(format!("on the server: journalctl -u {}", unit(name))));
                    }
                }
                Err(why) if lost.get_or_insert_with(Instant::now).elapsed() > LOST_LIMIT => {
                    return Err(self.restore_unseen(&why).note("what was begun goes on there"));
                }
                Err(_) => {}
            }
        }
    }

    /// What a restore has told, and whether its service runs.
    async fn told(&self, ask: &impl Ask, at: &Endpoint, name: &str) -> Result<(Told, bool), String> {
        let (unit, told) = (unit(name), [PROGRAM, "told", name]);
        let state = ["systemctl", "is-active", unit.as_str()];
        let probe = |argv: &[&str]| HostProbe::Command { argv: argv.iter().map(|&word| word.to_owned()).collect() };
        let answers = ask.host(at, &[probe(&state), probe(&told)]).await;
        // In this order: what was told last is read after the service was seen to run or not.
        let is_running =
            matches!(answers.command(&state).map_err(|why| why.to_string())?.stdout.trim(), "active" | "activating");
        let said = answers.command(&told).map_err(|why| why.to_string())?;
        Ok((Told::read(&said.stdout), is_running))
    }

    /// The restores that are on the server.
    ///
    /// # Errors
    /// Why they could not be looked at.
    pub async fn standing(&self, ask: &impl Ask, at: &Endpoint) -> Result<Vec<Standing>, String> {
        let argv = [PROGRAM, "list"];
        let probe = HostProbe::Command { argv: argv.iter().map(|&word| word.to_owned()).collect() };
        let answers = ask.host(at, &[probe]).await;
        let state = answers.command(&argv).map_err(|why| why.to_string())?;
        if state.status == NO_PROGRAM {
            return Err(format!("`{}` has no program for restores yet: `seawall apply` puts it there", self.server));
        }
        if state.status != 0 {
            return Err(format!("{PROGRAM} list ended with status {}: {}", state.status, state.stderr.trim()));
        }
        Ok(standing(&state.stdout))
    }

    /// Runs one of the program's commands on a restore: `drop`, `undo` or `accept`.
    ///
    /// # Errors
    /// What it said.
    pub async fn command_restore(
        &self,
        world: &World,
        at: &Endpoint,
        verb: &str,
        name: &str,
    ) -> Result<(), Diagnostic> {
        let limit = if verb == "drop" { QUICK_S } else { IN_PLACE_S };
        let steps = vec![run(&[PROGRAM, verb, name], limit, format!("restore {verb} {name}"))];
        let transaction = self.transaction(&format!("{verb}-{name}"), steps);
        let quiet = |_: HostEvent| ();
        world.act_host(at, &transaction, &quiet).await.map_err(|failure| {
            Diagnostic::error("restore-failed", format!("`restore {verb} {name}` did not end well"))
                .note(failure.to_string())
        })
    }

    /// Does steps on the server that belong to a restore.
    ///
    /// # Errors
    /// Why they were not done.
    pub async fn on_host(&self, world: &World, at: &Endpoint, what: &str, steps: Vec<HostStep>) -> Result<(), String> {
        let quiet = |_: HostEvent| ();
        let done = world.act_host(at, &self.transaction(what, steps), &quiet).await;
        done.map_err(|failure| failure.to_string())
    }

    /// The restore in place that was neither accepted nor undone, and what it told.
    ///
    /// # Errors
    /// Why that could not be looked at.
    pub async fn waiting(&self, ask: &impl Ask, at: &Endpoint) -> Result<Option<(String, Told)>, String> {
        let probe = HostProbe::File { path: WAITING.to_owned() };
        let answers = ask.host(at, &[probe]).await;
        let text = match answers.file(WAITING) {
            Observed::Absent => return Ok(None),
            Observed::Present(state) => state.text.clone().unwrap_or_default(),
            Observed::Unknown(why) => return Err(why.to_string()),
        };
        let Some(name) = text.lines().last().map(str::trim).filter(|name| is_name(name)) else { return Ok(None) };
        let (told, _) = self.told(ask, at, name).await?;
        Ok(Some((name.to_owned(), told)))
    }

    fn transaction(&self, id: &str, steps: Vec<HostStep>) -> Transaction {
        let address = Address::new("pgbackrest.repo", &self.server);
        let steps =
            (0..).zip(steps).map(|(index, step)| TransactionStep { address: address.clone(), index, step }).collect();
        let unique = crate::engine::nonce::Nonce::random();
        Transaction { id: format!("restore-{id}-{unique}"), guard_s: None, steps }
    }

    fn not_carried_out(&self, plan: &RestorePlan, why: &str) -> Diagnostic {
        let problem = Diagnostic::error(
            "restore-failed",
            format!("the restore `{}` on `{}` was not carried out", plan.name, self.server),
        );
        match plan.purpose {
            Purpose::InPlace => {
                problem.note(why).hint(format!("`seawall restore undo {}` puts the data of before back", plan.name))
            }
            Purpose::Beside | Purpose::Drill => problem.note(why).note("the database beside it was not touched"),
            Purpose::Rehearsal => problem.note(why),
        }
    }

    fn restore_unseen(&self, why: &str) -> Diagnostic {
        Diagnostic::error("restore-unseen", format!("the restores on `{}` could not be looked at", self.server))
            .note(why)
            .hint("`seawall status` shows whether the server answers")
    }
}

/// Lines `NAME|PURPOSE|ORDERED|STATE|BYTES|LAST`.
fn standing(text: &str) -> Vec<Standing> {
    let line = |line: &str| {
        let mut fields = line.splitn(6, '|').map(str::to_owned);
        let mut next = || fields.next();
        let (name, purpose, ordered, state, bytes, last) = (next()?, next()?, next()?, next()?, next()?, next()?);
        is_name(&name).then(|| Standing {
            name,
            purpose,
            ordered: ordered.parse().unwrap_or_default(),
            is_running: matches!(state.as_str(), "active" | "activating"),
            bytes: bytes.parse().unwrap_or_default(),
            last: last.split_once(' ').map_or(String::new(), |(_, words)| words.to_owned()),
        })
    };
    text.lines().filter_map(line).collect()
}

/// What it is at.
fn words(told: &Told) -> String {
    let phase = match told.phases.last().map(|phase| phase.name.as_str()) {
        None => "begins",
        Some("check") => "looks for room and the archive's end",
        Some("fetch") => "fetches the backup",
        Some("replay") => "replays WAL",
        Some("reached") => "proves how far it got",
        Some("look") => "looks at what was restored",
        Some("hooks") => "runs what the inventory names for after a restore",
        Some("verify") => "reads every table and index",
        Some(other) => other,
    };
    phase.to_owned()
}

#[cfg(test)]
mod tests;
