//! `postgres.roles`: who may log in to PostgreSQL, with which password, how often at once, and as part of which groups.
//!
//! A password arrives as its SCRAM verifier and is compared by a digest of that, so neither it nor its verifier is ever in a
//! plan. What a role may do in a database is `postgres.databases`' matter. Deliberately absent: superusers (`postgres` is
//! the only one, through SSH), dropping roles, and settings of a role.

mod asking;
mod telling;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::secret::{SecretForm, SecretUse};
use crate::inventory::sections::Inventory;
use crate::kinds::postgres::{self, CLUSTER, Cluster};
use crate::kinds::{Declared, Kind, Owned, host};
use crate::plan::change::FieldChange;
use crate::plan::observed::Observed;
use crate::plan::probe::{Answers, Probe};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;

/// Stands in the comment of every role that is ours: it goes where the data goes, also into a restored cluster.
const MARK: &str = "managed by Seawall";
/// A password that is the declared one.
const AS_DECLARED: &str = "as declared";
/// A password whose secret is not to be had on this machine.
const NOT_COMPARED: &str = "not compared";

pub struct PostgresRoles;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub cluster: Cluster,
    pub roles: BTreeMap<String, Role>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    pub login: bool,
    /// Connections at once; none is no limit.
    pub connections: Option<u32>,
    pub member_of: BTreeSet<String>,
    pub password: Option<SecretUse>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    /// Declared roles that are there.
    pub roles: BTreeMap<String, Found>,
    /// Roles of ours that have left the inventory and may log in.
    pub left: BTreeSet<String>,
    /// Not part of a plan's guard: nothing is done about it.
    #[serde(skip)]
    pub remarks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub login: bool,
    pub inherit: bool,
    pub connections: Option<u32>,
    /// Attributes that no declared role may have, as SQL writes them.
    pub powers: Vec<String>,
    /// In a word: `as declared`, `another`, `set`, `md5`, `none`, `not compared`.
    pub password: String,
    /// Whether the password's time is over.
    pub expired: bool,
    pub ours: bool,
    pub comment: Option<String>,
    /// Group to how the role belongs to it: PostgreSQL 16 keeps a membership of each grantor.
    pub member_of: BTreeMap<String, BTreeSet<Membership>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Membership {
    /// Whether the member may give the membership to others.
    pub admin: bool,
    /// Whether the group's privileges are the member's without `SET ROLE`.
    pub inherit: bool,
    /// Who gave it; none where that role is gone.
    pub grantor: Option<String>,
}

impl Membership {
    fn words(&self) -> &'static str {
        match (self.admin, self.inherit) {
            (false, true) => MEMBER,
            (true, _) => "member, may admit others",
            (false, false) => "member, by SET ROLE only",
        }
    }
}

const MEMBER: &str = "member";

/// How somebody belongs to a group, in words.
fn belongs(how: &BTreeSet<Membership>) -> String {
    let words: BTreeSet<&str> = how.iter().map(Membership::words).collect();
    words.into_iter().collect::<Vec<_>>().join("; ")
}

fn limit(connections: Option<u32>) -> Value {
    connections.map_or_else(|| Value::from("no limit"), Value::from)
}

/// What one role will be.
fn promised(name: &str, role: &Role) -> Vec<FieldChange> {
    let Role { login, connections, member_of, password } = role;
    let new = |what: &str, value: Value| FieldChange::new(format!("{name}.{what}"), None, Some(value));
    let mut fields = vec![new("login", Value::from(*login)), new("connections", limit(*connections))];
    fields.extend(password.iter().map(|_| new("password", Value::from(AS_DECLARED))));
    fields.extend(member_of.iter().map(|group| new(&format!("member_of.{group}"), Value::from(MEMBER))));
    fields
}

