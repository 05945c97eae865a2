//! `seawall drill --fresh` and `seawall rebuild --rehearse`, which are one: a rebuild on a throw-away server, measured and
//! removed; and `seawall drill gc` for those whose removal was cut short.
//!
//! What was made is removed however the work ends: when it fails, when somebody interrupts it. Deliberately absent: going on
//! with one that was killed. It is removed, and the next one begins anew.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::cli::args::{DataArgs, GcArgs, OnlyArgs, RepositoryArgs};
use crate::cli::backup::{meant, one};
use crate::cli::drill::{REPORTS, can_be_meant, checks, ended, keep, planned_for, refused};
use crate::cli::exit::{Exit, Stop};
use crate::cli::locked::{GIVE_YES, held};
use crate::cli::rebuild::walk::{Walk, begin};
use crate::cli::session::{Loaded, Session};
use crate::cli::work::{Stores, Work, machine, who};
use crate::engine::store::{last_applied, remember};
use crate::inventory::scalar::TimeSpan;
use crate::kinds::iam_user::IamUser;
use crate::kinds::{Kind as _, pgbackrest_repo};
use crate::plan::drills::{Cleanup, Past, Scenario};
use crate::plan::rebuild::Step;
use crate::plan::restores::{Purpose, RestorePlan};
use crate::policy::price::bundle_of;
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::recovery::drill::fresh::Fresh;
use crate::recovery::drill::{Run, judged};
use crate::recovery::goal::moment_of;
use crate::recovery::history;
use crate::recovery::judge::prefix;
use crate::recovery::look::{Target, targets};
use crate::recovery::rehearsal::{ThrowAway, throw_away};
use crate::recovery::throw_away::{Known, Leftover};
use crate::view::working::Working;

/// What no step of a rehearsal can mend.
const AGAIN: &str = "drill again once that is mended; nothing of this one is kept but its report";

/// `seawall drill --fresh` and `seawall rebuild --rehearse`.
pub async fn rehearse(session: &mut Session, of: &RepositoryArgs, to: &str, yes: bool) -> Result<Exit, Stop> {
    can_be_meant(to)?;
    let live = one(meant(session, of)?)?;
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let made =
        throw_away(&work.loaded.inventory, &live.server, live.repository, Timestamp::now()).map_err(Stop::failed)?;
    let newest = newest(&world, &live).await?;
    let price = hourly_millicents(&work, &live.server);
    session.say(question(&live, &made, &newest, price));
    if !yes && !session.confirmed("Make it, and begin? The clock begins with `yes`; only that goes on: ", GIVE_YES)? {
        return Ok(Exit::Failed);
    }
    let clock = Timestamp::now();
    let (run, kept) = held(session, &work, &world, "drill", async |session, stores| {
        let past = history::of(stores.widest()).await;
        let mut rehearsal = Rehearsal::new(&work, &world, stores, &live, &made, to, clock)?;
        let stopped = tokio::select! {
            failure = rehearsal.run(session) => failure.err(),
            () = told_to_end() => Some(interrupted()),
        };
        let was_interrupted = stopped.as_ref().is_some_and(|stop| stop.exit == Exit::Interrupted);
        let cleanup = rehearsal.removed(session).await;
        if was_interrupted {
            return Err(Stop::new(Exit::Interrupted, interruption(&made, &cleanup)));
        }
        let run = rehearsal.judge(stopped, cleanup, past.as_deref().unwrap_or_default(), price);
        let drill = judged(run);
        let kept = keep(session, stores, &drill).await;
        if let Err(why) = past {
            session.say(format!("warning: it was not compared with the drill before: {why}"));
        }
        Ok((drill, kept))
    })
    .await?;
    session.show_drill(&run)?;
    kept.map_err(Stop::failed)?;
    session.say(format!("report: {REPORTS}/{}.md and {REPORTS}/{}.json", run.id, run.id));
    Ok(if run.passed { Exit::Done } else { Exit::Failed })
}

/// Label and end of the newest backup. The bucket alone says whether there is anything to restore: the live server may be lost.
async fn newest(world: &World, live: &Target) -> Result<String, Stop> {
    let (known, objects) = live.known(&Look::of(world)).await;
    objects.map_err(|why| {
        let problem =
            Diagnostic::error("drill-unseen", "the drill was not begun: the repository could not be looked at");
        Stop::failed(problem.note(why).note("nothing was made"))
    })?;
    let Some(newest) = known.backups.last() else {
        let problem = Diagnostic::error("backup-none", "nothing can be restored: there is no backup yet")
            .note(format!("s3://{}/{} has none", live.bucket, prefix(live.stanza())));
        return Err(Stop::new(Exit::Refused, problem.note("nothing was made").hint("seawall backup now")));
    };
    Ok(format!("{} of {}", newest.label, moment_of(newest.finished)))
}

