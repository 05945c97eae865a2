//! Logical dumps as their objects tell them. What `postgres.dumps` made counts when its checksum is beside it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::plan::backups::{DumpMade, DumpWhat, Dumps, NamedDump};
use crate::reach::aws::objects::Listed;
use crate::recovery::storage;

/// What is put beside a dump after it has been read back.
const CHECKSUM: &str = ".sha256";
/// What a dump holds, by the end of its name.
const ENDINGS: [(&str, DumpWhat); 4] = [
    (".dump.enc", DumpWhat::Whole),
    (".schema.enc", DumpWhat::Schema),
    (".tables.enc", DumpWhat::Tables),
    (".sql.enc", DumpWhat::Roles),
];
/// Between the time and what it was made before.
const BEFORE: &str = ".before-";

/// A dump's key below the prefix, read.
struct Key<'a> {
    database: &'a str,
    what: DumpWhat,
    /// As in its name, for example `20261121T033000Z`.
    stamp: &'a str,
    at: i64,
    before: Option<&'a str>,
}

/// A good dump of one database, which the server's program finds by its stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Its time as in its name, for example `20261121T033000Z`.
    pub stamp: String,
    /// Seconds since 1970.
    pub at: i64,
    pub bytes: u64,
    pub key: String,
    /// Its storage class at S3.
    pub class: String,
    /// Seconds until it can be read, once S3 is asked for it; `None` where it is read at once.
    pub thaw_s: Option<u64>,
}

/// How long a dump takes to thaw, or its checksum, without which it is not restored.
fn thaw_s(objects: &[Listed], dump: &Listed) -> Option<u64> {
    let checksum = objects.iter().find(|object| object.key.strip_suffix(CHECKSUM) == Some(dump.key.as_str()));
    storage::thaw_s(dump).max(checksum.and_then(storage::thaw_s))
}

/// The prefix of a stanza's dumps in its bucket.
pub fn prefix(stanza: &str) -> String {
    format!("{stanza}/dumps/")
}

/// The good dumps of each database.
pub fn good(objects: &[Listed], prefix: &str) -> Vec<Dumps> {
    let mut found: BTreeMap<(&str, DumpWhat), Dumps> = BTreeMap::new();
    for (key, object) in keys(objects, prefix) {
        let Key { database, what, stamp: _, at, before } = key;
        let of = found.entry((database, what)).or_insert(Dumps {
            database: database.to_owned(),
            what,
            count: 0,
            newest: at,
            newest_bytes: object.bytes,
            frozen: 0,
            newest_thaw_s: thaw_s(objects, object),
            named: Vec::new(),
        });
        of.count += 1;
        let thaw_s = thaw_s(objects, object);
        of.frozen += u64::from(thaw_s.is_some());
        if at >= of.newest {
            (of.newest, of.newest_bytes, of.newest_thaw_s) = (at, object.bytes, thaw_s);
        }
        of.named.extend(before.map(|before| NamedDump { before: before.to_owned(), at, bytes: object.bytes }));
    }
    let mut all: Vec<Dumps> = found.into_values().collect();
    for of in &mut all {
        of.named.sort_by(|a, b| (a.at, &a.before).cmp(&(b.at, &b.before)));
    }
    all
}

/// The good dumps that were made before something.
pub fn named(objects: &[Listed], prefix: &str, name: &str) -> Vec<DumpMade> {
    let all = keys(objects, prefix).into_iter().filter(|(key, _)| key.before == Some(name));
    all.map(|(key, object)| DumpMade { database: key.database.to_owned(), at: key.at, bytes: object.bytes }).collect()
}

/// The good dumps of one database, whatever they hold of it, the newest last; the roles are no database.
pub fn of(objects: &[Listed], prefix: &str, database: &str) -> Vec<Dump> {
    let own =
        keys(objects, prefix).into_iter().filter(|(key, _)| key.database == database && key.what != DumpWhat::Roles);
    let found: BTreeMap<i64, Dump> = own
        .map(|(key, object)| {
            let dump = Dump {
                stamp: key.stamp.to_owned(),
                at: key.at,
                bytes: object.bytes,
                key: object.key.clone(),
                class: object.class.clone(),
                thaw_s: thaw_s(objects, object),
            };
            (key.at, dump)
        })
        .collect();
    found.into_values().collect()
}

/// The database that the server's program makes of a dump. PostgreSQL cuts names after 63 bytes.
pub fn restored_name(database: &str, stamp: &str) -> String {
    let kept: String = database.chars().take(37).collect();
    format!("{kept}_restored_{stamp}")
}

/// Whatever begins to look like a dump of this name, good or not.
pub fn is_taken(objects: &[Listed], name: &str) -> bool {
    objects.iter().any(|object| object.key.contains(&format!("{BEFORE}{name}.")))
}

/// Every good dump.
fn keys<'a>(objects: &'a [Listed], prefix: &str) -> Vec<(Key<'a>, &'a Listed)> {
    let all: BTreeSet<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let good = objects.iter().filter(|object| all.contains(format!("{}{CHECKSUM}", object.key).as_str()));
    good.filter_map(|object| Some((read(object.key.strip_prefix(prefix)?)?, object))).collect()
}

