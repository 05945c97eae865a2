//! `postgres.access`: who may log in to PostgreSQL, from where: pg_hba.conf as a whole.
//!
//! Judged by two answers of PostgreSQL's: what it reads in the file, and whether it goes by that; for a reload says true
//! on a broken file, too, and the old rules stay. Deliberately absent: replication over the network, maps of names
//! (`map=`) but the one for restoring dumps, and any way for a superuser but the socket.

mod row;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::firewall::opening;
use crate::kinds::host::{self, Wanted};
use crate::kinds::postgres::{self, CLUSTER, Cluster, MAINTENANCE, PORT, Query, Told};
use crate::kinds::postgres_access::row::Row;
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::step::HostStep;
use crate::render::render;

/// The role that `dump restore` makes, logs in as, and drops again: no superuser, for what is in a dump runs as it.
const RESTORER: &str = "seawall_restore";
/// The user and the group of the system that PostgreSQL runs as, and its superuser.
const SUPERUSER: &str = "postgres";
/// Asks PostgreSQL about the file before it stands in its place for good.
const CHECK: &str = include_str!("postgres_access/check.sh");
/// What is wrong with the file, in one line, or nothing.
const WRONG: &str = "select coalesce(string_agg(format('line %s: %s', line_number, error), '; '), '') \
                     from pg_hba_file_rules where error is not null";
/// The kernel's stamp on a file may be this many seconds older than the moment: one tick of its clock at 100 Hz.
const CLOCK_TICK_S: f64 = 0.01;
/// Where the pool comes from: itself on this host.
const POOL: &str = "127.0.0.1/32";

/// Everything in one row. A file that is not there has no rules, and asking for them would be an error.
const QUESTION: &str = "select json_build_object(\
    'hba_file', current_setting('hba_file'), \
    'loaded', extract(epoch from pg_conf_load_time()), \
    'rules', case when pg_stat_file(current_setting('hba_file'), true) is null then '[]'::json \
        else (select coalesce(json_agg(row_to_json(r) order by r.ordinality), '[]'::json) \
            from pg_hba_file_rules() with ordinality r) end)";

pub struct PostgresAccess;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub cluster: Cluster,
    /// Over the network, in the inventory's order.
    pub logins: Vec<Login>,
    /// By way of the pool, which logs in from this host.
    pub pool: Vec<Pair>,
    /// The program that restores dumps logs in as a role of its own, which is there only meanwhile.
    pub restores: bool,
}

/// Who may log in from one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    pub database: String,
    pub role: String,
    pub from: IpNet,
    /// The firewall's words about the network.
    pub why: String,
}

/// A role in a database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub database: String,
    pub role: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub file: Option<FileState>,
    /// Which users of the system may be which other roles.
    pub map: Option<FileState>,
    /// Where PostgreSQL reads its rules.
    pub hba_file: String,
    /// The rules that it reads there.
    pub rules: Vec<String>,
    /// What it does not understand of them.
    pub errors: Vec<String>,
    /// It goes by the file as it is now.
    pub loaded: bool,
}

/// PostgreSQL's answer to [`QUESTION`].
#[derive(Debug, PartialEq, Deserialize)]
struct Said {
    hba_file: String,
    loaded: f64,
    rules: Vec<Row>,
}

/// One line of the file. The words are kept apart: a name is in quotes in the file, and PostgreSQL tells it without.
struct Line {
    kind: &'static str,
    database: String,
    role: String,
    from: String,
}

impl Line {
    fn text(&self) -> String {
        let Self { kind, database, role, from } = self;
        format!("{kind} \"{database}\" \"{role}\" {from} scram-sha-256")
    }

    fn rule(&self) -> String {
        let Self { kind, database, role, from } = self;
        format!("{kind} {database} {role} {from} scram-sha-256")
    }
}

/// Lines with one reason.
struct Block {
    why: String,
    lines: Vec<Line>,
}

impl Desired {
    fn path(&self) -> String {
        format!("{}/pg_hba.conf", self.cluster.conf())
    }

