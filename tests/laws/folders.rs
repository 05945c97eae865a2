//! Every folder that a step writes to as root is one that `host.folders` judges, with everything on the way there.

use std::collections::BTreeSet;

use seawall::kinds::table::{Data, Wanted};
use seawall::plan::probe::{HostProbe, Probe};
use seawall::plan::step::HostStep;
use serde_json::Value;

use super::declared;
use crate::support::case;

/// The folders that a server's `host.folders` asks about.
fn judged(all: &[Wanted], server: &str) -> BTreeSet<String> {
    let folders = all.iter().find(|one| one.kind.name == "host.folders" && one.address.name() == server);
    let folders = folders.expect("every server has its folders");
    let probes = (folders.kind.probes)(&folders.desired);
    let asked = probes.into_iter().filter_map(|probe| match probe {
        Probe::Host(HostProbe::Command { argv }) if argv[0] == "stat" => Some(argv),
        _ => None,
    });
    asked.flatten().filter(|word| word.starts_with('/')).collect()
}

/// Where a step changes names: the folder of what it writes, makes or removes.
fn changes_names_in(step: &HostStep) -> Option<&str> {
    let path = match step {
        HostStep::WriteFile { path, .. } | HostStep::RemoveFile { path } | HostStep::MakeDirectory { path, .. } => path,
        HostStep::Run { .. } | HostStep::Record { .. } => return None,
    };
    path.rsplit_once('/').map(|(folder, _)| folder)
}

#[test]
fn every_folder_that_is_written_to_is_judged() {
    let all = declared();
    let mut missed = BTreeSet::new();
    for one in all.iter().filter(|one| super::is_on_a_host(one.kind)) {
        let judged = judged(&all, one.address.name());
        let mut owned = case::owned(one, &Value::Null);
        owned.record = Some(one.desired.clone());
        let (made, removed) = ((one.kind.create)(&one.desired).steps, (one.kind.remove)(&owned, Data::Goes));
        for folder in made.host().iter().chain(removed.host()).filter_map(changes_names_in) {
            // A home is its user's, and steps there are done as that user. What is below the folder for root only is root's.
            let elsewhere = folder.starts_with("/home/") || folder.starts_with("/var/lib/seawall");
            // `/run` and what is made in it at boot is systemd's.
            if !elsewhere && folder != "/run" && !judged.contains(folder) {
                missed.insert(format!("{}: {folder}", one.address));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn everything_on_a_host_comes_after_its_folders() {
    for one in declared().iter().filter(|one| super::is_on_a_host(one.kind) && one.kind.name != "host.folders") {
        let first = one.after.iter().any(|address| address.kind() == "host.folders");
        assert!(first, "{} may be written before its folders are judged", one.address);
    }
}
