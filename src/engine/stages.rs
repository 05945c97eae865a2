//! In which order changes are done: by what needs what, hosts as transactions, and last what may lock out.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::address::Address;
use crate::plan::change::{Action, Change, Risk};
use crate::plan::order::layers;
use crate::plan::{Place, Stage};

/// The node of a server's changes that may lock out: a transaction of its own, which the server guards.
const GUARDED: &str = "host.guarded";

/// Groups changes into stages. A server's changes are one stage, so that they are one transaction; those that may lock
/// out are a second one, after everything else and one server at a time.
pub fn stages(changes: Vec<Change>, reverse: bool) -> Vec<Stage> {
    let node = |change: &Change| match change.place() {
        Place::Cloud => change.address.clone(),
        Place::Host(server) if change.risk == Risk::MayLockOut => Address::new(GUARDED, &server),
        Place::Host(server) => Address::new("host.transaction", &server),
    };
    let (removals, others): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| change.action == Action::Destroy && !reverse);
    let mut by_node: BTreeMap<Address, Vec<Change>> = BTreeMap::new();
    let nodes: BTreeMap<Address, Address> =
        others.iter().map(|change| (change.address.clone(), node(change))).collect();
    let mut needs: BTreeMap<Address, BTreeSet<Address>> = BTreeMap::new();
    for change in others {
        let here = node(&change);
        let wanted: BTreeSet<Address> =
            change.after.iter().filter_map(|after| nodes.get(after)).filter(|n| **n != here).cloned().collect();
        needs.entry(here.clone()).or_default().extend(wanted);
        by_node.entry(here).or_default().push(change);
    }
    guarded_last(&mut needs);
    let mut sorted = layers(&needs).expect("resolve refused inventories whose resources need each other in a circle");
    if reverse {
        sorted.reverse();
    }
    let mut stages = Vec::new();
    for layer in sorted {
        let (mut cloud, mut hosts) = (Vec::new(), Vec::new());
        for name in layer {
            let mut changes = by_node.remove(&name).expect("every node of a layer has its changes");
            if changes.iter().all(|change| change.place() == Place::Cloud) {
                cloud.append(&mut changes);
            } else {
                hosts.push(Stage { changes: in_order(changes, reverse) });
            }
        }
        // The cloud first: a new server has ports open to the world until its own are set.
        if !cloud.is_empty() {
            stages.push(Stage { changes: cloud });
        }
        stages.append(&mut hosts);
    }
    // What left the inventory is removed last: by then nothing that stays depends on it any more.
    for change in removals {
        match stages.last_mut() {
            Some(stage)
                if stage.place() == change.place()
                    && stage.changes.iter().all(|c| c.action == Action::Destroy)
                    && stage.is_guarded() == (change.risk == Risk::MayLockOut) =>
            {
                stage.changes.push(change);
            }
            _ => stages.push(Stage { changes: vec![change] }),
        }
    }
    stages
}

/// Makes every guarded node need all others that do not wait for it, and the guarded ones before it.
fn guarded_last(needs: &mut BTreeMap<Address, BTreeSet<Address>>) {
    let guarded: Vec<Address> = needs.keys().filter(|node| node.kind() == GUARDED).cloned().collect();
    for (index, node) in guarded.iter().enumerate() {
        // Whatever needs the guarded change, directly or through others, has to come after it.
        let mut behind = BTreeSet::from([node.clone()]);
        while let Some(next) = needs.iter().find(|(n, on)| !behind.contains(*n) && !on.is_disjoint(&behind)) {
            behind.insert(next.0.clone());
        }
        let before: Vec<Address> = needs
            .keys()
            .filter(|other| !behind.contains(*other) && !guarded[index..].contains(*other))
            .cloned()
            .collect();
        needs.get_mut(node).expect("it is one of them").extend(before);
    }
}

/// A host's changes in the order of their needs.
fn in_order(changes: Vec<Change>, reverse: bool) -> Vec<Change> {
    let needs: BTreeMap<Address, BTreeSet<Address>> =
        changes.iter().map(|c| (c.address.clone(), c.after.iter().cloned().collect())).collect();
    let mut by_address: BTreeMap<Address, Change> = changes.into_iter().map(|c| (c.address.clone(), c)).collect();
    let sorted = layers(&needs).expect("resolve refused inventories whose resources need each other in a circle");
    let mut ordered: Vec<Change> = sorted
        .into_iter()
        .flatten()
        .map(|a| by_address.remove(&a).expect("sorted from these very addresses"))
        .collect();
    if reverse {
        ordered.reverse();
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::plan::change::Reason;
    use crate::plan::step::Steps;

    fn change(steps: Steps, kind: &str, server: &str, risk: Risk, after: &[&str]) -> Change {
        Change {
            address: Address::new(kind, server),
            action: Action::Update,
            reason: Reason::Differs,
            fields: Vec::new(),
            files: Vec::new(),
            steps,
            guard: Digest::of_bytes(b""),
            risk,
            proofs: Vec::new(),
            undo: Vec::new(),
            after: after.iter().map(|kind| Address::new(kind, server)).collect(),
        }
    }

    #[test]
    fn what_may_lock_out_comes_last_and_one_server_at_a_time() {
        let (host, cloud) = (Steps::Host(Vec::new()), Steps::Cloud(Vec::new()));
        let changes = vec![
            change(host.clone(), "host.sshd", "a", Risk::MayLockOut, &["host.users"]),
            change(host.clone(), "host.users", "a", Risk::MayLockOut, &[]),
            change(host.clone(), "host.time", "a", Risk::Plain, &[]),
            change(host.clone(), "host.ufw", "b", Risk::MayLockOut, &["host.packages"]),
            change(host.clone(), "host.packages", "b", Risk::Plain, &[]),
            change(cloud.clone(), "iam.user", "b", Risk::Plain, &["host.packages"]),
            change(cloud.clone(), "lightsail.ports", "a", Risk::MayLockOut, &["host.sshd"]),
        ];
        let stages = stages(changes, false);
        let shown: Vec<String> = stages
            .iter()
            .map(|stage| stage.changes.iter().map(|c| c.address.to_string()).collect::<Vec<_>>().join(" "))
            .collect();
        let place =
            |what: &str| shown.iter().position(|stage| stage == what).unwrap_or_else(|| panic!("{what}: {shown:?}"));
        let (first, second) = (place("host.users/a host.sshd/a"), place("host.ufw/b"));
        assert!(first < second, "{shown:?}");
        for plain in ["host.time/a", "host.packages/b", "iam.user/b"] {
            assert!(place(plain) < first, "{plain}: {shown:?}");
        }
        assert!(place("lightsail.ports/a") > first, "what closes comes after what was proven: {shown:?}");
        assert_eq!(stages.iter().filter(|stage| stage.is_guarded()).count(), 2, "{shown:?}");
    }
}