    /// What is not the same on every server.
    fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        if !self.pool.is_empty() {
            // Without TLS: what goes over the loopback leaves no host, and the password is not in it.
            let line = |pair: &Pair| Line {
                kind: "host",
                database: pair.database.clone(),
                role: pair.role.clone(),
                from: POOL.to_owned(),
            };
            let why = "The connection pool on this host, which has seen the client's proof of its password.".to_owned();
            blocks.push(Block { why, lines: self.pool.iter().map(line).collect() });
        }
        for Login { database, role, from, why } in &self.logins {
            // In quotes: a backslash at the end of a line would join the next one to the comment.
            let why = format!("From \"{why}\".");
            let line = Line { kind: "hostssl", database: database.clone(), role: role.clone(), from: from.to_string() };
            match blocks.last_mut().filter(|block| block.why == why) {
                Some(block) => block.lines.push(line),
                None => blocks.push(Block { why, lines: vec![line] }),
            }
        }
        blocks
    }

    /// Where maps of names are.
    fn map_path(&self) -> String {
        format!("{}/pg_ident.conf", self.cluster.conf())
    }

    fn text(&self) -> String {
        let blocks = self.blocks();
        let shown: Vec<Value> = blocks
            .iter()
            .map(|block| serde_json::json!({ "why": block.why, "lines": block.lines.iter().map(Line::text).collect::<Vec<_>>() }))
            .collect();
        let context = serde_json::json!({ "address": self.address, "blocks": shown, "restorers": self.restorers() });
        render("pg_hba.conf", &context).expect("the template and its context are tested together")
    }

    fn restorers(&self) -> Vec<&'static str> {
        self.restores.then_some(RESTORER).into_iter().collect()
    }

    fn map_text(&self) -> String {
        let context = serde_json::json!({ "address": self.address, "restorers": self.restorers() });
        render("pg_ident.conf", &context).expect("the template and its context are tested together")
    }

    /// What PostgreSQL reads in [`Desired::text`].
    fn rules(&self) -> Vec<String> {
        let restorers = self.restorers().into_iter().map(|role| format!("local all {role} peer map={role}"));
        let over_the_socket = ["local all all peer", "host all postgres all reject"].map(str::to_owned);
        let first = ["local all postgres peer".to_owned()].into_iter().chain(restorers).chain(over_the_socket);
        let lines = self.blocks().into_iter().flat_map(|block| block.lines).map(|line| line.rule());
        let last = "host all all all reject".to_owned();
        first.chain(lines).chain([last]).collect()
    }
}

fn wanted<'a>(desired: &Desired, path: &'a str) -> Wanted<'a> {
    // Not for everybody's eyes: it says which roles and networks there are.
    Wanted { path, owner: "root", group: SUPERUSER, mode: "0640", text: desired.text() }
}

/// The file of maps, where a map is wanted; otherwise no rule names one, and what is in it has no effect.
fn wanted_map<'a>(desired: &Desired, path: &'a str) -> Option<Wanted<'a>> {
    let wanted = Wanted { text: desired.map_text(), path, ..wanted(desired, path) };
    desired.restores.then_some(wanted)
}

/// Who may log in over the network through one port: the access rules, as far as the firewall lets their networks in there.
/// Connections from the host itself meet no firewall.
pub(crate) fn logins(server: &Server, port: u16) -> Vec<Login> {
    let open = opening(server, port);
    let let_in = |from: IpNet| {
        if is_loopback(&from) {
            return vec![(from, "this host itself".to_owned())];
        }
        open.as_ref().map_or_else(Vec::new, |open| open.common_with(&from))
    };
    let rules = server.postgres.iter().flat_map(|postgres| &postgres.access);
    let mut logins = Vec::new();
    for rule in rules {
        for (from, why) in rule.from.iter().flat_map(|network| let_in(network.net())) {
            logins.push(Login { database: rule.database.to_string(), role: rule.role.to_string(), from, why });
        }
    }
    logins
}

/// Whether a network is within the host.
pub fn is_loopback(network: &IpNet) -> bool {
    network.network().is_loopback() && network.broadcast().is_loopback()
}

/// The roles and databases of logins, each once, in the order of names.
pub(crate) fn pairs(logins: &[Login]) -> Vec<Pair> {
    let pair = |login: &Login| Pair { database: login.database.clone(), role: login.role.clone() };
    let mut pairs: Vec<Pair> = logins.iter().map(pair).collect();
    pairs.sort();
    pairs.dedup();
    pairs
}

/// When the file was last touched, by a stamp that nobody can set: content, mode, owner and renames move it.
fn ask_touched(path: &str) -> [&str; 5] {
    ["stat", "-c", "%.9Z", "--", path]
}

