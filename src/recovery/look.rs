//! Asks about a server's backups: pgBackRest and PostgreSQL on the server, and the bucket with the operator's own
//! credentials. Changes nothing.

use jiff::Timestamp;

use crate::engine::refresh::endpoint;
use crate::engine::resolve::ServerRef;
use crate::inventory::extensions::preload;
use crate::inventory::names::SqlName;
use crate::inventory::sections::Inventory;
use crate::inventory::sections::database::{Backup as Section, Hook as Declared, HookWhen};
use crate::kinds::pgbackrest_copy::look as pgbackrest_copy;
use crate::kinds::pgbackrest_copy::look::Spool;
use crate::kinds::pgbackrest_repo;
use crate::kinds::postgres::{Cluster, MAINTENANCE, Query, Told};
use crate::plan::backups::Archiving;
use crate::plan::host::Endpoint;
use crate::plan::info::{self, Stanza};
use crate::plan::probe::{CloudProbe, HostProbe, Probe};
use crate::plan::restores::{Hook, Purpose, Repository, RestorePlan};
use crate::reach::Ask;
use crate::reach::look::{LongQuestion, Look, pgbackrest, with_margin};
use crate::reach::ssh::command::CommandEnd;
use crate::reach::world::World;
use crate::recovery::dumps;
use crate::recovery::seen::{Seen, prefix};

/// For `pgbackrest info`: a second usually. With a repository that does not answer it tries for minutes, which nobody
/// waits for.
const INFO_LIMIT_S: u32 = 60;
/// What `timeout` exits with.
const TIMED_OUT: i32 = 124;
/// What a shell exits with where there is no such program.
const NO_PROGRAM: i32 = 127;

/// A server of the inventory with backups.
#[derive(Clone, Debug)]
pub struct Target {
    pub server: String,
    pub reference: ServerRef,
    pub section: Section,
    /// The bucket's name in S3.
    pub bucket: String,
    /// PostgreSQL's major version.
    pub version: u16,
    /// Which one of the server's instances is meant.
    pub generation: u32,
    /// The databases of which logical dumps are made, where they are declared.
    pub dumped: Vec<String>,
    /// Which of the server's repositories is meant.
    pub repository: Repository,
    /// The second one, where there is one and the first is meant: its section, and its bucket's name in S3.
    pub copy: Option<(Section, String)>,
    /// The libraries that a copy loads from the start, as the inventory's extensions need them.
    pub preload: Vec<String>,
    /// What is run after restores, those that are only for promoted ones included.
    pub hooks: Vec<Hook>,
}

/// The servers of an inventory that have backups.
pub fn targets(inventory: &Inventory, servers: &std::collections::BTreeMap<String, ServerRef>) -> Vec<Target> {
    let mut found = Vec::new();
    for (name, server) in &inventory.servers {
        let (Some(section), Some(reference)) = (&server.backup, servers.get(name.as_str())) else { continue };
        // `check` refuses a name that is no bucket of the inventory.
        let Some(bucket) = inventory.buckets.get(&section.bucket) else { continue };
        let postgres = server.postgres.clone().unwrap_or_default();
        let dumped = section.dumps.as_ref().map(|dumps| match dumps.databases.as_slice() {
            [] => postgres.databases.iter().map(ToString::to_string).collect(),
            some => some.iter().map(ToString::to_string).collect(),
        });
        let copy = section.copies.first().map(|copy| section.of_copy(copy));
        found.push(Target {
            repository: Repository::First,
            copy: copy.and_then(|copy| inventory.buckets.get(&copy.bucket).map(|bucket| (copy, bucket.name.clone()))),
            hooks: section.after_restore.iter().map(|hook| resolved(hook, &postgres.databases)).collect(),
            preload: preload(&postgres.extensions).into_iter().map(str::to_owned).collect(),
            server: name.to_string(),
            reference: reference.clone(),
            section: section.clone(),
            bucket: bucket.name.clone(),
            generation: server.instance.generation,
            version: postgres.version,
            dumped: dumped.unwrap_or_default(),
        });
    }
    found
}

