//! What needs neither a world nor a saved plan: validate, explain, schema, completions, help, mistakes on the line.

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use crate::cli::{Desk, GOOD, root};

/// Three mistakes of different sorts, each with a place.
const BAD: &str = "\
seawall: 1
environment: test
aws: { account: 123456789012, region: ca-central-1 }
servers:
  db:
    instance: { bundel: small_3_0, blueprint: debian_12, zone: ca-central-1a }
    login: { keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops] }
    swap: { size_mib: lots }
";

/// Sound, and against a rule.
const REFUSED: &str = include_str!("../inventories/invalid/rule-world-open-database.yaml");

#[test]
fn a_good_inventory_is_one_line() {
    let mut desk = Desk::with_inventory(GOOD);
    desk.case(0, &["validate"]);
    desk.case(0, &["-i", "inventories/test.yaml", "--format", "json", "validate"]);
    desk.must_match("validate-good");
}

#[test]
fn every_problem_is_told_at_once_and_shown_in_its_line() {
    let mut desk = Desk::with_inventory(BAD);
    desk.case(1, &["validate"]);
    desk.case(1, &["--format", "json", "validate"]);
    desk.must_match("validate-bad");
}

#[test]
fn a_broken_rule_is_a_refusal_and_no_failure() {
    let mut desk = Desk::with_inventory(REFUSED);
    desk.case(3, &["validate"]);
    desk.must_match("validate-refused");
}

