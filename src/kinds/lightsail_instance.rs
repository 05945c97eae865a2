//! `lightsail.instance`: the server itself.
//!
//! Size, system, zone, snapshots, metadata service. Deliberately absent: everything on the host (host kinds), the ports
//! (`lightsail.ports`) and the address (`lightsail.static_ip`). User data only prepares login: it can be read by every
//! process on the host and runs once.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::sections::Inventory;
use crate::kinds::cloud::{self, describe, differs, tag_changes};
use crate::kinds::{Declared, Kind, Owned, Owner, instance_name, owner_by_tags, physical_name, tags};
use crate::plan::Place;
use crate::plan::change::FieldChange;
use crate::plan::cloud::{Instance, Tags};
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, CloudProbe, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::{CloudStep, NewInstance};
use crate::render::render;

pub struct LightsailInstance;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub name: String,
    pub bundle: String,
    pub blueprint: String,
    pub zone: String,
    pub key_pair: String,
    /// Hour in UTC, `HH:00`.
    pub auto_snapshot: Option<String>,
    pub login_user: String,
    /// OpenSSH public key lines.
    pub login_keys: Vec<String>,
    pub tags: Tags,
}

#[derive(Serialize)]
struct FirstBoot<'a> {
    address: &'a str,
    user: &'a str,
    keys: &'a [String],
}

fn probe(desired: &Desired) -> CloudProbe {
    CloudProbe::Instance { name: desired.name.clone() }
}

fn user_data(desired: &Desired) -> String {
    let address = desired.tags.get(crate::plan::cloud::TAG_ADDRESS).map_or("", String::as_str);
    let context = FirstBoot { address, user: &desired.login_user, keys: &desired.login_keys };
    render("first-boot.sh", &context).expect("the template and its context are tested together")
}

impl Kind for LightsailInstance {
    const NAME: &'static str = "lightsail.instance";
    const SUMMARY: &'static str = "the server itself: size, system, zone, snapshots";
    const EXPLAIN: &'static str = "\
Creates the Lightsail instance ENVIRONMENT-SERVER and keeps its automatic snapshots and its metadata service (IMDSv2 only,
one hop) as declared. Bundle, blueprint, zone and key pair cannot be changed in place: a plan that changes them replaces
the server, is marked LOSES DATA, and is refused unless a drill has proven a backup of its data or the resource is named
with --lose-data.

Lightsail deletes automatic snapshots with their instance. So before an instance with them goes, the newest one is copied to a
manual snapshot INSTANCE-kept-TIME. Seawall never deletes it: `aws lightsail delete-instance-snapshot` does.

Its user data only prepares the login: the user, sudo, the declared keys. It holds no secret, because every process on the
host can read it. Changing it later changes nothing on a running server; host kinds do that.

