//! What the repository and a second one have in common on a server: where their files are, their configuration, the secrets in
//! them, and what pgBackRest says of them.
//!
//! A second repository is one of its own, with its own configuration, and never pgBackRest's `repo2`: that would let one that
//! does not answer hold up the other. Deliberately absent: WAL archiving, which begins with the first one alone.

mod said;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::address::Address;
use crate::base::secret::SecretUse;
use crate::inventory::sections::database::{Generations, Retention};
use crate::kinds::host::{self, QUICK_S, run};
use crate::kinds::parts::file::File;
pub use crate::kinds::pgbackrest::said::Repository;
use crate::kinds::postgres::{Cluster, PORT};
use crate::plan::change::FieldChange;
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command, glob};
use crate::plan::remark::Remark;
use crate::plan::restores::Repository as Which;
use crate::plan::step::{Content, HostStep};
use crate::render::render;

/// Where the files of a repository are.
pub(crate) struct Layout {
    /// pgBackRest's configurations: of who writes, and of who may only read.
    pub(crate) conf: &'static str,
    pub(crate) restore_conf: &'static str,
    /// The folders beside them, with key and passphrase.
    pub(crate) folder: &'static str,
    pub(crate) restore_folder: &'static str,
    /// The files with the passphrase. The last one holds it alone, for what is no pgBackRest.
    pub(crate) pass: [&'static str; 3],
    /// Where an access key comes from, and where pgBackRest reads it.
    pub(crate) keys: [(&'static str, &'static str); 2],
    /// The unit that watches the access keys.
    pub(crate) key_path: &'static str,
    /// Options that lead pgBackRest to these files.
    pub(crate) options: &'static [&'static str],
}

pub(crate) const FIRST: Layout = Layout {
    conf: "/etc/pgbackrest/pgbackrest.conf",
    restore_conf: "/etc/pgbackrest/restore.conf",
    folder: "/etc/pgbackrest/conf.d",
    restore_folder: "/etc/pgbackrest/restore.conf.d",
    pass: [
        "/etc/pgbackrest/conf.d/cipher.conf",
        "/etc/pgbackrest/restore.conf.d/cipher.conf",
        "/etc/seawall/backup.pass",
    ],
    keys: [
        ("/etc/seawall/backup.credentials", "/etc/pgbackrest/conf.d/key.conf"),
        ("/etc/seawall/restore.credentials", "/etc/pgbackrest/restore.conf.d/key.conf"),
    ],
    key_path: "seawall-repository-key.path",
    options: Which::First.options(),
};

pub(crate) const COPY: Layout = Layout {
    conf: "/etc/pgbackrest/copy.conf",
    restore_conf: "/etc/pgbackrest/copy-restore.conf",
    folder: "/etc/pgbackrest/copy.conf.d",
    restore_folder: "/etc/pgbackrest/copy-restore.conf.d",
    pass: [
        "/etc/pgbackrest/copy.conf.d/cipher.conf",
        "/etc/pgbackrest/copy-restore.conf.d/cipher.conf",
        "/etc/seawall/copy.pass",
    ],
    keys: [
        ("/etc/seawall/copy.credentials", "/etc/pgbackrest/copy.conf.d/key.conf"),
        ("/etc/seawall/copy-restore.credentials", "/etc/pgbackrest/copy-restore.conf.d/key.conf"),
    ],
    key_path: "seawall-copy-key.path",
    options: Which::Copy.options(),
};

/// What keeps WAL for the second repository and sends it there.
pub(crate) const COPY_PROGRAM: &str = "/usr/local/lib/seawall/copy";
/// Where WAL waits for the second repository. It is postgres'.
pub(crate) const COPY_SPOOL: &str = "/var/spool/seawall-copy";

