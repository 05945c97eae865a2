//! What a restore needs of its server, beside what is there. Sizes are bytes; what is not known is `None`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::backups::MadeWith;

/// What a restore needs, and what its server has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// PostgreSQL: the major version of the backup, and the whole version that is installed.
    pub postgres: Versions,
    /// The pgBackRest that made the backup, and the one that is installed.
    pub pgbackrest: Versions,
    /// The settings that must be no smaller in the copy than in the original, or recovery does not go on.
    pub numbers: Vec<Number>,
    pub room: Room,
    /// Libraries that PostgreSQL loads for the data, by name.
    pub libraries: Vec<Library>,
    /// What could not be known, and why.
    pub unknown: Vec<String>,
}

/// A version that is needed, and the one that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    pub backup: Option<String>,
    pub installed: Option<String>,
}

/// One of PostgreSQL's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Number {
    pub name: String,
    /// Of the cluster that the backup is of, as it runs or ran last.
    pub original: Option<u64>,
    /// The least that the copy is started with; where the backup's own is greater, that is taken.
    pub copy: Option<u64>,
}

/// Disk and inodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// WAL that is there at once while it is replayed, at the most.
    pub wal_bytes: u64,
    /// What is left free.
    pub left_bytes: u64,
    /// All that must be free: the backup, the WAL, and what is left free. `None` where the backup's size is not known.
    pub needed_bytes: Option<u64>,
    /// Files of a cluster and of its WAL, at the most that is usual.
    pub needed_inodes: u64,
    /// The folder whose file system is filled.
    pub place: Option<String>,
    pub free_bytes: Option<u64>,
    pub free_inodes: Option<u64>,
}

/// A shared library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Library {
    pub name: String,
    pub needed_by: NeededBy,
    /// Whether its file is there; `None` for one outside of PostgreSQL's own folder, which was not looked for.
    pub is_there: Option<bool>,
}

/// What needs a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NeededBy {
    /// The copy, which loads it from the start and does not start without it.
    Start,
    /// The original, which has loaded it from the start.
    Original,
    /// A function of the original's databases, which fails without it.
    Function,
}

impl Needs {
    /// What the backup says of itself.
    pub fn of_backup(made_with: &MadeWith) -> Self {
        let versions = |backup: &Option<String>| Versions { backup: backup.clone(), installed: None };
        Self { postgres: versions(&made_with.postgres), pgbackrest: versions(&made_with.pgbackrest), ..Self::default() }
    }
}
