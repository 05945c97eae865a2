//! `seawall apply`: shows the plan, asks, applies; or applies exactly a saved one. `destroy` comes through here, too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::base::digest::Digest;
use crate::base::read;
use crate::cli::args::{ApplyArgs, DestroyArgs, Format};
use crate::cli::exit::{Exit, Stop};
use crate::cli::locked::locked;
use crate::cli::secrets;
use crate::cli::session::{Session, refuses};
use crate::cli::work::{Stores, Work, store_failed, store_failed_after};
use crate::engine::Planned;
use crate::engine::apply::{Applied, Run};
use crate::engine::drift;
use crate::engine::file::{Header, PlanFile};
use crate::engine::guards::check_approved;
use crate::engine::journal::Journal;
use crate::engine::nonce::Nonce;
use crate::engine::snapshot::Snapshot;
use crate::engine::store::{Claim, Store, StoreFailure, last_applied, remember};
use crate::plan::Plan;
use crate::plan::change::Action;
use crate::plan::check::CheckedPlan;
use crate::plan::event::{ApplyVerdict, JournalEvent};
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::view::progress::Progress;

/// Where journals go.
const PLANS: &str = "plans";

/// Said where a failure comes after the work.
const AFTER_CHANGES: &str = "this run's changes were made before that, as far as its journal under `plans/` says";

/// `seawall apply [PLAN]`.
pub async fn apply(session: &mut Session, args: &ApplyArgs) -> Result<Exit, Stop> {
    let saved = args.plan.as_deref().map(PlanFile::read).transpose().map_err(Stop::failed)?;
    let (mut only, mut data) = (args.only.clone(), args.data.clone());
    if let Some(file) = &saved {
        if !only.only.is_empty() || !data.lose_data.is_empty() {
            let problem = Diagnostic::error("saved-plan-is-fixed", "a saved plan is applied as it is")
                .hint("leave --only and --lose-data away; they belong to the command that makes the plan");
            return Err(Stop::new(Exit::Usage, problem));
        }
        (only.only, data.lose_data) = (file.header.only.clone(), file.header.lose_data.clone());
    }
    let destroy = saved.as_ref().is_some_and(|file| file.header.destroy);
    let (mut work, world) = Work::to_act(session, &only, &data, destroy).await?;
    if let Some(file) = &saved {
        work.intent.keep_protected = file.header.keep_protected;
        fits(file, &work)?;
    }
    under_lock(session, &work, &world, saved, args.yes, "apply").await
}

/// `seawall destroy`.
pub async fn destroy(session: &mut Session, args: &DestroyArgs) -> Result<Exit, Stop> {
    let (mut work, world) = Work::to_act(session, &args.only, &args.data, true).await?;
    work.intent.keep_protected = args.keep_protected;
    if let Some(path) = &args.out {
        let planned = work.plan(&work.look(&Look::of(&world)).await)?;
        return crate::cli::plan::finish(session, &work, &planned, Some(path));
    }
    under_lock(session, &work, &world, None, args.yes, "destroy").await
}

/// Whether a saved plan belongs to this inventory and this world.
fn fits(file: &PlanFile, work: &Work) -> Result<(), Stop> {
    let here = work.header();
    let refuse = |what: String| {
        let problem = Diagnostic::error("stale-plan", what)
            .note("nothing was changed by this run")
            .hint("make a new plan with this inventory");
        Err(Stop::new(Exit::Stale, problem))
    };
    let place = |header: &Header| (header.environment.clone(), header.account.clone(), header.region.clone());
    if place(&file.header) != place(&here) {
        return refuse(format!(
            "this plan is for environment `{}` in account {} and region {}, and the inventory is `{}` in account {} and region {}",
            file.header.environment,
            file.header.account,
            file.header.region,
            here.environment,
            here.account,
            here.region
        ));
    }
    if file.header.sandbox != here.sandbox {
        let (planned, now) = if here.sandbox { ("AWS", "the sandbox") } else { ("the sandbox", "AWS") };
        return refuse(format!("this plan was made for {planned}, and this is {now}"));
    }
    if file.header.inventory != here.inventory {
        return refuse("the inventory has changed since this plan was made".to_owned());
    }
    Ok(())
}

/// Everything from taking the lock to giving it back.
async fn under_lock(
    session: &mut Session,
    work: &Work,
    world: &World,
    saved: Option<PlanFile>,
    yes: bool,
    what: &str,
) -> Result<Exit, Stop> {
    let interrupted = Diagnostic::error("interrupted", "this run was interrupted")
        .note("steps that had begun may be done or not; a transaction that runs on a host goes on there")
        .note("a host puts back by itself what may lock out and was not proven yet")
        .hint("a new plan shows what remains");
    let run =
        async |session: &mut Session, stores: &Stores| decide(session, work, world, stores.widest(), saved, yes).await;
    locked(session, work, world, what, interrupted, run).await
}

