//! The secrets that a plan needs, tried before anything is changed: all that are missing or malformed are told at once, each
//! with its line of the inventory. None is shown.

use std::collections::BTreeSet;

use crate::base::diag::{Diagnostic, Diagnostics};
use crate::base::secret::SecretUse;
use crate::cli::exit::{Exit, Stop};
use crate::cli::work::Work;
use crate::inventory::check;
use crate::plan::Plan;
use crate::reach::world::World;

/// Tries every secret of every change, also of those that wait.
pub async fn ready(work: &Work, world: &World, plan: &Plan) -> Result<(), Stop> {
    let changes = plan.changes().chain(plan.deferred.iter().map(|deferred| &deferred.change));
    let uses: BTreeSet<&SecretUse> =
        changes.flat_map(|change| change.steps.host()).flat_map(|step| step.secrets().map(|(_, used)| used)).collect();
    let declared = check::secrets(&work.loaded.inventory);
    let mut problems = Diagnostics::default();
    // One place is tried once, whatever is made of it: two roles may share a password.
    let mut told = BTreeSet::new();
    for used in uses {
        let paths: Vec<&String> =
            declared.iter().filter(|(_, place)| *place == used.from).map(|(path, _)| path).collect();
        let name = paths.first().map_or_else(|| used.from.to_string(), |path| (*path).clone());
        let Err(missing) = world.ssh.vault.check(&name, used).await else { continue };
        if !told.insert((missing.from.clone(), missing.why.clone())) {
            continue;
        }
        let code = missing.code();
        let problem = Diagnostic::error(code, missing.to_string());
        let problem =
            paths.iter().fold(problem, |problem, path| problem.at(work.loaded.places.span(path), "needed here"));
        problems.push(problem.note("nothing was changed by this run").hint(missing.hint));
    }
    if problems.is_empty() { Ok(()) } else { Err(Stop::new(Exit::Failed, problems)) }
}