fn resolved(hook: &Declared, databases: &[SqlName]) -> Hook {
    let only = match databases {
        [only] => Some(only),
        _ => None,
    };
    Hook {
        run: hook.run.clone(),
        promoted: hook.when == HookWhen::Promoted,
        database: hook.database.as_ref().or(only).map_or_else(|| MAINTENANCE.to_owned(), SqlName::to_string),
        user: hook.user.clone(),
        limit_s: hook.limit.seconds(),
    }
}

impl Target {
    /// The plan with what is run after such a restore. A copy is never changed by what is meant for the real database.
    pub fn with_hooks(&self, plan: RestorePlan) -> RestorePlan {
        let runs = |hook: &&Hook| plan.purpose == Purpose::InPlace || !hook.promoted;
        RestorePlan { hooks: self.hooks.iter().filter(runs).cloned().collect(), repository: self.repository, ..plan }
    }

    /// The server's second repository, where there is one.
    pub fn of_copy(self) -> Option<Self> {
        let (section, bucket) = self.copy.clone()?;
        Some(Self { section, bucket, repository: Repository::Copy, copy: None, dumped: Vec::new(), ..self })
    }

    /// pgBackRest's word for the cluster in its repository.
    pub fn stanza(&self) -> &str {
        self.section.stanza.as_str()
    }

    /// Where the server is logged in to.
    pub async fn endpoint(&self, ask: &impl Ask) -> Result<Endpoint, String> {
        let answer = ask.cloud(&CloudProbe::Instance { name: self.reference.instance.clone() }).await;
        endpoint(&self.server, &self.reference, &answer).map_err(|why| why.to_string())
    }

