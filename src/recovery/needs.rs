//! Asks a server whether it has what a restore takes, before anything is restored: room, versions, libraries, and the settings
//! without which recovery does not go on. What could not be asked is said, and keeps nothing from being restored: the server's
//! own program looks at its disk once more.
//!
//! Deliberately absent: a guess where another cluster than the backup's runs on the server. Of the original, nothing is known then.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::base::diag::Diagnostic;
use crate::kinds::postgres::{Cluster, MAINTENANCE, Query, Told};
use crate::plan::backups::Backups;
use crate::plan::needs::{Library, NeededBy, Needs, Number, Room};
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, HostProbe, command, glob};
use crate::plan::restores::{Purpose, RestorePlan};
use crate::reach::Ask;
use crate::reach::look::Look;
use crate::recovery::goal::segments;
use crate::recovery::look::{Target, host};
use crate::recovery::restore::HOME;
use crate::recovery::wal::DEFAULT_SEGMENT;

/// What stays free beside what is restored: PostgreSQL stops when its disk is full. `programs/restore` has the same number.
const LEFT_BYTES: u64 = 1 << 30;
/// Free inodes that a restore begins with; `programs/restore` has the same number.
const INODES: u64 = 20_000;
/// WAL that a copy keeps while it replays: PostgreSQL's own `max_wal_size`, after which it removes what it has replayed.
const WAL_AT_ONCE_BYTES: u64 = 1 << 30;
/// Databases that are asked for their libraries; each costs a session.
const DATABASES_ASKED: usize = 50;

/// PostgreSQL's names of the settings, and those of `pg_controldata`.
const NUMBERS: [(&str, &str); 5] = [
    ("max_connections", "max_connections setting"),
    ("max_worker_processes", "max_worker_processes setting"),
    ("max_wal_senders", "max_wal_senders setting"),
    ("max_prepared_transactions", "max_prepared_xacts setting"),
    ("max_locks_per_transaction", "max_locks_per_xact setting"),
];

/// What the cluster has loaded, and the databases that have functions of their own.
const CLUSTER: &str = "SELECT json_build_object('preload', current_setting('shared_preload_libraries'), \
    'databases', (SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn))";
/// The libraries from which a database's functions are loaded, without those that PostgreSQL itself has made it with.
const FUNCTIONS: &str = "SELECT json_build_object('libraries', \
    (SELECT coalesce(json_agg(DISTINCT probin), '[]') FROM pg_proc WHERE probin IS NOT NULL AND oid >= 16384))";

#[derive(Deserialize)]
struct OfCluster {
    preload: String,
    databases: Vec<String>,
}

#[derive(Deserialize)]
struct OfDatabase {
    libraries: Vec<String>,
}

/// What was asked of a server, by the words of the questions.
struct Questions {
    cluster: Cluster,
    control: Vec<String>,
    disk: Vec<String>,
    postgres: Vec<String>,
    libraries: String,
}

const PGBACKREST: [&str; 2] = ["pgbackrest", "version"];

impl Questions {
    fn of(version: u16) -> Self {
        let (cluster, bin) = (Cluster { version }, format!("/usr/lib/postgresql/{version}/bin"));
        let data = cluster.data();
        let own = |argv: &[&str]| argv.iter().map(|&word| word.to_owned()).collect();
        Self {
            // As postgres: others can write where the data is.
            control: own(&["runuser", "-u", "postgres", "--", &format!("{bin}/pg_controldata"), "-D", &data]),
            disk: own(&["df", "-k", "--output=file,avail,iavail", "--", HOME, &data, BASE]),
            postgres: own(&[&format!("{bin}/postgres"), "--version"]),
            libraries: format!("/usr/lib/postgresql/{version}/lib/*.so"),
            cluster,
        }
    }

    fn probes(&self) -> Vec<HostProbe> {
        let words = |argv: &[String]| command(&argv.iter().map(String::as_str).collect::<Vec<_>>());
        let mut all = vec![words(&self.control), words(&self.disk), words(&self.postgres), command(&PGBACKREST)];
        all.extend([glob(&self.libraries), self.cluster.probe(), Query::new(MAINTENANCE, CLUSTER).probe()]);
        all.into_iter().filter_map(host).collect()
    }
}

