//! What is ours without a state file: cloud resources by their tags, host resources by the host's own manifest.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::base::address::Address;
use crate::engine::resolve::Resolved;
use crate::engine::snapshot::Snapshot;
use crate::kinds::table::Wanted;
use crate::kinds::throw_away::{self, Part};
use crate::kinds::{self, Owned, kind, physical_name, protected_by_tags};
use crate::plan::change::{FieldChange, RECORD};
use crate::plan::cloud::{CensusEntry, TAG_ADDRESS, TAG_ENVIRONMENT};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::{NotSeen, Place, Unmanaged};
use crate::reach::ssh::manifest::{FOLDER, Found, parse_manifest};
use crate::reach::ssh::program::record_name;

/// Kind of the address that stands for a host's manifest which could not be read.
pub const MANIFEST: &str = "host.manifest";

/// What exists in the account and on the hosts, by whether it is ours.
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    /// Ours, declared or not.
    pub owned: Vec<Owned>,
    pub unmanaged: Vec<Unmanaged>,
    /// Places where it could not be listed what is ours.
    pub unseen: Vec<NotSeen>,
}

/// Sorts everything that the snapshot saw into ours and not ours.
pub fn sort(resolved: &Resolved, snapshot: &Snapshot) -> Ownership {
    let mut found = Ownership::default();
    match &snapshot.census {
        Some(Observed::Present(census)) => {
            let ours: BTreeSet<&str> = census
                .entries
                .iter()
                .filter(|entry| entry.kind == kinds::SERVER && is_ours(resolved, entry))
                .map(|entry| entry.name.as_str())
                .collect();
            for entry in &census.entries {
                sort_entry(resolved, entry, &ours, &mut found);
            }
        }
        Some(Observed::Unknown(why)) => {
            found.unseen.push(NotSeen { address: Address::new("aws.account", &resolved.account), why: why.clone() });
        }
        Some(Observed::Absent) | None => {}
    }
    for (server, view) in &snapshot.hosts {
        match parse_manifest(&view.answers) {
            Ok(records) => {
                for Found { file, record } in records {
                    let believed = record.and_then(|(address, record)| match doubtful(&address, &record, server) {
                        Some(why) => Err(why),
                        None => Ok((address, record)),
                    });
                    let (address, record) = match believed {
                        Ok(believed) => believed,
                        // The next apply writes it anew.
                        Err(_) if declared(resolved, server, &file) => continue,
                        Err(why) => {
                            found.unseen.push(unbelieved(server, &file, &why));
                            continue;
                        }
                    };
                    found.owned.push(Owned {
                        address,
                        place: Place::Host(server.clone()),
                        name: server.clone(),
                        arn: None,
                        attached_to: None,
                        auto_snapshots: false,
                        record: Some(record),
                        protected: false,
                    });
                }
            }
            // A server that does not exist yet owns nothing; one that could not be asked is already in the plan.
            Err(Unseen::NotYetCreated(_)) => {}
            Err(why) => {
                let address = Address::new(MANIFEST, server);
                found.unseen.push(NotSeen { address, why });
            }
        }
    }
    found
}

/// Why a host's record is not believed. Whoever is root on a host can write anything there, and what is done about a
/// resource follows from its address and its record: one host must not have another's resources taken away, nor something in
/// AWS, nor a file that no inventory could have named. Of a kind that this version does not know nothing is done.
fn doubtful(address: &Address, record: &Value, server: &str) -> Option<String> {
    let kind = kind(address.kind())?;
    if !(kind.on_host)() || address.name() != server {
        return Some(format!("it names `{address}`, which cannot be on `{server}`"));
    }
    (kind.doubts)(record)
}

/// Whether a record's file is that of a resource which the inventory wants on this server.
fn declared(resolved: &Resolved, server: &str, file: &str) -> bool {
    let here = Place::Host(server.to_owned());
    resolved.wanted.iter().any(|wanted| wanted.place == here && record_name(&wanted.address) == file)
}

fn unbelieved(server: &str, file: &str, why: &str) -> NotSeen {
    let why = format!("`{FOLDER}/{file}` is not believed: {why}. Look at who wrote it, and remove it");
    NotSeen { address: Address::new(MANIFEST, server), why: Unseen::Misread(why) }
}

/// What differs in the record of a resource that is as wanted: without one, nothing could be taken away again once it has
/// left the inventory.
pub fn unrecorded(snapshot: &Snapshot, wanted: &Wanted) -> Option<FieldChange> {
    let Place::Host(server) = &wanted.place else { return None };
    let records = parse_manifest(&snapshot.hosts.get(server)?.answers).ok()?;
    let file = record_name(&wanted.address);
    let before = match records.into_iter().find(|found| found.file == file).map(|found| found.record) {
        Some(Ok((_, desired))) if desired == wanted.desired => return None,
        Some(Ok(_)) => Some("another".into()),
        Some(Err(_)) => Some("not readable".into()),
        None => None,
    };
    Some(FieldChange::new(RECORD, before, Some("as declared".into())))
}

