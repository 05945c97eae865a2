//! Lightsail's own alarms. Put overwrites everything; nothing is measured, so their state stays INSUFFICIENT_DATA.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sandbox::lightsail::call::{Call, many};
use crate::sandbox::lightsail::check;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::state::{Alarm, key, with};

/// Alarms per metric of one resource.
const PER_METRIC: usize = 2;
const METRICS: [&str; 8] = [
    "CPUUtilization",
    "NetworkIn",
    "NetworkOut",
    "StatusCheckFailed",
    "StatusCheckFailed_Instance",
    "StatusCheckFailed_System",
    "BurstCapacityTime",
    "BurstCapacityPercentage",
];
const COMPARISONS: [&str; 4] =
    ["GreaterThanOrEqualToThreshold", "GreaterThanThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold"];

/// The statistic and the unit that the service uses for a metric.
fn measure(metric: &str) -> (&'static str, &'static str) {
    match metric {
        "CPUUtilization" | "BurstCapacityPercentage" => ("Average", "Percent"),
        "NetworkIn" | "NetworkOut" => ("Sum", "Bytes"),
        "BurstCapacityTime" => ("Average", "Seconds"),
        _ => ("Sum", "Count"),
    }
}

pub fn put(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("alarmName")?;
    check::name(&name)?;
    let metric = call.need("metricName")?;
    let monitored = call.need("monitoredResourceName")?;
    let comparison = call.need("comparisonOperator")?;
    if !METRICS.contains(&metric.as_str()) || !COMPARISONS.contains(&comparison.as_str()) {
        return Err(ApiError::invalid(format!("Invalid metric or comparison: {metric}, {comparison}")));
    }
    let periods = call.params.get("evaluationPeriods").and_then(Value::as_i64).unwrap_or(0);
    let points = call.params.get("datapointsToAlarm").and_then(Value::as_i64).unwrap_or(periods);
    if !(1..=288).contains(&periods) || !(1..=periods).contains(&points) {
        return Err(ApiError::invalid("evaluationPeriods is 1 to 288, and datapointsToAlarm at most as many"));
    }
    let threshold = call.params.get("threshold").and_then(Value::as_f64);
    let threshold = threshold.ok_or_else(|| ApiError::invalid("Input parameter 'threshold' is required"))?;
    let missing = call.text("treatMissingData").unwrap_or("missing").to_owned();
    if !["breaching", "notBreaching", "ignore", "missing"].contains(&missing.as_str()) {
        return Err(ApiError::invalid(format!("Invalid treatMissingData: {missing}")));
    }
    let instance = call.state.instance(call.region, &monitored)?.common.clone();
    let at = key(call.region, &name);
    let common = if let Some(old) = call.state.alarms.get(&at) {
        old.common.clone()
    } else {
        call.state.refuse_taken(call.region, &name)?;
        let tags = check::tags(call.params.get("tags"))?;
        call.state.common("Alarm", call.region, &instance.zone, &name, tags)
    };
    let same = call.state.alarms.iter().filter(|(other, alarm)| {
        **other != at && alarm.monitored_arn == instance.arn && alarm.settings.get("metricName") == Some(&json!(metric))
    });
    if same.count() >= PER_METRIC {
        return Err(ApiError::invalid(format!("There are {PER_METRIC} alarms for {metric} of {monitored} already")));
    }
    let (statistic, unit) = measure(&metric);
    let mut settings = BTreeMap::new();
    for (member, value) in [
        ("metricName", json!(metric)),
        ("comparisonOperator", json!(comparison)),
        ("evaluationPeriods", json!(periods)),
        ("datapointsToAlarm", json!(points)),
        ("threshold", json!(threshold)),
        ("treatMissingData", json!(missing)),
        ("period", json!(300)),
        ("statistic", json!(statistic)),
        ("unit", json!(unit)),
        ("state", json!("INSUFFICIENT_DATA")),
        ("contactProtocols", call.params.get("contactProtocols").cloned().unwrap_or_else(|| json!([]))),
        ("notificationTriggers", call.params.get("notificationTriggers").cloned().unwrap_or_else(|| json!(["ALARM"]))),
        ("notificationEnabled", call.params.get("notificationEnabled").cloned().unwrap_or(Value::Bool(true))),
    ] {
        settings.insert(member.to_owned(), value);
    }
    let operation = call.soon("PutAlarm", "Alarm", &common);
    let alarm = Alarm { common, monitored, monitored_arn: instance.arn, settings };
    call.state.alarms.insert(at, alarm);
    Ok(many(&[operation]))
}

fn view(alarm: &Alarm) -> Value {
    let target = json!({"arn": alarm.monitored_arn, "name": alarm.monitored, "resourceType": "Instance"});
    with(with(alarm.common.view("Alarm"), json!(alarm.settings)), json!({ "monitoredResourceInfo": target }))
}

pub fn list(call: &mut Call) -> Result<Value, ApiError> {
    let named = call.text("alarmName");
    let of = call.text("monitoredResourceName");
    let shown = call.state.alarms.values().filter(|alarm| {
        alarm.common.region == call.region
            && named.is_none_or(|name| name == alarm.common.name)
            && of.is_none_or(|name| name == alarm.monitored)
    });
    let views: Vec<Value> = shown.map(view).collect();
    if let (Some(name), true) = (named, views.is_empty()) {
        return Err(ApiError::not_found("Alarm", name));
    }
    call.page("alarms", &views)
}

pub fn delete(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("alarmName")?;
    let alarm = call.state.alarms.remove(&key(call.region, &name));
    let alarm = alarm.ok_or_else(|| ApiError::not_found("Alarm", &name))?;
    let operation = call.soon("DeleteAlarm", "Alarm", &alarm.common);
    Ok(many(&[operation]))
}