servers:
  db:
    instance: { bundle: small_3_0, blueprint: debian_12, zone: ca-central-1a, static_ip: true, auto_snapshot: \"06:00\" }";

    const HOLDS_DATA: bool = true;

    type Step = CloudStep;
    type Desired = Desired;
    type Actual = Instance;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let environment = inventory.environment.as_str();
        let mut found = Vec::new();
        for (server, section) in &inventory.servers {
            let address = Address::new(Self::NAME, server.as_str());
            let tags = tags(environment, &address);
            found.push(Declared {
                address,
                place: Place::Cloud,
                after: vec![Address::new("lightsail.key_pair", server.as_str())],
                path: format!("servers.{server}.instance"),
                desired: Desired {
                    name: instance_name(environment, server.as_str(), section),
                    bundle: section.instance.bundle.clone(),
                    blueprint: section.instance.blueprint.clone(),
                    zone: section.instance.zone.clone(),
                    key_pair: physical_name(environment, server.as_str(), "key"),
                    auto_snapshot: section.instance.auto_snapshot.map(|hour| hour.to_string()),
                    login_user: section.login.user.clone(),
                    login_keys: section.login.keys.iter().map(ToString::to_string).collect(),
                    tags,
                },
            });
        }
        found
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        cloud::probe(probe(desired))
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Instance> {
        // What is open in front of it is another kind's.
        cloud::read(answers, &probe(desired)).map(|found: Instance| Instance { open_tcp: Vec::new(), ..found })
    }

    fn diff(desired: &Desired, actual: &Instance) -> Vec<FieldChange> {
        // The login is for the first boot only; afterwards it belongs to host.users.
        let Desired { name: _, bundle, blueprint, zone, key_pair, auto_snapshot, login_user: _, login_keys: _, tags } =
            desired;
        let Instance {
            open_tcp: _,
            name: _,
            state: _,
            bundle: has_bundle,
            blueprint: has_blueprint,
            zone: has_zone,
            username: _,
            public_ip: _,
            ipv6: _,
            is_static_ip: _,
            key_pair: has_key_pair,
            auto_snapshot: has_snapshot,
            http_tokens,
            hop_limit,
            host_keys: _,
            tags: found,
        } = actual;
        let fixed = [
            FieldChange::between("bundle", has_bundle, bundle),
            FieldChange::between("blueprint", has_blueprint, blueprint),
            FieldChange::between("zone", has_zone, zone),
            FieldChange::between("key_pair", has_key_pair, key_pair),
        ];
        let mut fields: Vec<FieldChange> = fixed.into_iter().flatten().map(FieldChange::replacing).collect();
        fields.extend(FieldChange::between("auto_snapshot", has_snapshot, auto_snapshot));
        fields.extend(FieldChange::between("metadata.http_tokens", http_tokens, &"required"));
        fields.extend(FieldChange::between("metadata.hop_limit", hop_limit, &1));
        fields.extend(tag_changes(tags, found));
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Instance>, fields: &[FieldChange]) -> Vec<CloudStep> {
        let name = desired.name.clone();
        if actual.is_none() {
            let new = NewInstance {
                name: name.clone(),
                zone: desired.zone.clone(),
                blueprint: desired.blueprint.clone(),
                bundle: desired.bundle.clone(),
                key_pair: desired.key_pair.clone(),
                user_data: user_data(desired),
                auto_snapshot: desired.auto_snapshot.clone(),
                tags: desired.tags.clone(),
            };
            return vec![CloudStep::CreateInstance(Box::new(new)), CloudStep::RequireImdsV2 { instance: name }];
        }
        let mut steps = Vec::new();
        if differs(fields, "auto_snapshot") {
            let time = desired.auto_snapshot.clone();
            steps.push(CloudStep::SetAutoSnapshot { instance: name.clone(), time });
        }
        if differs(fields, "metadata") {
            steps.push(CloudStep::RequireImdsV2 { instance: name.clone() });
        }
        if differs(fields, "tags") {
            steps.push(CloudStep::TagLightsail { name, tags: desired.tags.clone() });
        }
        steps
    }

    fn remove(owned: &Owned) -> Vec<CloudStep> {
        // Lightsail deletes automatic snapshots with their instance.
        let keep = owned.auto_snapshots.then(|| CloudStep::KeepSnapshot { instance: owned.name.clone() });
        keep.into_iter().chain([CloudStep::DeleteInstance { name: owned.name.clone() }]).collect()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        describe([
            ("name", desired.name.clone().into()),
            ("bundle", desired.bundle.clone().into()),
            ("blueprint", desired.blueprint.clone().into()),
            ("zone", desired.zone.clone().into()),
            ("key_pair", desired.key_pair.clone().into()),
            ("auto_snapshot", desired.auto_snapshot.clone().map_or(Value::Null, Value::from)),
            ("metadata.http_tokens", "required".into()),
            ("metadata.hop_limit", 1.into()),
            ("login.user", desired.login_user.clone().into()),
            ("login.keys", desired.login_keys.len().into()),
        ])
    }

    fn owner(declared: &Address, environment: &str, actual: &Instance) -> Owner {
        owner_by_tags(declared, environment, &actual.tags)
    }

    fn remarks(_: &Desired, actual: &Instance) -> Vec<Remark> {
        let mut remarks = Vec::new();
        if actual.state != "running" {
            remarks.push(Remark::broken(format!("it is {}", actual.state)));
        } else if actual.host_keys.is_empty() {
            let nobody = "Lightsail has not witnessed a host key of it yet, so it cannot be logged in to";
            remarks.push(Remark::broken(nobody));
        }
        remarks
    }
}
