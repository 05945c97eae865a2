//! What a server has for a restore, for every way in which it can be too little.

use super::*;
use crate::base::diag::Severity;
use crate::plan::needs::Versions;
use crate::plan::probe::CommandState;
use crate::plan::restores::{Goal, Repository};

const ID: &str = "7710633751692447044";

fn plan(bytes: Option<u64>) -> RestorePlan {
    let mut plan = RestorePlan {
        name: "r1".to_owned(),
        server: "db".to_owned(),
        stanza: "chronos".to_owned(),
        bucket: "b".to_owned(),
        repository: Repository::First,
        purpose: Purpose::Beside,
        goal: Goal::Latest,
        set: "20261126-234813F".to_owned(),
        chain: Vec::new(),
        set_finished: 1,
        timeline: 1,
        window_to: None,
        first_segment: "000000010000000000000002".to_owned(),
        last_segment: "000000010000000000000003".to_owned(),
        bytes,
        ttl_s: None,
        hooks: Vec::new(),
        needs: Needs {
            postgres: Versions { backup: Some("15".to_owned()), installed: None },
            pgbackrest: Versions { backup: Some("2.45".to_owned()), installed: None },
            ..Needs::default()
        },
        findings: Vec::new(),
    };
    plan.needs.room = room(&plan);
    plan
}

fn answered(of: &[(&[&str], i32, &str, &str)]) -> Answers {
    let mut answers = Answers::default();
    for (argv, status, stdout, stderr) in of {
        let state = CommandState { status: *status, stdout: (*stdout).to_owned(), stderr: (*stderr).to_owned() };
        answers.commands.insert(argv.iter().map(|&word| word.to_owned()).collect(), state);
    }
    answers
}

/// A server with a cluster of that identity.
fn server(id: &str) -> (Questions, Answers) {
    let questions = Questions::of(15);
    let control = format!(
        "pg_control version number:            1300\nDatabase system identifier:           {id}\n\
         max_connections setting:              100\nmax_worker_processes setting:         8\nmax_wal_senders setting:              10\n\
         max_prepared_xacts setting:           0\nmax_locks_per_xact setting:           64\n"
    );
    let words: Vec<Vec<&str>> = [&questions.control, &questions.disk, &questions.postgres]
        .map(|argv| argv.iter().map(String::as_str).collect())
        .into();
    let df = "File                        Avail  IFree\n/var/lib/postgresql/15/main 2097152 50000\n/var/lib/postgresql 2097152 50000\n";
    let none = "df: /var/lib/postgresql/seawall-restores: No such file or directory\n";
    let answers = answered(&[
        (&words[0], 0, &control, ""),
        (&words[1], 1, df, none),
        (&words[2], 0, "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", ""),
        (&PGBACKREST, 0, "pgBackRest 2.45\n", ""),
    ]);
    (questions, answers)
}

fn codes(plan: &RestorePlan) -> Vec<(String, Severity)> {
    findings(plan, 15).into_iter().map(|finding| (finding.code, finding.severity)).collect()
}

#[test]
fn what_the_server_has_stands_beside_what_is_needed() {
    let (questions, answers) = server(ID);
    let mut plan = plan(Some(1_000_000));
    assert!(read(&mut plan, &questions, &answers, Some(ID)));
    let Needs { postgres, pgbackrest, numbers, room, unknown, .. } = &plan.needs;
    assert_eq!((postgres.installed.as_deref(), pgbackrest.installed.as_deref()), (Some("15.20"), Some("2.45")));
    let original: Vec<Option<u64>> = numbers.iter().map(|number| number.original).collect();
    assert_eq!(original, [100, 8, 10, 0, 64].map(Some));
    assert!(numbers.iter().all(|number| number.copy == number.original), "{numbers:?}");
    assert_eq!(room.needed_bytes, Some(1_000_000 + 2 * DEFAULT_SEGMENT + LEFT_BYTES));
    // The folder of copies is not there before the first one.
    assert_eq!(room.place.as_deref(), Some(BASE));
    assert_eq!((room.free_bytes, room.free_inodes), (Some(2 << 30), Some(50_000)));
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(codes(&plan).is_empty());
}