fn hourly_millicents(work: &Work, server: &str) -> Option<u64> {
    let servers = &work.loaded.inventory.servers;
    let (_, server) = servers.iter().find(|(name, _)| name.as_str() == server)?;
    bundle_of(&server.instance.bundle).map(crate::policy::price::Bundle::hourly_millicents)
}

/// What will be done and what it costs, before it is asked for.
fn question(live: &Target, made: &ThrowAway, newest: &str, price: Option<u64>) -> String {
    let cost = price.map_or_else(
        || "the price of its bundle is not known".to_owned(),
        |price| format!("{} USD for each hour that begins, by list price; no snapshot, no static IP", usd(price)),
    );
    format!(
        "Drill on a fresh instance: {}, as {} after a loss\n\
         \n  backup     {newest}, from s3://{}/{}\
         \n  cost       {cost}\
         \n  live       the server is not touched: no fence, no address, none of its keys\
         \n  fresh      hardened as the real one, open to operators only; it can read the repository and not write; no jobs, no alarms\
         \n  end        it is DELETED in the end and looked for again; it expires {}, and `seawall drill gc` finds one that was left\n",
        made.instance,
        live.server,
        live.bucket,
        prefix(live.stanza()),
        moment_of(made.expires.as_second()),
    )
}

/// Thousandths of a cent as dollars, to a tenth of a cent.
fn usd(millicents: u64) -> String {
    let tenths = millicents.div_ceil(100);
    format!("{}.{:03}", tenths / 1_000, tenths % 1_000)
}

/// Somebody interrupts it, ends it, or his terminal goes away.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut end), Ok(mut gone)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = end.recv() => {}
        _ = gone.recv() => {}
    }
}

fn interrupted() -> Stop {
    Stop::new(Exit::Interrupted, Diagnostic::error("interrupted", "this drill was interrupted"))
}

/// What an operator reads who has ended it.
fn interruption(made: &ThrowAway, cleanup: &Cleanup) -> Diagnostics {
    let problem = Diagnostic::error("interrupted", "this drill was interrupted; there is no report of it");
    if cleanup.proven {
        return problem
            .note(format!("{} was removed and looked for again: nothing of it is there", made.instance))
            .into();
    }
    let problem = problem.note(format!("something of {} may still be there, and costs money", made.instance));
    let problem = cleanup.left.iter().chain(&cleanup.unknown).fold(problem, |problem, why| problem.note(why.clone()));
    problem.hint("seawall drill gc --all").into()
}

/// A rehearsal that is carried out.
struct Rehearsal<'a> {
    /// The live server's, and the throw-away one's.
    live: &'a Target,
    target: Target,
    work: Work,
    real: &'a Work,
    world: &'a World,
    stores: &'a Stores,
    made: &'a ThrowAway,
    to: &'a str,
    id: String,
    clock: Timestamp,
    /// What was found out on the way, for the report.
    offset: i64,
    steps: Vec<Step>,
    served: Option<i64>,
    plan: Option<RestorePlan>,
    found: Vec<Diagnostic>,
    told: String,
}

impl<'a> Rehearsal<'a> {
    fn new(
        real: &'a Work,
        world: &'a World,
        stores: &'a Stores,
        live: &'a Target,
        made: &'a ThrowAway,
        to: &'a str,
        clock: Timestamp,
    ) -> Result<Self, Stop> {
        let unknown = || Stop::failed(Diagnostic::error("drill-unseen", "the fresh server has no backups to restore"));
        let target = targets(&made.inventory, &made.resolved.servers).pop().ok_or_else(unknown)?;
        let loaded = Loaded { inventory: made.inventory.clone(), ..real.loaded.clone() };
        let work = Work {
            loaded,
            resolved: made.resolved.clone(),
            intent: real.intent.clone(),
            only: Vec::new(),
            sandbox: real.sandbox,
        };
        // The instance bears the same time: who sees one of them finds the other.
        let stamp: String = made.name.rsplit_once("drill-").map(|(_, stamp)| stamp.to_owned()).unwrap_or_default();
        Ok(Self {
            live,
            target,
            work,
            real,
            world,
            stores,
            made,
            to,
            id: format!("drill-{stamp}"),
            clock,
            offset: 0,
            steps: Vec::new(),
            served: None,
            plan: None,
            found: Vec::new(),
            told: String::new(),
        })
    }

    fn begin(&mut self, session: &mut Session, name: &str, words: &str) {
        begin(session, &self.work, self.clock.as_second(), &mut self.steps, name, words);
    }

