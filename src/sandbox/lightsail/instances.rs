//! Instances: create, look, start, stop, reboot, delete. Everything that changes one takes time.

use serde_json::{Value, json};

use crate::sandbox::lightsail::Deed;
use crate::sandbox::lightsail::addons::snapshot_time;
use crate::sandbox::lightsail::call::{Call, many};
use crate::sandbox::lightsail::catalog::{blueprint, bundle};
use crate::sandbox::lightsail::check;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::machine::PortRule;
use crate::sandbox::lightsail::ports;
use crate::sandbox::lightsail::state::{Instance, key, now, with};

/// Bytes of user data that the service takes.
const USER_DATA: usize = 16 * 1024;

/// The state's code, as in the instance states of EC2.
fn code(state: &str) -> i64 {
    match state {
        "pending" => 0,
        "running" => 16,
        "shutting-down" => 32,
        "stopping" => 64,
        _ => 80,
    }
}

pub fn create(call: &mut Call) -> Result<Value, ApiError> {
    let names: Vec<String> = call
        .params
        .get("instanceNames")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    if names.is_empty() {
        return Err(ApiError::invalid("Input parameter 'instanceNames' is required"));
    }
    let zone = call.need("availabilityZone")?;
    check::zone(&zone, call.region)?;
    let blueprint_id = call.need("blueprintId")?;
    if !blueprint(&blueprint_id).is_some_and(|blueprint| blueprint.active) {
        return Err(ApiError::invalid(format!("Invalid or inactive blueprint: {blueprint_id}")));
    }
    let bundle_id = call.need("bundleId")?;
    let bundle = bundle(&bundle_id)
        .filter(|bundle| bundle.active)
        .ok_or_else(|| ApiError::invalid(format!("Invalid or inactive bundle: {bundle_id}")))?;
    let user_data = call.text("userData").unwrap_or_default().to_owned();
    if user_data.len() > USER_DATA {
        return Err(ApiError::invalid("User data is limited to 16 KB"));
    }
    let ip_address_type = call.text("ipAddressType").unwrap_or("dualstack").to_owned();
    if !["dualstack", "ipv4", "ipv6"].contains(&ip_address_type.as_str())
        || (bundle.ipv4 == 0) != (ip_address_type == "ipv6")
    {
        return Err(ApiError::invalid(format!(
            "The bundle {bundle_id} does not go with the address type {ip_address_type}"
        )));
    }
    let key_pair = call.text("keyPairName").unwrap_or("LightsailDefaultKeyPair").to_owned();
    let authorized_key = match call.state.key_pairs.get(&key(call.region, &key_pair)) {
        Some(pair) => pair.public_key.clone(),
        None if call.text("keyPairName").is_none() => String::new(),
        None => return Err(ApiError::not_found("KeyPair", &key_pair)),
    };
    let tags = check::tags(call.params.get("tags"))?;
    let auto_snapshot = requested_add_on(call)?;
    for (index, name) in names.iter().enumerate() {
        check::name(name)?;
        call.state.refuse_taken(call.region, name)?;
        if names[..index].contains(name) {
            return Err(ApiError::invalid(format!("The name is given twice: {name}")));
        }
    }
    let mut operations = Vec::new();
    for name in names {
        let common = call.state.common("Instance", call.region, &zone, &name, tags.clone());
        operations.push(call.on_machine("CreateInstance", "Instance", &common, Deed::Create, &name));
        let number = call.state.next_number;
        call.state.next_number += 1;
        let instance = Instance {
            common,
            blueprint: blueprint_id.clone(),
            bundle: bundle_id.clone(),
            key_pair: key_pair.clone(),
            authorized_key: authorized_key.clone(),
            user_data: user_data.clone(),
            state: "pending".to_owned(),
            private_v4: format!("172.26.{}.{}", number / 250 % 16, number % 250 + 4),
            v4: None,
            v6: None,
            ip_address_type: ip_address_type.clone(),
            ports: [22, 80].map(open_to_the_world).to_vec(),
            host_keys: Vec::new(),
            witnessed_at: None,
            auto_snapshot: auto_snapshot.clone(),
            auto_snapshots: Vec::new(),
            http_tokens: "optional".to_owned(),
            http_endpoint: "enabled".to_owned(),
            http_hop_limit: 1,
            stuck: false,
        };
        call.state.instances.insert(key(call.region, &name), instance);
    }
    Ok(many(&operations))
}

/// The add-on that comes with the request, if any.
fn requested_add_on(call: &Call) -> Result<Option<String>, ApiError> {
    let requests = call.params.get("addOns").and_then(Value::as_array);
    requests.and_then(|requests| requests.first()).map(snapshot_time).transpose()
}

fn open_to_the_world(port: i32) -> PortRule {
    PortRule {
        from_port: port,
        to_port: port,
        protocol: "tcp".to_owned(),
        cidrs: vec!["0.0.0.0/0".to_owned()],
        ipv6_cidrs: vec!["::/0".to_owned()],
        cidr_list_aliases: Vec::new(),
    }
}

