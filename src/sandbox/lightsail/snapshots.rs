//! Manual snapshots of instances: records only, there is no disk behind them. They outlive their instance.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sandbox::lightsail::addons::day;
use crate::sandbox::lightsail::call::{Call, many};
use crate::sandbox::lightsail::catalog::bundle;
use crate::sandbox::lightsail::check;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::state::{Instance, Snapshot, key, now, with};

fn view(snapshot: &Snapshot) -> Value {
    let ready = snapshot.available_at <= now();
    let state = if snapshot.broken_off {
        "error"
    } else if ready {
        "available"
    } else {
        "pending"
    };
    with(
        snapshot.common.view("InstanceSnapshot"),
        json!({
            "state": state, "progress": if ready { "100" } else { "0" },
            "fromInstanceName": snapshot.instance, "fromInstanceArn": snapshot.instance_arn,
            "fromBlueprintId": snapshot.blueprint, "fromBundleId": snapshot.bundle, "isFromAutoSnapshot": snapshot.from_auto,
            "sizeInGb": snapshot.size_gb, "fromAttachedDisks": [],
        }),
    )
}

/// Writes a new one down.
fn record(call: &mut Call, name: &str, of: &Instance, tags: BTreeMap<String, String>, from_auto: bool) -> Snapshot {
    let snapshot = Snapshot {
        common: call.state.common("InstanceSnapshot", call.region, &of.common.zone, name, tags),
        instance: of.common.name.clone(),
        instance_arn: of.common.arn.clone(),
        size_gb: bundle(&of.bundle).map_or(0, |bundle| bundle.disk_gb),
        blueprint: of.blueprint.clone(),
        bundle: of.bundle.clone(),
        available_at: now() + call.delays.snapshot,
        from_auto,
        broken_off: false,
    };
    call.state.snapshots.insert(key(call.region, name), snapshot.clone());
    snapshot
}

pub fn create(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceSnapshotName")?;
    let instance_name = call.need("instanceName")?;
    check::name(&name)?;
    call.state.refuse_taken(call.region, &name)?;
    let tags = check::tags(call.params.get("tags"))?;
    let instance = call.state.instance(call.region, &instance_name)?.clone();
    if !["running", "stopped"].contains(&instance.state.as_str()) {
        let message = format!("The instance {instance_name} is {}", instance.state);
        return Err(ApiError::new("OperationFailureException", message));
    }
    let Snapshot { common, available_at, .. } = record(call, &name, &instance, tags, false);
    let operation = call.state.operation("CreateInstanceSnapshot", "InstanceSnapshot", &common, Some(available_at));
    Ok(many(&[operation]))
}

/// Copies an automatic snapshot to a manual one, within the region; the one kind of copy that the lab knows.
pub fn copy(call: &mut Call) -> Result<Value, ApiError> {
    let (name, source) = (call.need("targetSnapshotName")?, call.need("sourceResourceName")?);
    if call.need("sourceRegion")? != call.region {
        return Err(ApiError::invalid("The lab copies within a region only"));
    }
    let (date, newest) = (call.text("restoreDate"), call.flag("useLatestRestorableAutoSnapshot"));
    if date.is_some() == newest {
        return Err(ApiError::invalid("Give either restoreDate or useLatestRestorableAutoSnapshot"));
    }
    check::name(&name)?;
    call.state.refuse_taken(call.region, &name)?;
    let instance = call.state.instance(call.region, &source)?.clone();
    let taken = instance.auto_snapshots.iter().rev().find(|at| newest || date == Some(day(**at).as_str()));
    if taken.is_none() || instance.state == "shutting-down" {
        return Err(ApiError::not_found("AutoSnapshot", date.unwrap_or("the latest")));
    }
    let Snapshot { common, .. } = record(call, &name, &instance, BTreeMap::new(), true);
    let operation = call.soon("CopySnapshot", "InstanceSnapshot", &common);
    Ok(many(&[operation]))
}

fn find(call: &Call, name: &str) -> Result<Snapshot, ApiError> {
    let found = call.state.snapshots.get(&key(call.region, name));
    found.cloned().ok_or_else(|| ApiError::not_found("InstanceSnapshot", name))
}

pub fn get(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceSnapshotName")?;
    Ok(json!({ "instanceSnapshot": view(&find(call, &name)?) }))
}

pub fn list(call: &mut Call) -> Result<Value, ApiError> {
    let here = call.state.snapshots.values().filter(|snapshot| snapshot.common.region == call.region);
    let views: Vec<Value> = here.map(view).collect();
    call.page("instanceSnapshots", &views)
}

pub fn delete(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceSnapshotName")?;
    let snapshot = find(call, &name)?;
    call.state.snapshots.remove(&key(call.region, &name));
    let operation = call.soon("DeleteInstanceSnapshot", "InstanceSnapshot", &snapshot.common);
    Ok(many(&[operation]))
}
