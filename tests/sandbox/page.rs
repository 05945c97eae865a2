//! The page for the night, typed to the letter: what is run here comes out of `docs/recovery.md`, in its order.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::page::{Typed, commands};
use crate::support::rehearsal::{Ended, Rehearsal};

const PAGE: &str = include_str!("../../docs/recovery.md");
/// The moment that the page has for an example.
const MOMENT: &str = "2026-11-21 02:21:10+00";

const ROWS: &str = "Somebody deleted or broke rows; the server is well";
const IN_PLACE: &str = "The data of the whole server is wrong; the server is well";
/// Typed in `rebuild.rs`.
pub(super) const LOST: &str = "The server is lost";
/// Typed in `copy.rs`.
pub(super) const FROM_COPY: &str = "The first bucket is lost, emptied or cannot be read";

/// The commands below a heading, in their order.
#[track_caller]
pub(super) fn section(heading: &str) -> Vec<Typed> {
    let found: Vec<Typed> = commands(PAGE).into_iter().filter(|typed| typed.heading == heading).collect();
    assert!(!found.is_empty(), "the page has no command below {heading:?}");
    found
}

/// Types a command, with the moment that is meant here in the place of the example's and `more` options of the program before it.
/// One that asks somebody is answered as the page says: with `--yes`.
#[track_caller]
pub(super) fn types(lab: &Rehearsal, typed: &Typed, moment: &str, more: &[&str]) -> Ended {
    let words = typed.words.iter().skip(1).map(|word| if word == MOMENT { moment } else { word.as_str() });
    let args: Vec<&str> = ["--sandbox"].into_iter().chain(more.iter().copied()).chain(words).collect();
    let ended = lab.run(&args);
    let nobody = format!("{}{}", ended.stdout, ended.stderr).contains("nobody-to-ask");
    if ended.code == 64 && nobody && !args.contains(&"--yes") {
        return lab.run(&[&args[..], &["--yes"]].concat());
    }
    ended
}

/// The same for a command that must end with 0 and print what the page quotes beside it.
#[track_caller]
pub(super) fn typed(lab: &Rehearsal, command: &Typed, moment: &str) -> Ended {
    let ended = types(lab, command, moment, &[]);
    assert_eq!(ended.code, 0, "{}\n--- stdout\n{}\n--- stderr\n{}", command.line, ended.stdout, ended.stderr);
    for quoted in command.says.split('"').skip(1).step_by(2) {
        assert!(ended.stdout.contains(quoted), "{}: {}", command.line, ended.stdout);
    }
    ended
}

#[test]
fn every_section_of_the_page_is_typed() {
    let mut headings: Vec<String> = commands(PAGE).into_iter().map(|typed| typed.heading).collect();
    headings.dedup();
    assert_eq!(
        headings,
        [ROWS, IN_PLACE, LOST, FROM_COPY],
        "a section with commands that no test types, or none any more"
    );
}

#[test]
fn the_page_brings_rows_and_a_whole_server_back() {
    let Some(lab) = Rehearsal::database("the_page_brings_rows") else { return };
    lab.sql(
        "chronos_db",
        "set role app; create table readings (n integer primary key); insert into readings select generate_series(1, 100)",
    );
    let moment = lab.archived();
    lab.sql("chronos_db", "delete from readings");
    lab.archived();
    rows_come_back(&lab, &moment);
    lab.sql("chronos_db", "drop table readings_restored; insert into readings values (1000)");
    lab.archived();
    the_server_goes_back(&lab, &moment);
}

fn rows(lab: &Rehearsal, table: &str) -> String {
    lab.sql("chronos_db", &format!("select count(*) from {table}"))
}