/// Looks, plans or checks, asks, acts.
async fn decide(
    session: &mut Session,
    work: &Work,
    world: &World,
    store: &Store,
    saved: Option<PlanFile>,
    yes: bool,
) -> Result<Exit, Stop> {
    let snapshot = work.look(&Look::of(world)).await;
    let fresh = work.plan(&snapshot)?;
    // A saved plan says what was approved. What is shown here and done is proposed anew in any case, and equal to it.
    let already = match &saved {
        Some(file) => approved_is(&file.plan, &fresh.plan).map_err(|stop| made_by_another(stop, file))?,
        None => BTreeSet::new(),
    };
    let plan = fresh.plan.clone();
    // With --format json, stdout carries one document: the result of the apply.
    if session.global.format == Format::Text {
        session.show_plan(work, &Planned { plan: plan.clone(), remarks: fresh.remarks.clone() })?;
    }
    if refuses(&fresh.plan.findings) {
        return Ok(Exit::Refused);
    }
    if !plan.is_complete() {
        session.say("nothing was changed: what could not be looked at is not known to be safe to change");
        return Ok(Exit::Failed);
    }
    if plan.is_empty() && already.is_empty() {
        remember_all(work, store, &fresh.plan.unchanged, &[]).await.map_err(|failure| store_failed(&failure))?;
        session.show_applied(&Applied::default())?;
        return Ok(Exit::Done);
    }
    if saved.is_none() && !yes && !confirmed(session, work)? {
        return Ok(Exit::Failed);
    }
    if saved.is_none() && !yes {
        // The world may have moved while a person read.
        let again = work.plan(&work.look(&Look::of(world)).await)?;
        approved_is(&plan, &again.plan)?;
        // A proof may have gone meanwhile.
        if refuses(&again.plan.findings) {
            return Err(Stop::new(Exit::Refused, Diagnostics(again.plan.findings.clone())));
        }
    }
    secrets::ready(work, world, &plan).await?;
    let used = saved.as_ref().map_or_else(Nonce::random, |file| file.header.nonce.clone());
    use_once(store, &used, saved.is_some()).await?;
    let approved = Approved { plan, already, unchanged: fresh.plan.unchanged.clone(), snapshot, nonce: used };
    act(session, work, world, store, &approved).await
}

/// Whether a plan that was approved is the one that is proposed now; the resources that are done already.
fn approved_is(approved: &Plan, fresh: &Plan) -> Result<BTreeSet<Address>, Stop> {
    check_approved(approved, fresh).map_err(|problems| Stop::new(Exit::Stale, problems))
}

/// Another version may plan the same change with other steps: said, so that nobody looks for a forger first.
fn made_by_another(mut stop: Stop, file: &PlanFile) -> Stop {
    let version = env!("CARGO_PKG_VERSION");
    if file.header.version != version {
        for problem in &mut stop.diagnostics.0 {
            problem.notes.push(format!("it says that seawall {} made it, and this is {version}", file.header.version));
        }
    }
    stop
}

/// A person says yes, or nothing happens.
fn confirmed(session: &mut Session, work: &Work) -> Result<bool, Stop> {
    let verb = if work.intent.destroy { "Destroy" } else { "Apply" };
    let place = if work.sandbox { "the sandbox" } else { "AWS" };
    let question = format!("{verb} this in environment {} on {place}? Type yes: ", work.resolved.environment);
    session.confirmed(&question, "save a plan with `seawall plan --out`, read it, and apply it; or give --yes")
}

/// Where it is recorded that a plan was used.
fn used(nonce: &Nonce) -> String {
    format!("used/{nonce}")
}

fn used_now() -> String {
    format!("{}\n", Timestamp::now())
}

/// Records a nonce; a plan that was used before is refused.
async fn use_once(store: &Store, nonce: &Nonce, saved: bool) -> Result<(), Stop> {
    match store.claim(&used(nonce), used_now().as_bytes()).await.map_err(|failure| store_failed(&failure))? {
        Claim::Won => Ok(()),
        Claim::Held(when) if saved => Err(Stop::new(
            Exit::Stale,
            Diagnostic::error("plan-used", "this plan was applied before, and a plan is applied once")
                .note(format!("it was used at {}", String::from_utf8_lossy(&when).trim()))
                .note("nothing was changed by this run")
                .hint("make a new plan"),
        )),
        Claim::Held(_) => Err(Stop::new(
            Exit::Bug,
            Diagnostic::error("plan-used", "a new plan's random name was used before; this is a bug in seawall"),
        )),
    }
}

