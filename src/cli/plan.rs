//! `seawall plan`, `seawall drift` and `seawall show`: looking, and nothing else.

use std::path::Path;

use crate::base::diag::Diagnostic;
use crate::cli::args::{DataArgs, OnlyArgs, PlanArgs};
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::{Session, refuses};
use crate::cli::work::{Work, exit_of, store_failed};
use crate::engine::drift::split;
use crate::engine::file::PlanFile;
use crate::engine::propose::Proposal;
use crate::engine::store::applied;

/// `seawall plan`.
pub async fn plan(session: &mut Session, args: &PlanArgs) -> Result<Exit, Stop> {
    let work = Work::begin(session, &args.only, &args.data, false).await?;
    let snapshot = work.look(&work.world.look()).await;
    let proposal = work.propose(&snapshot);
    finish(session, &work, &proposal, args.out.as_deref())
}

/// Shows a plan, saves it if asked to, and says with the exit code what it holds.
pub fn finish(session: &mut Session, work: &Work, proposal: &Proposal, out: Option<&Path>) -> Result<Exit, Stop> {
    if out.is_some() || work.intent.destroy {
        session.show_plan(work, proposal)?;
    } else {
        session.show_plan_and_next(work, proposal)?;
    }
    let exit = exit_of(&proposal.plan);
    if let Some(path) = out {
        if matches!(exit, Exit::Done | Exit::Differences) {
            PlanFile::new(work.header(), proposal.plan.clone()).save(path).map_err(Stop::failed)?;
            let command = session.apply_saved(work.sandbox, path);
            session.say(format!("saved to {}; apply exactly this with: {command}", path.display()));
        } else {
            session.say(format!("not saved to {}: it could not be applied", path.display()));
        }
    }
    Ok(exit)
}

/// `seawall drift`.
pub async fn drift(session: &mut Session, only: &OnlyArgs) -> Result<Exit, Stop> {
    let work = Work::begin(session, only, &DataArgs::default(), false).await?;
    let stores = work.stores().await.map_err(|failure| store_failed(&failure))?;
    let look = work.world.look();
    let (snapshot, applied) = futures::join!(work.look(&look), applied(stores.widest()));
    let applied = applied.map_err(|failure| store_failed(&failure))?;
    let proposal = work.propose(&snapshot);
    let split = split(&proposal.plan, &work.resolved, &applied);
    session.show_drift(&work, &proposal, &split)?;
    Ok(if !proposal.plan.is_complete() {
        Exit::Failed
    } else if !split.behind_us.is_empty() || !split.not_applied.is_empty() {
        Exit::Differences
    } else if refuses(&proposal.plan.findings) {
        // What is ours and lost its tags is neither a difference nor as wanted.
        Exit::Refused
    } else {
        Exit::Done
    })
}

/// `seawall status`.
pub async fn status(session: &mut Session) -> Result<Exit, Stop> {
    let work = Work::begin(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let snapshot = work.look(&work.world.look()).await;
    let proposal = work.propose(&snapshot);
    session.show_status(&work, &proposal)?;
    Ok(if proposal.plan.is_complete() { Exit::Done } else { Exit::Failed })
}

/// `seawall show PLAN`.
pub fn show(session: &mut Session, path: &Path) -> Result<Exit, Stop> {
    let file = PlanFile::read(path).map_err(Stop::failed)?;
    session.show_saved(&file, path)?;
    Ok(Exit::Done)
}

/// A message for a resource that is not in the inventory.
pub fn unknown(what: &str) -> Diagnostic {
    Diagnostic::error("unknown-kind-or-address", format!("`{what}` is neither a kind nor a resource of the inventory"))
        .hint("`seawall explain` lists the kinds")
}
