//! `seawall rebuild`: a server from nothing but the inventory, the secrets and the bucket, with one clock.
//!
//! The old server is fenced before the new one may archive: its keys are deleted and read back as gone. What was reached is
//! kept where operators meet, so a run that was killed is run again and goes on. The address moves last.

use std::time::Duration;

use jiff::Timestamp;

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::cli::apply::{Approved, carry_out};
use crate::cli::args::{DataArgs, OnlyArgs, RebuildArgs};
use crate::cli::backup::declared;
use crate::cli::exit::{Exit, Stop};
use crate::cli::restore::{failed, one};
use crate::cli::secrets;
use crate::cli::session::{Session, refuses};
use crate::cli::work::{Work, holder, store_failed};
use crate::engine::lock;
use crate::engine::nonce::Nonce;
use crate::engine::store::Store;
use crate::inventory::scalar::TimeSpan;
use crate::kinds::pgbackrest_repo;
use crate::plan::Place;
use crate::plan::observed::Observed;
use crate::plan::probe::CloudProbe;
use crate::plan::rebuild::{Ledger, Rebuilt, Step};
use crate::plan::restores::{End, Goal, Purpose, RestorePlan, Told};
use crate::plan::step::{CloudStep, HostStep};
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::reach::{Act as _, Ask as _};
use crate::recovery::fence::Fenced;
use crate::recovery::goal::{Wish, choose};
use crate::recovery::judge::{judge, prefix};
use crate::recovery::look::Target;
use crate::view::working::Working;

/// Kinds that stand on what is in the database, or archive it, or lead clients to it: after the restore.
const AFTERWARDS: [&str; 10] = [
    "postgres.roles",
    "postgres.databases",
    "postgres.extensions",
    "postgres.views",
    "postgres.access",
    "postgres.dumps",
    "pgbouncer.pool",
    "pgbackrest.repo",
    "host.jobs",
    "host.compose",
];
/// What moves clients: last.
const ADDRESS: &str = "lightsail.static_ip";
/// Looks at what an earlier run began on the new server: twelve hours of them, as long as a restore may take.
const IDLE_LOOKS: u32 = 12 * 3600;
const IDLE_PAUSE: Duration = Duration::from_secs(1);

struct Rebuild<'a> {
    work: &'a Work,
    world: &'a World,
    target: Target,
    stores: &'a [&'a Store],
    ledger: Ledger,
}

/// `seawall rebuild`.
pub async fn rebuild(session: &mut Session, args: &RebuildArgs) -> Result<Exit, Stop> {
    let target = one(declared(session, &args.server)?)?;
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let stores = work.stores(&world).await.map_err(|failure| store_failed(&failure))?;
    let lock = lock::take(&stores.all(), &holder("rebuild")).await.map_err(Stop::failed)?;
    if let Some(note) = &lock.took_over {
        session.say(format!("note: {note}"));
    }
    if let Some(why) = &stores.why_not_shared {
        session.say(format!("note: {why}"));
    }
    let all = stores.all();
    let whole = async {
        if args.accept {
            accept(session, &work, &world, &target, args.yes).await
        } else {
            whole(session, &work, &world, target, &all, args.yes).await
        }
    };
    let result = tokio::select! {
        result = whole => result,
        _ = tokio::signal::ctrl_c() => Err(Stop::new(
            Exit::Interrupted,
            Diagnostic::error("interrupted", "this rebuild was interrupted")
                .note("what had begun on the new server goes on there")
                .hint("run `seawall rebuild` again: it goes on where it was"),
        )),
    };
    if let Err(failure) = lock::release(&all, lock).await {
        session.say(format!("warning: the lock could not be given back: {failure}"));
    }
    result
}

