//! `seawall plan`, `seawall drift` and `seawall show`: looking, and nothing else.

use std::path::Path;

use futures::future::join_all;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::cli::args::{DataArgs, OnlyArgs, PlanArgs};
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::{Session, refuses};
use crate::cli::work::{Work, exit_of, store_failed};
use crate::engine::Planned;
use crate::engine::drift::split;
use crate::engine::file::PlanFile;
use crate::kinds::Kind as _;
use crate::kinds::pgbackrest_repo::PgbackrestRepo;
use crate::plan::Plan;
use crate::plan::change::Action;
use crate::plan::remark::broken;
use crate::reach::look::Look;
use crate::recovery::look::targets;

/// `seawall plan`.
pub async fn plan(session: &mut Session, args: &PlanArgs) -> Result<Exit, Stop> {
    let (work, look) = Work::to_look(session, &args.only, &args.data).await?;
    let planned = work.plan(&work.look(&look).await)?;
    finish(session, &work, &planned, args.out.as_deref())
}

/// Shows a plan, saves it if asked to, and says with the exit code what it holds.
pub fn finish(session: &mut Session, work: &Work, planned: &Planned, out: Option<&Path>) -> Result<Exit, Stop> {
    if out.is_some() || work.intent.destroy {
        session.show_plan(work, planned)?;
    } else {
        session.show_plan_and_next(work, planned)?;
    }
    let exit = exit_of(planned);
    if let Some(path) = out {
        if matches!(exit, Exit::Done | Exit::Differences) {
            PlanFile::new(work.header(), Plan::clone(&planned.plan)).save(path).map_err(Stop::failed)?;
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
    let (work, look) = Work::to_look(session, only, &DataArgs::default()).await?;
    let (snapshot, applied) = futures::join!(work.look(&look), work.last_applied(&look));
    let applied = applied.map_err(|failure| store_failed(&failure))?;
    let planned = work.plan(&snapshot)?;
    let split = split(&planned.plan, &work.resolved, &applied);
    session.show_drift(&work, &planned, &split)?;
    Ok(if !planned.plan.is_complete() {
        Exit::Failed
    } else if !split.behind_us.is_empty() || !split.not_applied.is_empty() {
        Exit::Differences
    } else if refuses(&planned.plan.findings) {
        // What is ours and lost its tags is neither a difference nor as wanted.
        Exit::Refused
    } else if broken(&planned.remarks) > 0 {
        Exit::Differences
    } else {
        Exit::Done
    })
}

/// `seawall status`.
pub async fn status(session: &mut Session) -> Result<Exit, Stop> {
    let (work, look) = Work::to_look(session, &OnlyArgs::default(), &DataArgs::default()).await?;
    let planned = work.plan(&work.look(&look).await)?;
    let backups = backups(&work, &planned.plan, &look).await;
    session.show_status(&work, &planned, &backups)?;
    Ok(if !planned.plan.is_complete() || backups.iter().any(|finding| finding.code == "backup-unseen") {
        Exit::Failed
    } else if !backups.is_empty() || broken(&planned.remarks) > 0 {
        Exit::Differences
    } else {
        Exit::Done
    })
}

/// What is not well with the backups of the servers that have their repository. What could not be seen is not well.
async fn backups(work: &Work, plan: &Plan, look: &Look) -> Vec<Diagnostic> {
    let all = targets(&work.loaded.inventory, &work.resolved.servers).into_iter();
    let there = all.filter(|target| {
        let address = Address::new(PgbackrestRepo::NAME, &target.server);
        let changes = plan.changes().any(|change| change.address == address && change.action == Action::Update);
        changes || plan.unchanged.contains(&address)
    });
    let known = there
        .flat_map(|target| [target.clone().of_copy(), Some(target)])
        .flatten()
        .map(async |target| target.judged(&target.look(look, &mut |_| ()).await));
    let mut found = Vec::new();
    for known in join_all(known).await {
        found.extend(known.findings);
        if !known.unseen.is_empty() {
            let unseen = Diagnostic::error(
                "backup-unseen",
                format!("not everything about the backups of `{}` could be looked at", known.server),
            );
            found.push(known.unseen.into_iter().fold(unseen, Diagnostic::note).hint("see: seawall backup list"));
        }
    }
    found
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