pub(crate) const KEY_SCRIPT: &str = "/usr/local/lib/seawall/repository-key";
/// Access to a file with a secret that postgres needs.
const SECRET: &str = "640 root:postgres";
/// Where pgBackRest keeps its locks, and the files by which `pgbackrest stop` keeps it from working: for both repositories.
pub(crate) const LOCKS: &str = "/run/postgresql/pgbackrest";
/// A backup that takes longer is ended by its unit, in seconds: two days are for terabytes.
pub(crate) const BACKUP_S: u32 = 172_800;
/// A backup waits so long for another one, in seconds.
pub(crate) const WAIT_S: u32 = 43_200;
/// Processes that compress and ship: the smaller bundles have two processors.
const PROCESSES: u8 = 2;
/// Seconds for the commands that talk to S3 and wait for one segment of WAL.
const STANZA_S: u32 = 120;
/// Seconds for the first full backup: 60 GB at 10 MB/s are 100 minutes.
pub(crate) const FIRST_BACKUP_S: u32 = 14_400;

pub(crate) const AS_DECLARED: &str = "as declared";
pub(crate) const ANOTHER: &str = "another";
pub(crate) const NOT_COMPARED: &str = "not compared";
pub(crate) const CURRENT: &str = "current";
pub(crate) const OK: &str = "ok";

/// CANDIDATE: ends with 0 unless pgBackRest warns of an option or cannot read the file. Key and passphrase are not in
/// it: that they are missing (37) comes after everything else has been read.
const CHECK_CONF: &str = r#"said=$(runuser -u postgres -- env -i PATH="$PATH" timeout 20 pgbackrest --config="$1" --config-include-path=/var/spool/pgbackrest --stanza=check --log-level-console=off --log-level-stderr=warn info 2>&1)
status=$?
if printf '%s' "$said" | grep -q 'invalid option' || { [ "$status" != 37 ] && [ "$status" != 0 ]; }; then
    printf '%s\n' "$said"
    exit 78
fi"#;

/// FILE: the digest of the passphrase in it, never the passphrase.
const PASS_DIGEST: &str = r#"[ -f "$1" ] || exit 66
sed -e '/^\[global\]$/d' -e 's/^repo1-cipher-pass=//' -- "$1" | tr -d '\n' | sha256sum"#;

/// STANZA PASS: proves that the declared passphrase, as text and not as pgBackRest read it, opens the repository: the stanza's
/// first file, as it lies in S3, is decrypted by another program. pgBackRest encrypts as `openssl enc -aes-256-cbc -md sha1`.
pub(crate) const PROVE: &str = r#"export LC_ALL=C
pgbackrest --stanza="$1" --log-level-console=off repo-get --raw "archive/$1/archive.info" |
    openssl enc -d -aes-256-cbc -md sha1 -pass "file:$2" 2>/dev/null | head -c 4096 | tr -d '\000' | grep -q '^\[backrest\]' && exit
echo "the declared passphrase does not open the repository that was made with it" >&2
exit 1"#;

/// WHY: marks that the second repository lacks WAL, where there is one: its next backup is a full one then.
const MARK_GAP: &str = r#"cd /var/spool/seawall-copy 2>/dev/null || exit 0
printf '%s %s\n' "$(date +%s)" "$1" >gap"#;

/// Seconds for `info`, below the limit of a question: with a repository that does not answer it takes minutes.
const INFO_S: &str = "7";
/// SECONDS STANZA: as postgres, with warnings on standard error: what they say is not in the JSON.
const INFO: &str = r#"timeout -k 1 "$1" runuser -u postgres -- pgbackrest --stanza="$2" --log-level-console=off --log-level-stderr=warn --io-timeout=8 info --output=json
status=$?
[ "$status" -lt 124 ] || exit 75
exit "$status""#;

/// What a configuration is made of.
pub(crate) struct Conf<'a> {
    pub(crate) address: &'a Address,
    pub(crate) stanza: &'a str,
    pub(crate) bucket: &'a str,
    pub(crate) region: &'a str,
    pub(crate) retention: &'a Retention,
    pub(crate) cluster: Cluster,
    /// Lines about how WAL comes to the repository.
    pub(crate) archiving: &'a [&'a str],
}

/// A repository within its bucket.
pub(crate) fn path(stanza: &str) -> String {
    format!("/{stanza}/pgbackrest")
}

