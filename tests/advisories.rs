//! No library that is compiled here has a fault that RustSec's database knows of. The table `advisories.toml` is a copy of
//! what that database says of our libraries; `docs/dependencies.md` says how it is written anew. Nobody outside is asked.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use semver::{Version, VersionReq};

use crate::support::sources::{read, root};

/// An advisory that concerns a version of ours, and is lived with for a time.
struct Accepted {
    id: &'static str,
    why: &'static str,
    /// The last day on which it is accepted.
    until: Date,
}

const ACCEPTED: &[Accepted] = &[];

/// The copy of the database.
#[derive(Default)]
struct Table {
    date: String,
    /// Libraries of which it knows nothing.
    none: BTreeSet<String>,
    /// By library and advisory the versions that are not concerned: one range is enough.
    known: BTreeMap<String, BTreeMap<String, Vec<VersionReq>>>,
}

/// The texts in quotes of a line.
fn quoted(line: &str) -> Vec<&str> {
    line.split('"').skip(1).step_by(2).collect()
}

fn table(text: &str) -> Table {
    let mut table = Table::default();
    let mut library = "";
    let mut is_none = false;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            library = name;
        } else if let Some((id, ranges)) = line.split_once(" = ").filter(|(id, _)| id.starts_with("RUSTSEC-")) {
            let ranges = quoted(ranges).into_iter().map(|range| range.parse().expect("a range of versions")).collect();
            table.known.entry(library.to_owned()).or_default().insert(id.to_owned(), ranges);
        } else if let Some(date) = line.strip_prefix("date = ") {
            table.date = quoted(date).concat();
        } else if line.starts_with("none = [") || is_none {
            is_none = !line.ends_with(']');
            table.none.extend(quoted(line).into_iter().map(str::to_owned));
        }
    }
    table
}

/// Names and versions of Cargo.lock but our own.
fn locked(lock: &str) -> Vec<(String, Version)> {
    let packages = lock.split("[[package]]").skip(1).filter(|package| package.contains("\nsource = "));
    let packages = packages.map(|package| {
        let value = |key: &str| package.lines().find_map(|line| line.strip_prefix(key)).map(quoted);
        let (name, version) = value("name = ").zip(value("version = ")).expect("a package has name and version");
        (name.concat(), version.concat().parse().expect("a version"))
    });
    packages.collect()
}

/// What is wrong with the locked versions, a line each.
fn wrong(locked: &[(String, Version)], table: &Table, accepted: &[Accepted], today: Date) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for (name, version) in locked {
        let Some(known) = table.known.get(name) else {
            if !table.none.contains(name) {
                wrong.push(format!("`{name}` was not looked up"));
            }
            continue;
        };
        for (id, safe) in known {
            if safe.iter().any(|range| range.matches(version)) {
                continue;
            }
            met.insert(id.as_str());
            match accepted.iter().find(|accepted| accepted.id == id) {
                Some(accepted) if today <= accepted.until => {}
                Some(accepted) => wrong.push(format!(
                    "{id} concerns `{name}` {version}, and was accepted until {}: {}",
                    accepted.until, accepted.why
                )),
                None => wrong.push(format!("{id} concerns `{name}` {version}")),
            }
        }
    }
    let stale = accepted.iter().filter(|accepted| !met.contains(accepted.id));
    wrong.extend(stale.map(|accepted| format!("{} is accepted and concerns nothing here", accepted.id)));
    wrong
}

#[test]
fn no_library_has_a_fault_that_is_known() {
    let table = table(&read(&root().join("tests/advisories.toml")));
    let locked = locked(&read(&root().join("Cargo.lock")));
    assert!(locked.len() > 100 && table.known.len() > 10, "Cargo.lock or the table was not understood");
    let found = wrong(&locked, &table, ACCEPTED, Timestamp::now().to_zoned(TimeZone::UTC).date());
    assert!(found.is_empty(), "as of {}: {found:#?}\ndocs/dependencies.md says how to look anew", table.date);
}

mod the_check_itself {
    use jiff::civil::date;

    use super::*;

    const TABLE: &str = "# why\ndate = \"2026-01-02\"\n\nnone = [\n    \"a\", \"b\",\n    \"c\",\n]\n\n[d]\n\
                         RUSTSEC-2020-0001 = [\">= 1.2.3\", \"^0.9.1\"]\nRUSTSEC-2020-0002 = []\n";
    const LATER: Accepted = Accepted { id: "RUSTSEC-2020-0002", why: "why", until: date(2026, 3, 1) };

    fn says(version: &str, accepted: &[Accepted]) -> Vec<String> {
        let lock = format!(
            "version = 4\n\n[[package]]\nname = \"d\"\nversion = \"{version}\"\nsource = \"registry\"\n\n\
             [[package]]\nname = \"seawall\"\nversion = \"0.1.0\"\n"
        );
        wrong(&locked(&lock), &table(TABLE), accepted, date(2026, 3, 1))
    }

    #[test]
    fn a_version_is_safe_in_any_one_range() {
        assert!(table(TABLE).date == "2026-01-02" && table(TABLE).none.len() == 3);
        for safe in ["1.2.3", "2.0.0+deprecated", "0.9.7"] {
            assert_eq!(says(safe, &[LATER]), [] as [&str; 0], "{safe}");
        }
        for bad in ["1.2.2", "0.9.0", "0.10.0"] {
            assert_eq!(says(bad, &[LATER]), [format!("RUSTSEC-2020-0001 concerns `d` {bad}")]);
        }
        assert_eq!(says("1.2.3", &[]), ["RUSTSEC-2020-0002 concerns `d` 1.2.3"], "no range at all");
    }

    #[test]
    fn what_is_accepted_ends() {
        let over = Accepted { until: date(2026, 2, 28), ..LATER };
        assert_eq!(
            says("1.2.3", &[over]),
            ["RUSTSEC-2020-0002 concerns `d` 1.2.3, and was accepted until 2026-02-28: why"]
        );
        let other = Accepted { id: "RUSTSEC-2020-0009", ..LATER };
        assert_eq!(says("1.2.3", &[LATER, other]), ["RUSTSEC-2020-0009 is accepted and concerns nothing here"]);
    }

    #[test]
    fn what_was_not_looked_up_is_not_safe() {
        let new = [("a".to_owned(), Version::new(1, 0, 0)), ("new".to_owned(), Version::new(1, 0, 0))];
        assert_eq!(wrong(&new, &table(TABLE), &[], date(2026, 3, 1)), ["`new` was not looked up"]);
    }
}
