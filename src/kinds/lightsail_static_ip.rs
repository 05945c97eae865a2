//! `lightsail.static_ip`: an address that outlives the server.
//!
//! One per server that wants one. Deliberately absent: tags, which Lightsail does not have for static IPs; whose an
//! address is follows from its name and from what it is attached to.

use serde::{Deserialize, Serialize};

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::Inventory;
use crate::kinds::cloud::{self, describe};
use crate::kinds::{Declared, Kind, Owned, Owner, generation, generation_of, instance_name, physical_name};
use crate::plan::Place;
use crate::plan::change::FieldChange;
use crate::plan::cloud::StaticIp;
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, CloudProbe, Probe};
use crate::plan::step::CloudStep;

pub struct LightsailStaticIp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub name: String,
    pub attached_to: String,
}

fn probe(desired: &Desired) -> CloudProbe {
    CloudProbe::StaticIp { name: desired.name.clone() }
}

impl Kind for LightsailStaticIp {
    const NAME: &'static str = "lightsail.static_ip";
    const SUMMARY: &'static str = "an address that outlives the server";
    const EXPLAIN: &'static str = "\
Allocates the static IP ENVIRONMENT-SERVER-ip and attaches it to the server's instance. A replaced or rebuilt server gets
the same address again with one call, so recovery does not wait for DNS. It costs nothing while it is attached; AWS bills
a detached one.

Lightsail cannot tag static IPs. One with our name that is attached to another instance is not ours and is
refused; a detached one with our name is taken to be ours.

servers:
  db:
    instance: { bundle: small_3_0, blueprint: debian_12, zone: ca-central-1a, static_ip: true }";

    type Step = CloudStep;
    type Desired = Desired;
    type Actual = StaticIp;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let environment = inventory.environment.as_str();
        let wanted = inventory.servers.iter().filter(|(_, section)| section.instance.static_ip);
        wanted
            .map(|(server, section)| Declared {
                address: Address::new(Self::NAME, server.as_str()),
                place: Place::Cloud,
                after: vec![Address::new("lightsail.instance", server.as_str())],
                path: format!("servers.{server}.instance.static_ip"),
                desired: Desired {
                    name: physical_name(environment, server.as_str(), "ip"),
                    attached_to: instance_name(environment, server.as_str(), section),
                },
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        cloud::probe(probe(desired))
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<StaticIp> {
        cloud::read(answers, &probe(desired))
    }

    fn diff(desired: &Desired, actual: &StaticIp) -> Vec<FieldChange> {
        let Desired { name: _, attached_to } = desired;
        let StaticIp { name: _, address: _, attached_to: found } = actual;
        FieldChange::between("attached_to", found, &Some(attached_to)).into_iter().collect()
    }

    fn steps(desired: &Desired, actual: Option<&StaticIp>, _: &[FieldChange]) -> Vec<CloudStep> {
        let Desired { name, attached_to: instance } = desired.clone();
        let attach = CloudStep::AttachStaticIp { name: name.clone(), instance };
        match actual.map(|actual| &actual.attached_to) {
            None => vec![CloudStep::AllocateStaticIp { name }, attach],
            Some(None) => vec![attach],
            // An instance of an earlier generation has it. Killed in between, the next apply attaches it.
            Some(Some(_)) => vec![CloudStep::DetachStaticIp { name }, attach],
        }
    }

    fn refusals(desired: &Desired, actual: &StaticIp, _: &[FieldChange]) -> Vec<Diagnostic> {
        // Whose it is was judged before: it is on another instance of this server.
        let first = desired.name.strip_suffix("-ip").unwrap_or_default();
        let number = |instance: &str| generation_of(first, instance);
        let other = actual.attached_to.as_deref().filter(|other| number(other) > number(&desired.attached_to));
        let refusal = |other: &str| {
            Diagnostic::error(
                "later-generation",
                format!(
                    "`{}` is attached to `{other}`, which is of a later generation than `{}`",
                    desired.name, desired.attached_to
                ),
            )
            .note("somebody has rebuilt the server, and this inventory does not know it yet")
            .hint("take the inventory that says `instance.generation` as it was rebuilt")
        };
        other.map(refusal).into_iter().collect()
    }

    fn remove(owned: &Owned) -> Vec<CloudStep> {
        let name = owned.name.clone();
        let detach = owned.attached_to.is_some().then(|| CloudStep::DetachStaticIp { name: name.clone() });
        detach.into_iter().chain([CloudStep::ReleaseStaticIp { name }]).collect()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        describe([("name", desired.name.clone().into()), ("attached_to", desired.attached_to.clone().into())])
    }

    fn owner(declared: &Address, environment: &str, actual: &StaticIp) -> Owner {
        // The whole name: environment `prod-2` begins with `prod-`, too, and attaching would take its address away.
        match &actual.attached_to {
            Some(instance) if generation(environment, declared.name(), instance).is_none() => {
                Owner::Foreign(format!("it is attached to instance `{instance}`"))
            }
            _ => Owner::Ours,
        }
    }
}
