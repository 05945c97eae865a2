//! What the service refuses: names, zones, port rules, tags.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde_json::Value;

use crate::sandbox::lightsail::catalog::ZONES;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::machine::PortRule;

/// Sources per firewall that the API takes.
const SOURCES: usize = 60;
/// Tags per resource.
const TAGS: usize = 50;

/// The pattern `\w[\w\-]*\w` of the service's model, at most 255 characters.
pub fn name(name: &str) -> Result<(), ApiError> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let ends = name.starts_with(word) && name.ends_with(word);
    let inner = name.chars().all(|c| word(c) || c == '-');
    if !ends || !inner || !(2..=255).contains(&name.len()) {
        return Err(ApiError::invalid(format!("Value '{name}' failed to satisfy constraint: \\w[\\w\\-]*\\w")));
    }
    Ok(())
}

pub fn zone(zone: &str, region: &str) -> Result<(), ApiError> {
    let good = zone.strip_prefix(region).is_some_and(|rest| {
        let mut letters = rest.chars();
        letters.next().is_some_and(|letter| ZONES.contains(&letter)) && letters.next().is_none()
    });
    if good { Ok(()) } else { Err(ApiError::invalid(format!("Invalid Availability Zone: {zone}"))) }
}

/// Reads and checks one `PortInfo`. A rule without any source is open to the world, as the service fills it in.
pub fn port_rule(info: &Value) -> Result<PortRule, ApiError> {
    let number = |member: &str| info.get(member).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    let list = |member: &str| -> Vec<String> {
        let values = info.get(member).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let protocol = info.get("protocol").and_then(Value::as_str).unwrap_or_default();
    let mut rule = PortRule {
        from_port: number("fromPort").unwrap_or(if protocol == "all" { 0 } else { -2 }),
        to_port: number("toPort").unwrap_or(if protocol == "all" { 65535 } else { -2 }),
        protocol: protocol.to_owned(),
        cidrs: list("cidrs"),
        ipv6_cidrs: list("ipv6Cidrs"),
        cidr_list_aliases: list("cidrListAliases"),
    };
    let range = match protocol {
        "tcp" | "udp" | "all" => 0..=65535,
        "icmp" | "icmpv6" => -1..=255,
        _ => return Err(ApiError::invalid(format!("Invalid protocol: '{protocol}'"))),
    };
    let ordered = rule.from_port <= rule.to_port || protocol.starts_with("icmp");
    if !range.contains(&rule.from_port) || !range.contains(&rule.to_port) || !ordered {
        return Err(ApiError::invalid(format!("Invalid port range: {} to {}", rule.from_port, rule.to_port)));
    }
    for cidr in &rule.cidrs {
        if cidr.parse::<Ipv4Net>().is_err() && cidr.parse::<Ipv4Addr>().is_err() {
            return Err(ApiError::invalid(format!("Invalid CIDR: {cidr}")));
        }
    }
    for cidr in &rule.ipv6_cidrs {
        if cidr.parse::<Ipv6Net>().is_err() && cidr.parse::<Ipv6Addr>().is_err() {
            return Err(ApiError::invalid(format!("Invalid IPv6 CIDR: {cidr}")));
        }
    }
    if let Some(alias) = rule.cidr_list_aliases.iter().find(|alias| *alias != "lightsail-connect") {
        return Err(ApiError::invalid(format!("Invalid CIDR list alias: {alias}")));
    }
    if rule.cidrs.is_empty() && rule.ipv6_cidrs.is_empty() && rule.cidr_list_aliases.is_empty() {
        if protocol != "icmpv6" {
            rule.cidrs.push("0.0.0.0/0".to_owned());
        }
        if protocol != "icmp" {
            rule.ipv6_cidrs.push("::/0".to_owned());
        }
    }
    Ok(rule)
}

/// Refuses a rule set with more sources than one firewall takes.
pub fn sources(rules: &[PortRule]) -> Result<(), ApiError> {
    let v4: usize = rules.iter().map(|rule| rule.cidrs.len()).sum();
    let v6: usize = rules.iter().map(|rule| rule.ipv6_cidrs.len()).sum();
    if v4 > SOURCES || v6 > SOURCES {
        return Err(ApiError::invalid(format!("A firewall takes at most {SOURCES} source addresses")));
    }
    Ok(())
}

pub fn tags(list: Option<&Value>) -> Result<BTreeMap<String, String>, ApiError> {
    let mut tags = BTreeMap::new();
    for tag in list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let key = tag.get("key").and_then(Value::as_str).unwrap_or_default();
        let value = tag.get("value").and_then(Value::as_str).unwrap_or_default();
        if key.is_empty() || key.len() > 128 || value.len() > 256 || key.starts_with("aws:") {
            return Err(ApiError::invalid(format!("Invalid tag: '{key}'")));
        }
        tags.insert(key.to_owned(), value.to_owned());
    }
    if tags.len() > TAGS {
        return Err(ApiError::invalid(format!("A resource takes at most {TAGS} tags")));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_follow_the_model() {
        for good in ["db", "chronos-db", "a_b", "1a"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["a", "", "-db", "db-", "d.b", "d b"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rule_without_sources_is_open_to_the_world() {
        let rule = port_rule(&json!({"fromPort": 22, "toPort": 22, "protocol": "tcp"})).expect("a good rule");
        assert_eq!(rule.cidrs, ["0.0.0.0/0"]);
        assert_eq!(rule.ipv6_cidrs, ["::/0"]);
    }

    #[test]
    fn bad_rules_are_refused() {
        for bad in [
            json!({"fromPort": 22, "toPort": 21, "protocol": "tcp"}),
            json!({"fromPort": 22, "toPort": 70000, "protocol": "tcp"}),
            json!({"fromPort": 22, "toPort": 22, "protocol": "sctp"}),
            json!({"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrs": ["::/0"]}),
            json!({"fromPort": 22, "toPort": 22, "protocol": "tcp", "cidrListAliases": ["office"]}),
            json!({"protocol": "tcp"}),
        ] {
            assert!(port_rule(&bad).is_err(), "{bad}");
        }
    }
}
