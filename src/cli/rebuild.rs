//! `seawall rebuild`: a server from nothing but the inventory, the secrets and the bucket, with one clock.
//!
//! The old server is fenced before the new one may archive: its keys are deleted and read back as gone. What was reached is
//! kept where operators meet, so a run that was killed is run again and goes on. The address moves last.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
use crate::plan::cloud::User;
use crate::plan::observed::Observed;
use crate::plan::probe::CloudProbe;
use crate::plan::rebuild::{Rebuilt, Step};
use crate::plan::restores::{End, Goal, Purpose, RestorePlan, Told};
use crate::plan::step::{CloudStep, HostStep};
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::reach::{Act as _, Ask as _};
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
/// Looks at a fence before it is given up; IAM lags by seconds.
const FENCE_LOOKS: u32 = 30;
const FENCE_PAUSE: Duration = Duration::from_secs(1);
/// Looks at what an earlier run began on the new server: twelve hours of them, as long as a restore may take.
const IDLE_LOOKS: u32 = 12 * 3600;
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// How far a rebuild is, for whoever runs it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ledger {
    /// Names the restore on the new server, too.
    id: String,
    /// When the clock began, in seconds since 1970.
    begun: i64,
    by: String,
    fenced: bool,
    /// What was restored, and what it told.
    restored: Option<(RestorePlan, Told)>,
    accepted: bool,
    finished: bool,
    steps: Vec<Step>,
}

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
    let result = tokio::select! {
        result = whole(session, &work, &world, target, &all, args.yes) => result,
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
        None => new(session, world, &target, yes).await?,
    };
    let mut rebuild = Rebuild { work, world, target, stores, ledger };
    rebuild.keep().await?;
    let report = rebuild.run(session).await?;
    session.show_rebuilt(work, &report)?;
    Ok(if report.misses.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Whether there is anything to rebuild, and whether it is wanted.
async fn new(session: &mut Session, world: &World, target: &Target, yes: bool) -> Result<Ledger, Stop> {
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
            return refused(
                Diagnostic::error("rebuild-instance-there", format!("instance `{instance}` is there"))
                    .note("a rebuild makes the server anew; two servers must never archive into one stanza")
                    .hint(format!(
                        "if its data is well, `seawall apply` mends the rest; if only its data is lost, `seawall restore --in-place`; \
                         if the server itself is lost, keep a snapshot of it and remove it: seawall destroy --only {} --lose-data {}",
                        target.reference.address, target.reference.address
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
    let bytes: u64 = objects.iter().map(|object| object.bytes).sum();
    session.say(format!(
        "Rebuild {}: a new instance {instance}, restored from s3://{}/{repository}\n\
         \n  backups    {}, the newest {newest}; {} MB in the bucket\
         \n  target     the newest moment that is archived\
         \n  fence      every access key of the old server's backups is DELETED first, for ever\
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
        fenced: false,
        restored: None,
        accepted: false,
        finished: false,
        steps: Vec::new(),
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
            self.begin(session, "fence", "the old server's keys are deleted, and read back as gone");
            self.fence().await?;
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

    /// Every key that the old server could write with, gone: what is left of it can write nowhere.
    async fn fence(&self) -> Result<(), Stop> {
        let users: Vec<String> = self.identities();
        for user in &users {
            for key in self.keys(user).await? {
                let step = CloudStep::DeleteAccessKey { user: user.clone(), id: key };
                self.world.act_cloud(&step, &[]).await.map_err(|failure| {
                    Stop::failed(not_fenced(&format!("a key of `{user}` could not be deleted: {failure}")))
                })?;
            }
            let mut left = self.keys(user).await?;
            for _ in 0..FENCE_LOOKS {
                if left.is_empty() {
                    break;
                }
                tokio::time::sleep(FENCE_PAUSE).await;
                left = self.keys(user).await?;
            }
            if !left.is_empty() {
                return Err(Stop::failed(not_fenced(&format!("`{user}` still has {}", left.join(", ")))));
            }
        }
        Ok(())
    }

    /// The identities whose keys are on the server.
    fn identities(&self) -> Vec<String> {
        let own = |address: &Address| {
            address.kind() == "iam.user" && address.name().starts_with(&format!("{}-", self.target.server))
        };
        let environment = &self.work.resolved.environment;
        let all = self.work.resolved.wanted.iter().filter(|wanted| own(&wanted.address));
        all.map(|wanted| crate::kinds::physical_name(environment, wanted.address.name(), "")).collect()
    }

    async fn keys(&self, user: &str) -> Result<Vec<String>, Stop> {
        match self.world.cloud(&CloudProbe::User { name: user.to_owned() }).await {
            Observed::Absent => Ok(Vec::new()),
            Observed::Present(value) => {
                let found: User =
                    serde_json::from_value(value).map_err(|error| Stop::failed(not_fenced(&error.to_string())))?;
                Ok(found.keys.into_iter().map(|key| key.id).collect())
            }
            Observed::Unknown(why) => {
                Err(Stop::failed(not_fenced(&format!("the keys of `{user}` could not be read: {why}"))))
            }
        }
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
        choose(&known, &objects, Goal::Latest, Purpose::InPlace, &Wish::default(), name).map_err(|problem| {
            Stop::new(Exit::Refused, problem.hint("run `seawall rebuild` again once that is mended"))
        })
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
            self.ledger.id.clone(),
            self.ledger.begun,
            ended,
            self.ledger.steps.clone(),
            plan,
            told,
            (objectives.rebuild.map(TimeSpan::seconds), objectives.rpo.map(TimeSpan::seconds)),
        )
    }
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
