//! What can be asked, and the answers.
//!
//! Host probes of all kinds for one host become one read-only program and one round trip; cloud probes run
//! concurrently. A probe is its own key: kinds that ask the same thing share one answer.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::secret::SecretUse;
use crate::plan::observed::{Observed, Unseen};

/// A question to one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    Cloud(CloudProbe),
    /// To the host that the resource lives on.
    Host(HostProbe),
    /// To the host of a server that a cloud resource puts something on: a read-only command, as in
    /// [`HostProbe::Command`].
    OnServer {
        server: String,
        argv: Vec<String>,
    },
    /// To the operator's own machine: a fingerprint of a secret, to compare with one of what a host holds.
    Secret(SecretUse),
}

/// A question to AWS. Names are physical names, as AWS knows them. Each answer is the state document of the same
/// name in [`crate::plan::cloud`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudProbe {
    /// Answer: [`crate::plan::cloud::KeyPair`].
    KeyPair { name: String },
    /// Answer: [`crate::plan::cloud::Instance`].
    Instance { name: String },
    /// Answer: [`crate::plan::cloud::StaticIp`].
    StaticIp { name: String },
    /// Answer: [`crate::plan::cloud::Ports`]; absent when the instance is.
    Ports { instance: String },
    /// Answer: [`crate::plan::cloud::Bucket`]. Refused when the bucket is in another account.
    Bucket { name: String },
    /// Answer: [`crate::plan::cloud::User`].
    User { name: String },
    /// Answer: [`crate::plan::cloud::Topic`].
    Topic { name: String },
    /// Answer: [`crate::plan::cloud::MetricAlarm`].
    MetricAlarm { name: String },
    /// Everything in the account and region that carries the tag `seawall:environment` = `environment`, and what is
    /// there beside it. Answer: [`crate::plan::cloud::Census`].
    Census { environment: String },
}

/// A question to a host, answered as root without changing anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostProbe {
    /// Metadata and content of a regular file. Answer: [`FileState`].
    File { path: String },
    /// Paths that match a shell glob, sorted. Answer: [`CommandState`] with one path a line in `stdout`.
    Glob { pattern: String },
    /// A read-only command: program and arguments, no shell, `LC_ALL=C`, at most 10 s. Answer: [`CommandState`].
    /// A program that is not installed answers with status 127.
    Command { argv: Vec<String> },
    /// One statement to a database of the host's PostgreSQL, as its superuser over the local socket, in a session that
    /// can only read and that nothing set for the database or the role reaches. It gives one row with one column of
    /// JSON. All statements to one database share a session, and each has 8 s. Answer: [`SqlAnswer`].
    Sql { database: String, sql: String },
}

/// A regular file as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    pub owner: String,
    pub group: String,
    /// Permission bits as `stat` prints them in octal, for example `644`.
    pub mode: String,
    /// Size in bytes.
    pub size: u64,
    /// The content where it is text of at most [`FILE_CONTENT_LIMIT`] bytes.
    pub text: Option<String>,
    /// `sha256:…` of the content.
    pub digest: String,
}

/// Largest file content that a probe brings back, in bytes. Configuration files are smaller by far; what is larger is
/// compared by digest.
pub const FILE_CONTENT_LIMIT: usize = 256 * 1024;

/// How a read-only command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandState {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CommandState {
    /// Whether it ended with status 0.
    pub fn ok(&self) -> bool {
        self.status == 0
    }
}

/// What a database answered to one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SqlAnswer {
    /// The row.
    Said(String),
    /// The statement failed, with PostgreSQL's own message. It says nothing about the others of its session.
    Failed(String),
    /// There was no session to ask it in, with psql's own message.
    NoSession(String),
}

/// The answers to the probes of one place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    pub cloud: BTreeMap<CloudProbe, Observed<serde_json::Value>>,
    pub files: BTreeMap<String, Observed<FileState>>,
    pub globs: BTreeMap<String, CommandState>,
    pub commands: BTreeMap<Vec<String>, CommandState>,
    /// By database and statement.
    pub sql: BTreeMap<(String, String), SqlAnswer>,
    /// What [`Probe::OnServer`] asked, by server and command.
    pub on_servers: BTreeMap<(String, Vec<String>), Result<CommandState, Unseen>>,
    /// `sha256:…` of each secret in its form, or why it is not to be had here. Never kept: whoever holds the fingerprint of
    /// a weak secret can guess it.
    pub secrets: BTreeMap<SecretUse, Result<String, String>>,
    /// Why nothing could be asked at this place, where that is so. Every answer is then `Unknown` for this reason.
    pub unseen: Option<Unseen>,
}