async fn whole(
    session: &mut Session,
    work: &Work,
    world: &World,
    target: Target,
    stores: &[&Store],
    yes: bool,
) -> Result<Exit, Stop> {
    let store = stores.last().expect("there is the folder at least");
    let key = format!("rebuild/{}.json", target.server);
    let known = store.get(&key).await.map_err(|failure| store_failed(&failure))?;
    let known: Option<Ledger> = known.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let unfinished = known.filter(|ledger| !ledger.finished);
    let ledger = match unfinished {
        Some(ledger) => {
            session.say(format!("going on with rebuild {}, which {} began", ledger.id, ledger.by));
            ledger
        }
        None => new(session, work, world, &target, yes).await?,
    };
    let mut rebuild = Rebuild { work, world, target, stores, ledger };
    rebuild.keep().await?;
    let report = rebuild.run(session).await?;
    session.show_rebuilt(work, &report)?;
    Ok(if report.misses.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Whether there is anything to rebuild, and whether it is wanted.
async fn new(session: &mut Session, work: &Work, world: &World, target: &Target, yes: bool) -> Result<Ledger, Stop> {
    let refused = |problem: Diagnostic| Err(Stop::new(Exit::Refused, problem.note("nothing was changed by this run")));
    let instance = target.reference.instance.clone();
    match world.cloud(&CloudProbe::Instance { name: instance.clone() }).await {
        Observed::Absent => {}
        Observed::Unknown(why) => {
            return Err(Stop::failed(
                Diagnostic::error("rebuild-unseen", format!("whether instance `{instance}` is there is not known"))
                    .note(why.to_string())
                    .note("nothing was changed by this run"),
            ));
        }
        Observed::Present(_) => {
            let next = target.generation + 1;
            return refused(
                Diagnostic::error("rebuild-instance-there", format!("instance `{instance}` is there"))
                    .note("two servers must never archive into one stanza, so a rebuild makes another instance and stops this one")
                    .hint(format!(
                        "if its data is well, `seawall apply` mends the rest; if only its data is wrong, `seawall restore --in-place`; \
                         if the server is lost, set `servers.{}.instance.generation: {next}` and rebuild again",
                        target.server
                    )),
            );
        }
    }
    // The bucket alone says whether there is anything to restore; which backup is chosen when pgBackRest can be asked.
    let repository = format!("{}backup/{}/", prefix(target.stanza()), target.stanza());
    let objects = Look::of(world).objects(&target.bucket, &repository, &mut |_| {}).await;
    let objects = objects.map_err(|why| {
        Stop::failed(
            Diagnostic::error("rebuild-unseen", format!("bucket `{}` could not be looked at", target.bucket))
                .note(why.to_string())
                .note("nothing was changed by this run"),
        )
    })?;
    let objects = objects.unwrap_or_default();
    let mut labels: Vec<&str> = objects
        .iter()
        .filter_map(|object| {
            object.key.strip_prefix(&repository)?.split_once("/backup.manifest").map(|(label, _)| label)
        })
        .filter(|label| !label.contains('/'))
        .collect();
    labels.sort_unstable();
    labels.dedup();
    let Some(newest) = labels.last() else {
        return refused(
            Diagnostic::error("backup-none", "nothing can be restored: there is no backup yet")
                .note(format!("s3://{}/{repository} has none", target.bucket))
                .hint("`seawall apply` makes a new, empty server"),
        );
    };
    let users = identities(work, &target.server);
    let earlier =
        fenced(work, target, &users).earlier(world).await.map_err(|why| Stop::failed(rebuild_unseen(&why)))?;
    let left = match earlier.as_slice() {
        [] => "nothing is left of the old server".to_owned(),
        some => {
            let names: Vec<String> = some.iter().map(|(name, state)| format!("{name} ({state})")).collect();
            format!("{} STOPS first and is kept until `seawall rebuild --accept`", names.join(", "))
        }
    };
    let bytes: u64 = objects.iter().map(|object| object.bytes).sum();
    session.say(format!(
        "Rebuild {}: a new instance {instance}, restored from s3://{}/{repository}\n\
         \n  backups    {}, the newest {newest}; {} MB in the bucket\
         \n  target     the newest moment that is archived\
         \n  fence      every access key of the old server's backups is DELETED first, for ever; {left}\
         \n  address    moves to the new server at the end\n",
        target.server,
        target.bucket,
        labels.len(),
        bytes / 1_000_000,
    ));
    if !yes && (!session.can_ask() || !session.ask("Rebuild? Only `yes` goes on: ")?) {
        return Err(Stop::new(
            Exit::Usage,
            Diagnostic::error("not-confirmed", "the rebuild was not confirmed")
                .note("nothing was changed by this run")
                .hint("add --yes where nobody can answer"),
        ));
    }
    Ok(Ledger {
        id: Timestamp::now().strftime("rebuild-%Y%m%d-%H%M%S").to_string(),
        begun: Timestamp::now().as_second(),
        by: crate::cli::work::who(),
        ..Ledger::default()
    })
}

impl Rebuild<'_> {
    async fn keep(&self) -> Result<(), Stop> {
        let bytes = serde_json::to_vec(&self.ledger).expect("plain data serialises");
        for store in self.stores {
            store
                .put(&format!("rebuild/{}.json", self.target.server), &bytes)
                .await
                .map_err(|failure| store_failed(&failure))?;
        }
        Ok(())
    }

    /// Begins a part of the work on the one clock, and says so.
    fn begin(&mut self, session: &mut Session, name: &str, words: &str) {
        let at = Timestamp::now().as_second();
        self.ledger.steps.push(Step { name: name.to_owned(), began: at });
        let since = at - self.ledger.begun;
        let wanted = self.work.loaded.inventory.objectives.rebuild;
        let of = wanted.map_or_else(String::new, |span| format!(" of {span}"));
        session.say(format!("[{}:{:02}{of}] {words}", since / 60, since % 60));
    }

    async fn run(&mut self, session: &mut Session) -> Result<Rebuilt, Stop> {
        let server = self.target.server.clone();
        self.idle(session).await?;
        if !self.ledger.fenced {
            self.begin(session, "fence", "the old server's keys are deleted, and what is left of it is stopped");
            let users = identities(self.work, &server);
            let fence = fenced(self.work, &self.target, &users);
            self.ledger.kept = fence.put_up(self.world).await.map_err(|why| Stop::failed(not_fenced(&why)))?;
            self.ledger.fenced = true;
            self.keep().await?;
        }
        if self.ledger.restored.is_none() {
            self.begin(session, "server", "a new instance, hardened, with the packages of the database");
            let own = |address: &Address| {
                let name = address.name();
                name == server || (address.kind() == "iam.user" && name.starts_with(&format!("{server}-")))
            };
            self.apply(session, |address, place| {
                let here = *place == Place::Host(server.clone()) || own(address);
                here && address.kind() != ADDRESS && !AFTERWARDS.contains(&address.kind())
            })
            .await?;
        }
        let (plan, told) = self.restored(session).await?;
        if !self.ledger.accepted {
            self.begin(session, "archive", "archiving begins on the new timeline, with a full backup");
            self.accept(&plan.name).await?;
            self.ledger.accepted = true;
            self.keep().await?;
        }
        self.begin(session, "rest", "roles, access, pools, jobs, schedules");
        self.apply(session, |address, _| address.kind() != ADDRESS).await?;
        self.begin(session, "address", "the address moves to the new server");
        self.apply(session, |_, _| true).await?;
        let ended = Timestamp::now().as_second();
        self.ledger.finished = true;
        self.keep().await?;
        Ok(self.report(plan, told, ended))
    }

    /// Waits for what a run that was killed has begun on the new server: it goes on there by itself.
    async fn idle(&self, session: &mut Session) -> Result<(), Stop> {
        let Ok(at) = self.target.endpoint(self.world).await else { return Ok(()) };
        let working = Working::new(session.progress_mode());
        for _ in 0..IDLE_LOOKS {
            match self.world.ssh.running(&at).await {
                Ok(running) if !running.is_empty() => working.say("what the run before has begun there goes on"),
                // One that cannot be asked is waited for by what comes next.
                Ok(_) | Err(_) => return Ok(()),
            }
            tokio::time::sleep(IDLE_PAUSE).await;
        }
        Err(Stop::failed(rebuild_unseen("what an earlier run began there has not ended after twelve hours")))
    }

    /// Makes a part of the inventory so.
    async fn apply(&self, session: &mut Session, part: impl Fn(&Address, &Place) -> bool) -> Result<(), Stop> {
        let mut work = Work {
            loaded: self.work.loaded.clone(),
            resolved: self.work.resolved.clone(),
            intent: self.work.intent.clone(),
            only: Vec::new(),
            sandbox: self.work.sandbox,
        };
        work.resolved.wanted.retain(|wanted| part(&wanted.address, &wanted.place));
        work.only = work.resolved.wanted.iter().map(|wanted| wanted.address.clone()).collect();
        // Nothing is removed on this night.
        work.intent.only = true;
        let snapshot = work.look(&Look::of(self.world)).await;
        let planned = work.plan(&snapshot)?;
        if refuses(&planned.plan.findings) {
            return Err(Stop::new(Exit::Refused, Diagnostics(planned.plan.findings.clone())));
        }
        if !planned.plan.is_complete() {
            let unseen: Vec<String> =
                planned.plan.unknown.iter().map(|unseen| format!("{}: {}", unseen.address, unseen.why)).collect();
            let problem =
                Diagnostic::error("rebuild-unseen", "not everything could be looked at, so nothing more was changed");
            let problem = unseen.into_iter().fold(problem, Diagnostic::note);
            return Err(Stop::failed(problem.hint("run `seawall rebuild` again: it goes on where it was")));
        }
        if planned.plan.is_empty() {
            return Ok(());
        }
        secrets::ready(&work, self.world, &planned.plan).await?;
        let approved = Approved {
            plan: planned.plan.clone(),
            already: std::collections::BTreeSet::new(),
            unchanged: planned.plan.unchanged.clone(),
            snapshot,
            nonce: Nonce::random(),
        };
        let store = self.stores.last().expect("there is the folder at least");
        let (ended, folder) = carry_out(session, &work, self.world, store, &approved).await?;
        if ended.failed.is_empty() && ended.put_back.is_empty() && ended.not_started.is_empty() {
            return Ok(());
        }
        let problem = Diagnostic::error("rebuild-failed", "a part of the new server could not be made");
        let problem = ended
            .failed
            .iter()
            .chain(&ended.put_back)
            .fold(problem, |problem, (address, failure)| problem.note(format!("{address}: {failure}")));
        Err(Stop::failed(
            problem
                .note(format!("journal: {}", folder.join("journal.jsonl").display()))
                .hint("run `seawall rebuild` again: it goes on where it was"),
        ))
    }

    /// The restore onto the new server: the one that an earlier run made, or a new one.
    async fn restored(&mut self, session: &mut Session) -> Result<(RestorePlan, Told), Stop> {
        if let Some(known) = self.ledger.restored.clone() {
            return Ok(known);
        }
        let at = self.target.endpoint(self.world).await.map_err(|why| Stop::failed(rebuild_unseen(&why)))?;
        self.begin(session, "restore", "the newest backup, and the WAL after it");
        let (before, _) = self.around()?;
        self.target.on_host(self.world, &at, "before", before).await.map_err(|why| {
            Stop::failed(Diagnostic::error("rebuild-failed", "pgBackRest could not be set up").note(why))
        })?;
        let working = Working::new(session.progress_mode());
        let say = |what: &str| working.say(what);
        let waiting = self.target.waiting(self.world, &at).await.map_err(|why| Stop::failed(rebuild_unseen(&why)))?;
        let known = match waiting {
            // An earlier run was killed after the restore had come to its end.
            Some((name, told)) if told.end == Some(End::Finished) => (self.plan(&name).await?, told),
            waiting => {
                if let Some((name, _)) = waiting {
                    say("an earlier try is undone");
                    self.target.command_restore(self.world, &at, "undo", &name).await.map_err(Stop::failed)?;
                }
                let name = format!("{}-{:04x}", self.ledger.id, fastrand::u16(..));
                let plan = self.plan(&name).await?;
                let told = self.target.restore(self.world, &plan, &[], None, &say).await.map_err(Stop::failed)?;
                (plan, told)
            }
        };
        drop(working);
        match &known.1.end {
            Some(End::Finished) => {}
            Some(End::Failed { code, why }) => {
                return Err(Stop::failed(
                    failed(&known.0, code, why).hint("run `seawall rebuild` again once that is mended"),
                ));
            }
            _ => return Err(Stop::failed(Diagnostic::error("restore-failed", "the restore ended without a word"))),
        }
        self.ledger.restored = Some(known.clone());
        self.keep().await?;
        Ok(known)
    }

    /// What is done on the server before and after the restore.
    fn around(&self) -> Result<(Vec<HostStep>, HostStep), Stop> {
        pgbackrest_repo::around_restore(&self.work.loaded.inventory, &self.target.server)
            .ok_or_else(|| Stop::failed(rebuild_unseen("the server has no backups")))
    }

    async fn plan(&self, name: &str) -> Result<RestorePlan, Stop> {
        let seen = self.target.look(&Look::of(self.world), &mut |_| ()).await;
        let known = judge(&seen, &self.target.section);
        let objects = seen.objects.ok().flatten().unwrap_or_default();
        let plan = choose(&known, &objects, Goal::Latest, Purpose::InPlace, &Wish::default(), name);
        let again = "run `seawall rebuild` again once that is mended";
        plan.map(|plan| self.target.with_hooks(plan)).map_err(|why| Stop::new(Exit::Refused, why.hint(again)))
    }

    async fn accept(&self, name: &str) -> Result<(), Stop> {
        let at = self.target.endpoint(self.world).await.map_err(|why| Stop::failed(rebuild_unseen(&why)))?;
        let (_, archive) = self.around()?;
        // The file first: the cluster is restarted by what follows, and begins to archive with it.
        self.target.on_host(self.world, &at, "archive", vec![archive]).await.map_err(|why| {
            Stop::failed(Diagnostic::error("rebuild-failed", "archiving could not be set up").note(why))
        })?;
        self.target.command_restore(self.world, &at, "accept", name).await.map_err(Stop::failed)
    }

    fn report(&self, plan: RestorePlan, told: Told, ended: i64) -> Rebuilt {
        let objectives = &self.work.loaded.inventory.objectives;
        Rebuilt::new(
            &self.ledger,
            ended,
            plan,
            told,
            (objectives.rebuild.map(TimeSpan::seconds), objectives.rpo.map(TimeSpan::seconds)),
        )
    }
}

/// The identities whose keys are on a server.
fn identities(work: &Work, server: &str) -> Vec<String> {
    let own = |address: &Address| address.kind() == "iam.user" && address.name().starts_with(&format!("{server}-"));
    let all = work.resolved.wanted.iter().filter(|wanted| own(&wanted.address));
    all.map(|wanted| crate::kinds::physical_name(&work.resolved.environment, wanted.address.name(), "")).collect()
}

fn fenced<'a>(work: &'a Work, target: &'a Target, users: &'a [String]) -> Fenced<'a> {
    let environment = &work.resolved.environment;
    Fenced { environment, server: &target.server, instance: &target.reference.instance, users }
}

