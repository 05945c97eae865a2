//! Steps in Lightsail: each call, then its operation until it ended, then the thing until it is as wanted.

use std::time::Duration;

use aws_sdk_lightsail::types::{
    AddOnRequest, AddOnType, AutoSnapshotAddOnRequest, HttpTokens, NetworkProtocol, Operation, PortInfo, Tag,
};

use crate::plan::cloud::{PortRule, Tags};
use crate::plan::step::NewInstance;
use crate::reach::Failure;
use crate::reach::aws::Aws;
use crate::reach::aws::ask_lightsail::normal;
use crate::reach::aws::fault::{Fault, done, gone};
use crate::reach::aws::wait::until;

/// How long one operation may take. Most end in seconds; deletions with snapshots in minutes.
const OPERATION_LIMIT: Duration = Duration::from_mins(5);
/// From creation until it runs: 40 to 90 s at AWS; what takes ten minutes is stuck.
const RUNNING_LIMIT: Duration = Duration::from_mins(10);
/// From running until Lightsail has witnessed its host keys.
const HOST_KEYS_LIMIT: Duration = Duration::from_mins(5);
/// Until a deleted instance is gone.
const GONE_LIMIT: Duration = Duration::from_mins(10);
/// Until what was put reads back the same.
const SETTLE_LIMIT: Duration = Duration::from_mins(1);
/// AWS: a rule has at most sixty source addresses.
const MOST_SOURCES: usize = 60;

fn refused(what: &str, why: &str) -> Failure {
    Failure::new(format!("could not {what}: {why}; nothing was changed by it"))
}

/// What went wrong after the call that changes something was taken.
fn unclear(what: &str, why: &str) -> Failure {
    Failure::new(format!("could not {what}: {why}; AWS took the request, and whether it was done is not known"))
        .hint("a new plan shows what is there")
}

/// Request types are built from values that are all set; a builder that misses one is a fault of this program.
const COMPLETE: &str = "every required field was set just above";

fn sdk_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn snapshots(time: Option<&str>) -> AddOnRequest {
    let request = AutoSnapshotAddOnRequest::builder().set_snapshot_time_of_day(time.map(str::to_owned)).build();
    let add_on = AddOnRequest::builder().add_on_type(AddOnType::AutoSnapshot).auto_snapshot_add_on_request(request);
    add_on.build().expect(COMPLETE)
}

fn port(rule: &PortRule) -> PortInfo {
    PortInfo::builder()
        .protocol(NetworkProtocol::from(rule.protocol.as_str()))
        .from_port(rule.from)
        .to_port(rule.to)
        .set_cidrs(Some(rule.cidrs.clone()))
        .set_ipv6_cidrs(Some(rule.ipv6_cidrs.clone()))
        .set_cidr_list_aliases(Some(rule.aliases.clone()))
        .build()
}

impl Aws {
    pub(super) async fn delete_key_pair(&self, what: &str, name: &str) -> Result<(), Failure> {
        gone("lightsail:DeleteKeyPair", what, self.lightsail.delete_key_pair().key_pair_name(name).send().await)
    }

    pub(super) async fn allocate(&self, what: &str, name: &str) -> Result<(), Failure> {
        let sent = self.lightsail.allocate_static_ip().static_ip_name(name).send().await;
        let answer = done("lightsail:AllocateStaticIp", what, sent)?;
        self.finish(what, answer.operations()).await
    }

    pub(super) async fn import_key(
        &self,
        what: &str,
        name: &str,
        public_key: &str,
        tags: &Tags,
    ) -> Result<(), Failure> {
        let call = self.lightsail.import_key_pair().key_pair_name(name).public_key_base64(public_key);
        done("lightsail:ImportKeyPair", what, call.send().await)?;
        // The call takes no tags. A pair that was imported and not tagged is not ours to the next run, so it goes again.
        if let Err(failure) = self.tag(what, name, tags).await {
            let sent = self.lightsail.delete_key_pair().key_pair_name(name).send().await;
            gone("lightsail:DeleteKeyPair", what, sent)?;
            return Err(failure);
        }
        Ok(())
    }