/// What differs in one role that is there.
fn differences(name: &str, role: &Role, found: &Found) -> Vec<FieldChange> {
    let Role { login, connections, member_of, password } = role;
    let Found {
        login: can_login,
        inherit,
        connections: may_hold,
        powers,
        password: has,
        expired,
        ours,
        // Kept beside the mark.
        comment: _,
        member_of: belongs_to,
    } = found;
    let path = |what: &str| format!("{name}.{what}");
    let wanted = if password.is_some() { AS_DECLARED } else { "none" };
    let mut fields = vec![
        FieldChange::between(&path("login"), can_login, login),
        FieldChange::between(&path("connections"), &limit(*may_hold), &limit(*connections)),
        FieldChange::between(&path("inherit"), inherit, &true),
        FieldChange::between(&path("password"), has, &wanted).filter(|_| has != NOT_COMPARED),
        FieldChange::between(&path("expired"), expired, &false),
        FieldChange::between(&path("managed"), ours, &true),
    ];
    fields.extend(powers.iter().map(|power| FieldChange::between(&path(power), &true, &false)));
    for group in belongs_to.keys().chain(member_of).collect::<BTreeSet<_>>() {
        let before = belongs_to.get(group).map(belongs);
        let after = member_of.contains(group).then_some(MEMBER);
        fields.push(FieldChange::between(&path(&format!("member_of.{group}")), &before, &after));
    }
    fields.into_iter().flatten().collect()
}

impl Kind for PostgresRoles {
    const NAME: &'static str = "postgres.roles";
    const SUMMARY: &'static str = "who may log in to PostgreSQL, with what password, how often, in which groups";
    const EXPLAIN: &'static str = "\
Manages: every declared role: whether it may log in, how many connections it may hold, its password, and exactly the
groups that it belongs to. SUPERUSER, CREATEDB, CREATEROLE, REPLICATION and BYPASSRLS are taken away from a declared role
whoever gave them, and so is every membership that is not declared. A password is set as its SCRAM-SHA-256 verifier,
made on your machine; whether a role still has it is seen by a digest, so a password that somebody changed, an md5 hash
and a password whose time is over are differences. Where the secret is not to be had (a plan in CI need not have
it), the plan says that it was not compared. A role without `password` has none: it logs in on the host only.

A role that leaves the inventory loses LOGIN, and its sessions end. It is never dropped: what it owns and what it was
granted stays. Roles are known as ours by their comment, which also survives a restore. When the whole `postgres` section
goes, nothing is changed: Seawall lets go of the cluster and its roles stay as they are.

Does not manage: `postgres`, the only superuser, which is reached through SSH (`sudo -u postgres psql`) and is the way in
for an emergency; `ALTER ROLE … SET`; and roles that are not declared. Those that may log in or are superusers are
reported. What a role may do in a database is `postgres.databases`' matter.

    servers:
      db:
        postgres:
          databases: [chronos_db]
          roles:
            app: { login: true, connections: 15, owns: [chronos_db], password: { env: CHRONOS_APP_PASSWORD } }
            readonly: { login: true, connections: 5, grants: read, password: { file: secrets/readonly } }
            monitoring: { login: true, connections: 3, member_of: [pg_monitor] }
            break_glass: { login: false, member_of: [pg_read_all_data, pg_signal_backend] }
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(server, section)| {
                let postgres = section.postgres.as_ref()?;
                let roles = postgres.roles.iter().map(|(name, role)| {
                    let owner =
                        postgres::verifier_owner(inventory.environment.as_str(), server.as_str(), name.as_str());
                    let form = SecretForm::ScramVerifier { owner };
                    let role = Role {
                        login: role.login,
                        connections: role.connections,
                        member_of: role.member_of.iter().map(ToString::to_string).collect(),
                        password: role.password.clone().map(|from| SecretUse { from, form }),
                    };
                    (name.to_string(), role)
                });
                let address = Address::new(Self::NAME, server.as_str());
                let cluster = Cluster { version: postgres.version };
                let desired = Desired { address: address.clone(), cluster, roles: roles.collect() };
                Some(host::declared(address, server, &[CLUSTER], "postgres.roles", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let mut probes = vec![desired.cluster.probe(), asking::query().probe()];
        probes.extend(desired.roles.values().filter_map(|role| role.password.clone()).map(Probe::Secret));
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(asking::look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, cluster: _, roles } = desired;
        let Actual { roles: found, left, remarks: _ } = actual;
        let mut fields: Vec<FieldChange> = roles
            .iter()
            .flat_map(|(name, role)| match found.get(name) {
                Some(found) => differences(name, role, found),
                None => promised(name, role),
            })
            .collect();
        fields.extend(left.iter().filter_map(|name| FieldChange::between(&format!("{name}.login"), &true, &false)));
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        telling::steps(desired, actual, fields)
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        // Letting go of a cluster must not end the logins of those who use it.
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        desired.roles.iter().flat_map(|(name, role)| promised(name, role)).collect()
    }

    fn remarks(_desired: &Desired, actual: &Actual) -> Vec<Remark> {
        actual.remarks.iter().cloned().map(Remark::from).collect()
    }
}
