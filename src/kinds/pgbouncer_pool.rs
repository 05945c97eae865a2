//! `pgbouncer.pool`: a pool of connections in front of PostgreSQL, judged by what the running PgBouncer says of itself.
//!
//! No password is on the host: PgBouncer holds the same SCRAM verifiers as PostgreSQL and logs in with what each client
//! proves. Deliberately absent: `auth_query` (it needs a function in every database), users of its own in `[databases]`
//! (they would need a password in plain text), and an administrator over the network.

mod effect;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::secret::{SecretForm, SecretUse};
use crate::inventory::sections::database::PoolMode;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::firewall::opening;
use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::parts::{apt, unit};
use crate::kinds::pgbouncer_pool::effect::Running;
use crate::kinds::postgres::{self, PORT};
use crate::kinds::postgres_access::{Login, PostgresAccess, logins};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::remark::Remark;
use crate::plan::step::{Content, HostStep};
use crate::render::render;

/// The package that `host.packages` installs for this section.
pub const PACKAGE: &str = "pgbouncer";

pub(crate) const UNIT: &str = "pgbouncer.service";
pub(crate) const INI: &str = "/etc/pgbouncer/pgbouncer.ini";
const HBA: &str = "/etc/pgbouncer/hba.conf";
const USERLIST: &str = "/etc/pgbouncer/userlist.txt";
/// What `host.certificate` puts there.
const CERTIFICATE: &str = "/etc/seawall/tls/server.crt";
const KEY: &str = "/etc/seawall/tls/server.key";
/// Mode and owner of everything that PgBouncer reads; the unit runs as postgres.
const ACCESS: &str = "640 root:postgres";

const MEMBERS: &str = include_str!("pgbouncer_pool/members.sh");
const ASK_MEMBERS: [&str; 5] = ["sh", "-c", MEMBERS, "sh", USERLIST];
const ASK_UNIT: [&str; 5] =
    ["systemctl", "show", "--timestamp=unix", "--property=ActiveState,UnitFileState,StateChangeTimestamp", UNIT];
/// When each file that PgBouncer reads was last touched, in seconds.
const ASK_TOUCHED: [&str; 9] = ["stat", "-c", "%Z", "--", INI, HBA, USERLIST, CERTIFICATE, KEY];

/// Stops a unit for good, if it is there at all.
const STOP: &str = "systemctl cat \"$1\" >/dev/null 2>&1 || exit 0; exec systemctl disable --now \"$1\"";

pub struct PgbouncerPool;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub port: u16,
    /// Listens on every address; the firewall decides who gets here. Otherwise on the loopback only.
    pub everywhere: bool,
    pub mode: PoolMode,
    pub clients: u32,
    pub pool: u32,
    /// Who may log in from where.
    pub logins: Vec<Login>,
    pub members: BTreeMap<String, Member>,
}

/// A role that may come through the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The verifier of its password, the same as PostgreSQL's.
    pub verifier: SecretUse,
    /// How many connections it may hold in PostgreSQL.
    pub connections: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub ini: Option<FileState>,
    pub hba: Option<FileState>,
    pub userlist: Userlist,
    /// For example `enabled, active`.
    pub unit: String,
    /// `None` where nothing answers at the socket.
    pub running: Option<Running>,
    /// It runs with the files as they are now.
    pub loaded: bool,
}

/// Who is in the userlist. Which verifier somebody has is not in it, not even as a digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Userlist {
    /// Mode, owner and group; `None` where there is no file.
    pub access: Option<String>,
    pub members: BTreeSet<String>,
    /// Members whose verifier is not of the declared password.
    pub others: BTreeSet<String>,
    /// Members of whom it cannot be said, because the password is not to be had here. Not part of a plan's guard: the
    /// machine that applies may have it.
    #[serde(skip)]
    pub unsaid: BTreeSet<String>,
}