/// What somebody said yes to.
pub struct Approved {
    pub plan: CheckedPlan,
    pub already: BTreeSet<Address>,
    pub unchanged: Vec<Address>,
    pub snapshot: Snapshot,
    pub nonce: Nonce,
}

/// Does it, tells about it, and remembers what is as wanted now. Whoever calls this has compared it with what was proposed.
pub async fn act(
    session: &mut Session,
    work: &Work,
    world: &World,
    store: &Store,
    approved: &Approved,
) -> Result<Exit, Stop> {
    let (ended, folder) = carry_out(session, work, world, store, approved).await?;
    session.show_applied(&ended)?;
    session.say(format!("journal: {}", folder.join("journal.jsonl").display()));
    Ok(match ended.verdict() {
        ApplyVerdict::Done => Exit::Done,
        ApplyVerdict::RolledBack => Exit::RolledBack,
        ApplyVerdict::Interrupted => Exit::Interrupted,
        ApplyVerdict::Failed => Exit::Failed,
    })
}

/// The work of [`act`], and the folder of its journal.
pub async fn carry_out(
    session: &mut Session,
    work: &Work,
    world: &World,
    store: &Store,
    approved: &Approved,
) -> Result<(Applied, PathBuf), Stop> {
    let Approved { plan, already, unchanged, snapshot, nonce } = approved;
    let folder = journal_folder(&work.resolved.environment, nonce);
    let mut progress = Progress::new(session.progress_mode());
    let mut watch = |record: &JournalEvent| progress.record(record);
    let journal = Journal::create(&folder, &mut watch).map_err(|error| {
        Stop::failed(
            Diagnostic::error("journal-failed", format!("the journal `{}` could not be made", folder.display()))
                .note(error.to_string())
                .note("nothing was changed by this run"),
        )
    })?;
    journal.record(&JournalEvent::Begun {
        changes: plan.changes().count() + plan.deferred.len(),
        plan: Digest::of(plan).to_string(),
        environment: work.resolved.environment.clone(),
    });
    let run = Run::new(&work.resolved, &work.intent, world, &journal, nonce.as_str());
    run.learn(snapshot);
    let ended = run.apply(plan, already).await;
    journal.record(&JournalEvent::Finished { verdict: ended.verdict() });
    drop(journal);
    drop(progress);

    let destroyed: Vec<Address> =
        plan.changes().filter(|c| c.action == Action::Destroy).map(|c| c.address.clone()).collect();
    let gone: Vec<Address> = ended.done.iter().filter(|address| destroyed.contains(address)).cloned().collect();
    let mut as_wanted: Vec<Address> = unchanged.clone();
    as_wanted.extend(ended.done.iter().chain(&ended.already).filter(|a| !gone.contains(a)).cloned());
    // The state bucket may have come into being, or gone, just now.
    let after = |failure: StoreFailure| store_failed_after(&failure, AFTER_CHANGES);
    let now = work.stores(world).await.map_err(after)?;
    remember_all(work, now.widest(), &as_wanted, &gone).await.map_err(after)?;
    if let Some(shared) = &now.shared {
        keep_journal(session, shared, &folder).await;
        if !store.is_shared() {
            shared.claim(&used(nonce), used_now().as_bytes()).await.map_err(after)?;
        }
    }
    Ok((ended, folder))
}

async fn remember_all(work: &Work, store: &Store, as_wanted: &[Address], gone: &[Address]) -> Result<(), StoreFailure> {
    let before = last_applied(store).await?;
    let after = drift::remember(before.clone(), &work.resolved, as_wanted, gone);
    if after == before {
        return Ok(());
    }
    remember(store, &after).await
}

/// Copies the journal to where other operators can read it. A failure is said; the work is done all the same.
async fn keep_journal(session: &mut Session, store: &Store, folder: &Path) {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let copied = match read::ours(&folder.join("journal.jsonl"), read::OURS) {
        Ok(bytes) => store.put(&format!("journals/{name}.jsonl"), &bytes).await.map_err(|failure| failure.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = copied {
        session.say(format!("warning: the journal could not be copied to {}: {why}", store.describe()));
    }
}

fn journal_folder(environment: &str, nonce: &Nonce) -> PathBuf {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    Path::new(PLANS).join(format!("{stamp}-{environment}-{nonce}"))
}