/// What PostgreSQL's folders are in; it is there before any of them.
const BASE: &str = "/var/lib/postgresql";

impl Target {
    /// The plan with what its server has for it, and the findings about that.
    pub async fn with_needs(&self, look: &Look, known: &Backups, mut plan: RestorePlan) -> RestorePlan {
        let set = known.backups.iter().find(|set| set.label == plan.set);
        let system_id = set.and_then(|set| set.made_with.system_id.as_deref());
        plan.needs.room = room(&plan);
        let questions = Questions::of(self.version);
        let at = match self.endpoint(look).await {
            Ok(at) => at,
            Err(why) => {
                plan.needs.unknown.push(format!("what `{}` has for it: {why}", self.server));
                return plan;
            }
        };
        let answers = look.host(&at, &questions.probes()).await;
        let is_original = read(&mut plan, &questions, &answers, system_id);
        let of_cluster = if is_original { self.of_cluster(&questions, &answers, &mut plan.needs) } else { None };
        let mut functions: BTreeMap<String, Result<Vec<String>, String>> = BTreeMap::new();
        if let Some(of_cluster) = &of_cluster {
            let (asked, left) = of_cluster.databases.split_at(of_cluster.databases.len().min(DATABASES_ASKED));
            let queries: Vec<Query> = asked.iter().map(|database| Query::new(database, FUNCTIONS)).collect();
            let mut probes = vec![questions.cluster.probe()];
            probes.extend(queries.iter().map(Query::probe));
            let probes: Vec<HostProbe> = probes.into_iter().filter_map(host).collect();
            let answers = look.host(&at, &probes).await;
            for (database, query) in asked.iter().zip(&queries) {
                let told = questions.cluster.answer::<OfDatabase>(&self.server, &answers, query);
                let told = told.map_err(|why| why.to_string()).and_then(|told| {
                    told.said().map(|said| said.libraries).ok_or_else(|| "it is not there any more".to_owned())
                });
                functions.insert(database.clone(), told);
            }
            for database in left {
                functions.insert(database.clone(), Err("too many databases to ask each".to_owned()));
            }
        }
        let preloaded = of_cluster.map(|of_cluster| of_cluster.preload).unwrap_or_default();
        libraries(&mut plan.needs, &self.preload, &preloaded, functions, &there(&questions, &answers), self.version);
        plan.findings.extend(findings(&plan, self.version));
        plan
    }

    fn of_cluster(&self, questions: &Questions, answers: &Answers, needs: &mut Needs) -> Option<OfCluster> {
        let query = Query::new(MAINTENANCE, CLUSTER);
        let why = match questions.cluster.answer::<OfCluster>(&self.server, answers, &query) {
            Ok(Told::Said(said)) => return Some(said),
            Ok(Told::NoCluster | Told::NoDatabase) => "there is no cluster".to_owned(),
            Err(why) => why.to_string(),
        };
        needs.unknown.push(format!("the libraries that the original has loaded: {why}"));
        None
    }
}

/// What is needed of the disk; what is free is not known yet.
fn room(plan: &RestorePlan) -> Room {
    let wal = segments(&plan.first_segment, &plan.last_segment).saturating_mul(DEFAULT_SEGMENT).min(WAL_AT_ONCE_BYTES);
    Room {
        wal_bytes: wal,
        left_bytes: LEFT_BYTES,
        needed_bytes: plan.bytes.map(|bytes| bytes.saturating_add(wal).saturating_add(LEFT_BYTES)),
        needed_inodes: INODES,
        ..Room::default()
    }
}

