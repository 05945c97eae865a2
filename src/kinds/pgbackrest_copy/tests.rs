//! The program that keeps and sends WAL, with a pgBackRest of the test's.

use super::files::SETTINGS;
use crate::kinds::pgbackrest::COPY_PROGRAM;
use crate::kinds::programs::tests::Bench;
use crate::kinds::programs::{COPY, configuration};

/// A spool with room for so many MiB, and a pgBackRest that writes down what it is told and ends as the file `status` says.
fn bench(spool_mib: u32) -> Bench {
    let address = "pgbackrest.copy/db".parse().expect("an address");
    let settings = [("stanza", "chronos".to_owned()), ("spool_mib", spool_mib.to_string())];
    let bench = Bench::new(COPY, &configuration(&address, SETTINGS, "postgres", COPY_PROGRAM, &settings));
    std::fs::create_dir_all(bench.at("var/spool/seawall-copy/queue")).expect("a temporary folder is writable");
    bench.write("status", "0");
    let folder = bench.at("").display().to_string();
    bench.tool("pgbackrest", &format!("echo \"$*\" >>{folder}told; echo 'ERROR: no way'; exit $(cat {folder}status)"));
    bench.tool("df", "echo head; echo 'x 1 1 99999999 1 /'");
    for name in ["000000010000000000000001", "000000010000000000000002", "00000002.history"] {
        bench.write(&format!("pg_wal/{name}"), name);
    }
    bench
}

fn keep(bench: &Bench, name: &str) -> String {
    let path = bench.at(&format!("pg_wal/{name}")).display().to_string();
    bench.says(&format!("main keep {path}"));
    bench.says("ls $spool/queue; cat $spool/gap 2>/dev/null || :")
}

#[test]
fn a_file_is_kept_once_and_sent_in_order() {
    let bench = bench(64);
    keep(&bench, "00000002.history");
    keep(&bench, "000000010000000000000002");
    assert_eq!(
        keep(&bench, "000000010000000000000001"),
        "000000010000000000000001\n000000010000000000000002\n00000002.history\n"
    );
    bench.says("main ship");
    let told = std::fs::read_to_string(bench.at("told")).expect("it was called");
    let sent: Vec<&str> = told.lines().filter_map(|line| line.rsplit('/').next()).collect();
    assert_eq!(sent, ["000000010000000000000001", "000000010000000000000002", "00000002.history"]);
    assert!(
        told.lines()
            .all(|line| line.contains("/copy.conf --config-include-path=") && line.contains("--stanza=chronos")),
        "{told}"
    );
    // The first repository has not taken it, and PostgreSQL asks again for what was sent long ago.
    assert_eq!(keep(&bench, "000000010000000000000001"), "");
}

#[test]
fn whatever_becomes_of_it_archiving_goes_on_and_a_gap_is_marked() {
    let full = bench(1);
    full.write("pg_wal/000000010000000000000001", &"x".repeat(2 << 20));
    full.write("pg_wal/000000010000000000000002", &"x".repeat(2 << 20));
    assert!(keep(&full, "000000010000000000000001").contains("000000010000000000000001 was not kept: more WAL waits"));
    // The first reason stays.
    assert!(keep(&full, "000000010000000000000002").contains("000000010000000000000001 was not kept"));
    let disk = bench(64);
    disk.tool("df", "echo head; echo 'x 1 1 1000 1 /'");
    assert!(keep(&disk, "000000010000000000000001").contains("was not kept: the disk is nearly full"));
    let torn = bench(64);
    torn.tool("sync", "exit 1");
    assert!(keep(&torn, "000000010000000000000001").contains("was not kept: it could not be written"));
    // Nothing at all of ours is there.
    let bare = bench(64);
    std::fs::remove_dir_all(bare.at("var/spool")).expect("a temporary folder is writable");
    std::fs::remove_file(bare.at(SETTINGS.trim_start_matches('/'))).expect("it was there");
    bare.says("main keep /nowhere/000000010000000000000001");
}

#[test]
fn a_repository_that_is_away_keeps_what_waits_and_one_that_has_another_file_does_not() {
    let away = bench(64);
    keep(&away, "000000010000000000000001");
    away.write("status", "103");
    let ended = away.run("pause_s=0 patience_s=0; main ship");
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("ERROR: no way"));
    assert_eq!(away.says("ls $spool/queue"), "000000010000000000000001\n");
    away.write("status", "45");
    away.says("main ship");
    assert!(
        away.says("ls $spool/queue; cat $spool/gap")
            .contains("000000010000000000000001 is in the repository with other")
    );
}

#[test]
fn a_gap_makes_the_next_backup_a_full_one_and_only_a_good_one_ends_it() {
    let bench = bench(64);
    let kinds = |bench: &Bench, status: &str| {
        bench.write("status", status);
        std::fs::write(bench.at("told"), "").expect("a temporary folder is writable");
        bench.run("lock=$spool/lock; main backup diff");
        let told = std::fs::read_to_string(bench.at("told")).expect("it was called");
        let full = told.contains("--type=full");
        (full, bench.says("ls $spool | grep gap || :"))
    };
    assert_eq!(kinds(&bench, "0"), (false, String::new()));
    bench.says("gap 'a segment was not kept'");
    assert_eq!(kinds(&bench, "50"), (true, "gap.closing\n".to_owned()));
    bench.says("gap 'another one'");
    assert_eq!(kinds(&bench, "0"), (true, String::new()));
    assert_eq!(kinds(&bench, "0"), (false, String::new()));
}
