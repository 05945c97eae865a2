//! `seawall rebuild`: a server from nothing but the inventory, the secrets and the bucket, with one clock.
//!
//! The old server is fenced before the new one may archive: its keys are deleted and read back as gone. What was reached is
//! kept where operators meet, so a run that was killed is run again and goes on. The address moves last.

mod old;
pub mod walk;

use std::time::Duration;

use jiff::Timestamp;

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::cli::args::{DataArgs, OnlyArgs, RebuildArgs};
use crate::cli::backup::{meant, one};
use crate::cli::drill::refused;
use crate::cli::exit::{Exit, Stop};
use crate::cli::locked::{GIVE_YES, locked};
use crate::cli::rebuild::old::{accept, fenced, identities, later_generation, names, other_repository, rebuild_unseen};
use crate::cli::rebuild::walk::{Walk, begin};
use crate::cli::restore::failed;
use crate::cli::session::Session;
use crate::cli::work::{Stores, Work, store_failed};
use crate::inventory::scalar::{Name, TimeSpan};
use crate::kinds::pgbackrest_copy::PgbackrestCopy;
use crate::kinds::s3_bucket::S3Bucket;
use crate::kinds::{Kind as _, pgbackrest_copy, pgbackrest_repo};
use crate::plan::host::Endpoint;
use crate::plan::observed::Observed;
use crate::plan::probe::{CloudProbe, HostProbe};
use crate::plan::rebuild::{Ledger, Rebuilt};
use crate::plan::restores::{End, Goal, Purpose, Repository, RestorePlan, Told};
use crate::plan::step::HostStep;
use crate::reach::Ask as _;
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::recovery::goal::{Wish, moment_of};
use crate::recovery::judge::prefix;
use crate::recovery::look::Target;
use crate::view::working::Working;

/// Looks at what an earlier run began on the new server: twelve hours of them, as long as a restore may take.
const IDLE_LOOKS: u32 = 12 * 3600;
const IDLE_PAUSE: Duration = Duration::from_secs(1);

const AGAIN: &str = "run `seawall rebuild` again: it goes on where it was";

struct Rebuild<'a> {
    work: &'a Work,
    world: &'a World,
    target: Target,
    stores: &'a Stores,
    ledger: Ledger,
}

/// `seawall rebuild`.
pub async fn rebuild(session: &mut Session, args: &RebuildArgs) -> Result<Exit, Stop> {
    let target = one(meant(session, &args.of)?)?;
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let interrupted = Diagnostic::error("interrupted", "this rebuild was interrupted")
        .note("what had begun on the new server goes on there")
        .hint("run `seawall rebuild` again: it goes on where it was");
    let run = async |session: &mut Session, stores: &Stores| {
        if args.accept {
            return accept(session, &work, &world, &target, args.yes).await;
        }
        whole(session, &work, &world, target, stores, args.yes).await
    };
    locked(session, &work, &world, "rebuild", interrupted, run).await
}

