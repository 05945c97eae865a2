//! `seawall policy`: what AWS must allow, for whom. Offline: the inventory's names are all that is needed.

use std::collections::BTreeSet;

use crate::cli::args::PolicyFor;
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::Session;
use crate::engine::store::LAST_APPLIED;
use crate::plan::probe::{CloudProbe, Probe};
use crate::reach::aws::permissions::{Extent, SharedState, Whose};

/// Prints the least IAM policy with which one can do one's part in the inventory.
pub fn policy(session: &mut Session, whose: PolicyFor) -> Result<Exit, Stop> {
    let (loaded, resolved) = session.resolve()?;
    let (mut buckets, mut users) = (BTreeSet::new(), BTreeSet::new());
    for probe in resolved.wanted.iter().flat_map(|wanted| (wanted.kind.probes)(&wanted.desired)) {
        match probe {
            Probe::Cloud(CloudProbe::Bucket { name }) => drop(buckets.insert(name)),
            Probe::Cloud(CloudProbe::User { name }) => drop(users.insert(name)),
            // The rest is known by the environment's name.
            _ => {}
        }
    }
    let state =
        loaded.shared_state().map(|(bucket, prefix)| SharedState { bucket, prefix, applied: LAST_APPLIED.to_owned() });
    let extent = Extent {
        account: resolved.account,
        region: resolved.region,
        environment: resolved.environment,
        buckets: buckets.into_iter().collect(),
        users: users.into_iter().collect(),
        state,
    };
    let whose = match whose {
        PolicyFor::Drift => Whose::Drift,
        PolicyFor::Operator => Whose::Operator,
    };
    writeln!(session.out, "{:#}", extent.policy(whose))?;
    Ok(Exit::Done)
}