/// Removes what is left of the old server, once the new one has been looked at.
async fn accept(session: &mut Session, work: &Work, world: &World, target: &Target, yes: bool) -> Result<Exit, Stop> {
    let earlier = fenced(work, target, &[]).earlier(world).await.map_err(|why| Stop::failed(rebuild_unseen(&why)))?;
    if earlier.is_empty() {
        session.say(format!("nothing is left of an earlier {}", target.server));
        return Ok(Exit::Done);
    }
    if let Some((name, state)) = earlier.iter().find(|(_, state)| state != "stopped") {
        let problem = Diagnostic::error(
            "rebuild-not-fenced",
            format!("instance `{name}` is {state}, and a rebuild would have stopped it"),
        );
        return Err(Stop::new(
            Exit::Refused,
            problem.note("nothing was changed by this run").hint("finish the rebuild first: seawall rebuild"),
        ));
    }
    let names: Vec<&str> = earlier.iter().map(|(name, _)| name.as_str()).collect();
    session.say(format!("{} DELETED, with everything on it, for ever", names.join(", ")));
    if !yes && (!session.can_ask() || !session.ask("Delete? Only `yes` goes on: ")?) {
        let problem =
            Diagnostic::error("not-confirmed", "nothing was changed").hint("add --yes where nobody can answer");
        return Err(Stop::new(Exit::Usage, problem));
    }
    for name in names {
        let done = world.act_cloud(&CloudStep::DeleteInstance { name: name.to_owned() }, &[]).await;
        done.map_err(|failure| {
            Stop::failed(
                Diagnostic::error("rebuild-failed", format!("`{name}` could not be deleted")).note(failure.to_string()),
            )
        })?;
        session.say(format!("{name} is gone"));
    }
    Ok(Exit::Done)
}

fn not_fenced(why: &str) -> Diagnostic {
    Diagnostic::error(
        "rebuild-not-fenced",
        "the old server could still write into the repository, so nothing more was done",
    )
    .note(why)
    .hint("run `seawall rebuild` again once that is mended")
}

fn rebuild_unseen(why: &str) -> Diagnostic {
    Diagnostic::error("rebuild-unseen", "the new server could not be looked at")
        .note(why)
        .hint("run `seawall rebuild` again: it goes on where it was")
}
