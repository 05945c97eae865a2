//! The half of the world that cannot write. Commands that only look (`plan`, `drift`, `status`, `backup list`) hold this
//! and no [`World`]: what they call cannot change anything, whatever it is.
//!
//! Deliberately absent: a way to run a program that the caller names. Programs that may take longer than a probe are a
//! closed list, [`LongQuestion`].

use std::time::Duration;

use serde_json::Value;

use crate::base::secret::SecretUse;
use crate::plan::host::Endpoint;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, CloudProbe, HostProbe};
use crate::plan::restores::Repository;
use crate::reach::Ask;
use crate::reach::aws::objects::Listed;
use crate::reach::aws::store::StoreError;
use crate::reach::ssh::command::CommandEnd;
use crate::reach::world::World;

/// For a program to be killed on the server after its limit, and for the way there.
const MARGIN: Duration = Duration::from_secs(30);

/// The world for those who only look.
pub struct Look(World);

/// A question to a host that may take longer than a probe may, and changes nothing.
#[derive(Clone, Copy, Debug)]
pub enum LongQuestion<'a> {
    /// What pgBackRest knows of a stanza, as JSON.
    BackupInfo { repository: Repository, stanza: &'a str },
}

impl LongQuestion<'_> {
    /// The program, with its limit on the host: a lost connection leaves nothing behind.
    fn argv(self, limit_s: u32) -> Vec<String> {
        match self {
            Self::BackupInfo { repository, stanza } => {
                let words = ["info", "--output=json", "--log-level-stderr=off", "--log-level-console=off"];
                pgbackrest(repository, stanza, limit_s, &words)
            }
        }
    }
}

/// A command of pgBackRest's as the user who may read its secrets, with its limit on the server.
pub fn pgbackrest(repository: Repository, stanza: &str, limit_s: u32, words: &[&str]) -> Vec<String> {
    let (limit, stanza) = (limit_s.to_string(), format!("--stanza={stanza}"));
    let mut argv = vec!["runuser", "-u", "postgres", "--", "timeout", "--kill-after=10", &limit, "pgbackrest"];
    argv.extend(repository.options());
    argv.push(&stanza);
    argv.extend(words);
    argv.into_iter().map(str::to_owned).collect()
}

/// How long to wait here for a program that has a limit on the server.
pub fn with_margin(limit_s: u32) -> Duration {
    Duration::from_secs(u64::from(limit_s)) + MARGIN
}

impl Look {
    /// The same world, without what could change it.
    pub fn of(world: &World) -> Self {
        Self(world.clone())
    }

    /// Asks a host a long question. Each line of the answer is given as it comes.
    ///
    /// # Errors
    /// Why the program's end was not seen.
    pub async fn long(
        &self,
        at: &Endpoint,
        question: LongQuestion<'_>,
        limit_s: u32,
        on_line: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<CommandEnd, String> {
        let argv = question.argv(limit_s);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        self.0.ssh.command(at, &argv, with_margin(limit_s), on_line).await.map_err(|error| error.to_string())
    }

    /// Lists everything below a prefix of a bucket; `None` where there is no such bucket.
    ///
    /// # Errors
    /// Why the bucket could not be listed.
    pub async fn objects(
        &self,
        bucket: &str,
        prefix: &str,
        on_page: &mut (dyn FnMut(usize) + Send),
    ) -> Result<Option<Vec<Listed>>, Unseen> {
        self.0.aws.near(bucket).list_objects(bucket, prefix, on_page).await
    }

    /// Whether a bucket of this account is there.
    ///
    /// # Errors
    /// Why S3 did not say.
    pub async fn bucket_exists(&self, bucket: &str) -> Result<bool, StoreError> {
        self.0.aws.near(bucket).bucket_exists(bucket).await
    }

    /// The bytes of an object, where there is one.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn object(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.aws.near(bucket).get_object(bucket, key).await?.map(|object| object.bytes))
    }
}

impl Ask for Look {
    async fn cloud(&self, probe: &CloudProbe) -> Observed<Value> {
        self.0.cloud(probe).await
    }

    async fn host(&self, at: &Endpoint, probes: &[HostProbe]) -> Answers {
        self.0.host(at, probes).await
    }

    fn redacted(&self, words: &str) -> String {
        self.0.redacted(words)
    }

    async fn fingerprint(&self, secret: &SecretUse) -> Result<String, String> {
        self.0.fingerprint(secret).await
    }
}
