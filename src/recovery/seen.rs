//! What was asked about a server's backups, and what came back.

use crate::kinds::pgbackrest_copy::look::Spool;
use crate::plan::backups::Archiving;
use crate::plan::info::Stanza;
use crate::reach::aws::objects::Listed;

/// What was asked, and what came back; `Err` says why it could not be seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub server: String,
    pub stanza: String,
    pub bucket: String,
    pub now: i64,
    pub info: Result<Stanza, String>,
    /// Everything below the repository's prefix; `None` where the bucket is not there.
    pub objects: Result<Option<Vec<Listed>>, String>,
    /// Everything below the prefix of the dumps, where they are declared.
    pub dumps: Result<Option<Vec<Listed>>, String>,
    /// `None` where there is no cluster.
    pub archiving: Result<Option<Archiving>, String>,
    /// The files by which `pgbackrest stop` is in force.
    pub stops: Result<Vec<String>, String>,
    /// What waits for the second repository, where that is looked at.
    pub spool: Option<Result<Spool, String>>,
}

/// The prefix of a stanza's repository in its bucket.
pub fn prefix(stanza: &str) -> String {
    format!("{stanza}/pgbackrest/")
}
