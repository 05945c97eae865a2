//! The add-on AutoSnapshot. Snapshots are never taken here; what is kept is whether they are wanted, and when.

use serde_json::{Value, json};

use crate::sandbox::lightsail::call::{Call, many};
use crate::sandbox::lightsail::error::ApiError;

/// The hour of an add-on request, `HH:00`; the service picks one where none is given.
pub fn snapshot_time(request: &Value) -> Result<String, ApiError> {
    if request.get("addOnType").and_then(Value::as_str) != Some("AutoSnapshot") {
        return Err(ApiError::invalid("The lab knows one add-on type only: AutoSnapshot"));
    }
    let asked = request.pointer("/autoSnapshotAddOnRequest/snapshotTimeOfDay").and_then(Value::as_str);
    let time = asked.unwrap_or("06:00");
    let hour = time.strip_suffix(":00").filter(|hour| hour.len() == 2).and_then(|hour| hour.parse::<u8>().ok());
    match hour {
        Some(0..=23) => Ok(time.to_owned()),
        _ => Err(ApiError::invalid(format!("Invalid snapshotTimeOfDay: '{time}'; it is HH:00"))),
    }
}

pub fn enable(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("resourceName")?;
    let time = snapshot_time(call.params.get("addOnRequest").unwrap_or(&Value::Null))?;
    let instance = call.state.instance_mut(call.region, &name)?;
    instance.auto_snapshot = Some(time);
    let common = instance.common.clone();
    let operation = call.soon("EnableAddOn", "Instance", &common);
    Ok(many(&[operation]))
}

pub fn disable(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("resourceName")?;
    if call.text("addOnType") != Some("AutoSnapshot") {
        return Err(ApiError::invalid("The lab knows one add-on type only: AutoSnapshot"));
    }
    let instance = call.state.instance_mut(call.region, &name)?;
    instance.auto_snapshot = None;
    let common = instance.common.clone();
    let operation = call.soon("DisableAddOn", "Instance", &common);
    Ok(many(&[operation]))
}

pub fn auto_snapshots(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("resourceName")?;
    call.state.instance(call.region, &name)?;
    Ok(json!({ "resourceName": name, "resourceType": "Instance", "autoSnapshots": [] }))
}
