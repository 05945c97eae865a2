//! The add-on AutoSnapshot. No clock takes snapshots here: the lab's own door does, for all instances that want them.

use serde_json::{Value, json};

use crate::sandbox::lightsail::call::{Call, many};
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::state::{State, now};

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
    let instance = call.state.instance(call.region, &name)?;
    let view = |at: &f64| json!({ "date": day(*at), "createdAt": at, "status": "Success", "fromAttachedDisks": [] });
    let views: Vec<Value> = instance.auto_snapshots.iter().map(view).collect();
    Ok(json!({ "resourceName": name, "resourceType": "Instance", "autoSnapshots": views }))
}

/// The day of a moment, as the service writes it.
pub fn day(at: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "seconds since 1970 are far from the limit")]
    let moment = jiff::Timestamp::from_second(at as i64).unwrap_or_default();
    moment.strftime("%Y-%m-%d").to_string()
}

/// Takes what a day's automatic snapshots would be; the number of instances that have one more. Of one day the newest is kept.
pub fn take(state: &mut State) -> usize {
    let now = now();
    let mut taken = 0;
    for instance in state.instances.values_mut().filter(|instance| instance.auto_snapshot.is_some()) {
        instance.auto_snapshots.retain(|at| day(*at) != day(now));
        instance.auto_snapshots.push(now);
        taken += 1;
    }
    taken
}