/// A key below the prefix.
fn read(key: &str) -> Option<Key<'_>> {
    let (database, name) = key.split_once('/')?;
    let (rest, what) = ENDINGS.iter().find_map(|(ending, what)| Some((name.strip_suffix(ending)?, *what)))?;
    let (stamp, before) = rest.split_once(BEFORE).map_or((rest, None), |(stamp, before)| (stamp, Some(before)));
    let at = DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(Key { database, what, stamp, at: at.timestamp().as_second(), before })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, bytes: u64) -> Listed {
        Listed {
            key: format!("chronos/dumps/{key}"),
            bytes,
            modified: None,
            class: "STANDARD".to_owned(),
            is_restored: false,
        }
    }

    fn with_sums(keys: &[(&str, u64)]) -> Vec<Listed> {
        keys.iter().flat_map(|(key, bytes)| [object(key, *bytes), object(&format!("{key}.sha256"), 1)]).collect()
    }

    fn of(database: &str, what: DumpWhat, count: u64, newest_bytes: u64) -> Dumps {
        Dumps {
            database: database.to_owned(),
            what,
            count,
            newest: 1_795_231_800,
            newest_bytes,
            frozen: 0,
            newest_thaw_s: None,
            named: Vec::new(),
        }
    }

    #[test]
    fn a_dump_without_its_checksum_does_not_count() {
        let mut objects = with_sums(&[
            (".globals/20261121T033000Z.sql.enc", 9),
            ("chronos_db/20261120T033000Z.dump.enc", 40),
            ("chronos_db/20261121T033000Z.dump.enc", 50),
            ("chronos_db/notes.txt", 1),
        ]);
        objects.push(object("chronos_db/20261122T033000Z.dump.enc", 60));
        objects.push(object("shop/20261122T033000Z.dump.enc", 60));
        let stamps = |database: &str| {
            let all = super::of(&objects, &prefix("chronos"), database);
            all.into_iter().map(|dump| dump.stamp).collect::<Vec<_>>()
        };
        assert_eq!(stamps("chronos_db"), ["20261120T033000Z", "20261121T033000Z"]);
        for none in ["chronos", ".globals", "shop", ""] {
            assert!(stamps(none).is_empty(), "{none}");
        }
        assert_eq!(
            good(&objects, &prefix("chronos")),
            [of(".globals", DumpWhat::Roles, 1, 9), of("chronos_db", DumpWhat::Whole, 2, 50)]
        );
    }

    #[test]
    fn a_dump_thaws_with_its_checksum() {
        let mut objects = with_sums(&[("shop/20261120T033000Z.dump.enc", 7), ("shop/20261121T033000Z.dump.enc", 8)]);
        let told = |objects: &[Listed]| {
            let all = good(objects, &prefix("chronos"));
            let thaws: Vec<Option<u64>> =
                super::of(objects, &prefix("chronos"), "shop").into_iter().map(|dump| dump.thaw_s).collect();
            (all[0].frozen, all[0].newest_thaw_s, thaws)
        };
        assert_eq!(told(&objects), (0, None, vec![None, None]));
        objects[0].class = "DEEP_ARCHIVE".to_owned();
        assert_eq!(told(&objects), (1, None, vec![Some(12 * 3600), None]));
        objects[3].class = "GLACIER".to_owned();
        assert_eq!(told(&objects), (2, Some(5 * 3600), vec![Some(12 * 3600), Some(5 * 3600)]));
        objects[3].is_restored = true;
        assert_eq!(told(&objects), (1, None, vec![Some(12 * 3600), None]));
    }

    #[test]
    fn a_restored_database_has_a_name_that_postgresql_does_not_cut() {
        let stamp = "20261121T033000Z";
        assert_eq!(restored_name("shop", stamp), "shop_restored_20261121T033000Z");
        assert_eq!(restored_name(&"a".repeat(63), stamp).len(), 63);
    }

    #[test]
    fn what_a_dump_holds_and_what_it_was_made_before_are_told() {
        let mut objects = with_sums(&[
            ("shop/20261121T033000Z.tables.enc", 5),
            ("shop/20261120T033000Z.dump.enc", 7),
            ("shop/20261121T033000Z.before-the-move.dump.enc", 8),
            ("stock/20261121T033000Z.schema.enc", 6),
        ]);
        objects.push(object("stock/20261121T033000Z.before-the-move.dump.enc", 8));
        let named_one = NamedDump { before: "the-move".to_owned(), at: 1_795_231_800, bytes: 8 };
        assert_eq!(
            good(&objects, &prefix("chronos")),
            [
                Dumps { named: vec![named_one], ..of("shop", DumpWhat::Whole, 2, 8) },
                of("shop", DumpWhat::Tables, 1, 5),
                of("stock", DumpWhat::Schema, 1, 6),
            ]
        );
        let made = named(&objects, &prefix("chronos"), "the-move");
        assert_eq!(made.iter().map(|made| made.database.as_str()).collect::<Vec<_>>(), ["shop"], "good ones only");
        assert!(is_taken(&objects, "the-move") && !is_taken(&objects, "move") && !is_taken(&objects, "the"));
    }
}