    /// Runs a command of pgBackRest's and gives its lines.
    pub async fn run(
        &self,
        world: &World,
        at: &Endpoint,
        limit_s: u32,
        words: &[&str],
        on_line: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<CommandEnd, String> {
        let argv = pgbackrest(self.repository, self.stanza(), limit_s, words);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let end = world.ssh.command(at, &argv, with_margin(limit_s), on_line).await;
        self.ended(end.map_err(|error| error.to_string())?, limit_s)
    }

    /// What two statuses that are not pgBackRest's own mean.
    fn ended(&self, end: CommandEnd, limit_s: u32) -> Result<CommandEnd, String> {
        match end.status {
            TIMED_OUT => Err(format!(
                "pgBackRest did not end within {limit_s} s: the repository does not answer `{}`",
                self.server
            )),
            NO_PROGRAM => Err(format!("pgBackRest is not installed on `{}`", self.server)),
            _ => Ok(end),
        }
    }

    /// Everything that can be seen without changing anything, at the same time.
    pub async fn look(&self, look: &Look, on_objects: &mut (dyn FnMut(usize) + Send)) -> Seen {
        let (at, prefix) = (self.endpoint(look).await, prefix(self.stanza()));
        let info = async { self.info(look, at.as_ref().map_err(Clone::clone)?).await };
        let asked = async {
            match at.as_ref() {
                Ok(at) => self.archiving(look, at).await,
                Err(why) => (Err(why.clone()), Err(why.clone()), self.spool_unseen(why)),
            }
        };
        let objects = look.objects(&self.bucket, &prefix, on_objects);
        let dumps = async {
            if self.section.dumps.is_none() {
                return Ok(None);
            }
            look.objects(&self.bucket, &dumps::prefix(self.stanza()), &mut |_| {}).await
        };
        let (info, (archiving, stops, spool), objects, dumps) = futures::join!(info, asked, objects, dumps);
        Seen {
            server: self.server.clone(),
            stanza: self.stanza().to_owned(),
            bucket: self.bucket.clone(),
            now: Timestamp::now().as_second(),
            info,
            objects: objects.map_err(|why| why.to_string()),
            dumps: dumps.map_err(|why| why.to_string()),
            archiving,
            stops,
            spool,
        }
    }

    /// What pgBackRest says of the stanza.
    pub async fn info(&self, look: &Look, at: &Endpoint) -> Result<Stanza, String> {
        let mut said = Vec::new();
        let question = LongQuestion::BackupInfo { repository: self.repository, stanza: self.stanza() };
        let end = look.long(at, question, INFO_LIMIT_S, &mut |line| said.extend_from_slice(line)).await?;
        let end = self.ended(end, INFO_LIMIT_S)?;
        info::read(&said, self.stanza()).map_err(|why| match end.stderr.lines().next() {
            Some(line) if said.is_empty() => line.to_owned(),
            _ => why,
        })
    }

    fn spool_unseen(&self, why: &str) -> Option<Result<Spool, String>> {
        (self.repository == Repository::Copy).then(|| Err(why.to_owned()))
    }

    /// What PostgreSQL says of its archiving, the files by which pgBackRest is stopped, and what waits for the second repository
    /// where that is meant.
    async fn archiving(&self, look: &Look, at: &Endpoint) -> Asked {
        let cluster = Cluster { version: self.version };
        let query = Query::new(MAINTENANCE, ARCHIVING);
        let mut probes = vec![cluster.probe(), query.probe(), pgbackrest_repo::stops_probe()];
        let of_copy = self.repository == Repository::Copy;
        probes.extend(of_copy.then(pgbackrest_copy::spool_probe));
        let probes: Vec<HostProbe> = probes.into_iter().filter_map(host).collect();
        let answers = look.host(at, &probes).await;
        let told = cluster.answer::<Archiving>(&self.server, &answers, &query).map(Told::said);
        let stops = pgbackrest_repo::stops(&answers, self.stanza());
        let mut told = told.map_err(|why| why.to_string());
        let spool = of_copy.then(|| match pgbackrest_copy::spool(&answers) {
            Ok(spool) => spool.ok_or_else(|| "WAL is not kept for it".to_owned()),
            Err(why) => Err(why.to_string()),
        });
        if let (true, Ok(Some(archiving))) = (of_copy, &mut told) {
            // What PostgreSQL says of arrivals and failures is about the first repository.
            archiving.last_archived = None;
            archiving.last_archived_at = None;
            archiving.last_failed_at = None;
            archiving.ready = 0;
        }
        (told, stops.map_err(|why| why.to_string()), spool)
    }
}

/// What PostgreSQL says, what stops pgBackRest, and what waits.
type Asked = (Result<Option<Archiving>, String>, Result<Vec<String>, String>, Option<Result<Spool, String>>);

/// Those of the probes that a host answers.
pub(super) fn host(probe: Probe) -> Option<HostProbe> {
    match probe {
        Probe::Host(probe) => Some(probe),
        Probe::Cloud(_) | Probe::OnServer { .. } | Probe::Secret(_) => None,
    }
}

/// One row about archiving. After a promotion the control file names the old timeline until the next checkpoint, and the
/// segment that is written the new one. `pg_ls_archive_statusdir` is of PostgreSQL 12 and newer.
const ARCHIVING: &str = "SELECT json_build_object(\
    'mode', current_setting('archive_mode'), 'command', current_setting('archive_command'), \
    'archived_count', a.archived_count, 'last_archived', a.last_archived_wal, \
    'last_archived_at', extract(epoch FROM a.last_archived_time)::bigint, \
    'failed_count', a.failed_count, 'last_failed', a.last_failed_wal, \
    'last_failed_at', extract(epoch FROM a.last_failed_time)::bigint, \
    'ready', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'), \
    'current', CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END, \
    'segment_bytes', (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'), \
    'system_id', (SELECT system_identifier::text FROM pg_control_system()), 'timeline', t.id, \
    'history', pg_read_file('pg_wal/' || lpad(upper(to_hex(t.id)), 8, '0') || '.history', 0, 65536, true)) \
    FROM pg_stat_archiver a, \
    (SELECT greatest((SELECT timeline_id FROM pg_control_checkpoint()), CASE WHEN pg_is_in_recovery() THEN 0 \
        ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END) AS id) t";
