//! Rules about what must survive: buckets, old versions, Seawall's own state.
//!
//! Rules about backups themselves come with the kinds that make them; until then their objectives are NOT EVALUATED.

use crate::base::diag::{Diagnostic, Severity};
use crate::inventory::places::Places;
use crate::inventory::sections::{Access, Inventory, Keep, KeyPlace};
use crate::policy::Rule;

const DAY: u64 = 86_400;

const BUCKET_WITHOUT_VERSIONING: Rule = Rule {
    id: "bucket-without-versioning",
    severity: Severity::Warning,
    wants: "what is overwritten or deleted in a bucket can come back",
    source: "a routine clean-up deleted the data of Project Chronos; a stolen key can do the same",
};
const VERSIONS_GO_TOO_SOON: Rule = Rule {
    id: "versions-go-too-soon",
    severity: Severity::Warning,
    wants: "old versions outlive the time until a loss is noticed",
    source: "a loss is noticed by the next restore drill at the latest, and somebody must still act then",
};
const STATE_WITHIN_REACH: Rule = Rule {
    id: "state-within-reach",
    severity: Severity::Error,
    wants: "the lock, journals and drill history are out of reach of every server's own key",
    source: "a broken-into server must not be able to rewrite what was done to it",
};
const DISPOSABLE_STATE: Rule = Rule {
    id: "disposable-state",
    severity: Severity::Warning,
    wants: "the bucket with the state is protected",
    source: "journals and drill history are the proof that the objectives hold",
};

pub(super) const RULES: &[Rule] =
    &[BUCKET_WITHOUT_VERSIONING, VERSIONS_GO_TOO_SOON, STATE_WITHIN_REACH, DISPOSABLE_STATE];

pub(super) fn check(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    buckets(inventory, places, found);
    state(inventory, places, found);
}

fn buckets(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    for (name, bucket) in &inventory.buckets {
        let base = format!("buckets.{name}");
        if !bucket.versioning {
            let finding = BUCKET_WITHOUT_VERSIONING
                .broken(format!("what is deleted in `{base}` is gone for good"), "`versioning: false`")
                .at(places.span(&format!("{base}.versioning")), "no versions are kept")
                .hint("write `versioning: true`, or leave the line away");
            found.push(BUCKET_WITHOUT_VERSIONING.cite(finding));
            continue;
        }
        let Some(drill) = inventory.objectives.drill_every else {
            continue;
        };
        if u64::from(bucket.noncurrent_days) * DAY < drill.seconds() {
            let finding = VERSIONS_GO_TOO_SOON
                .broken(
                    format!(
                        "old versions in `{base}` go after {} days, before the drill that would notice the loss",
                        bucket.noncurrent_days
                    ),
                    format!("`noncurrent_days: {}`, `drill_every: {drill}`", bucket.noncurrent_days),
                )
                .at(places.span(&format!("{base}.noncurrent_days")), "gone by then")
                .at(places.span("objectives.drill_every"), format!("a drill every {drill}"))
                .hint(format!("keep them for {} days at least", drill.seconds().div_ceil(DAY)));
            found.push(VERSIONS_GO_TOO_SOON.cite(finding));
        }
    }
}

fn state(inventory: &Inventory, places: &Places, found: &mut Vec<Diagnostic>) {
    let Some(state) = &inventory.state else {
        return;
    };
    for (name, identity) in &inventory.identities {
        let on_a_server = matches!(identity.key, KeyPlace::Server { .. });
        let reaches = covers(&identity.prefix, &state.prefix) || covers(&state.prefix, &identity.prefix);
        if on_a_server && identity.access == Access::ReadWrite && identity.bucket == state.bucket && reaches {
            let finding = STATE_WITHIN_REACH
                .broken(
                    format!("the key of `identities.{name}` lies on a server and can rewrite Seawall's state"),
                    format!(
                        "read and write in `{}/{}`, the state in `{}/{}`",
                        identity.bucket, identity.prefix, state.bucket, state.prefix
                    ),
                )
                .at(places.span(&format!("identities.{name}.prefix")), "reaches the state")
                .at(places.span("state.prefix"), format!("the state: `{}`", state.prefix))
                .hint("give the identity and the state prefixes that do not overlap");
            found.push(STATE_WITHIN_REACH.cite(finding));
        }
    }
    if let Some(bucket) = inventory.buckets.get(&state.bucket)
        && bucket.keep == Keep::Disposable
    {
        let finding = DISPOSABLE_STATE
            .broken(format!("`buckets.{}` holds the state and may be destroyed", state.bucket), "`keep: disposable`")
            .at(places.span(&format!("buckets.{}.keep", state.bucket)), "disposable")
            .at(places.span("state.bucket"), "the state is here")
            .hint("write `keep: protected`");
        found.push(DISPOSABLE_STATE.cite(finding));
    }
}

/// Whether a prefix is the other one or above it.
fn covers(above: &str, below: &str) -> bool {
    below.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn prefixes_end_at_slashes() {
        assert!(covers("seawall", "seawall"));
        assert!(covers("seawall", "seawall/locks"));
        assert!(!covers("sea", "seawall"));
        assert!(!covers("seawall/locks", "seawall"));
    }
}
