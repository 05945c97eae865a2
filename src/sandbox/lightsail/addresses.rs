//! Static IPs: they outlive their instance, and attaching needs one that runs. They take no tags.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sandbox::lightsail::Deed;
use crate::sandbox::lightsail::call::{Call, many};
use crate::sandbox::lightsail::check;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::state::{StaticIp, key, with};

/// Static IPs per region and account.
const LIMIT: usize = 5;

fn view(ip: &StaticIp) -> Value {
    let mut view =
        with(ip.common.view("StaticIp"), json!({ "ipAddress": ip.address, "isAttached": ip.attached_to.is_some() }));
    if let Some(members) = view.as_object_mut() {
        members.remove("tags");
        if let Some(name) = &ip.attached_to {
            members.insert("attachedTo".to_owned(), json!(name));
        }
    }
    view
}

fn find(call: &Call, name: &str) -> Result<StaticIp, ApiError> {
    let found = call.state.static_ips.get(&key(call.region, name));
    found.cloned().ok_or_else(|| ApiError::not_found("StaticIp", name))
}

pub fn allocate(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("staticIpName")?;
    check::name(&name)?;
    call.state.refuse_taken(call.region, &name)?;
    let here = call.state.static_ips.values().filter(|ip| ip.common.region == call.region).count();
    if here >= LIMIT {
        return Err(ApiError::invalid(format!(
            "The account has reached its limit of {LIMIT} static IPs in {}",
            call.region
        )));
    }
    let address = (0..=u32::MAX)
        .map_while(call.static_address)
        .find(|address| call.state.static_ips.values().all(|ip| ip.address != *address))
        .ok_or_else(|| ApiError::invalid("The region has no static IP left".to_owned()))?;
    let common = call.state.common("StaticIp", call.region, "all", &name, BTreeMap::new());
    let operation = call.soon("AllocateStaticIp", "StaticIp", &common);
    call.state.static_ips.insert(key(call.region, &name), StaticIp { common, address, attached_to: None });
    Ok(many(&[operation]))
}

pub fn attach(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("staticIpName")?;
    let instance_name = call.need("instanceName")?;
    let ip = find(call, &name)?;
    let instance = call.state.instance(call.region, &instance_name)?;
    if instance.state != "running" {
        return Err(ApiError::new(
            "OperationFailureException",
            format!(
                "The instance {instance_name} is {}; a static IP is attached to a running instance only",
                instance.state
            ),
        ));
    }
    if instance.ip_address_type == "ipv6" {
        return Err(ApiError::invalid("A static IP cannot be attached to an instance without IPv4"));
    }
    if ip.attached_to.as_deref().is_some_and(|other| other != instance_name) {
        return Err(ApiError::new("OperationFailureException", format!("The static IP {name} is attached already")));
    }
    let other = call.state.static_ips.values().any(|other| {
        other.common.region == call.region
            && other.common.name != name
            && other.attached_to.as_deref() == Some(&instance_name)
    });
    if other {
        let message = format!("The instance {instance_name} has a static IP already");
        return Err(ApiError::new("OperationFailureException", message));
    }
    if let Some(ip) = call.state.static_ips.get_mut(&key(call.region, &name)) {
        ip.attached_to = Some(instance_name.clone());
    }
    let operation = call.on_machine("AttachStaticIp", "StaticIp", &ip.common, Deed::Address, &instance_name);
    Ok(many(&[operation]))
}

pub fn detach(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("staticIpName")?;
    let ip = find(call, &name)?;
    let Some(instance) = ip.attached_to else {
        return Err(ApiError::new("OperationFailureException", format!("The static IP {name} is not attached")));
    };
    if let Some(ip) = call.state.static_ips.get_mut(&key(call.region, &name)) {
        ip.attached_to = None;
    }
    let operation = call.on_machine("DetachStaticIp", "StaticIp", &ip.common, Deed::Address, &instance);
    Ok(many(&[operation]))
}

pub fn release(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("staticIpName")?;
    let ip = find(call, &name)?;
    call.state.static_ips.remove(&key(call.region, &name));
    let operation = match ip.attached_to {
        Some(instance) => call.on_machine("ReleaseStaticIp", "StaticIp", &ip.common, Deed::Address, &instance),
        None => call.soon("ReleaseStaticIp", "StaticIp", &ip.common),
    };
    Ok(many(&[operation]))
}

pub fn get(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("staticIpName")?;
    Ok(json!({ "staticIp": view(&find(call, &name)?) }))
}

pub fn list(call: &mut Call) -> Result<Value, ApiError> {
    let here = call.state.static_ips.values().filter(|ip| ip.common.region == call.region);
    let views: Vec<Value> = here.map(view).collect();
    call.page("staticIps", &views)
}