    pub(super) async fn create_instance(&self, what: &str, new: &NewInstance) -> Result<(), Failure> {
        let call = self
            .lightsail
            .create_instances()
            .instance_names(&new.name)
            .availability_zone(&new.zone)
            .blueprint_id(&new.blueprint)
            .bundle_id(&new.bundle)
            .key_pair_name(&new.key_pair)
            .user_data(&new.user_data)
            .set_tags(Some(sdk_tags(&new.tags)))
            .set_add_ons(new.auto_snapshot.as_deref().map(|time| vec![snapshots(Some(time))]));
        match call.send().await {
            Ok(answer) => self.finish(what, answer.operations()).await?,
            Err(error) => {
                let failure = plan_size(Fault::of("lightsail:CreateInstances", &error).failure(what));
                // A first try whose answer was lost makes its own name taken.
                if !self.is_made(new).await {
                    return Err(failure);
                }
            }
        }
        until(what, RUNNING_LIMIT, || async {
            let found = self.instance(&new.name).await.map_err(|why| unclear(what, &why.to_string()))?;
            Ok(match found {
                Some(instance) if instance.state == "running" => None,
                Some(instance) => Some(format!("instance `{}` is {}", new.name, instance.state)),
                // Reads lag behind our own write for a while.
                None => Some(format!("instance `{}` is not listed yet", new.name)),
            })
        })
        .await?;
        until(what, HOST_KEYS_LIMIT, || async {
            let found = self.instance(&new.name).await.map_err(|why| unclear(what, &why.to_string()))?;
            let witnessed = found.is_some_and(|instance| !instance.host_keys.is_empty());
            Ok((!witnessed).then(|| format!("Lightsail has not witnessed a host key of `{}`", new.name)))
        })
        .await
    }

    /// Whether an instance is there that can only come from this request: with its tags, from what it names.
    async fn is_made(&self, new: &NewInstance) -> bool {
        let Ok(Some(found)) = Box::pin(self.instance(&new.name)).await else { return false };
        let tagged = new.tags.iter().all(|(key, value)| found.tags.get(key) == Some(value));
        tagged && found.zone == new.zone && found.blueprint == new.blueprint && found.bundle == new.bundle
    }

    pub(super) async fn delete_instance(&self, what: &str, name: &str) -> Result<(), Failure> {
        let call = self.lightsail.delete_instance().instance_name(name).force_delete_add_ons(true);
        gone("lightsail:DeleteInstance", what, call.send().await)?;
        until(what, GONE_LIMIT, || async {
            let found = self.instance(name).await.map_err(|why| unclear(what, &why.to_string()))?;
            Ok(found.map(|instance| format!("instance `{name}` is {}", instance.state)))
        })
        .await
    }

    pub(super) async fn stop_instance(&self, what: &str, name: &str) -> Result<(), Failure> {
        let call = self.lightsail.stop_instance().instance_name(name).force(true);
        done("lightsail:StopInstance", what, call.send().await)?;
        until(what, GONE_LIMIT, || async {
            let found = self.instance(name).await.map_err(|why| unclear(what, &why.to_string()))?;
            let state = found.map(|instance| instance.state).filter(|state| state != "stopped");
            Ok(state.map(|state| format!("instance `{name}` is {state}")))
        })
        .await
    }

    pub(super) async fn tag(&self, what: &str, name: &str, tags: &Tags) -> Result<(), Failure> {
        let call = self.lightsail.tag_resource().resource_name(name).set_tags(Some(sdk_tags(tags)));
        let answer = done("lightsail:TagResource", what, call.send().await)?;
        self.finish(what, answer.operations()).await
    }

    pub(super) async fn auto_snapshot(&self, what: &str, instance: &str, time: Option<&str>) -> Result<(), Failure> {
        let operations = if time.is_some() {
            let call = self.lightsail.enable_add_on().resource_name(instance).add_on_request(snapshots(time));
            done("lightsail:EnableAddOn", what, call.send().await)?.operations
        } else {
            let call = self.lightsail.disable_add_on().resource_name(instance).add_on_type(AddOnType::AutoSnapshot);
            done("lightsail:DisableAddOn", what, call.send().await)?.operations
        };
        self.finish(what, &operations.unwrap_or_default()).await
    }

    pub(super) async fn require_imds_v2(&self, what: &str, instance: &str) -> Result<(), Failure> {
        let call = self
            .lightsail
            .update_instance_metadata_options()
            .instance_name(instance)
            .http_tokens(HttpTokens::Required)
            .http_put_response_hop_limit(1);
        let answer = done("lightsail:UpdateInstanceMetadataOptions", what, call.send().await)?;
        self.finish(what, answer.operation().map(std::slice::from_ref).unwrap_or_default()).await
    }

    pub(super) async fn attach(&self, what: &str, name: &str, instance: &str) -> Result<(), Failure> {
        let call = self.lightsail.attach_static_ip().static_ip_name(name).instance_name(instance);
        let answer = done("lightsail:AttachStaticIp", what, call.send().await)?;
        self.finish(what, answer.operations()).await?;
        until(what, SETTLE_LIMIT, || async {
            let found = self.static_ip(name).await.map_err(|why| unclear(what, &why.to_string()))?;
            let attached = found.is_some_and(|ip| ip.attached_to.as_deref() == Some(instance));
            Ok((!attached).then(|| format!("`{name}` does not read back as attached")))
        })
        .await
    }