/// What is kept (pgBackRest, "Backup Retention"). By generations: as many monthly full backups, differential ones for
/// each week and one that `repo1-retention-diff` counts although it is full, and the daily ones that stand on these.
/// WAL is kept for the two newest full backups then; older ones restore to their own end.
fn retention(retention: &Retention) -> Vec<String> {
    match &retention.generations {
        None => vec!["repo1-retention-full-type=time".to_owned(), format!("repo1-retention-full={}", retention.days)],
        Some(Generations { daily: _, weekly, monthly }) => vec![
            "repo1-retention-full-type=count".to_owned(),
            format!("repo1-retention-full={monthly}"),
            format!("repo1-retention-diff={}", weekly + 1),
            "repo1-retention-archive-type=full".to_owned(),
            "repo1-retention-archive=2".to_owned(),
        ],
    }
}

pub(crate) fn text(address: &Address, template: &str, mut context: Value) -> String {
    context["address"] = address.to_string().into();
    render(template, &context).unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// Both configurations of a repository.
pub(crate) fn configurations(layout: &Layout, of: &Conf<'_>) -> [File; 2] {
    let conf = |folder: &str, extra: &[&str]| {
        let context = json!({
            "folder": folder, "path": path(of.stanza), "bucket": of.bucket, "region": of.region,
            "endpoint": format!("s3.{}.amazonaws.com", of.region), "retention": retention(of.retention),
            "archiving": of.archiving, "processes": PROCESSES, "locks": LOCKS, "extra": extra, "stanza": of.stanza,
            "data": of.cluster.data(), "port": PORT,
        });
        text(of.address, "pgbackrest.conf", context)
    };
    let checked = |path, text| File::private(path, "postgres", text).checked(&["sh", "-c", CHECK_CONF, "sh", "{}"]);
    let push = ["# One segment at a time is enough for one small server.", "[global:archive-push]", "process-max=1"];
    // A copy that is restored elsewhere must never write into the repository of the original.
    let off = [
        "# A restored copy never archives into the repository that it came from.",
        "[global:restore]",
        "archive-mode=off",
    ];
    [checked(layout.conf, conf(layout.folder, &push)), checked(layout.restore_conf, conf(layout.restore_folder, &off))]
}

/// A timer's text.
pub(crate) fn timer(address: &Address, what: &str, calendar: &str, persistent: bool, unit: &str) -> String {
    let context = json!({ "what": what, "calendar": calendar, "persistent": persistent, "unit": unit });
    text(address, "timer", context)
}

/// The files with secrets of a repository, as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Mode, owner and group of the files that hold secrets, for example `640 root:postgres`.
    pub secret_files: BTreeMap<String, String>,
    /// By file, whether it holds the declared passphrase: `as declared`, `another`, `not compared`.
    pub passphrases: BTreeMap<String, String>,
    /// By file, whether it holds the key of its credentials file: `current`, `another`, `none`, `no credentials`.
    pub keys: BTreeMap<String, String>,
    /// Files beside ours that pgBackRest would read for ours.
    pub foreign: Vec<String>,
}

impl Secrets {
    pub(crate) fn differences(&self, layout: &Layout) -> Vec<FieldChange> {
        let Self { secret_files, passphrases, keys, foreign: _ } = self;
        let mut fields = Vec::new();
        for (path, access) in layout.secret_files() {
            fields.extend(difference(path, secret_files.get(path), access));
        }
        for (path, state) in passphrases.iter().filter(|(_, state)| *state != NOT_COMPARED) {
            fields.extend(difference(&format!("passphrase.{path}"), Some(state), AS_DECLARED));
        }
        for (_, path) in layout.keys {
            fields.extend(difference(&format!("key.{path}"), keys.get(path), CURRENT));
        }
        fields
    }

    /// The file with another passphrase than the declared one, where pgBackRest writes with it.
    pub(crate) fn other_passphrase(&self, layout: &Layout) -> Option<&String> {
        let another = self.passphrases.iter().find(|(_, state)| *state == ANOTHER);
        another.map(|(path, _)| path).filter(|path| *path == layout.pass[0])
    }

    pub(crate) fn remark(&self, cipher_pass: &SecretUse) -> Option<Remark> {
        let uncompared = self.passphrases.values().any(|state| state == NOT_COMPARED);
        uncompared
            .then(|| format!("its passphrase was not compared: {} is not to be had here", cipher_pass.from).into())
    }
}

