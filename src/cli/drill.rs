//! `seawall drill …`: a restore that is carried out to be measured, its report, and what was measured before.

use std::path::Path;

use jiff::Timestamp;

use crate::base::diag::{Diagnostic, Diagnostics, Severity};
use crate::base::secret::{SecretForm, SecretUse};
use crate::cli::args::{DataArgs, DrillArgs, OnlyArgs, RepositoryArgs, ServerArgs};
use crate::cli::backup::{meant, one};
use crate::cli::exit::{Exit, Stop};
use crate::cli::locked::{GIVE_YES, locked};
use crate::cli::restore::failed;
use crate::cli::session::Session;
use crate::cli::work::{Stores, Work, machine, who};
use crate::engine::private;
use crate::inventory::scalar::TimeSpan;
use crate::inventory::sections::database::DrillCheck;
use crate::kinds::pgbackrest_repo::drilled;
use crate::plan::backups::Backups;
use crate::plan::drills::{Broken, Cleanup, Drill, Past, Scenario};
use crate::plan::host::Endpoint;
use crate::plan::restores::{End, Purpose, RestorePlan, Told};
use crate::reach::Ask as _;
use crate::reach::aws::objects::Listed;
use crate::reach::look::Look;
use crate::reach::sealed::Opened;
use crate::reach::world::World;
use crate::recovery::drill::{Before, Run, damaged, draw, freeze, judged};
use crate::recovery::goal::{self, Wish, choose};
use crate::recovery::history;
use crate::recovery::judge::prefix;
use crate::recovery::look::{Target, targets};
use crate::recovery::restore::Check;
use crate::view::working::Working;

/// Where reports go.
pub const REPORTS: &str = "reports";

/// `seawall drill`, beside the database.
pub async fn drill(session: &mut Session, args: &DrillArgs) -> Result<Exit, Stop> {
    if args.preflight { preflight(session, &args.of).await } else { run(session, args).await }
}

