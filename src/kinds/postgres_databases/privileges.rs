//! What roles may do in a database: found and put right by one and the same query, so that the two cannot disagree.
//!
//! Its last part, `wrong`, has a row for each role and object whose privileges are not as declared, with the statement that
//! puts it right. The probe counts the rows; the step runs their statements. Privileges are those that the object's own list
//! of privileges gives to the role itself: what comes to a role through its groups is the groups' matter.

use crate::kinds::postgres::{Cluster, Query, literal, tell};
use crate::kinds::postgres_databases::{Database, May};
use crate::plan::step::{Content, HostStep};

/// Names of objects that are shown; the rest is counted.
const SHOWN: usize = 5;

/// What roles may do, by kind of object: `wanted` must be there, `allowed` may be.
struct Rights {
    kind: &'static str,
    wanted: &'static [&'static str],
    allowed: &'static [&'static str],
}

const fn exactly(kind: &'static str, privileges: &'static [&'static str]) -> Rights {
    Rights { kind, wanted: privileges, allowed: privileges }
}

/// Finding a schema's name out is no harm, and PostgreSQL gives it to everybody in `public`.
const MAY_USE: Rights = Rights { kind: "schema", wanted: &[], allowed: &["USAGE"] };

const PUBLIC: [Rights; 4] = [exactly("database", &[]), MAY_USE, exactly("table", &[]), exactly("sequence", &[])];
const CONNECT: [Rights; 4] =
    [exactly("database", &["CONNECT"]), MAY_USE, exactly("table", &[]), exactly("sequence", &[])];
const READ: [Rights; 4] = [
    exactly("database", &["CONNECT"]),
    exactly("schema", &["USAGE"]),
    exactly("table", &["SELECT"]),
    exactly("sequence", &["SELECT"]),
];
const WRITE: [Rights; 4] = [
    exactly("database", &["CONNECT", "TEMPORARY"]),
    exactly("schema", &["USAGE"]),
    exactly("table", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    exactly("sequence", &["USAGE", "SELECT"]),
];
const UNMANAGED: [Rights; 1] =
    [Rights { kind: "database", wanted: &["CONNECT"], allowed: &["CONNECT", "TEMPORARY", "CREATE"] }];
/// What the owner of a database would have in `public` if the cluster were made by PostgreSQL 15 or later.
const OWNER: [Rights; 1] = [exactly("public", &["CREATE", "USAGE"])];

fn rights(may: May) -> &'static [Rights] {
    match may {
        May::Nothing => &PUBLIC,
        May::Connect => &CONNECT,
        May::Read => &READ,
        May::Write => &WRITE,
        May::Unmanaged => &UNMANAGED,
    }
}

/// `%OWNER%` is the owner's name as a literal or NULL, `%RIGHTS%` the rows of what is wanted. A grantee of 0 is PUBLIC. A
/// privilege that somebody else than the object's owner gave can only be taken back in that role's name.
const FIND: &str = "\
WITH base AS (SELECT * FROM pg_database WHERE datname = current_database()),
boss AS (SELECT coalesce((SELECT oid FROM pg_roles WHERE rolname = %OWNER%), (SELECT datdba FROM base)) AS oid),
rights(name, kind, wanted, allowed) AS (VALUES
%RIGHTS%),
who AS (SELECT w.*, CASE WHEN w.name = 'PUBLIC' THEN 0::oid ELSE r.oid END AS oid,
    CASE WHEN w.name = 'PUBLIC' THEN w.name ELSE quote_ident(w.name) END AS grantee
  FROM rights w LEFT JOIN pg_roles r ON r.rolname = w.name),
spaces AS (SELECT n.* FROM pg_namespace n
  WHERE n.nspname !~ '^(pg_|_timescaledb_)' AND n.nspname NOT IN ('information_schema', 'seawall')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e')),
relations AS (SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind,
    CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\" AS code,
    c.oid, c.relowner, c.relacl, format('%I.%I', s.nspname, c.relname) AS label
  FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
objects(kind, oid, owner, acl, label, target) AS (
  SELECT 'database', oid, datdba, coalesce(datacl, acldefault('d', datdba)), 'the database', format('DATABASE %I', datname) FROM base
  UNION ALL SELECT 'schema', oid, nspowner, coalesce(nspacl, acldefault('n', nspowner)), format('schema %I', nspname),
    format('SCHEMA %I', nspname) FROM spaces
  UNION ALL SELECT 'public', oid, nspowner, coalesce(nspacl, acldefault('n', nspowner)), 'schema public', 'SCHEMA public'
    FROM spaces WHERE nspname = 'public' AND pg_get_userbyid(nspowner) <> 'pg_database_owner'
  UNION ALL SELECT kind, oid, relowner, coalesce(relacl, acldefault(code, relowner)), label, format('%s %s', upper(kind), label)
    FROM relations),
given AS (SELECT o.kind, o.oid, a.grantee, array_agg(a.privilege_type) AS has
  FROM objects o CROSS JOIN LATERAL aclexplode(o.acl) a GROUP BY 1, 2, 3),
futures(code, kind, plural) AS (VALUES ('r'::\"char\", 'table', 'tables'), ('S', 'sequence', 'sequences'), ('n', 'schema', 'schemas')),
found(name, way, privileges, what, fix, grantor) AS (
  SELECT w.name, 'lacks', m.list, 'on ' || o.label, format('GRANT %s ON %s TO %s', m.list, o.target, w.grantee), NULL
  FROM who w JOIN objects o ON o.kind = w.kind AND o.owner IS DISTINCT FROM w.oid
    LEFT JOIN given g ON g.kind = o.kind AND g.oid = o.oid AND g.grantee = w.oid
    CROSS JOIN LATERAL (SELECT string_agg(p, ', ') FROM unnest(w.wanted) p WHERE NOT p = ANY (coalesce(g.has, '{}'))) m(list)
  WHERE m.list IS NOT NULL
  UNION ALL
  SELECT w.name, 'beyond', b.option || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), 'on ' || o.label,
    format('REVOKE %s%s ON %s FROM %s CASCADE', b.option, string_agg(a.privilege_type, ', '), o.target, w.grantee),
    nullif(a.grantor, o.owner)
  FROM who w JOIN objects o ON o.kind = w.kind AND o.owner IS DISTINCT FROM w.oid
    CROSS JOIN LATERAL aclexplode(o.acl) a
    CROSS JOIN LATERAL (SELECT CASE WHEN a.privilege_type = ANY (w.allowed) THEN 'GRANT OPTION FOR ' ELSE '' END) b(option)
  WHERE a.grantee = w.oid AND (a.is_grantable OR b.option = '')
  GROUP BY w.name, w.grantee, o.label, o.target, o.owner, a.grantor, b.option
  UNION ALL
  SELECT w.name, 'beyond', b.option || string_agg(format('%s (%I)', a.privilege_type, c.attname), ', ' ORDER BY c.attnum), 'on ' || o.label,
    format('REVOKE %s%s ON %s FROM %s CASCADE', b.option,
      string_agg(format('%s (%I)', a.privilege_type, c.attname), ', '), o.target, w.grantee), nullif(a.grantor, o.owner)
  FROM who w JOIN objects o ON o.kind = w.kind AND o.kind = 'table' AND o.owner IS DISTINCT FROM w.oid
    JOIN pg_attribute c ON c.attrelid = o.oid AND c.attacl IS NOT NULL AND NOT c.attisdropped
    CROSS JOIN LATERAL aclexplode(c.attacl) a
    CROSS JOIN LATERAL (SELECT CASE WHEN a.privilege_type = ANY (w.allowed) THEN 'GRANT OPTION FOR ' ELSE '' END) b(option)
  WHERE a.grantee = w.oid AND (a.is_grantable OR b.option = '')
  GROUP BY w.name, w.grantee, o.label, o.target, o.owner, a.grantor, b.option
  UNION ALL
  SELECT w.name, 'lacks', m.list, 'on future ' || f.plural,
    format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT %s ON %s TO %s', pg_get_userbyid(boss.oid), m.list, f.plural, w.grantee), NULL
  FROM boss CROSS JOIN who w JOIN futures f ON f.kind = w.kind
    LEFT JOIN pg_default_acl d ON d.defaclrole = boss.oid AND d.defaclnamespace = 0 AND d.defaclobjtype = f.code
    CROSS JOIN LATERAL (SELECT string_agg(p, ', ') FROM unnest(w.wanted) p
      WHERE NOT EXISTS (SELECT FROM aclexplode(d.defaclacl) a WHERE a.grantee = w.oid AND a.privilege_type = p)) m(list)
  WHERE m.list IS NOT NULL AND w.oid IS DISTINCT FROM boss.oid
  UNION ALL
  SELECT w.name, 'beyond', b.option || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type),
    format('on future %s of %s%s', f.plural, pg_get_userbyid(d.defaclrole), ' in ' || n.nspname),
    format('ALTER DEFAULT PRIVILEGES FOR ROLE %I %s REVOKE %s%s ON %s FROM %s', pg_get_userbyid(d.defaclrole),
      'IN SCHEMA ' || quote_ident(n.nspname), b.option, string_agg(a.privilege_type, ', '), f.plural, w.grantee), NULL
  FROM who w JOIN futures f ON f.kind = w.kind JOIN pg_default_acl d ON d.defaclobjtype = f.code AND d.defaclrole IS DISTINCT FROM w.oid
    LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
    CROSS JOIN LATERAL aclexplode(d.defaclacl) a
    CROSS JOIN LATERAL (SELECT CASE WHEN a.privilege_type = ANY (w.allowed) THEN 'GRANT OPTION FOR ' ELSE '' END) b(option)
  WHERE a.grantee = w.oid AND (a.is_grantable OR b.option = '')
  GROUP BY w.name, w.grantee, f.plural, d.defaclrole, n.nspname, b.option),
wrong AS (SELECT name, way, format('%s %s', privileges, what) AS what,
    CASE WHEN grantor IS NULL THEN fix
      ELSE format('SET LOCAL ROLE %I; %s; RESET ROLE', pg_get_userbyid(grantor), fix) END AS fix
  FROM found)
";

/// What is wrong, counted, and who owns tables beside the database's owner.
const COUNT: &str = "\
SELECT json_build_object('wrong', (SELECT coalesce(json_agg(json_build_object(
    'role', x.name, 'way', x.way, 'count', x.count, 'some', x.some) ORDER BY x.name, x.way), '[]')
  FROM (SELECT name, way, count(*) AS count, (array_agg(what ORDER BY what))[1:%SHOWN%] AS some FROM wrong GROUP BY name, way) x),
  'strangers', (SELECT coalesce(json_object_agg(y.owner, y.count), '{}')
  FROM (SELECT pg_get_userbyid(r.relowner) AS owner, count(*) AS count FROM relations r CROSS JOIN boss
    WHERE r.kind = 'table' AND r.relowner <> boss.oid GROUP BY 1) y))";