#[test]
fn another_cluster_says_nothing_of_the_original() {
    let (questions, answers) = server("1");
    for backup in [Some(ID), None] {
        let mut plan = plan(Some(1));
        assert!(!read(&mut plan, &questions, &answers, backup));
        let numbers = &plan.needs.numbers;
        assert!(numbers.iter().all(|number| number.original.is_none() && number.copy.is_some()), "{numbers:?}");
        assert_eq!(plan.needs.unknown.len(), 1, "{:?}", plan.needs.unknown);
    }
}

#[test]
fn what_could_not_be_asked_is_said_and_refuses_nothing() {
    let mut plan = plan(None);
    let unseen = Answers::unseen(Unseen::Misread("nothing".to_owned()));
    assert!(!read(&mut plan, &Questions::of(15), &unseen, Some(ID)));
    assert_eq!(plan.needs.unknown.len(), 4, "{:?}", plan.needs.unknown);
    assert!(plan.needs.numbers.is_empty() && plan.needs.room.free_bytes.is_none());
    assert!(codes(&plan).is_empty());
}

#[test]
fn no_room_refuses_it_to_the_byte_and_to_the_inode() {
    let needed = 1_000 + 2 * DEFAULT_SEGMENT + LEFT_BYTES;
    let with = |bytes, inodes| {
        let mut plan = plan(Some(1_000));
        (plan.needs.room.free_bytes, plan.needs.room.free_inodes) = (Some(bytes), inodes);
        codes(&plan)
    };
    let refused = ("restore-no-room".to_owned(), Severity::Error);
    assert!(with(needed, Some(INODES)).is_empty());
    assert_eq!(with(needed - 1, Some(INODES)), std::slice::from_ref(&refused));
    assert_eq!(with(needed, Some(INODES - 1)), [refused]);
    assert!(with(needed, None).is_empty(), "some file systems have none to run out of");
    let mut unsized_plan = plan(None);
    unsized_plan.needs.room.free_bytes = Some(LEFT_BYTES);
    assert_eq!(codes(&unsized_plan).len(), 1, "the rest is needed whatever the size of the backup");
}

#[test]
fn a_day_of_nearly_empty_segments_is_not_counted_as_if_all_of_it_were_kept() {
    let long = RestorePlan { last_segment: "000000010000004000000003".to_owned(), ..plan(Some(1_000)) };
    assert_eq!(room(&long).wal_bytes, WAL_AT_ONCE_BYTES);
}

#[test]
fn other_versions_are_found_before_anything_is_fetched() {
    let mut other = plan(Some(1));
    other.needs.postgres.backup = Some("14".to_owned());
    assert_eq!(codes(&other), [("restore-cannot-run".to_owned(), Severity::Error)]);
    let mut older = plan(Some(1));
    for (installed, is_older) in [("2.9", true), ("2.44.1", true), ("2.45", false), ("2.100", false), ("3.0", false)] {
        older.needs.pgbackrest.installed = Some(installed.to_owned());
        assert_eq!(codes(&older).len(), usize::from(is_older), "{installed}");
    }
}

#[test]
fn a_library_is_looked_for_by_who_needs_it() {
    let mut plan = plan(Some(1));
    let functions = BTreeMap::from([
        (
            "app".to_owned(),
            Ok(["$libdir/pgaudit", "$libdir/plpgsql.so", "$libdir/timescaledb-2.19.3", "/opt/x.so"]
                .map(str::to_owned)
                .into()),
        ),
        ("gone".to_owned(), Err("it is not there any more".to_owned())),
    ]);
    let there = Ok(["plpgsql", "pgaudit"].map(str::to_owned).into());
    libraries(
        &mut plan.needs,
        &["pgaudit".to_owned(), "pg_cron".to_owned()],
        "pgaudit, \"old\"",
        functions,
        &there,
        15,
    );
    let found = plan.needs.libraries.iter().map(|one| (one.name.as_str(), one.needed_by, one.is_there));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            ("/opt/x", NeededBy::Function, None),
            ("old", NeededBy::Original, Some(false)),
            ("pg_cron", NeededBy::Start, Some(false)),
            ("pgaudit", NeededBy::Start, Some(true)),
            ("plpgsql", NeededBy::Function, Some(true)),
            ("timescaledb-2.19.3", NeededBy::Function, Some(false)),
        ]
    );
    assert_eq!(plan.needs.unknown, ["the libraries that `gone` needs: it is not there any more"]);
    let library = ("restore-library".to_owned(), Severity::Warning);
    assert_eq!(codes(&plan), [library.clone(), ("restore-cannot-run".to_owned(), Severity::Error), library]);
}