impl Answers {
    /// The answers of a place that could not be asked.
    pub fn unseen(why: Unseen) -> Self {
        Self { unseen: Some(why), ..Self::default() }
    }

    /// The state document that a cloud probe asked for.
    pub fn cloud<T: DeserializeOwned>(&self, probe: &CloudProbe) -> Observed<T> {
        if let Some(why) = &self.unseen {
            return Observed::Unknown(why.clone());
        }
        let Some(answer) = self.cloud.get(probe) else {
            return Observed::Unknown(Unseen::Misread(format!("no answer to {probe:?}")));
        };
        answer.clone().and_then(|value| match serde_json::from_value(value) {
            Ok(state) => Observed::Present(state),
            Err(error) => Observed::Unknown(Unseen::Misread(error.to_string())),
        })
    }

    /// The state of a file.
    pub fn file(&self, path: &str) -> Observed<FileState> {
        if let Some(why) = &self.unseen {
            return Observed::Unknown(why.clone());
        }
        self.files
            .get(path)
            .cloned()
            .unwrap_or_else(|| Observed::Unknown(Unseen::Misread(format!("no answer about `{path}`"))))
    }

    /// How a command ended, or why it is not known.
    pub fn command(&self, argv: &[&str]) -> Result<&CommandState, Unseen> {
        if let Some(why) = &self.unseen {
            return Err(why.clone());
        }
        let key: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        self.commands.get(&key).ok_or_else(|| Unseen::Misread(format!("no answer to `{}`", argv.join(" "))))
    }

    /// What a database answered to a statement, or why it is not known.
    pub fn sql(&self, database: &str, sql: &str) -> Result<&SqlAnswer, Unseen> {
        if let Some(why) = &self.unseen {
            return Err(why.clone());
        }
        let key = (database.to_owned(), sql.to_owned());
        self.sql.get(&key).ok_or_else(|| Unseen::Misread(format!("no answer of the database `{database}`")))
    }

    /// The fingerprint of a secret, or `None` where this machine does not have it: a plan in CI need not.
    pub fn fingerprint(&self, secret: &SecretUse) -> Option<&str> {
        self.secrets.get(secret).and_then(|answer| answer.as_ref().ok()).map(String::as_str)
    }

    /// How a command on a server ended, for a cloud resource.
    pub fn on_server(&self, server: &str, argv: &[String]) -> Result<&CommandState, Unseen> {
        if let Some(why) = &self.unseen {
            return Err(why.clone());
        }
        match self.on_servers.get(&(server.to_owned(), argv.to_vec())) {
            Some(answer) => answer.as_ref().map_err(Clone::clone),
            None => Err(Unseen::Misread(format!("no answer to `{}` on `{server}`", argv.join(" ")))),
        }
    }

    /// The paths that matched a glob, sorted.
    pub fn glob(&self, pattern: &str) -> Result<Vec<&str>, Unseen> {
        if let Some(why) = &self.unseen {
            return Err(why.clone());
        }
        let state = self.globs.get(pattern).ok_or_else(|| Unseen::Misread(format!("no answer about `{pattern}`")))?;
        Ok(state.stdout.lines().collect())
    }
}

/// A probe for a file.
pub fn file(path: &str) -> Probe {
    Probe::Host(HostProbe::File { path: path.to_owned() })
}

/// A probe that runs a read-only command.
pub fn command(argv: &[&str]) -> Probe {
    Probe::Host(HostProbe::Command { argv: argv.iter().map(|&word| word.to_owned()).collect() })
}

/// A probe that asks a database.
pub fn sql(database: &str, sql: &str) -> Probe {
    Probe::Host(HostProbe::Sql { database: database.to_owned(), sql: sql.to_owned() })
}

/// A probe that lists the paths that match a glob.
pub fn glob(pattern: &str) -> Probe {
    Probe::Host(HostProbe::Glob { pattern: pattern.to_owned() })
}