/// Pipes, devices and links: refused at once, and nothing of a file outside of the project is quoted.
#[test]
fn what_is_no_file_of_the_project_is_refused_at_once() {
    use std::os::unix::fs::symlink;

    let mut desk = Desk::with_inventory(GOOD);
    nix::unistd::mkfifo(&desk.path().join("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let outside = tempfile::tempdir().expect("a folder");
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "services: [hunter2, &x hunter2\n").expect("a file");
    for (name, to) in
        [("zero.json", Path::new("/dev/zero")), ("zero.yaml", Path::new("/dev/zero")), ("out.yaml", &secret)]
    {
        symlink(to, desk.path().join(name)).expect("a link");
    }
    for file in ["pipe.yaml", "zero.yaml", "out.yaml", "."] {
        desk.case(1, &["-i", file, "validate"]);
    }
    for file in ["pipe.yaml", "zero.json"] {
        desk.case(1, &["show", file]);
    }
    symlink(&secret, desk.path().join("stack.yaml")).expect("a link");
    let compose = "    compose: { project: web, file: ../stack.yaml }\n";
    desk.write("inventories/compose.yaml", format!("{GOOD}{compose}"));
    let output = desk.case(1, &["-i", "inventories/compose.yaml", "validate"]);
    assert!(!desk.plain(&output.stderr).contains("hunter2"), "a file outside of the project is quoted");
    desk.must_match("no-files");
}

/// Names from a file, in messages and in JSON: nothing of them reaches a terminal, and JSON says the same.
#[test]
fn hostile_names_do_nothing_to_a_terminal() {
    let hostile = "\\e]0;pwn\\a\\e[2J\\x9b1A\\u202e\\u2066\\x7f\\u061c";
    let text = GOOD.replace("environment: test", &format!("environment: \"{hostile}\"\n\"{hostile}\": 1"));
    assert_ne!(text, GOOD, "the inventory has an environment");
    let desk = Desk::with_inventory(&text);
    for words in [&["validate"][..], &["--format", "json", "validate"], &["--color", "always", "validate"]] {
        let output = desk.run(words);
        let said = desk.plain(&output.stdout) + &desk.plain(&output.stderr);
        assert!(said.contains("pwn"), "{said:?}");
        let coloured = words.contains(&"always");
        let raw = |c: char| {
            (c.is_control() && c != '\n' && !(coloured && c == '\u{1b}'))
                || matches!(c, '\u{202e}' | '\u{2066}' | '\u{61c}')
        };
        assert!(!said.contains(raw), "{words:?}: {said:?}");
        assert!(!said.contains("\u{1b}]") && !said.contains("\u{1b}[2J"), "{words:?}: {said:?}");
    }
}

#[test]
fn backups_that_nobody_declared_are_told_before_anything_is_connected() {
    let mut desk = Desk::with_inventory(GOOD);
    desk.case(64, &["backup", "list"]);
    desk.case(64, &["backup", "verify", "--server", "db"]);
    desk.case(64, &["backup", "now", "--type", "diff", "--follow"]);
    desk.case(0, &["backup", "list", "--help"]);
    desk.must_match("backup-offline");
}

#[test]
fn which_inventory_is_never_guessed() {
    let mut desk = Desk::empty();
    desk.case(64, &["validate"]);
    desk.case(1, &["-i", "nowhere.yaml", "validate"]);
    desk.case(1, &["-i", ".", "validate"]);
    desk.write("inventories/a.yaml", GOOD);
    desk.write("inventories/b.yml", GOOD);
    desk.case(64, &["plan"]);
    desk.write("empty.yaml", "");
    desk.case(1, &["-i", "empty.yaml", "validate"]);
    desk.must_match("which-inventory");
}

#[test]
fn kinds_and_resources_are_explained() {
    let mut desk = Desk::with_inventory(GOOD);
    desk.case(0, &["explain"]);
    desk.case(0, &["explain", "host.swap"]);
    desk.case(0, &["explain", "lightsail.instance/db"]);
    desk.case(64, &["explain", "host.swop"]);
    desk.case(64, &["explain", "host.swap/nowhere"]);
    desk.must_match("explain");
}

#[test]
fn the_schema_is_the_published_one() {
    let output = Desk::empty().run(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let published = std::fs::read(root().join("docs/inventory.schema.json")).expect("the schema is published");
    let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("a schema is JSON");
    assert_eq!(parse(&output.stdout), parse(&published));
}

#[test]
fn completions_know_the_commands() {
    let output = Desk::empty().run(&["completions", "bash"]);
    assert_eq!(output.status.code(), Some(0));
    let script = String::from_utf8(output.stdout).expect("a script is text");
    for word in ["validate", "destroy", "--lose-data", "complete -F"] {
        assert!(script.contains(word), "{word} is not completed");
    }
    assert_eq!(Desk::empty().run(&["completions", "clay"]).status.code(), Some(64));
}

#[test]
fn the_help_is_the_manual() {
    let mut desk = Desk::empty();
    for command in [&["--help"][..], &["plan", "--help"], &["apply", "--help"], &["destroy", "--help"]] {
        desk.case(0, command);
    }
    desk.must_match("help");
}

/// Exit code 2 would read as "there are differences".
/// On the night, a command that is no longer there costs more than any other mistake in a page.
#[test]
fn every_command_of_the_pages_is_one_of_the_program() {
    use clap::Parser as _;
    let mut commands = 0;
    for page in ["README.md", "docs/recovery.md", "docs/database.md", "docs/sandbox.md"] {
        let text = std::fs::read_to_string(root().join(page)).expect("a page of the project");
        for command in crate::support::page::commands(&text) {
            let (line, heading) = (&command.line, &command.heading);
            let parsed = seawall::cli::args::Cli::try_parse_from(&command.words);
            assert!(
                parsed.is_ok(),
                "{page}, {heading}: `{line}`: {}",
                parsed.err().map(|why| why.to_string()).unwrap_or_default()
            );
            // What is quoted beside a command is what it prints, and is compared where the page is typed.
            assert_eq!(command.says.matches('"').count() % 2, 0, "{page}, {heading}: `{line}`");
            commands += 1;
        }
    }
    assert!(commands > 15, "only {commands} commands were found");
}

#[test]
fn a_mistake_on_the_line_is_64() {
    let mut desk = Desk::empty();
    desk.case(64, &["plna"]);
    desk.case(64, &["plan", "--out"]);
    desk.case(64, &["plan", "--only", "database"]);
    desk.case(64, &["show"]);
    desk.case(64, &["--format", "xml", "validate"]);
    desk.case(64, &["unlock", "--reason", "because"]);
    desk.must_match("usage");
    assert_eq!(Desk::empty().run(&[]).status.code(), Some(64));
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    for args in [&["schema"][..], &["explain"], &["completions", "bash"]] {
        let desk = Desk::empty();
        let mut command = desk.command(args);
        let mut child = command.stdout(closed_pipe()).spawn().expect("the binary starts");
        let mut said = String::new();
        child.stderr.take().expect("stderr is a pipe").read_to_string(&mut said).expect("stderr is text");
        let status = child.wait().expect("the binary ends");
        assert_eq!(said, "", "{args:?}");
        assert!(matches!(status.code(), Some(0 | 1)), "{args:?} ended with {status}");
    }
}

/// The writing end of a pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}