    /// The walk of a rebuild, without fence, archiving and address.
    async fn run(&mut self, session: &mut Session) -> Result<(), Stop> {
        let (world, server) = (self.world, self.made.name.clone());
        self.begin(session, "server", "a fresh instance, hardened, with the packages of the database");
        let keys: Vec<Address> = self.made.resolved.wanted.iter().map(|wanted| wanted.address.clone()).collect();
        let keys: Vec<Address> = keys.into_iter().filter(|address| address.kind() == IamUser::NAME).collect();
        self.walk().server(session, &server, &keys).await?;
        let at = self.target.endpoint(world).await.map_err(|why| unseen(&why))?;
        let before = self.target.before_drill(world, &at).await.map_err(|why| unseen(&why))?;
        self.offset = before.server_clock - before.clock;

        self.begin(session, "restore", "the backup, and the WAL after it");
        let steps = pgbackrest_repo::before_rehearsal(&self.made.inventory, &server)
            .ok_or_else(|| unseen("the server has no backups"))?;
        self.target.on_host(world, &at, "before", steps).await.map_err(|why| {
            Stop::failed(Diagnostic::error("rebuild-failed", "pgBackRest could not be set up").note(why))
        })?;
        let chosen = planned_for(Purpose::Rehearsal, session, world, &self.target, self.to, None, &self.id).await;
        self.found = chosen.found;
        let plan = chosen.plan.map_err(Stop::failed)?;
        // To the fresh server it is the only one.
        self.plan = Some(RestorePlan { repository: self.live.repository, ..plan.clone() });
        if refused(&plan) {
            return Ok(());
        }
        let restored = {
            let working = Working::new(session.progress_mode());
            let say = |what: &str| working.say(what);
            self.target.restore(world, &plan, &checks(self.live), None, &say).await
        };
        self.read_told(&at).await;
        let told = restored.map_err(Stop::failed)?;
        if let Some(problem) = ended(&plan, &told) {
            return Err(Stop::failed(problem));
        }

        self.begin(session, "rest", "roles, databases, access");
        self.walk().rest(session, &[]).await?;
        self.served = Some(Timestamp::now().as_second());
        session.say("every table and index is read, the declared questions are asked, every page is checked");
        let examined = self.target.command_restore(world, &at, "examine", &self.id).await;
        self.read_told(&at).await;
        let told = crate::plan::restores::Told::read(&self.told);
        match (ended(&plan, &told), examined) {
            // What the server told says more than that a command failed.
            (Some(problem), _) | (None, Err(problem)) => Err(Stop::failed(problem)),
            (None, Ok(())) => Ok(()),
        }
    }

    fn walk(&self) -> Walk<'_> {
        Walk { work: &self.work, world: self.world, stores: self.stores, again: AGAIN }
    }

    /// What the server has told so far; it goes with the server.
    async fn read_told(&mut self, at: &crate::plan::host::Endpoint) {
        if let Ok(told) = self.target.told_words(self.world, at, &self.id).await {
            self.told = told;
        }
    }

    async fn removed(&mut self, session: &mut Session) -> Cleanup {
        self.begin(session, "remove", "the fresh instance is removed, with its key and its identity");
        let known = known(self.real);
        let cleanup = known.remove(self.world, &self.made.name).await;
        forget(session, self.stores, &self.made.name).await;
        cleanup
    }

    fn judge(self, stopped: Option<Stop>, cleanup: Cleanup, past: &[Past], price: Option<u64>) -> Run {
        let inventory = &self.real.loaded.inventory;
        let server = inventory.servers.iter().find(|(name, _)| name.as_str() == self.live.server);
        let mut failures = stopped.map(|stop| stop.diagnostics.0).unwrap_or_default();
        failures.retain(|problem| problem.severity == crate::base::diag::Severity::Error);
        let mut found = self.found;
        let failure = (!failures.is_empty()).then(|| failures.remove(0));
        found.extend(failures);
        let (offset, seconds) = (self.offset, |span: TimeSpan| span.seconds());
        let own = |at: i64| at + offset;
        let steps = self.steps.into_iter().map(|step| Step { began: own(step.began), ..step }).collect();
        let scenario = Scenario::of(true, self.live.repository);
        let same = |past: &&Past| past.server == self.live.server && past.scenario.repository() == self.live.repository;
        let last = past.iter().rev().filter(same).find(|past| past.heartbeat.is_some());
        Run {
            environment: self.real.resolved.environment.clone(),
            sandbox: self.real.sandbox,
            server: self.live.server.clone(),
            bundle: server.map(|(_, server)| server.instance.bundle.clone()).unwrap_or_default(),
            scenario,
            asked: self.to.to_owned(),
            broken: None,
            inventory: self.real.loaded.digest.clone(),
            by: format!("{} on {}", who(), machine()),
            began: own(self.clock.as_second()),
            ended: own(Timestamp::now().as_second()),
            clock_offset_s: offset,
            rpo_s: inventory.objectives.rpo.map(seconds),
            rto_s: inventory.objectives.rto.map(seconds),
            plan: self.plan,
            failure,
            found,
            told: self.told,
            checks: checks(self.live),
            bytes_now: None,
            cleanup,
            fresh: Some(Fresh {
                steps,
                served: self.served.map(own),
                rebuild_s: inventory.objectives.rebuild.map(seconds),
                hourly_millicents: price,
                remarks: left_out(self.live, inventory),
            }),
            before: last.cloned(),
            id: self.id,
        }
    }
}