pub(crate) fn difference(path: &str, before: Option<&String>, after: &str) -> Option<FieldChange> {
    let differs = before.is_none_or(|before| before != after);
    differs.then(|| FieldChange::new(path, before.cloned().map(Value::from), Some(after.into())))
}

impl Layout {
    /// The files with secrets, with the access that they must have.
    fn secret_files(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.pass.into_iter().chain(self.keys.map(|(_, target)| target)).map(|path| (path, SECRET))
    }

    fn folders(&self) -> [String; 2] {
        [self.folder, self.restore_folder].map(|folder| format!("{folder}/*"))
    }

    /// What is asked about the files with secrets.
    pub(crate) fn secret_probes(&self, cipher_pass: &SecretUse) -> Vec<Probe> {
        let mut probes = vec![Probe::Secret(cipher_pass.clone())];
        probes.extend(self.secret_files().map(|(path, _)| ask(&access_query(path))));
        probes.extend(self.pass.map(|path| ask(&script(PASS_DIGEST, &[path]))));
        probes.extend(self.keys.map(|(credentials, target)| ask(&key_query(credentials, target))));
        probes.extend(self.folders().iter().map(|pattern| glob(pattern)));
        probes
    }

    pub(crate) fn secrets(&self, answers: &Answers, cipher_pass: &SecretUse) -> Result<Secrets, Unseen> {
        let mut found = Secrets {
            secret_files: BTreeMap::new(),
            passphrases: BTreeMap::new(),
            keys: BTreeMap::new(),
            foreign: Vec::new(),
        };
        for (path, _) in self.secret_files() {
            let said = answers.command(&words(&access_query(path)))?;
            if said.ok() {
                found.secret_files.insert(path.to_owned(), said.stdout.trim().to_owned());
            }
        }
        for path in self.pass {
            let said = answers.command(&words(&script(PASS_DIGEST, &[path])))?;
            let digest = said.stdout.split_whitespace().next().map(|hex| format!("sha256:{hex}"));
            let state = match (answers.fingerprint(cipher_pass), digest.filter(|_| said.ok())) {
                (_, None) => "none",
                (None, Some(_)) => NOT_COMPARED,
                (Some(wanted), Some(has)) if wanted == has => AS_DECLARED,
                (Some(_), Some(_)) => ANOTHER,
            };
            found.passphrases.insert(path.to_owned(), state.to_owned());
        }
        for (credentials, target) in self.keys {
            let said = answers.command(&words(&key_query(credentials, target)))?;
            found.keys.insert(target.to_owned(), if said.ok() { said.stdout.trim() } else { "none" }.to_owned());
        }
        for pattern in self.folders() {
            let ours = |path: &&str| found.secret_files.contains_key(*path) && *path != self.pass[2];
            let others = answers.glob(&pattern)?.into_iter().filter(|path| !ours(path)).map(str::to_owned);
            found.foreign.extend(others.collect::<Vec<_>>());
        }
        Ok(found)
    }

    /// Makes the folders of the configurations.
    pub(crate) fn directories(&self) -> Vec<HostStep> {
        let mut steps = vec![host::directory("/etc/seawall", "root", "root", "0755")];
        let own = ["/etc/pgbackrest", self.folder, self.restore_folder];
        steps.extend(own.map(|path| host::directory(path, "root", "postgres", "0750")));
        steps
    }

    /// Writes passphrases and keys, as far as `differs` says so of a field. What watches the keys does not see one that came while it
    /// was not there, so they are handed over when it is started.
    pub(crate) fn secret_steps(&self, cipher_pass: &SecretUse, differs: impl Fn(&str) -> bool) -> Vec<HostStep> {
        let mut steps = Vec::new();
        for path in self.pass.into_iter().filter(|path| differs(path) || differs(&format!("passphrase.{path}"))) {
            steps.push(self.passphrase(path, cipher_pass));
        }
        for (credentials, target) in self.keys {
            if differs(&format!("key.{target}")) || differs(target) || differs(self.key_path) {
                let argv = [KEY_SCRIPT, "write", credentials, target];
                steps.push(run(&argv, QUICK_S, format!("hand the key in {credentials} to pgBackRest")));
            }
        }
        steps
    }

