//! Logical dumps as their objects tell them. What `postgres.dumps` made counts when its checksum is beside it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::plan::backups::Dumps;
use crate::reach::aws::objects::Listed;

/// What is put beside a dump after it has been read back.
const CHECKSUM: &str = ".sha256";
const ENDINGS: [&str; 2] = [".dump.enc", ".sql.enc"];

/// The prefix of a stanza's dumps in its bucket.
pub fn prefix(stanza: &str) -> String {
    format!("{stanza}/dumps/")
}

/// The good dumps of each database.
pub fn good(objects: &[Listed], prefix: &str) -> Vec<Dumps> {
    let keys: BTreeSet<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let mut found: BTreeMap<&str, Dumps> = BTreeMap::new();
    for object in objects.iter().filter(|object| keys.contains(format!("{}{CHECKSUM}", object.key).as_str())) {
        let Some((database, at)) = object.key.strip_prefix(prefix).and_then(dump) else { continue };
        let of = found.entry(database).or_insert(Dumps {
            database: database.to_owned(),
            count: 0,
            newest: at,
            newest_bytes: object.bytes,
        });
        of.count += 1;
        if at >= of.newest {
            (of.newest, of.newest_bytes) = (at, object.bytes);
        }
    }
    found.into_values().collect()
}

/// Database and time of a dump, from its key below the prefix.
fn dump(key: &str) -> Option<(&str, i64)> {
    let (database, name) = key.split_once('/')?;
    let time = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))?;
    let at = DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some((database, at.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_without_its_checksum_does_not_count() {
        let object = |key: &str, bytes| Listed {
            key: format!("chronos/dumps/{key}"),
            bytes,
            modified: None,
            class: "STANDARD".to_owned(),
            is_restored: false,
        };
        let objects = [
            object(".globals/20261121T033000Z.sql.enc", 9),
            object(".globals/20261121T033000Z.sql.enc.sha256", 1),
            object("chronos_db/20261120T033000Z.dump.enc", 40),
            object("chronos_db/20261120T033000Z.dump.enc.sha256", 1),
            object("chronos_db/20261121T033000Z.dump.enc", 50),
            object("chronos_db/20261121T033000Z.dump.enc.sha256", 1),
            object("chronos_db/20261122T033000Z.dump.enc", 60),
            object("chronos_db/notes.txt", 1),
            object("chronos_db/notes.txt.sha256", 1),
            object("shop/20261122T033000Z.dump.enc", 60),
        ];
        let of = |database: &str, count, newest_bytes| Dumps {
            database: database.to_owned(),
            count,
            newest: 1_795_231_800,
            newest_bytes,
        };
        assert_eq!(good(&objects, &prefix("chronos")), [of(".globals", 1, 9), of("chronos_db", 2, 50)]);
    }
}