fn view(call: &Call, instance: &Instance) -> Value {
    let static_ip = call.state.static_ips.values().any(|ip| {
        ip.common.region == instance.common.region && ip.attached_to.as_deref() == Some(&instance.common.name)
    });
    let mut view = with(
        instance.common.view("Instance"),
        json!({
            "blueprintId": instance.blueprint, "bundleId": instance.bundle,
            "blueprintName": blueprint(&instance.blueprint).map_or("", |blueprint| blueprint.name),
            "isStaticIp": static_ip, "privateIpAddress": instance.private_v4,
            "ipAddressType": instance.ip_address_type,
            "state": {"code": code(&instance.state), "name": instance.state},
            "username": blueprint(&instance.blueprint).map_or("", |blueprint| blueprint.username),
            "sshKeyName": instance.key_pair,
            "metadataOptions": {
                "state": "applied", "httpTokens": instance.http_tokens, "httpEndpoint": instance.http_endpoint,
                "httpPutResponseHopLimit": instance.http_hop_limit, "httpProtocolIpv6": "disabled",
            },
        }),
    );
    if let Some(bundle) = bundle(&instance.bundle) {
        view["hardware"] = json!({
            "cpuCount": bundle.cpus, "ramSizeInGb": bundle.ram_gb,
            "disks": [{
                "createdAt": instance.common.created_at, "sizeInGb": bundle.disk_gb, "isSystemDisk": true, "iops": 100,
                "path": "/dev/xvda", "attachedTo": instance.common.name, "attachmentState": "attached",
            }],
        });
        view["networking"] = json!({
            "monthlyTransfer": {"gbPerMonthAllocated": bundle.transfer_gb},
            "ports": instance.ports.iter().map(ports::info).collect::<Vec<_>>(),
        });
    }
    if let Some(v4) = &instance.v4 {
        view["publicIpAddress"] = json!(v4);
    }
    view["ipv6Addresses"] = json!(instance.v6.iter().collect::<Vec<_>>());
    if let Some(time) = &instance.auto_snapshot {
        view["addOns"] = json!([{
            "name": "AutoSnapshot", "status": "Enabled", "snapshotTimeOfDay": time, "nextSnapshotTimeOfDay": time,
        }]);
    }
    view
}

pub fn get(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let instance = call.state.instance(call.region, &name)?;
    Ok(json!({ "instance": view(call, instance) }))
}

pub fn list(call: &mut Call) -> Result<Value, ApiError> {
    let here = call.state.instances.values().filter(|instance| instance.common.region == call.region);
    let views: Vec<Value> = here.map(|instance| view(call, instance)).collect();
    call.page("instances", &views)
}

pub fn get_state(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let instance = call.state.instance(call.region, &name)?;
    Ok(json!({ "state": {"code": code(&instance.state), "name": instance.state} }))
}

/// Moves an instance from one state into another and lets the machine follow.
fn change(call: &mut Call, from: &str, to: &str, kind: &str, deed: Deed) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let instance = call.state.instance_mut(call.region, &name)?;
    if instance.state != from {
        return Err(ApiError::new(
            "OperationFailureException",
            format!("The instance {name} is {}, and only an instance that is {from} takes {kind}", instance.state),
        )
        .tip("Wait until the instance has reached the state."));
    }
    to.clone_into(&mut instance.state);
    let common = instance.common.clone();
    let operation = call.on_machine(kind, "Instance", &common, deed, &name);
    Ok(many(&[operation]))
}

pub fn start(call: &mut Call) -> Result<Value, ApiError> {
    change(call, "stopped", "pending", "StartInstance", Deed::Start)
}

pub fn stop(call: &mut Call) -> Result<Value, ApiError> {
    change(call, "running", "stopping", "StopInstance", Deed::Stop)
}

pub fn reboot(call: &mut Call) -> Result<Value, ApiError> {
    change(call, "running", "running", "RebootInstance", Deed::Reboot)
}

pub fn delete(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let force = call.flag("forceDeleteAddOns");
    let region = call.region.to_owned();
    let instance = call.state.instance_mut(&region, &name)?;
    if instance.auto_snapshot.is_some() && !force {
        return Err(ApiError::new(
            "OperationFailureException",
            format!("The instance {name} has add-ons; give forceDeleteAddOns to delete them with it"),
        ));
    }
    if instance.state == "shutting-down" {
        return Err(ApiError::new("OperationFailureException", format!("The instance {name} is being deleted")));
    }
    "shutting-down".clone_into(&mut instance.state);
    let common = instance.common.clone();
    for snapshot in call.state.snapshots.values_mut() {
        let here = snapshot.common.region == region && snapshot.instance == name && snapshot.from_auto;
        snapshot.broken_off |= here && snapshot.available_at > now();
    }
    // The static IP stays, detached, and is charged for from now on.
    for ip in call.state.static_ips.values_mut() {
        if ip.common.region == region && ip.attached_to.as_deref() == Some(&name) {
            ip.attached_to = None;
        }
    }
    let operation = call.on_machine("DeleteInstance", "Instance", &common, Deed::Delete, &name);
    Ok(many(&[operation]))
}

pub fn metrics(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    call.state.instance(call.region, &name)?;
    let metric = call.need("metricName")?;
    // Nothing is measured here: an honest answer is one without data.
    Ok(json!({ "metricName": metric, "metricData": [] }))
}