    fn passphrase(&self, path: &str, secret: &SecretUse) -> HostStep {
        let template = if path == self.pass[2] { "{{pass}}\n" } else { "[global]\nrepo1-cipher-pass={{pass}}\n" };
        HostStep::WriteFile {
            path: path.to_owned(),
            owner: "root".to_owned(),
            group: "postgres".to_owned(),
            mode: "0640".to_owned(),
            content: Content::WithSecrets {
                template: template.to_owned(),
                secrets: BTreeMap::from([("pass".to_owned(), secret.clone())]),
            },
            validate: None,
        }
    }

    /// A command of pgBackRest's, as postgres.
    pub(crate) fn pgbackrest(&self, stanza: &str, more: &[&str], timeout_s: u32, what: &str) -> HostStep {
        let stanza = format!("--stanza={stanza}");
        let mut argv = vec!["runuser", "-u", "postgres", "--", "pgbackrest"];
        argv.extend(self.options);
        argv.push(&stanza);
        argv.extend(more);
        run(&argv, timeout_s, what)
    }

    /// Makes the stanza, and proves that the declared passphrase opens it. `more` are options.
    pub(crate) fn stanza(&self, stanza: &str, more: &[&str]) -> Vec<HostStep> {
        let words = [more, &["stanza-create"]].concat();
        let prove = self.led(PROVE);
        let argv = ["runuser", "-u", "postgres", "--", "sh", "-c", &prove, "sh", stanza, self.pass[2]];
        vec![
            self.pgbackrest(stanza, &words, STANZA_S, "create the stanza in the repository"),
            run(&argv, STANZA_S, "prove that the declared passphrase opens the repository"),
        ]
    }

    /// A program that calls pgBackRest, with the options that lead to this repository.
    fn led(&self, program: &str) -> String {
        if self.options.is_empty() {
            return program.to_owned();
        }
        program.replace("pgbackrest --stanza", &format!("pgbackrest {} --stanza", self.options.join(" ")))
    }

    fn info_query(&self, stanza: &str) -> Vec<String> {
        script(&self.led(INFO), &[INFO_S, stanza])
    }

    pub(crate) fn info_probe(&self, stanza: &str) -> Probe {
        ask(&self.info_query(stanza))
    }

    /// What pgBackRest warned of, and what it says of the stanza or why that is not known.
    pub(crate) fn said(&self, answers: &Answers, stanza: &str) -> Result<Said, Unseen> {
        let said = answers.command(&words(&self.info_query(stanza)))?;
        let mut warnings: Vec<String> =
            said.stderr.lines().filter(|line| line.contains("invalid option")).map(str::to_owned).collect();
        warnings.dedup();
        Ok(Said { warnings, repository: Repository::told(said, stanza, INFO_S) })
    }
}

/// What was said of a repository.
pub(crate) struct Said {
    pub(crate) warnings: Vec<String>,
    pub(crate) repository: Result<Repository, String>,
}

/// Marks that the second repository lacks WAL from now on, where there is one.
pub(crate) fn mark_gap(why: &str) -> HostStep {
    let argv = ["runuser", "-u", "postgres", "--", "sh", "-c", MARK_GAP, "sh", why];
    run(&argv, QUICK_S, "have the next backup to the second repository be a full one")
}

pub(crate) fn script(text: &str, words: &[&str]) -> Vec<String> {
    ["sh", "-c", text, "sh"].iter().chain(words).map(|&word| word.to_owned()).collect()
}

fn access_query(path: &str) -> Vec<String> {
    ["stat", "-c", "%a %U:%G", "--", path].map(str::to_owned).to_vec()
}

fn key_query(credentials: &str, target: &str) -> Vec<String> {
    [KEY_SCRIPT, "check", credentials, target].map(str::to_owned).to_vec()
}

pub(crate) fn ask(argv: &[String]) -> Probe {
    command(&words(argv))
}

pub(crate) fn words(argv: &[String]) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}
