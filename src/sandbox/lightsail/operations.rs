//! The table of operations, and the operations about operations and tags.

use serde_json::{Value, json};

use crate::sandbox::lightsail::access;
use crate::sandbox::lightsail::addons;
use crate::sandbox::lightsail::addresses;
use crate::sandbox::lightsail::alarms;
use crate::sandbox::lightsail::call::{Call, one};
use crate::sandbox::lightsail::catalog;
use crate::sandbox::lightsail::check;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::instances;
use crate::sandbox::lightsail::keys;
use crate::sandbox::lightsail::ports;
use crate::sandbox::lightsail::snapshots;
use crate::sandbox::lightsail::state::{Common, Operation, State, key, with};

/// Runs one operation by its name.
pub fn run(name: &str, call: &mut Call) -> Result<Value, ApiError> {
    match name {
        "GetBundles" => call.page("bundles", &catalog::get_bundles(call)),
        "GetBlueprints" => call.page("blueprints", &catalog::get_blueprints(call)),
        "GetRegions" => Ok(catalog::get_regions(call)),
        "CreateInstances" => instances::create(call),
        "GetInstance" => instances::get(call),
        "GetInstances" => instances::list(call),
        "GetInstanceState" => instances::get_state(call),
        "StartInstance" => instances::start(call),
        "StopInstance" => instances::stop(call),
        "RebootInstance" => instances::reboot(call),
        "DeleteInstance" => instances::delete(call),
        "GetInstanceMetricData" => instances::metrics(call),
        "GetInstanceAccessDetails" => access::details(call),
        "DeleteKnownHostKeys" => access::forget_host_keys(call),
        "UpdateInstanceMetadataOptions" => access::metadata_options(call),
        "EnableAddOn" => addons::enable(call),
        "DisableAddOn" => addons::disable(call),
        "GetAutoSnapshots" => addons::auto_snapshots(call),
        "ImportKeyPair" => keys::import(call),
        "CreateKeyPair" => keys::create(call),
        "GetKeyPair" => keys::get(call),
        "GetKeyPairs" => keys::list(call),
        "DeleteKeyPair" => keys::delete(call),
        "AllocateStaticIp" => addresses::allocate(call),
        "AttachStaticIp" => addresses::attach(call),
        "DetachStaticIp" => addresses::detach(call),
        "ReleaseStaticIp" => addresses::release(call),
        "GetStaticIp" => addresses::get(call),
        "GetStaticIps" => addresses::list(call),
        "PutInstancePublicPorts" => ports::put(call),
        "OpenInstancePublicPorts" => ports::open(call),
        "CloseInstancePublicPorts" => ports::close(call),
        "GetInstancePortStates" => ports::states(call),
        "TagResource" => tag(call),
        "UntagResource" => untag(call),
        "GetOperation" => get_operation(call),
        "GetOperations" => list_operations(call),
        "GetOperationsForResource" => operations_for(call),
        "CopySnapshot" => snapshots::copy(call),
        "CreateInstanceSnapshot" => snapshots::create(call),
        "GetInstanceSnapshot" => snapshots::get(call),
        "GetInstanceSnapshots" => snapshots::list(call),
        "DeleteInstanceSnapshot" => snapshots::delete(call),
        "PutAlarm" => alarms::put(call),
        "GetAlarms" => alarms::list(call),
        "DeleteAlarm" => alarms::delete(call),
        _ => Err(ApiError::new("UnknownOperationException", format!("The lab does not know the operation {name}"))),
    }
}

fn get_operation(call: &mut Call) -> Result<Value, ApiError> {
    let id = call.need("operationId")?;
    let found = call.state.operations.iter().find(|o| o.id == id && o.region == call.region);
    found.map(one).ok_or_else(|| ApiError::not_found("Operation", &id))
}

fn list_operations(call: &mut Call) -> Result<Value, ApiError> {
    let here = call.state.operations.iter().rev().filter(|o| o.region == call.region);
    let views: Vec<Value> = here.map(Operation::view).collect();
    call.page("operations", &views)
}

fn operations_for(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("resourceName")?;
    let about = call.state.operations.iter().rev().filter(|o| o.region == call.region && o.resource == name);
    let views: Vec<Value> = about.map(Operation::view).collect();
    if views.is_empty() {
        return Err(ApiError::not_found("resource", &name));
    }
    call.page("operations", &views)
}

/// The common part of a resource that takes tags, and its type. Static IPs take none.
fn taggable<'a>(state: &'a mut State, region: &str, name: &str) -> Result<(&'a mut Common, &'static str), ApiError> {
    let at = key(region, name);
    if let Some(instance) = state.instances.get_mut(&at) {
        return Ok((&mut instance.common, "Instance"));
    }
    if let Some(pair) = state.key_pairs.get_mut(&at) {
        return Ok((&mut pair.common, "KeyPair"));
    }
    if let Some(snapshot) = state.snapshots.get_mut(&at) {
        return Ok((&mut snapshot.common, "InstanceSnapshot"));
    }
    if let Some(alarm) = state.alarms.get_mut(&at) {
        return Ok((&mut alarm.common, "Alarm"));
    }
    if state.static_ips.contains_key(&at) {
        return Err(ApiError::invalid(format!("Tagging is not supported for the resource type StaticIp: {name}")));
    }
    Err(ApiError::not_found("resource", name))
}

fn tag(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("resourceName")?;
    let tags = check::tags(call.params.get("tags"))?;
    let (common, kind) = taggable(call.state, call.region, &name)?;
    let mut merged = common.tags.clone();
    merged.extend(tags);
    if merged.len() > 50 {
        return Err(ApiError::invalid("A resource takes at most 50 tags"));
    }
    common.tags = merged;
    let common = common.clone();
    // The model has no operation type for tags; an operation without one is what clients get.
    let operation = call.soon("", kind, &common);
    Ok(without_type(&operation))
}

fn untag(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("resourceName")?;
    let keys: Vec<String> = call
        .params
        .get("tagKeys")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |keys| keys.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    let (common, kind) = taggable(call.state, call.region, &name)?;
    common.tags.retain(|key, _| !keys.contains(key));
    let common = common.clone();
    let operation = call.soon("", kind, &common);
    Ok(without_type(&operation))
}

fn without_type(operation: &Operation) -> Value {
    let mut view = operation.view();
    if let Some(members) = view.as_object_mut() {
        members.remove("operationType");
    }
    with(json!({}), json!({ "operations": [view] }))
}
