//! The firewall of an instance. Put replaces the whole set, open adds, close takes away.

use serde_json::{Value, json};

use crate::sandbox::lightsail::Deed;
use crate::sandbox::lightsail::call::{Call, one};
use crate::sandbox::lightsail::check;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::machine::PortRule;

/// A rule as `Instance.networking.ports` shows it.
pub fn info(rule: &PortRule) -> Value {
    let world = rule.cidrs.iter().any(|cidr| cidr == "0.0.0.0/0");
    json!({
        "fromPort": rule.from_port, "toPort": rule.to_port, "protocol": rule.protocol,
        "accessFrom": if world { "Anywhere (0.0.0.0/0 and ::/0)" } else { "Custom" },
        "accessType": "Public", "commonName": "", "accessDirection": "inbound",
        "cidrs": rule.cidrs, "ipv6Cidrs": rule.ipv6_cidrs, "cidrListAliases": rule.cidr_list_aliases,
    })
}

fn same_ports(a: &PortRule, b: &PortRule) -> bool {
    a.from_port == b.from_port && a.to_port == b.to_port && a.protocol == b.protocol
}

fn store(call: &mut Call, name: &str, rules: Vec<PortRule>, kind: &str) -> Result<Value, ApiError> {
    check::sources(&rules)?;
    let instance = call.state.instance_mut(call.region, name)?;
    instance.ports = rules;
    let common = instance.common.clone();
    Ok(one(&call.on_machine(kind, "Instance", &common, Deed::Ports, name)))
}

pub fn put(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let infos = call.params.get("portInfos").and_then(Value::as_array);
    let infos = infos.ok_or_else(|| ApiError::invalid("Input parameter 'portInfos' is required"))?;
    let rules = infos.iter().map(check::port_rule).collect::<Result<Vec<_>, _>>()?;
    store(call, &name, rules, "PutInstancePublicPorts")
}

/// A rule for the same ports is overwritten. AWS does not say whether it merges; nobody should rely on either.
pub fn open(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let rule = check::port_rule(call.params.get("portInfo").unwrap_or(&Value::Null))?;
    let mut rules = call.state.instance(call.region, &name)?.ports.clone();
    rules.retain(|old| !same_ports(old, &rule));
    rules.push(rule);
    store(call, &name, rules, "OpenInstancePublicPorts")
}

pub fn close(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let rule = check::port_rule(call.params.get("portInfo").unwrap_or(&Value::Null))?;
    let mut rules = call.state.instance(call.region, &name)?.ports.clone();
    rules.retain(|old| !same_ports(old, &rule));
    store(call, &name, rules, "CloseInstancePublicPorts")
}

pub fn states(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let rules = call.state.instance(call.region, &name)?.ports.iter();
    let states: Vec<Value> = rules
        .map(|rule| {
            json!({
                "fromPort": rule.from_port, "toPort": rule.to_port, "protocol": rule.protocol, "state": "open",
                "cidrs": rule.cidrs, "ipv6Cidrs": rule.ipv6_cidrs, "cidrListAliases": rule.cidr_list_aliases,
            })
        })
        .collect();
    Ok(json!({ "portStates": states }))
}