/// What a rebuild would do beyond it, so that nobody takes the time for the whole.
fn left_out(live: &Target, inventory: &crate::inventory::sections::Inventory) -> Vec<String> {
    let mut left = vec!["fence", "archiving with its full backup", "the move of the address"];
    let server = inventory.servers.iter().find(|(name, _)| name.as_str() == live.server).map(|(_, server)| server);
    let more = server.map(|server| {
        [
            ("the certificate", server.certificate.is_some()),
            ("the pool", server.pgbouncer.is_some()),
            ("jobs", !server.jobs.is_empty()),
            ("containers", server.compose.is_some()),
            ("dumps", server.backup.as_ref().is_some_and(|backup| backup.dumps.is_some())),
        ]
    });
    left.extend(more.into_iter().flatten().filter(|(_, is_there)| *is_there).map(|(what, _)| what));
    let hooks = live.hooks.iter().filter(|hook| hook.promoted).count();
    let mut remarks = vec![format!("not rehearsed, and not in the times: {}", left.join(", "))];
    if hooks > 0 {
        remarks.push(format!(
            "{hooks} of `after_restore` that are for promoted data were not run: they may act on the world"
        ));
    }
    remarks
}

fn unseen(why: &str) -> Stop {
    Stop::failed(Diagnostic::error("rebuild-unseen", "the fresh server could not be looked at").note(why).hint(AGAIN))
}

fn known(work: &Work) -> Known<'_> {
    let declared: BTreeSet<&str> = work.resolved.servers.keys().map(String::as_str).collect();
    Known { environment: &work.resolved.environment, declared }
}

/// What was last applied holds nothing of a server that is gone.
async fn forget(session: &mut Session, stores: &Stores, name: &str) {
    for store in stores.all() {
        let kept = async {
            let before = last_applied(store).await?;
            let mut after = before.clone();
            after.retain(|address, _| !address.name().starts_with(name));
            if after == before { Ok(()) } else { remember(store, &after).await }
        };
        if let Err(failure) = kept.await {
            session.say(format!("warning: what was applied of {name} is still remembered: {failure}"));
        }
    }
}

/// `seawall drill gc`: under the lock, so a drill that runs keeps what it made.
pub async fn gc(session: &mut Session, args: &GcArgs) -> Result<Exit, Stop> {
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    held(session, &work, &world, "drill gc", async |session, stores| {
        let known = known(&work);
        let found = known.leftovers(&world).await.map_err(|why| {
            let problem = Diagnostic::error("drill-unseen", "what drills have left could not be listed");
            Stop::failed(problem.note(why).note("nothing was removed"))
        })?;
        let now = Timestamp::now();
        let (goes, stays): (Vec<Leftover>, Vec<Leftover>) =
            found.into_iter().partition(|leftover| args.all || leftover.is_expired(now));
        for leftover in &stays {
            let until = leftover.expires.map_or_else(
                || "does not say when it expires".to_owned(),
                |at| format!("expires {}", moment_of(at.as_second())),
            );
            session.say(format!("{} {until} and stays; --all removes it, too", leftover.server));
        }
        if goes.is_empty() {
            session.say("no drill has left anything that has expired");
            return Ok(Exit::Done);
        }
        for leftover in &goes {
            session.say(format!("{} will be DELETED:", leftover.server));
            for (kind, name) in &leftover.parts {
                session.say(format!("  {kind} {name}"));
            }
        }
        if !args.yes && !session.confirmed("Delete? Only `yes` goes on: ", GIVE_YES)? {
            return Ok(Exit::Failed);
        }
        let mut problems = Diagnostics::default();
        for leftover in &goes {
            let cleanup = known.remove(&world, &leftover.server).await;
            forget(session, stores, &leftover.server).await;
            if cleanup.proven {
                session.say(format!("{} is gone", leftover.server));
                continue;
            }
            let what = format!("`{}` may still be there", leftover.server);
            let problem = Diagnostic::error("drill-not-removed", what);
            let whys = cleanup.left.iter().chain(&cleanup.unknown);
            problems.push(whys.fold(problem, |problem, why| problem.note(why.clone())).hint("seawall drill gc --all"));
        }
        if problems.is_empty() { Ok(Exit::Done) } else { Err(Stop::new(Exit::Failed, problems)) }
    })
    .await
}