    pub(super) async fn detach(&self, what: &str, name: &str) -> Result<(), Failure> {
        match self.lightsail.detach_static_ip().static_ip_name(name).send().await {
            Ok(answer) => self.finish(what, answer.operations()).await?,
            Err(error) => {
                let fault = Fault::of("lightsail:DetachStaticIp", &error);
                return if fault.is_not_there() { Ok(()) } else { Err(fault.failure(what)) };
            }
        }
        until(what, SETTLE_LIMIT, || async {
            let found = self.static_ip(name).await.map_err(|why| unclear(what, &why.to_string()))?;
            let holder = found.and_then(|ip| ip.attached_to);
            Ok(holder.map(|instance| format!("`{name}` still reads back as attached to `{instance}`")))
        })
        .await
    }

    pub(super) async fn release(&self, what: &str, name: &str) -> Result<(), Failure> {
        match self.lightsail.release_static_ip().static_ip_name(name).send().await {
            Ok(answer) => self.finish(what, answer.operations()).await?,
            Err(error) => {
                let fault = Fault::of("lightsail:ReleaseStaticIp", &error);
                return if fault.is_not_there() { Ok(()) } else { Err(fault.failure(what)) };
            }
        }
        until(what, SETTLE_LIMIT, || async {
            let found = self.static_ip(name).await.map_err(|why| unclear(what, &why.to_string()))?;
            Ok(found.map(|_| format!("`{name}` is still there")))
        })
        .await
    }

    pub(super) async fn put_ports(&self, what: &str, instance: &str, rules: &[PortRule]) -> Result<(), Failure> {
        if let Some(rule) = rules.iter().find(|rule| rule.cidrs.len() + rule.ipv6_cidrs.len() > MOST_SOURCES) {
            return Err(refused(what, &format!("port {} has more than {MOST_SOURCES} sources", rule.from)));
        }
        let rules = normal(rules.to_vec());
        let infos: Vec<PortInfo> = rules.iter().map(port).collect();
        let call = self.lightsail.put_instance_public_ports().instance_name(instance).set_port_infos(Some(infos));
        let answer = done("lightsail:PutInstancePublicPorts", what, call.send().await)?;
        self.finish(what, answer.operation().map(std::slice::from_ref).unwrap_or_default()).await?;
        until(what, SETTLE_LIMIT, || async {
            let found = self.ports(instance).await.map_err(|why| unclear(what, &why.to_string()))?;
            let same = found.is_some_and(|ports| ports.rules == rules);
            Ok((!same).then(|| "the ports do not read back as they were put".to_owned()))
        })
        .await
    }

    /// Waits until operations have ended well.
    async fn finish(&self, what: &str, operations: &[Operation]) -> Result<(), Failure> {
        for operation in operations {
            let Some(id) = operation.id() else { continue };
            if operation.is_terminal() == Some(true) {
                judge(what, operation)?;
                continue;
            }
            until(what, OPERATION_LIMIT, || async {
                let sent = self.lightsail.get_operation().operation_id(id).send().await;
                let answer = sent.map_err(|error| {
                    let fault = Fault::of("lightsail:GetOperation", &error);
                    Failure { code: fault.code.clone(), ..unclear(what, &fault.to_string()) }
                })?;
                answer.operation().map_or(Ok(None), |operation| judge(what, operation))
            })
            .await?;
        }
        Ok(())
    }
}

/// An operation that ended well, goes on, or failed.
fn judge(what: &str, operation: &Operation) -> Result<Option<String>, Failure> {
    let status = operation.status().map_or("unknown", |status| status.as_str());
    match status {
        "Succeeded" | "Completed" => Ok(None),
        "Failed" => {
            let details = operation.error_details().unwrap_or("no details were given");
            let code = operation.error_code().map(str::to_owned);
            Err(Failure {
                what: format!("could not {what}: the operation failed: {details}"),
                position: None,
                code,
                hint: None,
            })
        }
        other => Ok(Some(format!("the operation is {other}"))),
    }
}

/// New accounts may be refused larger plans although they are listed; only the text says so.
fn plan_size(failure: Failure) -> Failure {
    if failure.what.contains("can not create an instance using this Lightsail plan size") {
        return Failure {
            hint: Some("ask AWS Support for a larger plan size; it is a limit of new accounts".to_owned()),
            ..failure
        };
    }
    failure
}