fn is_ours(resolved: &Resolved, entry: &CensusEntry) -> bool {
    entry.tags.get(TAG_ENVIRONMENT).is_some_and(|environment| *environment == resolved.environment)
}

fn sort_entry(resolved: &Resolved, entry: &CensusEntry, our_instances: &BTreeSet<&str>, found: &mut Ownership) {
    // A rehearsal that runs elsewhere must keep what it made, so no plan takes that away.
    if let Some(part) = throw_away::part(&resolved.environment, entry, |name| resolved.servers.contains_key(name)) {
        found.unmanaged.push(unmanaged(entry, left_over(&part)));
        return;
    }
    let address = if entry.kind == "lightsail.static_ip" {
        static_ip_address(resolved, entry, our_instances)
    } else if is_ours(resolved, entry) {
        // What is removed follows from the address, so another kind's is not believed.
        let address = entry.tags.get(TAG_ADDRESS).and_then(|text| text.parse().ok());
        address.filter(|address: &Address| address.kind() == entry.kind)
    } else if entry.kind == "lightsail.key_pair" && entry.tags.is_empty() {
        // An import that was interrupted before the key pair got its tags; see the kind.
        let mut servers = resolved.servers.keys();
        let server = servers.find(|server| physical_name(&resolved.environment, server, "key") == entry.name);
        server.map(|server| Address::new(&entry.kind, server))
    } else {
        None
    };
    if let Some(address) = &address
        && resolved.wanted(address).is_some_and(|wanted| wanted.desired["name"] != entry.name)
    {
        let note = format!("was `{address}` before the inventory gave that another name; it stays as it is");
        found.unmanaged.push(unmanaged(entry, note));
        return;
    }
    if let Some(address) = address {
        found.owned.push(Owned {
            address,
            place: Place::Cloud,
            name: entry.name.clone(),
            arn: entry.arn.clone(),
            attached_to: entry.attached_to.clone(),
            auto_snapshots: entry.auto_snapshots,
            record: None,
            protected: protected_by_tags(&entry.tags),
        });
        return;
    }
    let note = match entry.tags.get(TAG_ENVIRONMENT) {
        // Other environments are somebody's work, not clutter of this one.
        Some(environment) if *environment != resolved.environment => return,
        Some(_) => "has this environment's tag and no `seawall:address` of its kind".to_owned(),
        None if entry.kind == "lightsail.static_ip" && entry.attached_to.is_none() => {
            "detached: AWS bills a static IP that no instance uses".to_owned()
        }
        None => "has no tags of Seawall".to_owned(),
    };
    found.unmanaged.push(unmanaged(entry, note));
}

/// What is said of a rehearsal's things where no rehearsal is at work.
fn left_over(part: &Part) -> String {
    let until = part.expires.map_or_else(|| "at a time that its tag does not say".to_owned(), |at| format!("at {at}"));
    format!(
        "throw-away, of a drill on a fresh instance; it expires {until}. Unless that drill runs now: seawall drill gc --all"
    )
}

fn unmanaged(entry: &CensusEntry, note: String) -> Unmanaged {
    Unmanaged { place: Place::Cloud, kind: entry.kind.clone(), name: entry.name.clone(), note }
}

/// Lightsail cannot tag a static IP. It is ours when it has exactly the name that we give, and belongs to a server of the
/// inventory or is attached to an instance of ours that has left it.
fn static_ip_address(resolved: &Resolved, entry: &CensusEntry, our_instances: &BTreeSet<&str>) -> Option<Address> {
    let kind = entry.kind.as_str();
    if let Some(server) =
        resolved.servers.keys().find(|server| physical_name(&resolved.environment, server, "ip") == entry.name)
    {
        let elsewhere = entry.attached_to.as_deref().is_some_and(|instance| !our_instances.contains(instance));
        return (!elsewhere).then(|| Address::new(kind, server));
    }
    let instance = entry.attached_to.as_deref().filter(|instance| our_instances.contains(instance))?;
    let server = instance.strip_prefix(&resolved.environment)?.strip_prefix('-')?;
    (physical_name(&resolved.environment, server, "ip") == entry.name).then(|| Address::new(kind, server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_believed_about_its_own_host_only() {
        for (kind, server, believed) in [
            ("host.swap", "db", true),
            ("postgres.roles", "db", true),
            ("host.swap", "web", false),
            ("iam.user", "db", false),
            ("lightsail.instance", "db", false),
            ("host.of_a_later_version", "web", true),
        ] {
            let why = doubtful(&Address::new(kind, "db"), &Value::Null, server);
            assert_eq!(why.is_none(), believed, "{kind} on {server}: {why:?}");
        }
    }
}