async fn whole(
    session: &mut Session,
    work: &Work,
    world: &World,
    target: Target,
    stores: &Stores,
    yes: bool,
) -> Result<Exit, Stop> {
    let key = format!("rebuild/{}.json", target.server);
    let known = stores.widest().get(&key).await.map_err(|failure| store_failed(&failure))?;
    let known: Option<Ledger> = known.map(|bytes| serde_json::from_slice(&bytes)).transpose().map_err(|error| {
        let what = format!("how far the last rebuild of `{}` came cannot be read", target.server);
        Stop::failed(
            Diagnostic::error("rebuild-unseen", what)
                .note(format!("{key}: {error}"))
                .note("nothing was changed by this run"),
        )
    })?;
    let unfinished = known.filter(|ledger| !ledger.finished);
    if let Some(other) = unfinished.as_ref().filter(|ledger| ledger.repository != target.repository) {
        return Err(Stop::new(Exit::Refused, other_repository(&target, other)));
    }
    let ledger = match unfinished {
        Some(ledger) => {
            let begun = moment_of(ledger.begun);
            session.say(format!(
                "Rebuild {} of {}, which {} began at {begun}, is not finished.",
                ledger.id, target.server, ledger.by
            ));
            if !yes && !session.confirmed("Go on with it? Only `yes` does: ", GIVE_YES)? {
                return Ok(Exit::Failed);
            }
            ledger
        }
        None => match new(session, work, world, &target, yes).await? {
            Some(ledger) => ledger,
            None => return Ok(Exit::Failed),
        },
    };
    let mut rebuild = Rebuild { work, world, target, stores, ledger };
    rebuild.keep().await?;
    let report = rebuild.run(session).await?;
    session.show_rebuilt(work, &report)?;
    Ok(if report.misses.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Whether there is anything to rebuild, and whether it is wanted.
async fn new(
    session: &mut Session,
    work: &Work,
    world: &World,
    target: &Target,
    yes: bool,
) -> Result<Option<Ledger>, Stop> {
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
    let (known, objects) = target.known(&Look::of(world)).await;
    objects
        .map_err(|why| Stop::failed(target.pointed(rebuild_unseen(&why)).note("nothing was changed by this run")))?;
    let Some(newest) = known.backups.last() else {
        return refused(
            target.pointed(
                Diagnostic::error("backup-none", "nothing can be restored: there is no backup yet")
                    .note(format!("s3://{}/{} has none", target.bucket, prefix(target.stanza())))
                    .hint("`seawall apply` makes a new, empty server"),
            ),
        );
    };
    let users = names(&identities(&work.resolved.wanted, &target.server));
    let (earlier, later) =
        fenced(work, target, &users).others(world).await.map_err(|why| Stop::failed(rebuild_unseen(&why)))?;
    if let Some(later) = later.first() {
        return refused(later_generation(target, later));
    }
    let left = match earlier.as_slice() {
        [] => "nothing is left of the old server".to_owned(),
        some => {
            let names: Vec<String> = some.iter().map(|one| format!("{} ({})", one.name, one.state)).collect();
            format!("{} STOPS first and is kept until `seawall rebuild --accept`", names.join(", "))
        }
    };
    session.say(format!(
        "Rebuild {}: a new instance {instance}, restored from s3://{}/{}\n\
         \n  backups    {}, the newest {} of {}\
         \n  target     the newest moment that is archived\
         \n  fence      every access key on the old server is DELETED first, for ever; {left}\
         \n  address    moves to the new server at the end\n",
        target.server,
        target.bucket,
        prefix(target.stanza()),
        known.backups.len(),
        newest.label,
        moment_of(newest.finished),
    ));
    if !yes && !session.confirmed("Rebuild? Only `yes` goes on: ", GIVE_YES)? {
        return Ok(None);
    }
    Ok(Some(Ledger {
        id: Timestamp::now().strftime("rebuild-%Y%m%d-%H%M%S").to_string(),
        begun: Timestamp::now().as_second(),
        by: crate::cli::work::who(),
        repository: target.repository,
        ..Ledger::default()
    }))
}

impl Rebuild<'_> {
    async fn keep(&self) -> Result<(), Stop> {
        let bytes = serde_json::to_vec(&self.ledger).expect("plain data serialises");
        for store in self.stores.all() {
            store
                .put(&format!("rebuild/{}.json", self.target.server), &bytes)
                .await
                .map_err(|failure| store_failed(&failure))?;
        }
        Ok(())
    }

    fn begin(&mut self, session: &mut Session, name: &str, words: &str) {
        begin(session, self.work, self.ledger.begun, &mut self.ledger.steps, name, words);
    }

    fn walk(&self) -> Walk<'_> {
        Walk { work: self.work, world: self.world, stores: self.stores, again: AGAIN }
    }

    async fn run(&mut self, session: &mut Session) -> Result<Rebuilt, Stop> {
        let server = self.target.server.clone();
        self.idle(session).await?;
        if !self.ledger.fenced {
            self.begin(session, "fence", "the old server's keys are deleted, and what is left of it is stopped");
            let users = names(&identities(&self.work.resolved.wanted, &server));
            let fence = fenced(self.work, &self.target, &users);
            self.ledger.kept = fence.put_up(self.world).await.map_err(|why| Stop::failed(not_fenced(&why)))?;
            self.ledger.fenced = true;
            self.keep().await?;
        }
        if self.ledger.restored.is_none() {
            self.begin(session, "server", "a new instance, hardened, with the packages of the database");
            let keys: Vec<Address> =
                identities(&self.work.resolved.wanted, &server).into_iter().map(|wanted| wanted.address).collect();
            // Where the first bucket was lost as a whole, what is restored could not be archived.
            let lost = (self.target.repository == Repository::Copy).then(|| self.buckets().0).flatten();
            let needed: Vec<Address> = keys.into_iter().chain(lost).collect();
            self.walk().server(session, &server, &needed).await?;
        }
        let (plan, told) = self.restored(session).await?;
        if !self.ledger.accepted {
            self.begin(session, "archive", "archiving begins on the new timeline, with a full backup");
            self.accept(&plan.name).await?;
            self.ledger.accepted = true;
            self.keep().await?;
        }
        self.begin(session, "rest", "roles, access, pools, jobs, schedules");
        // A second repository that does not answer must not keep clients from their database.
        let of_copy: Vec<Address> =
            self.buckets().1.into_iter().chain([Address::new(PgbackrestCopy::NAME, &server)]).collect();
        self.walk().rest(session, &of_copy).await?;
        self.begin(session, "address", "the address moves to the new server");
        self.walk().apply(session, |address, _| !of_copy.contains(address)).await?;
        let ended = Timestamp::now().as_second();
        self.ledger.finished = true;
        self.keep().await?;
        let mut report = self.report(plan, told, ended);
        if self.work.resolved.wanted.iter().any(|wanted| wanted.address.kind() == PgbackrestCopy::NAME) {
            session.say("The server is back. The second repository gets a full backup.");
            if let Err(stop) = self.walk().apply(session, |address, _| of_copy.contains(address)).await {
                let problem = Diagnostic::error("rebuild-copy", "the second repository is not as it must be yet");
                let why = stop.diagnostics.0.iter().map(|why| why.message.clone());
                let problem = why.fold(problem, Diagnostic::note).note("the server itself is rebuilt");
                report.misses.push(problem.hint("`seawall apply` makes it so, when its bucket answers"));
            }
        }
        Ok(report)
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

    /// Whether the new server is what this rebuild has left there: one that archives was made otherwise meanwhile, and its data is
    /// not to be moved aside.
    async fn not_overtaken(&self, at: &Endpoint, archive: &HostStep) -> Result<(), Stop> {
        let HostStep::WriteFile { path, .. } = archive else { return Ok(()) };
        match self.world.host(at, &[HostProbe::File { path: path.clone() }]).await.file(path) {
            Observed::Absent => Ok(()),
            Observed::Unknown(why) => Err(Stop::failed(rebuild_unseen(&why.to_string()))),
            Observed::Present(_) => {
                let problem = Diagnostic::error(
                    "rebuild-overtaken",
                    format!("`{}` archives already, and this rebuild has restored nothing on it", self.target.server),
                );
                Err(Stop::new(
                    Exit::Refused,
                    problem.note("somebody has made it otherwise since the rebuild was interrupted").note("nothing was changed by this run").hint(
                        "where its data is right, there is nothing to rebuild; where it is not: seawall restore --in-place",
                    ),
                ))
            }
        }
    }

    /// The restore onto the new server: the one that an earlier run made, or a new one.
    async fn restored(&mut self, session: &mut Session) -> Result<(RestorePlan, Told), Stop> {
        if let Some(known) = self.ledger.restored.clone() {
            return Ok(known);
        }
        let at = self.target.endpoint(self.world).await.map_err(|why| Stop::failed(rebuild_unseen(&why)))?;
        self.begin(session, "restore", "the newest backup, and the WAL after it");
        let (before, archive) = self.around()?;
        self.not_overtaken(&at, &archive).await?;
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
                if refused(&plan) {
                    return Err(Stop::new(Exit::Refused, Diagnostics(plan.findings)));
                }
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

    /// The buckets of the server's first and second repository.
    fn buckets(&self) -> (Option<Address>, Option<Address>) {
        let mut servers = self.work.loaded.inventory.servers.iter();
        let own = servers.find(|(name, _)| name.as_str() == self.target.server);
        let section = own.and_then(|(_, server)| server.backup.as_ref());
        let address = |bucket: &Name| Address::new(S3Bucket::NAME, bucket.as_str());
        let copy = section.and_then(|section| section.copies.first());
        (section.map(|section| address(&section.bucket)), copy.map(|copy| address(&copy.bucket)))
    }

    /// What is done on the server before and after the restore.
    fn around(&self) -> Result<(Vec<HostStep>, HostStep), Stop> {
        let (inventory, server) = (&self.work.loaded.inventory, &self.target.server);
        let (mut before, archive) = pgbackrest_repo::around_restore(inventory, server)
            .ok_or_else(|| Stop::failed(rebuild_unseen("the server has no backups")))?;
        before.extend(pgbackrest_copy::before_restore(inventory, server));
        Ok((before, archive))
    }

    async fn plan(&self, name: &str) -> Result<RestorePlan, Stop> {
        let look = Look::of(self.world);
        let plan = self.target.planned(&look, Goal::Latest, Purpose::InPlace, &Wish::default(), name).await;
        plan.map_err(|why| Stop::new(Exit::Refused, why.hint("run `seawall rebuild` again once that is mended")))
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

fn not_fenced(why: &str) -> Diagnostic {
    Diagnostic::error(
        "rebuild-not-fenced",
        "the old server could still write into the repository, so nothing more was done",
    )
    .note(why)
    .hint("run `seawall rebuild` again once that is mended")
}