/// Tries the passphrase on the repository's two files of information, as they lie in the bucket.
async fn preflight(session: &mut Session, of: &RepositoryArgs) -> Result<Exit, Stop> {
    let targets = meant(session, of)?;
    let (_, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let mut problems = Vec::new();
    for target in &targets {
        let (stanza, bucket) = (target.stanza(), &target.bucket);
        let passphrase = SecretUse { from: target.section.cipher_pass.secret(), form: SecretForm::Passphrase };
        for part in ["archive/archive.info", "backup/backup.info"] {
            let (folder, file) = part.split_once('/').expect("both have a folder");
            let key = format!("{}{folder}/{stanza}/{file}", prefix(stanza));
            let said = world.opens(bucket, &key, &passphrase).await;
            problems.extend(not_open(target, &key, said));
        }
    }
    if problems.is_empty() {
        let servers: Vec<&str> = targets.iter().map(|target| target.server.as_str()).collect();
        session.say(format!("the passphrase opens the repository of {}", servers.join(", ")));
        return Ok(Exit::Done);
    }
    Err(Stop::new(Exit::Failed, Diagnostics(problems)))
}

fn not_open(target: &Target, key: &str, said: Result<Opened, String>) -> Option<Diagnostic> {
    let about = format!("s3://{}/{key}", target.bucket);
    let server = &target.server;
    match said {
        Ok(Opened::Opens) => None,
        Ok(Opened::DoesNotOpen) => Some(
            Diagnostic::error(
                "preflight-passphrase",
                format!("the passphrase does not open the repository of `{server}`"),
            )
            .note(about)
            .hint("find the passphrase that the repository was made with; without it every backup is noise"),
        ),
        Ok(Opened::NotSealed) => Some(
            Diagnostic::error("preflight-not-sealed", format!("the repository of `{server}` is not encrypted"))
                .note(about)
                .hint("it was not made by Seawall: declare another `stanza`"),
        ),
        Ok(Opened::Absent) => Some(
            Diagnostic::error(
                "preflight-absent",
                format!("there is no repository of `{server}`, or a part is missing"),
            )
            .note(about)
            .hint("`seawall plan` shows whether it was ever made"),
        ),
        Err(why) => Some(
            Diagnostic::error("preflight-unseen", format!("the repository of `{server}` could not be tried"))
                .note(about)
                .note(why),
        ),
    }
}

/// What was chosen, or why nothing was, and what was found on the way.
pub struct Chosen {
    pub plan: Result<RestorePlan, Diagnostic>,
    pub found: Vec<Diagnostic>,
}

async fn run(session: &mut Session, args: &DrillArgs) -> Result<Exit, Stop> {
    // The disaster. What is looked at from here on is part of the time that it takes.
    let mut clock = Timestamp::now();
    can_be_meant(&args.to)?;
    let target = one(meant(session, &args.of)?)?;
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let id = clock.strftime("drill-%Y%m%d-%H%M%S").to_string();
    let broken = args.broken.map(Into::into);
    let at = target.endpoint(&world).await.map_err(unseen)?;
    let before = target.before_drill(&world, &at).await.map_err(unseen)?;
    let mut chosen = planned(session, &world, &target, &args.to, broken, &id).await;
    let asks = chosen.plan.as_ref().ok().filter(|plan| !args.yes && !refused(plan));
    if let Some(plan) = asks {
        session.say(session.restore_text(plan));
        if !session.confirmed("Run the drill? The clock begins with `yes`; only that goes on: ", GIVE_YES)? {
            return Ok(Exit::Failed);
        }
        // Nobody has looked at the repository yet when a disaster strikes.
        clock = Timestamp::now();
        chosen = planned(session, &world, &target, &args.to, broken, &id).await;
    }
    let interrupted = Diagnostic::error("interrupted", "this run was interrupted")
        .note(format!("the drill `{id}` goes on on `{}`; there is no report of it", target.server))
        .hint(format!("remove what it restored: seawall restore drop {id}"));
    let carried = Carried { target: &target, at: &at, id: &id, broken };
    let facts = Facts { work: &work, target: &target, asked: &args.to, clock, before, id: id.clone(), broken };
    let run = async |session: &mut Session, stores: &Stores| {
        let past = history::of(stores.widest()).await;
        let done = carried.out(session, &world, chosen).await;
        let drill = facts.judged(done, past.as_deref().unwrap_or_default());
        let kept = keep(session, stores, &drill).await;
        Ok((drill, kept, past.err()))
    };
    let (drill, kept, uncompared) = locked(session, &work, &world, "drill", interrupted, run).await?;
    session.show_drill(&drill)?;
    if let Some(why) = uncompared {
        session.say(format!("warning: it was not compared with the drill before: {why}"));
    }
    kept.map_err(Stop::failed)?;
    session.say(format!("report: {REPORTS}/{id}.md and {REPORTS}/{id}.json"));
    Ok(if drill.passed { Exit::Done } else { Exit::Failed })
}

fn unseen(why: String) -> Stop {
    Stop::failed(
        Diagnostic::error("drill-unseen", "the drill was not begun: the server could not be looked at")
            .note(why)
            .note("without the server, only `seawall restore` on another one shows whether the data survives"),
    )
}

/// Refuses what is no target of a drill.
pub fn can_be_meant(to: &str) -> Result<(), Stop> {
    if matches!(to, "latest" | "random") {
        return Ok(());
    }
    goal::goal(to).map(drop).map_err(|why| Stop::new(Exit::Usage, Diagnostic::error("restore-target", why)))
}

/// Whether a plan must not be carried out.
pub fn refused(plan: &RestorePlan) -> bool {
    plan.findings.iter().any(|finding| finding.severity == Severity::Error)
}

/// Looks at the repository and chooses.
async fn planned(
    session: &Session,
    world: &World,
    target: &Target,
    to: &str,
    broken: Option<Broken>,
    id: &str,
) -> Chosen {
    planned_for(Purpose::Drill, session, world, target, to, broken, id).await
}

/// The same for a copy of any purpose.
pub async fn planned_for(
    purpose: Purpose,
    session: &Session,
    world: &World,
    target: &Target,
    to: &str,
    broken: Option<Broken>,
    id: &str,
) -> Chosen {
    let working = Working::new(session.progress_mode());
    working.say("looking at the repository");
    let (known, objects) = target.known(&Look::of(world)).await;
    let plan = chosen(&known, objects.unwrap_or_default(), to, broken, (purpose, id));
    let plan = match plan.map(|plan| target.with_hooks(plan)).map_err(|why| target.pointed(why)) {
        Ok(plan) => Ok(target.with_needs(&Look::of(world), &known, plan).await),
        Err(why) => Err(why),
    };
    Chosen { plan, found: damaged(&known).into_iter().collect() }
}

fn chosen(
    known: &Backups,
    mut objects: Vec<Listed>,
    to: &str,
    broken: Option<Broken>,
    (purpose, id): (Purpose, &str),
) -> Result<RestorePlan, Diagnostic> {
    let goal = if to == "random" {
        let drawn = draw(&known.windows, |below| fastrand::i64(0..below)).ok_or_else(|| {
            Diagnostic::error(
                "drill-no-window",
                format!("no window of `{}` is long enough to draw a moment", known.server),
            )
            .hint("drill the newest moment: --to latest")
        })?;
        let at = Timestamp::from_second(drawn).map(|at| at.to_string()).unwrap_or_default();
        goal::goal(&at)
    } else {
        goal::goal(to)
    };
    let goal = goal.map_err(|why| Diagnostic::error("restore-target", why))?;
    let choose = |objects: &[Listed]| choose(known, objects, goal.clone(), purpose, &Wish::default(), id);
    let plan = choose(&objects)?;
    if broken != Some(Broken::StorageClass) {
        return Ok(plan);
    }
    freeze(&mut objects, &plan);
    choose(&objects)
}

/// A drill that is carried out.
struct Carried<'a> {
    target: &'a Target,
    at: &'a Endpoint,
    id: &'a str,
    broken: Option<Broken>,
}

