//! How one gets in: access details with host keys, and the metadata options.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::base::digest::of_public_key;
use crate::sandbox::lightsail::call::{Call, many, one};
use crate::sandbox::lightsail::catalog::blueprint;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::state::now;

/// `SHA256:…` as OpenSSH prints it, of a public key's base64 text.
pub fn fingerprint(public_key: &str) -> String {
    let blob = STANDARD.decode(public_key).unwrap_or_default();
    of_public_key(&blob)
}

/// There is no temporary private key: AWS leaves it out as well where an instance has a key pair of its own.
pub fn details(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let instance = call.state.instance(call.region, &name)?;
    let seen = instance.witnessed_at.filter(|at| *at <= now() && instance.state == "running");
    let host_keys: Vec<Value> = seen.map_or_else(Vec::new, |at| {
        let keys = instance.host_keys.iter();
        keys.map(|key| {
            json!({
                "algorithm": key.algorithm, "publicKey": key.public_key, "witnessedAt": at,
                "fingerprintSHA256": fingerprint(&key.public_key),
            })
        })
        .collect()
    });
    let mut details = json!({
        "instanceName": name, "protocol": "ssh", "hostKeys": host_keys,
        "username": blueprint(&instance.blueprint).map_or("", |blueprint| blueprint.username),
        "ipv6Addresses": instance.v6.iter().collect::<Vec<_>>(),
    });
    if let Some(v4) = &instance.v4 {
        details["ipAddress"] = json!(v4);
    }
    Ok(json!({ "accessDetails": details }))
}

/// The service forgets what it saw and looks again.
pub fn forget_host_keys(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let again = now() + call.delays.host_keys;
    let instance = call.state.instance_mut(call.region, &name)?;
    instance.witnessed_at = Some(again);
    let common = instance.common.clone();
    let operation = call.soon("DeleteKnownHostKeys", "Instance", &common);
    Ok(many(&[operation]))
}

pub fn metadata_options(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("instanceName")?;
    let choice = |member: &str, allowed: [&str; 2]| match call.text(member) {
        None => Ok(None),
        Some(text) if allowed.contains(&text) => Ok(Some(text.to_owned())),
        Some(text) => Err(ApiError::invalid(format!("Invalid {member}: {text}"))),
    };
    let tokens = choice("httpTokens", ["optional", "required"])?;
    let endpoint = choice("httpEndpoint", ["enabled", "disabled"])?;
    let hops = call.params.get("httpPutResponseHopLimit").and_then(Value::as_i64);
    if hops.is_some_and(|hops| !(1..=64).contains(&hops)) {
        return Err(ApiError::invalid("httpPutResponseHopLimit is between 1 and 64"));
    }
    let instance = call.state.instance_mut(call.region, &name)?;
    if let Some(tokens) = tokens {
        instance.http_tokens = tokens;
    }
    if let Some(endpoint) = endpoint {
        instance.http_endpoint = endpoint;
    }
    if let Some(hops) = hops {
        instance.http_hop_limit = hops;
    }
    let common = instance.common.clone();
    Ok(one(&call.soon("UpdateInstanceMetadataOptions", "Instance", &common)))
}