/// Puts what was answered beside what is needed. Whether the cluster on the server is the one that the backup is of.
fn read(plan: &mut RestorePlan, questions: &Questions, answers: &Answers, system_id: Option<&str>) -> bool {
    let RestorePlan { needs, purpose, .. } = plan;
    let said = |argv: &[String]| {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        output(answers, &argv)
    };
    match said(&questions.disk) {
        Ok(text) => {
            let data = questions.cluster.data();
            let places = match purpose {
                Purpose::Beside | Purpose::Drill => [HOME, BASE],
                Purpose::InPlace | Purpose::Rehearsal => [data.as_str(), BASE],
            };
            if let Some((place, bytes, inodes)) = places.iter().find_map(|place| free(&text, place)) {
                (needs.room.place, needs.room.free_bytes, needs.room.free_inodes) = (Some(place), Some(bytes), inodes);
            } else {
                needs.unknown.push(format!("what is free in {}: df does not say", places[0]));
            }
        }
        Err(why) => needs.unknown.push(format!("what is free on the disk: {why}")),
    }
    // `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`, `pgBackRest 2.45`.
    let version = |text: &str, before: &str| Some(text.split_once(before)?.1.split_whitespace().next()?.to_owned());
    match said(&questions.postgres) {
        Ok(text) => needs.postgres.installed = version(&text, "(PostgreSQL) "),
        Err(why) => needs.unknown.push(format!("which PostgreSQL is installed: {why}")),
    }
    match output(answers, &PGBACKREST) {
        Ok(text) => needs.pgbackrest.installed = version(&text, "pgBackRest "),
        Err(why) => needs.unknown.push(format!("which pgBackRest is installed: {why}")),
    }
    let control = match said(&questions.control) {
        Ok(text) => text,
        Err(why) => {
            needs.unknown.push(format!("the original's settings: {why}"));
            return false;
        }
    };
    let value = |key: &str| {
        let line = control.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let is_original = system_id.is_some() && value("Database system identifier") == system_id;
    if !is_original {
        needs.unknown.push("the original's settings and libraries: another cluster is on the server".to_owned());
    }
    needs.numbers = NUMBERS
        .iter()
        .map(|&(name, key)| {
            let here = value(key).and_then(|number| number.parse().ok());
            Number { name: name.to_owned(), original: here.filter(|_| is_original), copy: here }
        })
        .collect();
    is_original
}

/// What a program printed, or why that is not known.
fn output(answers: &Answers, argv: &[&str]) -> Result<String, String> {
    let said = answers.command(argv).map_err(|why: Unseen| why.to_string())?;
    // `df` fails where one of the folders is not there, and tells of the others.
    if said.ok() || argv[0] == "df" && !said.stdout.is_empty() {
        return Ok(said.stdout.clone());
    }
    let program = argv.iter().find(|word| word.contains('/')).unwrap_or(&argv[0]);
    Err(match said.stderr.lines().next() {
        Some(line) => format!("{program}: {}", line.trim()),
        None => format!("{program} ended with status {}", said.status),
    })
}

/// Of `df --output=file,avail,iavail`: what is free at a folder. Some file systems have no number of inodes and say `-` or 0.
fn free(text: &str, place: &str) -> Option<(String, u64, Option<u64>)> {
    let fields = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_place = fields.into_iter().find(|fields| fields.len() == 3 && fields[0] == place)?;
    let kilobytes: u64 = of_place[1].parse().ok()?;
    Some((place.to_owned(), kilobytes * 1024, of_place[2].parse().ok()))
}

/// The names of the libraries in PostgreSQL's folder, or why they are not known.
fn there(questions: &Questions, answers: &Answers) -> Result<Vec<String>, String> {
    let paths = answers.glob(&questions.libraries).map_err(|why| why.to_string())?;
    let name = |path: &&str| path.rsplit('/').next().and_then(|file| file.strip_suffix(".so")).map(str::to_owned);
    Ok(paths.iter().filter_map(name).collect())
}

/// A library as PostgreSQL names it, without the folder where it is PostgreSQL's own: `$libdir/pgaudit`, `"pg_cron"`, `x.so`.
fn library(text: &str, version: u16) -> String {
    let text = text.trim().trim_matches('"').trim();
    let own = [format!("/usr/lib/postgresql/{version}/lib/"), "$libdir/".to_owned()];
    let name = own.iter().find_map(|folder| text.strip_prefix(folder.as_str())).unwrap_or(text);
    name.strip_suffix(".so").unwrap_or(name).to_owned()
}

fn libraries(
    needs: &mut Needs,
    start: &[String],
    preloaded: &str,
    functions: BTreeMap<String, Result<Vec<String>, String>>,
    there: &Result<Vec<String>, String>,
    version: u16,
) {
    let mut found: BTreeMap<String, NeededBy> = BTreeMap::new();
    let mut add = |text: &str, by: NeededBy| {
        let name = library(text, version);
        if !name.is_empty() {
            found.entry(name).and_modify(|known| *known = by.min(*known)).or_insert(by);
        }
    };
    for name in start {
        add(name, NeededBy::Start);
    }
    for name in preloaded.split(',') {
        add(name, NeededBy::Original);
    }
    for (database, told) in functions {
        match told {
            Ok(names) => {
                for name in &names {
                    add(name, NeededBy::Function);
                }
            }
            Err(why) => needs.unknown.push(format!("the libraries that `{database}` needs: {why}")),
        }
    }
    match there {
        Ok(there) => {
            let is_there = |name: &String| (!name.contains('/')).then(|| there.contains(name));
            let one = |(name, needed_by)| Library { is_there: is_there(&name), name, needed_by };
            needs.libraries = found.into_iter().map(one).collect();
        }
        Err(why) => needs.unknown.push(format!("which libraries are there: {why}")),
    }
}

/// What keeps it from being carried out, and what should be known.
fn findings(plan: &RestorePlan, declared: u16) -> Vec<Diagnostic> {
    let Needs { postgres, pgbackrest, room, libraries, .. } = &plan.needs;
    let (server, mut found) = (&plan.server, Vec::new());
    let no_room = |why: String| {
        let hint =
            "`seawall restore list` shows copies that are there still, `drop` removes one; or use a larger bundle";
        Diagnostic::error("restore-no-room", format!("`{server}` has no room for the restore")).note(why).hint(hint)
    };
    let place = room.place.as_deref().unwrap_or_default();
    // Of a backup whose size is not known, the rest at least.
    let needed = room.needed_bytes.unwrap_or(room.wal_bytes + room.left_bytes);
    if let Some(free) = room.free_bytes.filter(|free| *free < needed) {
        let mb = |bytes: u64| bytes.div_ceil(1_000_000);
        found.push(no_room(format!(
            "it needs {} MB in {place}, {} MB of them for WAL and {} MB that stay free; {} MB are free",
            mb(needed),
            mb(room.wal_bytes),
            mb(room.left_bytes),
            free / 1_000_000
        )));
    }
    if let Some(free) = room.free_inodes.filter(|free| *free < room.needed_inodes) {
        let needed = room.needed_inodes;
        found.push(no_room(format!("it needs {needed} inodes in {place}, and {free} are free")));
    }
    let cannot = |why: String| {
        Diagnostic::error("restore-cannot-run", format!("what is restored cannot run on `{server}`")).note(why)
    };
    if let Some(made) = postgres.backup.as_ref().filter(|made| **made != declared.to_string()) {
        let why = format!("backup {} is of PostgreSQL {made}, and {declared} is declared", plan.set);
        found.push(cannot(why).hint("restore it on a server of that version, or choose another backup with --set"));
    }
    for library in libraries.iter().filter(|library| library.is_there == Some(false)) {
        let name = &library.name;
        found.push(match library.needed_by {
            NeededBy::Start => cannot(format!("PostgreSQL is started with the library `{name}`, which is not there"))
                .hint("`seawall apply` installs the packages of the declared extensions"),
            NeededBy::Original | NeededBy::Function => {
                let problem = Diagnostic::warning("restore-library", format!("the library `{name}` is not there"));
                problem.note(match library.needed_by {
                    NeededBy::Original => "the original has loaded it from its start, and the copy does not",
                    NeededBy::Start | NeededBy::Function => {
                        "functions of the original's databases need it, and fail in the copy"
                    }
                })
            }
        });
    }
    if let (Some(made), Some(installed)) = (&pgbackrest.backup, &pgbackrest.installed)
        && numbers(installed) < numbers(made)
    {
        let problem = Diagnostic::warning(
            "restore-older-pgbackrest",
            "pgBackRest here is older than the one that made the backup",
        );
        found
            .push(problem.note(format!("{made} made it, and {installed} is installed; it may not be able to read it")));
    }
    found
}

/// A version's numbers, so that 2.9 is older than 2.45.
fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests;