/// The files that PostgreSQL must have read since they were touched.
fn files(desired: &Desired) -> Vec<String> {
    let map = desired.restores.then(|| desired.map_path());
    [desired.path()].into_iter().chain(map).collect()
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let path = desired.path();
    let query = Query::new(MAINTENANCE, QUESTION);
    let said: Said = match desired.cluster.answer(desired.address.name(), answers, &query)? {
        Told::Said(said) => said,
        Told::NoCluster => return Ok(None),
        Told::NoDatabase => return Err(Unseen::Misread(format!("there is no database `{MAINTENANCE}`"))),
    };
    let file = host::file(answers, &path)?;
    let map = if desired.restores { host::file(answers, &desired.map_path())? } else { None };
    let mut loaded = true;
    for path in files(desired) {
        let touched = host::command(answers, &ask_touched(&path), &[0, 1])?.stdout.trim().parse::<f64>();
        // What is older than the last load and has no error now had none then.
        loaded &= touched.is_ok_and(|touched| touched + CLOCK_TICK_S < said.loaded);
    }
    let wrong = |row: &Row| Some(format!("line {}: {}", row.line_number.unwrap_or_default(), row.error.as_ref()?));
    Ok(Some(Actual {
        file,
        map,
        hba_file: said.hba_file,
        rules: said.rules.iter().filter(|row| row.kind.is_some()).map(Row::rule).collect(),
        errors: said.rules.iter().filter_map(wrong).collect(),
        loaded,
    }))
}