/// Runs every statement that puts something right; `beyond` before `lacks`.
const SET_RIGHT: &str = "SELECT fix FROM wrong ORDER BY way, fix \\gexec\n";

/// Nothing that others made in `public` takes part in a superuser's session.
const PLAIN_PATH: &str = "SET search_path = pg_catalog;\n";

fn find(database: &Database) -> String {
    let array = |privileges: &[&str]| format!("'{{{}}}'::text[]", privileges.join(","));
    let rows = |name: &str, rights: &[Rights]| -> Vec<String> {
        let row = |right: &Rights| {
            format!(
                "({}::text, '{}'::text, {}, {})",
                literal(name),
                right.kind,
                array(right.wanted),
                array(right.allowed)
            )
        };
        rights.iter().map(row).collect()
    };
    let mut all = rows("PUBLIC", &PUBLIC);
    all.extend(database.owner.iter().flat_map(|owner| rows(owner, &OWNER)));
    all.extend(database.roles.iter().flat_map(|(role, may)| rows(role, rights(*may))));
    let owner = database.owner.as_deref().map_or_else(|| "NULL".to_owned(), literal);
    FIND.replace("%OWNER%", &owner).replace("%RIGHTS%", &all.join(",\n"))
}

/// Asks what is not as declared.
pub(super) fn query(name: &str, database: &Database) -> Query {
    let count = COUNT.replace("%SHOWN%", &SHOWN.to_string());
    Query::new(name, &format!("{}{count}", find(database)))
}

/// Makes it as declared, whatever is found by then.
pub(super) fn set(cluster: Cluster, name: &str, database: &Database) -> HostStep {
    let text = format!("{PLAIN_PATH}{}{SET_RIGHT}", find(database));
    tell(cluster, name, Content::Text(text), format!("set the privileges in {name}"))
}
