//! Lightsail's answers as state documents.

use aws_sdk_lightsail::types::{
    AddOn, AddOnType, Instance as LightsailInstance, InstanceAccessProtocol, InstanceNetworking, NetworkProtocol, Tag,
};

use crate::plan::cloud::{Instance, KeyPair, PortRule, Ports, StaticIp, Tags};
use crate::plan::observed::Unseen;
use crate::reach::aws::Aws;
use crate::reach::aws::fault::{Fault, look};

/// The tags of a Lightsail resource.
pub(crate) fn tags(tags: &[Tag]) -> Tags {
    let pair = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    tags.iter().filter_map(pair).collect()
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

/// The TCP ports that are open alone, not as part of a range.
fn open_tcp(instance: &LightsailInstance) -> Vec<u16> {
    let ports = instance.networking().map(InstanceNetworking::ports).unwrap_or_default();
    let tcp = ports
        .iter()
        .filter(|port| port.protocol() == Some(&NetworkProtocol::Tcp) && port.from_port() == port.to_port());
    let mut open: Vec<u16> = tcp.filter_map(|port| u16::try_from(port.from_port()).ok()).collect();
    open.sort_unstable();
    open.dedup();
    open
}

/// A set of rules in the one order and spelling that makes sets comparable.
pub(crate) fn normal(mut rules: Vec<PortRule>) -> Vec<PortRule> {
    for rule in &mut rules {
        for list in [&mut rule.cidrs, &mut rule.ipv6_cidrs, &mut rule.aliases] {
            for item in list.iter_mut() {
                item.make_ascii_lowercase();
            }
            list.sort();
            list.dedup();
        }
    }
    rules.sort();
    rules
}

/// The add-on that takes automatic snapshots, where it is on.
pub(crate) fn auto_snapshot(instance: &LightsailInstance) -> Option<&AddOn> {
    instance.add_ons().iter().find(|add_on| {
        add_on.name() == Some(AddOnType::AutoSnapshot.as_str())
            && add_on.status().is_none_or(|status| status.eq_ignore_ascii_case("enabled"))
    })
}

impl Aws {
    pub(crate) async fn key_pair(&self, name: &str) -> Result<Option<KeyPair>, Unseen> {
        let answer = look("lightsail:GetKeyPair", self.lightsail.get_key_pair().key_pair_name(name).send().await)?;
        Ok(answer.as_ref().and_then(|answer| answer.key_pair()).map(|pair| KeyPair {
            name: text(pair.name()),
            fingerprint: text(pair.fingerprint()),
            tags: tags(pair.tags()),
        }))
    }

    pub(crate) async fn instance(&self, name: &str) -> Result<Option<Instance>, Unseen> {
        let answer = look("lightsail:GetInstance", self.lightsail.get_instance().instance_name(name).send().await)?;
        let Some(found) = answer.as_ref().and_then(|answer| answer.instance()) else { return Ok(None) };
        let state = text(found.state().and_then(|state| state.name()));
        // Only a running instance has keys that mean anything; the call fails for one that is on its way.
        let host_keys = if state == "running" { self.host_keys(name).await? } else { Vec::new() };
        let snapshot = auto_snapshot(found);
        let metadata = found.metadata_options();
        let mut ipv6 = found.ipv6_addresses().to_vec();
        ipv6.sort();
        Ok(Some(Instance {
            name: text(found.name()),
            state,
            bundle: text(found.bundle_id()),
            blueprint: text(found.blueprint_id()),
            zone: text(found.location().and_then(|location| location.availability_zone())),
            username: text(found.username()),
            public_ip: found.public_ip_address().map(str::to_owned),
            ipv6,
            is_static_ip: found.is_static_ip().unwrap_or(false),
            key_pair: text(found.ssh_key_name()),
            auto_snapshot: snapshot.and_then(|add_on| add_on.snapshot_time_of_day()).map(str::to_owned),
            http_tokens: metadata
                .and_then(|options| options.http_tokens())
                .map_or_else(|| "optional".to_owned(), |tokens| tokens.as_str().to_owned()),
            hop_limit: metadata
                .and_then(aws_sdk_lightsail::types::InstanceMetadataOptions::http_put_response_hop_limit)
                .unwrap_or(1),
            host_keys,
            open_tcp: open_tcp(found),
            tags: tags(found.tags()),
        }))
    }

    /// The host keys that Lightsail witnessed, as known_hosts has them. None right after boot.
    async fn host_keys(&self, name: &str) -> Result<Vec<String>, Unseen> {
        let call = self.lightsail.get_instance_access_details().instance_name(name);
        let answer = call.protocol(InstanceAccessProtocol::Ssh).send().await;
        let details = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let fault = Fault::of("lightsail:GetInstanceAccessDetails", &error);
                // An instance that just came up has none to give yet; that is no fault of the reader.
                if fault.is_not_there() || fault.has_code("OperationFailureException") {
                    return Ok(Vec::new());
                }
                return Err(fault.unseen());
            }
        };
        let keys = details
            .access_details()
            .map(aws_sdk_lightsail::types::InstanceAccessDetails::host_keys)
            .unwrap_or_default();
        let mut keys: Vec<String> = keys
            .iter()
            .filter_map(|key| {
                let (algorithm, public) = (key.algorithm()?, key.public_key()?.trim());
                // The public key comes bare or as a whole line; known_hosts wants algorithm and base64.
                let bare = public.split_whitespace().find(|word| word.starts_with("AAAA"))?;
                Some(format!("{algorithm} {bare}"))
            })
            .collect();
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    pub(crate) async fn static_ip(&self, name: &str) -> Result<Option<StaticIp>, Unseen> {
        let answer = look("lightsail:GetStaticIp", self.lightsail.get_static_ip().static_ip_name(name).send().await)?;
        Ok(answer.as_ref().and_then(|answer| answer.static_ip()).map(|found| StaticIp {
            name: text(found.name()),
            address: text(found.ip_address()),
            attached_to: found.attached_to().filter(|name| !name.is_empty()).map(str::to_owned),
        }))
    }

    pub(crate) async fn ports(&self, instance: &str) -> Result<Option<Ports>, Unseen> {
        let call = self.lightsail.get_instance_port_states().instance_name(instance);
        let Some(answer) = look("lightsail:GetInstancePortStates", call.send().await)? else { return Ok(None) };
        let open = answer.port_states().iter().filter(|port| port.state().is_none_or(|s| s.as_str() == "open"));
        let rules = open.map(|port| PortRule {
            protocol: port.protocol().map_or_else(String::new, |protocol| protocol.as_str().to_owned()),
            from: port.from_port(),
            to: port.to_port(),
            cidrs: port.cidrs().to_vec(),
            ipv6_cidrs: port.ipv6_cidrs().to_vec(),
            aliases: port.cidr_list_aliases().to_vec(),
        });
        Ok(Some(Ports { rules: normal(rules.collect()) }))
    }
}