impl Desired {
    fn ini(&self) -> Wanted<'static> {
        let databases: BTreeSet<&str> = self.logins.iter().map(|login| login.database.as_str()).collect();
        let roles: Vec<Value> = self
            .members
            .iter()
            .filter_map(|(name, member)| Some(serde_json::json!({ "name": name, "connections": member.connections? })))
            .collect();
        let context = serde_json::json!({
            "address": self.address,
            "databases": databases,
            "postgres": PORT,
            "roles": roles,
            "listen": self.listen(),
            "port": self.port,
            "userlist": USERLIST,
            "hba": HBA,
            "certificate": CERTIFICATE,
            "key": KEY,
            "mode": self.mode(),
            "clients": self.clients,
            "pool": self.pool,
        });
        private(INI, render("pgbouncer.ini", &context).expect("the template and its context are tested together"))
    }

    fn hba(&self) -> Wanted<'static> {
        let line = |login: &Login| {
            let Login { database, role, from, why: _ } = login;
            format!("hostssl \"{database}\" \"{role}\" {from} scram-sha-256")
        };
        let lines: Vec<String> = self.logins.iter().map(line).collect();
        let context = serde_json::json!({ "address": self.address, "lines": lines });
        private(HBA, render("pgbouncer-hba.conf", &context).expect("the template and its context are tested together"))
    }

    /// One line a member; the verifiers are put in when it is sent.
    fn userlist(&self) -> HostStep {
        let line = |name: &String| format!("\"{name}\" \"{{{{{name}}}}}\"\n");
        let secrets: BTreeMap<_, _> =
            self.members.iter().map(|(name, member)| (name.clone(), member.verifier.clone())).collect();
        let template: String = self.members.keys().map(line).collect();
        // Where nobody comes through the pool yet, the list is empty, and no secret is in it.
        let content =
            if secrets.is_empty() { Content::Text(template) } else { Content::WithSecrets { template, secrets } };
        HostStep::WriteFile {
            path: USERLIST.to_owned(),
            owner: "root".to_owned(),
            group: "postgres".to_owned(),
            mode: "0640".to_owned(),
            content,
            validate: None,
        }
    }

    fn listen(&self) -> &'static str {
        if self.everywhere { "*" } else { "localhost" }
    }

    fn mode(&self) -> &'static str {
        match self.mode {
            PoolMode::Transaction => "transaction",
            PoolMode::Session => "session",
        }
    }
}