impl Kind for PostgresAccess {
    const NAME: &'static str = "postgres.access";
    const SUMMARY: &'static str = "who may log in to PostgreSQL, and from where";
    const EXPLAIN: &'static str = "\
Manages: pg_hba.conf as a whole. Over the socket every user of the system is the role of the same name, and nobody else.
Over the network an access rule lets one role into one database from the networks that it names, with TLS and a SCRAM
password; everybody else is refused, and a superuser always is. Where there are dumps, the program that restores one is the
role `seawall_restore` over the socket, by a map in pg_ident.conf; the role is there only while a dump is restored. A role that comes through the pool comes from this host.

A rule's networks must be within those that `firewall` opens for PostgreSQL's port or the pool's, for what the firewall
stops never gets to log in. At each of the two ports only those networks are let in that the firewall opens there.

It is judged by what PostgreSQL reads in the file and by whether it has loaded it since it was last touched: reloading a
file with an error says nothing and leaves the old rules in force. Before a new file is put in place, PostgreSQL is
asked what is wrong with it; if anything is, the old one stays.

Does not manage: replication over the network, other maps of names, pg_hba.conf at another place (the change is refused until
`hba_file` is the package's), and connections that are there already: who is no longer let in stays until it leaves.
When the section goes, the file stays as it is: PostgreSQL does not start without one.

    servers:
      db:
        firewall:
          - { port: 5432, from: [198.51.100.7/32], why: application }
        postgres:
          databases: [chronos_db]
          roles:
            app: { login: true, connections: 15, password: { env: CHRONOS_APP_PASSWORD } }
          access:
            - { role: app, database: chronos_db, from: [198.51.100.7/32] }
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let section = server.postgres.as_ref()?;
                let pool = server.pgbouncer.as_ref().map(|pool| pairs(&logins(server, pool.port)));
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired {
                    address: address.clone(),
                    cluster: Cluster { version: section.version },
                    logins: logins(server, PORT),
                    pool: pool.unwrap_or_default(),
                    restores: server.backup.as_ref().is_some_and(|backup| backup.dumps.is_some()),
                };
                let mut needs = vec![CLUSTER];
                needs.extend((!section.roles.is_empty()).then_some("postgres.roles"));
                needs.extend((!section.databases.is_empty()).then_some("postgres.databases"));
                Some(host::declared(address, name, &needs, "postgres.access", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let query = Query::new(MAINTENANCE, QUESTION);
        let mut probes = vec![desired.cluster.probe(), query.probe()];
        for path in files(desired) {
            probes.extend([file(&path), command(&ask_touched(&path))]);
        }
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        // All of them are in the file and in its rules.
        let Desired { address: _, cluster: _, logins: _, pool: _, restores: _ } = desired;
        let Actual { file, map, hba_file, rules, errors, loaded } = actual;
        let path = desired.path();
        let written = wanted(desired, &path).change(file.as_ref());
        let as_written = written.is_none();
        let mut fields: Vec<FieldChange> = written.into_iter().collect();
        let map_path = desired.map_path();
        fields.extend(wanted_map(desired, &map_path).and_then(|wanted| wanted.change(map.as_ref())));
        fields.extend(FieldChange::between("hba_file", hba_file, &path));
        // What differs in a file that is not ours is in its diff.
        if as_written {
            fields.extend(FieldChange::between("rules", rules, &desired.rules()));
        }
        fields.extend(FieldChange::between("errors", errors, &Vec::<String>::new()));
        fields.extend(FieldChange::between("loaded", loaded, &true));
        fields
    }

    fn steps(desired: &Desired, _actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let path = desired.path();
        let map_path = desired.map_path();
        let map = wanted_map(desired, &map_path).filter(|_| host::differs(fields, &map_path));
        let mut steps: Vec<HostStep> = map.map(|wanted| wanted.step(None)).into_iter().collect();
        if host::differs(fields, &path) {
            let check = ["sh", "-c", CHECK, "sh", "{}", &path, WRONG];
            steps.push(wanted(desired, &path).step(Some(&check)));
        }
        steps.push(postgres::reload(desired.cluster));
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let path = desired.path();
        let mut fields: Vec<FieldChange> = wanted(desired, &path).change(None).into_iter().collect();
        fields.extend(wanted_map(desired, &desired.map_path()).and_then(|wanted| wanted.change(None)));
        fields.push(FieldChange::new("loaded", None, Some(Value::from(true))));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let path = desired.path();
        let map_path = desired.map_path();
        let map = wanted_map(desired, &map_path);
        let map = map.map(|wanted| wanted.diff(actual.and_then(|actual| actual.map.as_ref())));
        [wanted(desired, &path).diff(actual.and_then(|actual| actual.file.as_ref()))].into_iter().chain(map).collect()
    }

    fn refusals(desired: &Desired, actual: &Actual, _fields: &[FieldChange]) -> Vec<Diagnostic> {
        let path = desired.path();
        if actual.hba_file == path {
            return Vec::new();
        }
        let message = format!("PostgreSQL of `{}` reads its access rules from another file", desired.address.name());
        let refusal = Diagnostic::error("hba-file-elsewhere", message)
            .note(format!("`hba_file` is `{}`, and the package's is `{path}`", actual.hba_file))
            .hint(format!("set `hba_file` to `{path}` where it was changed, and restart PostgreSQL"));
        vec![refusal]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(why: &str) -> Desired {
        let login = |from: &str| Login {
            database: "all".to_owned(),
            role: "app".to_owned(),
            from: from.parse().expect("a network"),
            why: why.to_owned(),
        };
        Desired {
            address: Address::new("postgres.access", "db"),
            cluster: Cluster { version: 15 },
            logins: vec![login("198.51.100.7/32"), login("2001:db8::/64")],
            pool: vec![Pair { database: "chronos_db".to_owned(), role: "app".to_owned() }],
            restores: true,
        }
    }

    /// Lines as PostgreSQL joins and cuts them: a backslash at the end, and `#` outside of quotes.
    fn effective(text: &str) -> Vec<String> {
        let joined = text.replace("\\\n", "");
        let lines = joined.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty()).map(|line| line.replace('"', "")).collect()
    }

    #[test]
    fn seawall_comes_first_and_superusers_and_strangers_never() {
        for why in ["application", "odd # \"words\" \\", "\\"] {
            let desired = desired(why);
            let lines = effective(&desired.text());
            assert_eq!(lines, desired.rules(), "{why}");
            assert_eq!(lines[0], "local all postgres peer");
            let refused = lines.iter().position(|line| line == "host all postgres all reject").expect("a line");
            let network = lines.iter().position(|line| line.starts_with("host")).expect("a line");
            assert_eq!(refused, network, "nothing over the network stands before it");
            assert_eq!(lines.last().map(String::as_str), Some("host all all all reject"));
        }
    }

    #[test]
    fn a_name_that_pg_hba_knows_as_a_word_is_a_name() {
        assert!(desired("x").text().contains("hostssl \"all\" \"app\" 198.51.100.7/32 scram-sha-256\n"));
    }

    #[test]
    fn only_what_is_wholly_inside_is_the_host_itself() {
        let is = |network: &str| is_loopback(&network.parse().expect("a network"));
        assert!(is("127.0.0.1/32") && is("127.0.0.0/8") && is("::1/128"));
        assert!(!is("126.0.0.0/7") && !is("::/127") && !is("0.0.0.0/0"));
    }
}
