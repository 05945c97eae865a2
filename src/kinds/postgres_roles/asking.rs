//! What a cluster says about its roles, and how that is read. A password's verifier stays where it is: the cluster
//! answers with a digest of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::kinds::postgres::{self, MAINTENANCE, Query, Told};
use crate::kinds::postgres_roles::{Actual, Desired, Found, MARK, Membership, Role};
use crate::plan::observed::Unseen;
use crate::plan::probe::Answers;

/// Who may do everything, and is nobody's but the machine's: it logs in as the system's user of that name only.
const SUPERUSER: &str = "postgres";

/// One object by role. Options of memberships are columns that PostgreSQL 16 brought. Roles that PostgreSQL brings are
/// left out.
const ROLES: &str = "\
SELECT json_object_agg(r.rolname, json_build_object(
  'login', r.rolcanlogin, 'inherit', r.rolinherit, 'limit', r.rolconnlimit,
  'powers', array_remove(ARRAY[
    CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
    CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
    CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL),
  'password', CASE WHEN r.rolpassword IS NULL THEN 'none' WHEN r.rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram' ELSE 'md5' END,
  'fingerprint', 'sha256:' || encode(sha256(convert_to(r.rolpassword, 'UTF8')), 'hex'),
  'expired', coalesce(r.rolvaliduntil <= now(), false),
  'expires', CASE WHEN isfinite(r.rolvaliduntil) THEN to_char(r.rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') END,
  'comment', shobj_description(r.oid, 'pg_authid'),
  'member_of', (SELECT coalesce(json_agg(json_build_object('role', g.rolname, 'admin', m.admin_option,
    'inherit', coalesce((to_jsonb(m)->>'inherit_option')::boolean, true), 'grantor', b.rolname)
    ORDER BY g.rolname, b.rolname), '[]')
    FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid LEFT JOIN pg_authid b ON b.oid = m.grantor
    WHERE m.member = r.oid)))
FROM pg_authid r WHERE r.rolname !~ '^pg_'";

/// A role as the cluster tells it.
#[derive(Deserialize)]
struct Row {
    login: bool,
    inherit: bool,
    limit: i32,
    powers: Vec<String>,
    password: String,
    fingerprint: Option<String>,
    expired: bool,
    expires: Option<String>,
    comment: Option<String>,
    member_of: Vec<Belongs>,
}

#[derive(Deserialize)]
struct Belongs {
    role: String,
    #[serde(flatten)]
    how: Membership,
}

pub(super) fn query() -> Query {
    Query::new(MAINTENANCE, ROLES)
}

pub(super) fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let Told::Said(rows) =
        desired.cluster.answer::<BTreeMap<String, Row>>(desired.address.name(), answers, &query())?
    else {
        // Without a cluster no role has left it, and without a wish there is none to make.
        return Ok(desired.roles.is_empty().then(Actual::default));
    };
    let mut actual = Actual::default();
    for (name, row) in rows {
        match desired.roles.get(&name) {
            Some(role) => {
                actual.remarks.extend(about_declared(&name, role, &row, answers));
                actual.roles.insert(name, found(role, row, answers));
            }
            None if name == SUPERUSER => {}
            None if is_ours(row.comment.as_deref()) && row.login => drop(actual.left.insert(name)),
            None => actual.remarks.extend(about_stranger(&name, &row)),
        }
    }
    Ok(Some(actual))
}

/// Whether a role's comment says that Seawall manages it.
fn is_ours(comment: Option<&str>) -> bool {
    comment.is_some_and(|comment| comment.contains(MARK))
}

fn found(role: &Role, row: Row, answers: &Answers) -> Found {
    let password = password(role, &row, answers).to_owned();
    let Row { login, inherit, limit, powers, expired, comment, member_of, password: _, fingerprint: _, expires: _ } =
        row;
    let mut groups: BTreeMap<String, BTreeSet<Membership>> = BTreeMap::new();
    for Belongs { role, how } in member_of {
        groups.entry(role).or_default().insert(how);
    }
    Found {
        login,
        inherit,
        connections: u32::try_from(limit).ok(),
        powers,
        password,
        expired,
        ours: is_ours(comment.as_deref()),
        comment,
        member_of: groups,
    }
}

/// In a word. What is known without the secret is said without it: a password that is missing, or an md5 hash.
fn password(role: &Role, row: &Row, answers: &Answers) -> &'static str {
    match (row.password.as_str(), &role.password) {
        ("none", _) => "none",
        ("scram", Some(secret)) => match answers.fingerprint(secret) {
            Some(wanted) if row.fingerprint.as_deref() == Some(wanted) => super::AS_DECLARED,
            Some(_) => "another",
            None => super::NOT_COMPARED,
        },
        ("scram", None) => "set",
        _ => "md5",
    }
}

fn about_declared(name: &str, role: &Role, row: &Row, answers: &Answers) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(secret) = role.password.as_ref().filter(|_| password(role, row, answers) == super::NOT_COMPARED) {
        let why = match answers.secrets.get(secret) {
            Some(Err(why)) => format!(": {why}"),
            Some(Ok(_)) | None => String::new(),
        };
        remarks.push(format!("the password of `{name}` was not compared with {}{why}", secret.from));
    }
    if let Some(expires) = row.expires.as_ref().filter(|_| !row.expired) {
        remarks.push(format!("the password of `{name}` expires at {expires} UTC"));
    }
    remarks
}

/// Roles that the inventory does not know are said aloud and left alone.
fn about_stranger(name: &str, row: &Row) -> Option<String> {
    if row.powers.iter().any(|power| power == "SUPERUSER") {
        return Some(format!(
            "warning: `{name}` is a superuser and not declared; nothing limits what it does: \
             ALTER ROLE {} NOSUPERUSER",
            postgres::identifier(name)
        ));
    }
    if is_ours(row.comment.as_deref()) {
        return Some(format!("`{name}` has left the inventory and cannot log in; what it owns and may do stays"));
    }
    let powers: Vec<&str> = row.powers.iter().map(String::as_str).chain(row.login.then_some("LOGIN")).collect();
    (!powers.is_empty()).then(|| format!("`{name}` is not declared and has {}", powers.join(", ")))
}