fn private(path: &'static str, text: String) -> Wanted<'static> {
    Wanted { path, owner: "root", group: "postgres", mode: "0640", text }
}

/// The roles that come through the pool, with what PostgreSQL knows of them.
fn members(environment: &str, name: &str, server: &Server, logins: &[Login]) -> BTreeMap<String, Member> {
    let roles = server.postgres.iter().flat_map(|postgres| &postgres.roles);
    let comes = |role: &str| logins.iter().any(|login| login.role == role);
    roles
        .filter(|(role, _)| comes(role.as_str()))
        .filter_map(|(role, section)| {
            let owner = postgres::verifier_owner(environment, name, role.as_str());
            let verifier = SecretUse { from: section.password.clone()?, form: SecretForm::ScramVerifier { owner } };
            Some((role.to_string(), Member { verifier, connections: section.connections }))
        })
        .collect()
}

fn userlist(desired: &Desired, answers: &Answers) -> Result<Userlist, Unseen> {
    let listed = host::command(answers, &ASK_MEMBERS, &[0])?;
    let mut lines = listed.stdout.lines();
    let mut found = Userlist { access: lines.next().map(str::to_owned), ..Userlist::default() };
    for line in lines {
        // What has no quotes has no name, and is a line of somebody else's.
        let (name, digest) = line.rsplit_once(' ').unwrap_or((line, ""));
        let declared = desired.members.get(name).map(|member| answers.fingerprint(&member.verifier));
        match declared {
            Some(None) => drop(found.unsaid.insert(name.to_owned())),
            Some(Some(fingerprint)) if fingerprint != digest => drop(found.others.insert(name.to_owned())),
            Some(Some(_)) | None => {}
        }
        found.members.insert(name.to_owned());
    }
    Ok(found)
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let (ini, hba) = (host::file(answers, INI)?, host::file(answers, HBA)?);
    if ini.is_none() && hba.is_none() {
        return Ok(None);
    }
    let unit = host::command(answers, &ASK_UNIT, &[0])?;
    let unit = host::properties(&unit.stdout);
    let of = |key: &str| unit.get(key).copied().unwrap_or_default();
    let touched = host::command(answers, &ASK_TOUCHED, &[0, 1])?;
    let seconds = |text: &str| text.trim_start_matches('@').parse::<u64>().ok();
    let newest = touched.stdout.lines().filter_map(seconds).max().unwrap_or(u64::MAX);
    let asked = effect::ask(desired.port);
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    Ok(Some(Actual {
        ini,
        hba,
        userlist: userlist(desired, answers)?,
        unit: format!("{}, {}", of("UnitFileState"), of("ActiveState")),
        running: effect::read(desired, answers.command(&asked)?)?,
        // A reload is a change of state. Within one second both orders look the same; ours is write, then reload.
        loaded: seconds(of("StateChangeTimestamp")).is_some_and(|at| at >= newest),
    }))
}

/// What differs in the userlist. Each member is a field of its own; a password is told by nothing but whose it is.
fn in_userlist(desired: &Desired, found: &Userlist) -> Vec<FieldChange> {
    // What cannot be said is a remark.
    let Userlist { access, members, others, unsaid: _ } = found;
    let field = |name: &str, before: Option<&str>, after: Option<&str>| {
        FieldChange::new(format!("userlist.{name}"), before.map(Value::from), after.map(Value::from))
    };
    let mut fields: Vec<FieldChange> = Vec::new();
    fields.extend(FieldChange::between("userlist", access, &Some(ACCESS)));
    for name in desired.members.keys() {
        if !members.contains(name) {
            fields.push(field(name, None, Some(DECLARED)));
        } else if others.contains(name) {
            fields.push(field(name, Some("another password"), Some(DECLARED)));
        }
    }
    let strangers = members.iter().filter(|name| !desired.members.contains_key(*name));
    fields.extend(strangers.map(|name| field(name, Some("not declared"), None)));
    fields
}

const DECLARED: &str = "the declared password";

impl Kind for PgbouncerPool {
    const NAME: &'static str = "pgbouncer.pool";
    const SUMMARY: &'static str = "a pool of connections in front of PostgreSQL";
    const EXPLAIN: &'static str = "\
Manages: PgBouncer with its three files. pgbouncer.ini; hba.conf, in which the `access` rules stand whose networks
`firewall` opens at the pool's port; and userlist.txt with the SCRAM verifiers of their roles. Clients need TLS, with the
server's certificate, and their password; PgBouncer then logs in to PostgreSQL as the same role, because PostgreSQL
holds the same verifiers. No password is on the host.

It listens on every address if `firewall` opens its port, and on this host only if not. A role never gets more server
connections than its `connections`; who is too many waits. It is judged by its files and by what the running PgBouncer
says of itself; a change of address or port restarts it, everything else is taken up without dropping anybody.

In `transaction` mode a client has no session: SET, LISTEN, advisory locks and temporary tables do not last beyond a
transaction. Debian 12's PgBouncer (1.18) does not know prepared statements of the protocol in this mode either; Debian
13's does. Switch them off in the driver (JDBC prepareThreshold=0, asyncpg statement_cache_size=0, psycopg prepare_threshold=None), or
choose `session`.

Whether userlist.txt has the declared passwords is seen by digests, and only where the passwords are to be had; elsewhere
it is a remark. The console is open to the system's user postgres: `psql -h /var/run/postgresql -p 6432 -U pgbouncer`.

Does not manage: databases and roles that are not in `access`, and applications on this host without an access rule:
write `from: [127.0.0.1/32]` for them. When the section goes, PgBouncer is stopped and its files are removed.

    servers:
      db:
        firewall:
          - { port: 6432, from: [198.51.100.7/32], why: application }
        postgres:
          databases: [chronos_db]
          roles:
            app: { login: true, connections: 15, password: { env: CHRONOS_APP_PASSWORD } }
          access:
            - { role: app, database: chronos_db, from: [198.51.100.7/32] }
        pgbouncer:
          port: 6432
          mode: transaction
          clients: 200
          pool: 10
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let section = server.pgbouncer.as_ref()?;
                let logins = logins(server, section.port);
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired {
                    address: address.clone(),
                    port: section.port,
                    everywhere: opening(server, section.port).is_some(),
                    mode: section.mode,
                    clients: section.clients,
                    pool: section.pool,
                    members: members(inventory.environment.as_str(), name.as_str(), server, &logins),
                    logins,
                };
                let mut needs = vec![apt::KIND];
                needs.extend(server.certificate.is_some().then_some("host.certificate"));
                // Whoever comes through has a role and a database, and is let in by the kinds that make them.
                needs.extend((!desired.members.is_empty()).then_some("postgres.roles"));
                needs.extend((!desired.logins.is_empty()).then_some("postgres.databases"));
                needs.extend(server.postgres.is_some().then_some(PostgresAccess::NAME));
                Some(host::declared(address, name, &needs, "pgbouncer", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let console = effect::ask(desired.port);
        let console: Vec<&str> = console.iter().map(String::as_str).collect();
        let mut probes = vec![file(INI), file(HBA)];
        probes.extend([&ASK_MEMBERS[..], &ASK_UNIT, &ASK_TOUCHED, &console].map(command));
        probes.extend(desired.members.values().map(|member| Probe::Secret(member.verifier.clone())));
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        // In the files, and in what runs.
        let Desired { address: _, port: _, everywhere: _, mode: _, clients: _, pool: _, logins: _, members: _ } =
            desired;
        let Actual { ini, hba, userlist, unit, running, loaded } = actual;
        let mut fields: Vec<FieldChange> = desired.ini().change(ini.as_ref()).into_iter().collect();
        fields.extend(desired.hba().change(hba.as_ref()));
        fields.extend(in_userlist(desired, userlist));
        fields.extend(FieldChange::between("service", unit, &"enabled, active"));
        fields.extend(effect::differences(desired, running.as_ref()));
        if running.is_some() {
            fields.extend(FieldChange::between("loaded", loaded, &true));
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let mut steps = Vec::new();
        if fields.iter().any(|field| field.path.starts_with("userlist")) {
            steps.push(desired.userlist());
        }
        let written = [desired.hba(), desired.ini()].into_iter().filter(|wanted| host::differs(fields, wanted.path));
        steps.extend(written.map(|wanted| wanted.step(None)));
        steps.extend(actual.and_then(|actual| unit::unmask(&actual.unit, &[UNIT], "unmask PgBouncer")));
        if host::differs(fields, "service") {
            steps.push(host::run(&["systemctl", "enable", UNIT], QUICK_S, "start PgBouncer at boot"));
        }
        let running = actual.and_then(|actual| actual.running.as_ref());
        steps.push(match running.map(|running| effect::needs_restart(desired, running)) {
            Some(needed) if needed.is_empty() => {
                host::run(&["systemctl", "reload", UNIT], QUICK_S, "reload PgBouncer; nobody is dropped")
            }
            Some(needed) => {
                let what = format!("restart PgBouncer, which drops its clients, for {}", needed.join(", "));
                host::run(&["systemctl", "restart", UNIT], QUICK_S, what)
            }
            None => host::run(&["systemctl", "restart", UNIT], QUICK_S, "start PgBouncer with these files"),
        });
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        // Without its settings it does not start, and a unit that fails at every boot hides others that do.
        let stop = host::run(&["sh", "-c", STOP, "sh", UNIT], QUICK_S, "stop PgBouncer, also at boot");
        std::iter::once(stop).chain([INI, HBA, USERLIST].map(host::remove_file)).collect()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let mut fields: Vec<FieldChange> = desired.ini().change(None).into_iter().collect();
        fields.extend(desired.hba().change(None));
        fields.extend(in_userlist(desired, &Userlist::default()));
        fields.push(FieldChange::new("service", None, Some(Value::from("enabled, active"))));
        fields.extend(
            effect::wanted(desired)
                .into_iter()
                .map(|(what, value)| FieldChange::new(format!("runs.{what}"), None, Some(Value::from(value)))),
        );
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let ini = desired.ini().diff(actual.and_then(|actual| actual.ini.as_ref()));
        let hba = desired.hba().diff(actual.and_then(|actual| actual.hba.as_ref()));
        vec![ini, hba]
    }

    fn remarks(_desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let unsaid: Vec<&str> = actual.userlist.unsaid.iter().map(String::as_str).collect();
        let remark = || {
            format!(
                "whether the pool has the declared passwords cannot be said here, where they are not to be had: {}",
                unsaid.join(", ")
            )
        };
        (!unsaid.is_empty()).then(|| remark().into()).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::load::parse;

    #[test]
    fn a_pool_that_nobody_may_use_yet_has_an_empty_list() {
        let text = "
seawall: 1
environment: test
aws: { account: \"123456789012\", region: ca-central-1 }
servers:
  db:
    instance: { bundle: small_3_0, blueprint: debian_12, zone: ca-central-1a }
    login: { keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops] }
    postgres: { databases: [shop] }
    pgbouncer: { clients: 50, pool: 5 }
";
        let loaded = parse("test.yaml", text);
        let inventory = loaded.inventory.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let declared = PgbouncerPool::declare(&inventory);
        let HostStep::WriteFile { content, .. } = declared[0].desired.userlist() else { panic!("a file") };
        assert_eq!(content, Content::Text(String::new()));
    }
}