/// How it went.
struct Done {
    plan: Option<RestorePlan>,
    failure: Option<Diagnostic>,
    found: Vec<Diagnostic>,
    told: String,
    cleanup: Cleanup,
}

impl Carried<'_> {
    /// Restores, reads what was told, removes, and asks whether it is gone. It always comes to the end.
    async fn out(&self, session: &Session, world: &World, chosen: Chosen) -> Done {
        let working = Working::new(session.progress_mode());
        let Self { target, at, id, broken } = self;
        let (plan, mut failure) = match chosen.plan {
            Err(problem) => (None, Some(problem)),
            Ok(plan) if refused(&plan) => (Some(plan), None),
            Ok(plan) => {
                let say = |what: &str| working.say(what);
                let failure = match target.restore(world, &plan, &checks(target), *broken, &say).await {
                    Ok(told) => ended(&plan, &told),
                    Err(problem) => Some(problem),
                };
                (Some(plan), failure)
            }
        };
        working.say("removing the copy");
        let ordered = plan.as_ref().is_some_and(|plan| !refused(plan));
        let told = if ordered { target.told_words(world, at, id).await } else { Ok(String::new()) };
        let told = told.unwrap_or_else(|why| {
            failure.get_or_insert(Diagnostic::error("restore-unseen", "what the drill told was not read").note(why));
            String::new()
        });
        if ordered && let Err(problem) = target.command_restore(world, at, "drop", id).await {
            // What is left is asked below; this says why.
            failure.get_or_insert(problem);
        }
        let cleanup = target.left_of(world, at, id).await;
        Done { plan, failure, found: chosen.found, told, cleanup }
    }
}

/// The declared questions.
pub fn checks(target: &Target) -> Vec<Check> {
    let check = |check: &DrillCheck| Check {
        database: check.database.to_string(),
        sql: check.sql.clone(),
        expect: check.expect.clone(),
    };
    target.section.drills.checks.iter().map(check).collect()
}

/// Why a restore was none.
pub fn ended(plan: &RestorePlan, told: &Told) -> Option<Diagnostic> {
    match &told.end {
        Some(End::Finished) => None,
        Some(End::Failed { code, why }) => Some(failed(plan, code, why)),
        Some(End::Interrupted) => Some(Diagnostic::error("restore-failed", "the drill was ended by somebody")),
        Some(End::Ready | End::Over) | None => {
            Some(Diagnostic::error("restore-failed", "the drill ended without a word"))
        }
    }
}

