//! Reads `pgbackrest info --output=json`. Its exit status says nothing: what is wrong stands in `status`.
//!
//! Fields differ between versions, so all are optional. Bytes are decoded lossily: with a wrong passphrase a message holds
//! what was decrypted with it.

use serde::Deserialize;

use crate::plan::backups::{BackupSet, MadeWith};

/// One stanza.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Stanza {
    pub name: String,
    pub status: Status,
    pub db: Vec<Db>,
    pub archive: Vec<Archive>,
    pub backup: Vec<Backup>,
    pub repo: Vec<Repo>,
}

/// A repository of the stanza; there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Repo {
    pub status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    pub code: i64,
    pub message: String,
    pub lock: Lock,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Lock {
    pub backup: BackupLock,
}

/// Whether a backup runs now. The sizes come with pgBackRest 2.48.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BackupLock {
    pub held: bool,
    pub size: Option<u64>,
    #[serde(rename = "size-cplt")]
    pub size_complete: Option<u64>,
}

/// A cluster that this stanza has known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Db {
    pub id: u64,
    #[serde(rename = "system-id")]
    pub system_id: u64,
    pub version: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Archive {
    /// For example `15-1`.
    pub id: String,
    pub database: DatabaseRef,
    pub min: Option<String>,
    pub max: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DatabaseRef {
    pub id: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Backup {
    pub label: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub reference: Option<Vec<String>>,
    pub error: Option<bool>,
    pub timestamp: Range<i64>,
    pub archive: Range<Option<String>>,
    /// Where it begins and ends in the stream of WAL, as PostgreSQL writes places: `16/B374D848`.
    pub lsn: Range<Option<String>>,
    pub database: DatabaseRef,
    pub info: Sizes,
    pub backrest: Backrest,
}

/// The pgBackRest that made a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Backrest {
    pub version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Range<T: Default> {
    pub start: T,
    pub stop: T,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Sizes {
    pub size: Option<u64>,
    pub repository: RepositorySizes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RepositorySizes {
    pub delta: Option<u64>,
    pub size: Option<u64>,
}

/// What a status code of `info` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Ok,
    NoStanza,
    NoBackups,
    NoStanzaData,
    /// Repositories differ; there is only one here.
    Mixed,
    ClusterMismatch,
    BackupNotFound,
    Other,
}

impl Status {
    pub fn health(&self) -> Health {
        match self.code {
            0 => Health::Ok,
            1 => Health::NoStanza,
            2 => Health::NoBackups,
            3 => Health::NoStanzaData,
            4 => Health::Mixed,
            5 => Health::ClusterMismatch,
            6 => Health::BackupNotFound,
            _ => Health::Other,
        }
    }
}

/// Reads the answer about one stanza; `None` where pgBackRest does not know it.
///
/// # Errors
/// Why it is no answer.
pub fn find(bytes: &[u8], stanza: &str) -> Result<Option<Stanza>, String> {
    // A message may hold raw control characters, which JSON forbids within a text and takes for nothing around it.
    let text: String = String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let all: Vec<Stanza> =
        serde_json::from_str(&text).map_err(|error| format!("the answer of `pgbackrest info`: {error}"))?;
    Ok(all.into_iter().find(|found| found.name == stanza))
}

/// Reads the answer about a stanza that is there.
///
/// # Errors
/// Why it is no answer, or that it says nothing about this stanza.
pub fn read(bytes: &[u8], stanza: &str) -> Result<Stanza, String> {
    find(bytes, stanza)?.ok_or_else(|| format!("`pgbackrest info` says nothing about stanza `{stanza}`"))
}

impl Stanza {
    /// Its backups as a table shows them, oldest first.
    pub fn sets(&self) -> Vec<BackupSet> {
        let mut sets: Vec<BackupSet> = self.backup.iter().map(|backup| self.set(backup)).collect();
        sets.sort_by_key(|set| set.finished);
        sets
    }

    fn set(&self, backup: &Backup) -> BackupSet {
        let mut set = backup.set();
        if let Some(db) = self.db.iter().find(|db| db.id == backup.database.id) {
            set.made_with.postgres = Some(db.version.clone()).filter(|version| !version.is_empty());
            set.made_with.system_id = (db.system_id != 0).then(|| db.system_id.to_string());
        }
        set
    }

    /// What is wrong in words: the stanza's own message is `other` where the repository's has the reason.
    pub fn message(&self) -> &str {
        let repo = self.repo.iter().map(|repo| &repo.status).find(|status| status.code == self.status.code);
        repo.map_or(self.status.message.as_str(), |status| status.message.as_str())
    }

    /// The archive's name that a backup's WAL lies in.
    pub fn archive_of(&self, backup: &Backup) -> Option<&str> {
        let archive = self.archive.iter().find(|archive| archive.database.id == backup.database.id);
        archive.map(|archive| archive.id.as_str())
    }

    /// The name of the archive of the cluster that it serves now.
    pub fn current_archive(&self) -> Option<&str> {
        let db = self.current_db()?;
        self.archive.iter().find(|archive| archive.database.id == db.id).map(|archive| archive.id.as_str())
    }

    /// The cluster that it serves now: the one that was added last.
    pub fn current_db(&self) -> Option<&Db> {
        self.db.iter().max_by_key(|db| db.id)
    }

    /// The timeline of the last segment by name in the archive of that cluster.
    pub fn last_timeline(&self) -> Option<u32> {
        let current = self.current_db()?.id;
        let archives = self.archive.iter().filter(|archive| archive.database.id == current);
        archives.filter_map(|archive| u32::from_str_radix(archive.max.as_ref()?.get(..8)?, 16).ok()).max()
    }
}

impl Backup {
    /// As a table shows it.
    pub fn set(&self) -> BackupSet {
        BackupSet {
            label: self.label.clone(),
            kind: self.kind.clone(),
            started: self.timestamp.start,
            finished: self.timestamp.stop,
            database_bytes: self.info.size,
            repository_bytes: self.info.repository.delta.or(self.info.repository.size),
            wal: self.archive.start.clone().zip(self.archive.stop.clone()),
            page_errors: self.error.unwrap_or(false),
            needs: self.reference.clone().unwrap_or_default(),
            made_with: MadeWith { pgbackrest: self.backrest.version.clone(), ..MadeWith::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of pgBackRest 2.45: a full backup and a differential one.
    const TWO: &str = include_str!("../recovery/recorded/info-two.json");

    #[test]
    fn backups_are_read() {
        let stanza = read(TWO.as_bytes(), "chronos").expect("an answer");
        assert_eq!(stanza.status.health(), Health::Ok);
        let sets = stanza.sets();
        assert_eq!(sets.len(), 2);
        assert_eq!(sets[0].label, "20261121-143736F");
        assert_eq!((sets[0].database_bytes, sets[0].repository_bytes), (Some(23_177_582), Some(2_831_680)));
        assert_eq!(sets[1].needs, ["20261121-143736F"]);
        let made_with = MadeWith {
            postgres: Some("15".to_owned()),
            pgbackrest: Some("2.45".to_owned()),
            system_id: Some("7710633751692447044".to_owned()),
        };
        assert_eq!(sets[0].made_with, made_with);
        assert_eq!(stanza.archive_of(&stanza.backup[1]), Some("15-1"));
        assert_eq!(stanza.current_db().map(|db| db.system_id), Some(7_710_633_751_692_447_044));
    }

    #[test]
    fn every_status_is_told_apart() {
        for (code, health) in [
            (0, Health::Ok),
            (1, Health::NoStanza),
            (2, Health::NoBackups),
            (3, Health::NoStanzaData),
            (4, Health::Mixed),
            (5, Health::ClusterMismatch),
            (6, Health::BackupNotFound),
            (99, Health::Other),
            (77, Health::Other),
        ] {
            let text = format!("[{{\"name\":\"x\",\"status\":{{\"code\":{code}}}}}]");
            assert_eq!(read(text.as_bytes(), "x").expect("an answer").status.health(), health, "{code}");
        }
    }

    #[test]
    fn what_was_decrypted_with_a_wrong_passphrase_does_not_hide_the_status() {
        let mut bytes = br#"[{"name":"x","repo":[{"status":{"code":99,"message":"[FormatError] "#.to_vec();
        bytes.extend([0x01, 0xff, 0xfe, 0x0a, 0x80]);
        bytes.extend(br#""}}],"status":{"code":99,"message":"other"}}]"#);
        let stanza = read(&bytes, "x").expect("an answer");
        assert_eq!((stanza.status.code, stanza.status.message.as_str()), (99, "other"));
        assert!(stanza.message().starts_with("[FormatError] "), "{stanza:?}");
    }

    #[test]
    fn another_stanza_and_no_answer_are_none() {
        assert!(read(b"[]", "x").is_err());
        assert!(read(b"", "x").is_err());
        assert!(read(br#"[{"name":"y"}]"#, "x").is_err());
    }
}
