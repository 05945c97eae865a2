//! The statements that make roles as they are declared: one transaction, and after it the end of sessions that must not go
//! on.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::secret::SecretUse;
use crate::kinds::host;
use crate::kinds::postgres::{Cluster, MAINTENANCE, identifier, literal, tell};
use crate::kinds::postgres_roles::{Actual, Desired, Found, MARK, Membership, Role};
use crate::plan::change::FieldChange;
use crate::plan::step::{Content, HostStep};

/// The first version in which a membership is taken away from the one who gave it.
const GRANTORS_COUNT: u16 = 16;

/// Statements with the secrets that `reach` puts in.
#[derive(Default)]
struct Script {
    text: String,
    secrets: BTreeMap<String, SecretUse>,
}

impl Script {
    fn say(&mut self, statement: &str) {
        self.text.push_str(statement);
        self.text.push_str(";\n");
    }

    /// ` PASSWORD …`: a verifier has no character that a literal would have to double.
    fn password(&mut self, name: &str, role: &Role) -> String {
        let Some(secret) = &role.password else {
            return " PASSWORD NULL".to_owned();
        };
        let key = format!("password of {name}");
        let word = format!(" PASSWORD '{{{{{key}}}}}'");
        self.secrets.insert(key, secret.clone());
        word
    }

    fn content(self) -> Content {
        if self.secrets.is_empty() {
            Content::Text(self.text)
        } else {
            Content::WithSecrets { template: self.text, secrets: self.secrets }
        }
    }
}

pub(super) fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
    let mut script = Script::default();
    let (mut made, mut changed) = (Vec::new(), Vec::new());
    let found = |name: &str| actual.and_then(|actual| actual.roles.get(name));
    // All roles before any membership: a group may come later in the alphabet than who belongs to it.
    for (name, role) in &desired.roles {
        let differs = fields.iter().any(|field| is_of(field, name));
        match found(name) {
            None => {
                create(&mut script, name, role);
                made.push(name.as_str());
            }
            Some(found) if differs => {
                alter(&mut script, name, role, found, fields);
                changed.push(name.as_str());
            }
            Some(_) => {}
        }
    }
    // All revocations before any grant: what nobody declared may stand in the way as the other half of a circle.
    for (name, role) in &desired.roles {
        for (group, how) in groups(name, role, found(name), fields) {
            for membership in how.into_iter().flatten() {
                revoke(&mut script, desired.cluster, name, group, membership);
            }
        }
    }
    for (name, role) in &desired.roles {
        for (group, _) in groups(name, role, found(name), fields) {
            if role.member_of.contains(group) {
                script.say(&format!("GRANT {} TO {}", identifier(group), identifier(name)));
            }
        }
    }
    let left: Vec<&str> = actual.iter().flat_map(|actual| &actual.left).map(String::as_str).collect();
    for name in &left {
        script.say(&format!("ALTER ROLE {} NOLOGIN", identifier(name)));
    }
    let parts = [("create roles", made), ("change roles", changed), ("take LOGIN from roles", left.clone())];
    let what: Vec<String> = parts
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(verb, names)| format!("{verb} {}", names.join(", ")))
        .collect();
    let mut steps = Vec::new();
    if !what.is_empty() {
        steps.push(tell(desired.cluster, MAINTENANCE, script.content(), what.join("; ")));
    }
    if !left.is_empty() {
        // Only once nobody can come back.
        let names: Vec<String> = left.iter().map(|name| literal(name)).collect();
        let end = format!(
            "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity\n\
             WHERE usename OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.name[]);\n",
            names.join(", ")
        );
        let what = format!("end the sessions of {}", left.join(", "));
        steps.push(tell(desired.cluster, MAINTENANCE, Content::Text(end), what));
    }
    steps
}

fn is_of(field: &FieldChange, name: &str) -> bool {
    field.path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
}

fn limit(role: &Role) -> String {
    let limit = role.connections.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
    format!(" CONNECTION LIMIT {limit}")
}

fn login(role: &Role) -> &'static str {
    if role.login { " LOGIN" } else { " NOLOGIN" }
}

fn create(script: &mut Script, name: &str, role: &Role) {
    let mut statement = format!("CREATE ROLE {}{}{}", identifier(name), login(role), limit(role));
    if role.password.is_some() {
        statement.push_str(&script.password(name, role));
    }
    script.say(&statement);
    mark(script, name, None);
}

fn alter(script: &mut Script, name: &str, role: &Role, found: &Found, fields: &[FieldChange]) {
    let differs = |what: &str| host::differs(fields, &format!("{name}.{what}"));
    let mut options = String::new();
    for power in found.powers.iter().filter(|power| differs(power)) {
        options.push_str(" NO");
        options.push_str(power);
    }
    if differs("login") {
        options.push_str(login(role));
    }
    if differs("inherit") {
        options.push_str(" INHERIT");
    }
    if differs("connections") {
        options.push_str(&limit(role));
    }
    if differs("expired") {
        options.push_str(" VALID UNTIL 'infinity'");
    }
    if differs("password") {
        options.push_str(&script.password(name, role));
    }
    if !options.is_empty() {
        script.say(&format!("ALTER ROLE {}{options}", identifier(name)));
    }
    if differs("managed") {
        mark(script, name, found.comment.as_deref());
    }
}

/// What somebody wrote about the role stays before our mark.
fn mark(script: &mut Script, name: &str, comment: Option<&str>) {
    let text = match comment {
        Some(theirs) => format!("{theirs} ({MARK})"),
        None => MARK.to_owned(),
    };
    script.say(&format!("COMMENT ON ROLE {} IS {}", identifier(name), literal(&text)));
}

/// The groups in which a role's membership differs, and how it belongs to them now.
fn groups<'a>(
    name: &str,
    role: &'a Role,
    found: Option<&'a Found>,
    fields: &[FieldChange],
) -> BTreeMap<&'a str, Option<&'a BTreeSet<Membership>>> {
    let has = |group: &str| found.and_then(|found| found.member_of.get(group));
    let there = found.iter().flat_map(|found| found.member_of.keys());
    there
        .chain(&role.member_of)
        .filter(|group| host::differs(fields, &format!("{name}.member_of.{group}")))
        .map(|group| (group.as_str(), has(group)))
        .collect()
}

/// Takes a membership away from whoever gave it.
fn revoke(script: &mut Script, cluster: Cluster, name: &str, group: &str, membership: &Membership) {
    let by = match &membership.grantor {
        Some(grantor) if cluster.version >= GRANTORS_COUNT => format!(" GRANTED BY {}", identifier(grantor)),
        Some(_) | None => String::new(),
    };
    script.say(&format!("REVOKE {} FROM {}{by} CASCADE", identifier(group), identifier(name)));
}