/// What is known beside what happened.
struct Facts<'a> {
    work: &'a Work,
    target: &'a Target,
    asked: &'a str,
    clock: Timestamp,
    before: Before,
    id: String,
    broken: Option<Broken>,
}

impl Facts<'_> {
    fn judged(self, done: Done, past: &[Past]) -> Drill {
        let Self { work, target, asked, clock, before, id, broken } = self;
        let offset = before.server_clock - before.clock;
        let inventory = &work.loaded.inventory;
        let server = inventory.servers.iter().find(|(name, _)| name.as_str() == target.server);
        let scenario = Scenario::of(false, target.repository);
        let same = |past: &&Past| past.server == target.server && past.scenario == scenario;
        let last = past.iter().rev().filter(same).find(|past| past.heartbeat.is_some());
        judged(Run {
            id,
            environment: work.resolved.environment.clone(),
            sandbox: work.sandbox,
            server: target.server.clone(),
            bundle: server.map(|(_, server)| server.instance.bundle.clone()).unwrap_or_default(),
            scenario,
            asked: asked.to_owned(),
            broken,
            inventory: work.loaded.digest.clone(),
            by: format!("{} on {}", who(), machine()),
            began: clock.as_second() + offset,
            ended: Timestamp::now().as_second() + offset,
            clock_offset_s: offset,
            rpo_s: inventory.objectives.rpo.map(TimeSpan::seconds),
            rto_s: inventory.objectives.rto.map(TimeSpan::seconds),
            plan: done.plan,
            failure: done.failure,
            found: done.found,
            told: done.told,
            checks: checks(target),
            bytes_now: before.bytes,
            cleanup: done.cleanup,
            fresh: None,
            before: last.cloned(),
        })
    }
}

/// Writes the report here and to what operators share.
pub async fn keep(session: &Session, stores: &Stores, drill: &Drill) -> Result<(), Diagnostic> {
    let failed = |why: String| {
        let problem = Diagnostic::error("drill-not-kept", format!("the report of `{}` was not kept", drill.id));
        problem.note(why).note("the drill itself was carried out, as is shown above")
    };
    let (document, page) = session.drill_documents(drill);
    let folder = Path::new(REPORTS);
    private::folders(folder).map_err(|why| failed(why.to_string()))?;
    for (ending, text) in [("json", &document), ("md", &page)] {
        private::write_new(&folder.join(format!("{}.{ending}", drill.id)), text.as_bytes())
            .map_err(|why| failed(why.to_string()))?;
    }
    history::keep(stores.widest(), drill, document.as_bytes()).await.map_err(|why| failed(why.to_string()))
}

/// `seawall drill list`.
pub async fn list(session: &mut Session, server: &ServerArgs) -> Result<Exit, Stop> {
    let (work, look) = Work::to_look(session, &OnlyArgs::default(), &DataArgs::default()).await?;
    let mut past = work.drills(&look).await.map_err(|why| {
        Stop::failed(Diagnostic::error("drill-history-unseen", "the history of drills could not be read").note(why))
    })?;
    // What servers ran by themselves is on them.
    let mut unseen = Vec::new();
    for target in targets(&work.loaded.inventory, &work.resolved.servers) {
        if target.section.drills.schedule.is_none() {
            continue;
        }
        let own = match target.endpoint(&look).await {
            Ok(at) => {
                drilled::look(&target.server, &look.host(&at, &drilled::probes()).await).map_err(|why| why.to_string())
            }
            Err(why) => Err(why),
        };
        match own {
            Ok(own) => past.extend(own),
            Err(why) => unseen.push(
                Diagnostic::error(
                    "drill-history-unseen",
                    format!("what `{}` has drilled by itself is on it, and could not be read", target.server),
                )
                .note(why),
            ),
        }
    }
    past.sort_by_key(|past| past.began);
    if let Some(server) = &server.server {
        past.retain(|past| past.server == *server);
    }
    session.show_drills(&work, &past)?;
    if unseen.is_empty() { Ok(Exit::Done) } else { Err(Stop::new(Exit::Failed, Diagnostics(unseen))) }
}