fn rows_come_back(lab: &Rehearsal, moment: &str) {
    for command in section(ROWS) {
        let words: Vec<&str> = command.words.iter().skip(1).map(String::as_str).collect();
        match words[..] {
            ["backup", "list"] => {
                let listed = typed(lab, &command, moment).stdout;
                assert!(listed.contains("Every moment can be restored (UTC)"), "{listed}");
            }
            ["restore", "--to", MOMENT, "--plan"] => {
                typed(lab, &command, moment);
                let standing = "ls -A /var/lib/postgresql/seawall-restores 2>/dev/null | wc -l";
                assert_eq!(lab.on_server(&["sh", "-c", standing]).stdout.trim(), "0", "a plan restores nothing");
            }
            ["restore", "--to", MOMENT, "--name", "rows", "--yes"] => {
                let said = typed(lab, &command, moment).stdout;
                for fact in ["stopped", "last write", "heartbeat"] {
                    assert!(said.contains(fact), "no {fact}: {said}");
                }
                assert_eq!(rows(lab, "readings"), "0", "the database goes on meanwhile");
            }
            ["restore", "psql", "rows", "--", "-d", "chronos_db"] => {
                let mut args = vec!["--sandbox"];
                args.extend(&words);
                let mut child = lab.command(&args);
                child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = child.spawn().expect("the binary starts");
                let asked =
                    child.stdin.take().expect("a pipe").write_all(b"select 'rows: ' || count(*) from readings;\n");
                asked.expect("psql reads");
                let ended = child.wait_with_output().expect("it ends");
                let said = String::from_utf8_lossy(&ended.stdout);
                assert!(ended.status.success() && said.contains("rows: 100"), "{said}");
            }
            ["restore", "copy-table", "rows", "chronos_db", "readings"] => {
                typed(lab, &command, moment);
                assert_eq!((rows(lab, "readings_restored").as_str(), rows(lab, "readings").as_str()), ("100", "0"));
                let owner = "select tableowner from pg_tables where tablename = 'readings_restored'";
                assert_eq!(lab.sql("chronos_db", owner), "app");
                let status = lab.run(&["--sandbox", "status"]).stdout;
                assert!(status.contains("rows"), "a copy that is still there is not named: {status}");
            }
            ["restore", "drop", "rows"] => drop(typed(lab, &command, moment)),
            _ => panic!("this test does not know how to judge `{}`", command.line),
        }
    }
    let left = lab.on_server(&["ls", "-A", "/var/lib/postgresql/seawall-restores"]).stdout;
    assert!(!left.contains("rows"), "{left}");
}

fn the_server_goes_back(lab: &Rehearsal, moment: &str) {
    let commands = section(IN_PLACE);
    let [back, undo, accept] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(undo.words[1..], ["restore", "undo", "back"]);
    assert_eq!(accept.words[1..], ["restore", "accept", "back"]);
    typed(lab, back, moment);
    assert_eq!(rows(lab, "readings"), "100");
    lab.on_server(&["test", "-d", "/var/lib/postgresql/15/main.before-back"]);
    let apply = lab.run(&["--sandbox", "apply", "--yes"]);
    let said = format!("{}{}", apply.stdout, apply.stderr);
    assert!(apply.code == 3 && said.contains("restore-not-accepted"), "{} {said}", apply.code);
    typed(lab, undo, moment);
    assert_eq!(lab.sql("chronos_db", "select n from readings"), "1000", "everything is as it was before");

    // The other way out. A restore has a name of its own each time.
    let taken = types(lab, back, moment, &[]);
    let said = format!("{}{}", taken.stdout, taken.stderr);
    assert!(taken.code == 1 && said.contains("restore-name-taken"), "{} {said}", taken.code);
    let renamed = |command: &Typed| {
        let words = command.words.iter().map(|word| if word == "back" { "again".to_owned() } else { word.clone() });
        Typed { words: words.collect(), ..command.clone() }
    };
    typed(lab, &renamed(back), moment);
    typed(lab, &renamed(accept), moment);
    assert_eq!((rows(lab, "readings").as_str(), lab.sql("postgres", "show archive_mode").as_str()), ("100", "on"));
    lab.on_server(&["test", "-d", "/var/lib/postgresql/15/main.before-again"]);
    lab.expect(0, &["--sandbox", "plan"]);
}
