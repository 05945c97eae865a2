//! What is kept of an instance before it goes: its newest automatic snapshot, copied to a manual one.
//!
//! Lightsail deletes automatic snapshots with their instance. Deliberately absent: deleting what was kept.

use std::time::Duration;

use aws_sdk_lightsail::types::{AutoSnapshotDetails, AutoSnapshotStatus, InstanceSnapshotState, RegionName};
use jiff::Timestamp;

use crate::plan::cloud::{PROTECTED, TAG_ADDRESS, TAG_ENVIRONMENT, TAG_KEEP, Tags};
use crate::reach::Failure;
use crate::reach::aws::Aws;
use crate::reach::aws::fault::{Fault, done};
use crate::reach::aws::wait::until;

/// Until a copy is whole. Minutes for a small disk; the largest that an instance has takes up to an hour.
const COPY_LIMIT: Duration = Duration::from_hours(1);

/// A manual snapshot, as far as it is asked about here.
struct Kept {
    of: Option<String>,
    state: Option<InstanceSnapshotState>,
    progress: Option<String>,
}

/// The newest automatic snapshot that is whole.
fn newest(found: &[AutoSnapshotDetails]) -> Option<&AutoSnapshotDetails> {
    let whole = found.iter().filter(|snapshot| snapshot.status() == Some(&AutoSnapshotStatus::Success));
    whole.filter(|snapshot| snapshot.date().is_some()).max_by_key(|snapshot| snapshot.date())
}

/// The copy's name, with the moment of what it is a copy of: the same one is never copied twice, and another one of the same day,
/// of a later instance of the same name, is not taken for it.
fn kept_name(instance: &str, snapshot: &AutoSnapshotDetails) -> String {
    let moment = snapshot.created_at().and_then(|at| Timestamp::from_second(at.secs()).ok());
    let stamp = moment.map(|at| at.strftime("%Y%m%dT%H%M%SZ").to_string());
    let stamp = stamp.unwrap_or_else(|| snapshot.date().unwrap_or_default().replace('-', ""));
    format!("{instance}-kept-{stamp}")
}

impl Aws {
    pub(super) async fn keep_snapshot(&self, what: &str, instance: &str) -> Result<(), Failure> {
        let answer = match self.lightsail.get_auto_snapshots().resource_name(instance).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let fault = Fault::of("lightsail:GetAutoSnapshots", &error);
                // An instance that is gone has taken them along.
                return if fault.is_not_there() { Ok(()) } else { Err(fault.failure(what)) };
            }
        };
        let Some(snapshot) = newest(answer.auto_snapshots()) else { return Ok(()) };
        let tags = self.tags_of_kept(what, instance).await?;
        let name = kept_name(instance, snapshot);
        match self.kept(what, &name).await? {
            Some(Kept { of: Some(other), .. }) if other != instance => {
                let why = format!("`{name}` is there already, and is a snapshot of `{other}`");
                return Err(Failure::new(format!("could not {what}: {why}; nothing was changed by it")));
            }
            // An earlier run copied it.
            Some(_) => {}
            None => {
                let call = self.lightsail.copy_snapshot().source_resource_name(instance);
                let call = call.source_region(RegionName::from(self.region.as_str())).target_snapshot_name(&name);
                let sent = call.set_restore_date(snapshot.date().map(str::to_owned)).send().await;
                done("lightsail:CopySnapshot", what, sent)?;
            }
        }
        // The snapshot itself says when it is whole; its operation may end before.
        until(what, COPY_LIMIT, || async {
            let Some(kept) = self.kept(what, &name).await? else {
                return Ok(Some(format!("snapshot `{name}` is not listed yet")));
            };
            match kept.state {
                Some(InstanceSnapshotState::Available) => Ok(None),
                Some(InstanceSnapshotState::Error) => Err(Failure::new(format!(
                    "could not {what}: Lightsail says that the copy `{name}` failed"
                ))
                .hint(format!(
                    "delete it and try again: aws lightsail delete-instance-snapshot --instance-snapshot-name {name}"
                ))),
                _ => Ok(Some(format!("snapshot `{name}` is at {}", kept.progress.as_deref().unwrap_or("0 %")))),
            }
        })
        .await?;
        self.tag(what, &name, &tags).await
    }

    /// Ours, of the instance's own address, and not to be removed by anything that goes by tags.
    async fn tags_of_kept(&self, what: &str, instance: &str) -> Result<Tags, Failure> {
        let found = Box::pin(self.instance(instance)).await;
        let found = found.map_err(|why| Failure::new(format!("could not {what}: {why}; nothing was changed by it")))?;
        let mut tags = found.map(|found| found.tags).unwrap_or_default();
        tags.retain(|key, _| [TAG_ENVIRONMENT, TAG_ADDRESS].contains(&key.as_str()));
        tags.insert(TAG_KEEP.to_owned(), PROTECTED.to_owned());
        Ok(tags)
    }

    async fn kept(&self, what: &str, name: &str) -> Result<Option<Kept>, Failure> {
        match self.lightsail.get_instance_snapshot().instance_snapshot_name(name).send().await {
            Ok(answer) => Ok(answer.instance_snapshot.map(|snapshot| Kept {
                of: snapshot.from_instance_name,
                state: snapshot.state,
                progress: snapshot.progress,
            })),
            Err(error) => {
                let fault = Fault::of("lightsail:GetInstanceSnapshot", &error);
                if fault.is_not_there() { Ok(None) } else { Err(fault.failure(what)) }
            }
        }
    }
}
