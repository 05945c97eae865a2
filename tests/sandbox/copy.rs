//! A second repository on a real server: it takes what the first one takes, holds nothing up, and is what is left when the first
//! one is emptied.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sandbox::attacks_paths::held_to;
use crate::sandbox::page::{FROM_COPY, section, typed, types};
use crate::support::rehearsal::{Rehearsal, tampering};

/// The second repository's bucket, in another region.
const COPY: &str = "project-chronos-copy";
/// Leads the server's way to that region nowhere, and back.
const DOWN: &str = "sed -i '1i 127.0.0.1 s3.eu-west-1.amazonaws.com' /etc/hosts";
const UP: &str = "sed -i '/^127.0.0.1 s3.eu-west-1/d' /etc/hosts";
const QUEUE: &str = "/var/spool/seawall-copy/queue";

/// Declares a second repository and makes it.
fn copied(test: &str) -> Option<Rehearsal> {
    let lab = Rehearsal::database(test)?;
    declare(&lab);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    Some(lab)
}

fn declare(lab: &Rehearsal) {
    lab.write_secret("copy-pass", "another passphrase, which only the copy has\n");
    let pass = "      cipher_pass: { env: SEAWALL_CIPHER_PASS, escrow: confirmed }\n";
    let copies = "      copies:\n      - { bucket: elsewhere, cipher_pass: { file: copy-pass, escrow: confirmed }, spool_mib: 128 }\n";
    lab.edit_inventory(pass, &format!("{pass}{copies}"));
    lab.edit_inventory(
        "\nidentities:\n",
        &format!("\n  elsewhere: {{ name: {COPY}, region: eu-west-1, object_lock: {{ days: 1, mode: compliance }} }}\n\nidentities:\n"),
    );
}

/// Waits for something that a command on the server says by ending with 0.
#[track_caller]
fn comes(lab: &Rehearsal, command: &str) {
    let begun = Instant::now();
    while lab.tried_on_server(&["bash", "-c", command]).code != 0 {
        let said = "tail -n 3 /var/spool/seawall-copy/said; ls -l /var/spool/seawall-copy /var/spool/seawall-copy/queue; journalctl -n 20 -u 'seawall-copy*'";
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "{command}: {:?}",
            lab.tried_on_server(&["bash", "-c", said])
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Ships the segment that is written, and gives its name.
#[track_caller]
fn shipped(lab: &Rehearsal) -> String {
    // Between two segments the name would be that of the one before.
    lab.sql("postgres", "select pg_logical_emit_message(true, 'test', 'in it'), pg_current_xact_id()");
    let segment = lab.sql("postgres", "select pg_walfile_name(pg_current_wal_insert_lsn())");
    lab.archived();
    segment
}

/// Keys of a bucket below the repository.
fn keys(lab: &Rehearsal, bucket: &str) -> Vec<String> {
    let page = lab.aws("s3", "list_objects_v2", &json!({ "Bucket": bucket, "Prefix": "chronos/" }));
    let all = page["Contents"].as_array().cloned().unwrap_or_default();
    all.iter().map(|object| object["Key"].as_str().expect("a key").to_owned()).collect()
}

/// Full backups in the copy, as pgBackRest says.
fn fulls(lab: &Rehearsal) -> usize {
    let info = "runuser -u postgres -- pgbackrest --config=/etc/pgbackrest/copy.conf --config-include-path=/etc/pgbackrest/copy.conf.d info --output=json";
    let said = lab.on_server(&["bash", "-c", info]).stdout;
    let info: Value = serde_json::from_str(&said).expect("JSON");
    let backups = info[0]["backup"].as_array().cloned().unwrap_or_default();
    backups.iter().filter(|backup| backup["type"] == "full").count()
}

#[test]
fn a_second_repository_takes_everything_and_holds_nothing_up() {
    let Some(lab) = Rehearsal::database("a_second_repository") else { return };
    never_there(&lab);
    let plan = lab.expect(0, &["--sandbox", "plan"]).stdout;
    assert!(plan.contains("No changes") && !plan.contains("falls behind"), "{plan}");
    assert_eq!(fulls(&lab), 1);
    let bucket = lab.aws("s3", "get_bucket_location", &json!({ "Bucket": COPY }));
    assert_eq!(bucket["LocationConstraint"], "eu-west-1");
    // Whoever has the keys of the one reaches nothing of the other.
    let pass = "cmp -s /etc/seawall/backup.pass /etc/seawall/copy.pass || cmp -s /etc/pgbackrest/conf.d/key.conf /etc/pgbackrest/copy.conf.d/key.conf";
    assert_ne!(lab.tried_on_server(&["bash", "-c", pass]).code, 0, "they share a secret");
    for (unit, tenths) in
        [("seawall-copy-wal.service", 40), ("seawall-copy-key.service", 40), ("seawall-copy@full.service", 60)]
    {
        held_to(&lab, unit, tenths);
    }
    let segment = shipped(&lab);
    comes(&lab, &format!("[ -z \"$(ls -A {QUEUE})\" ]"));
    for bucket in ["project-chronos-backups", COPY] {
        let all = keys(&lab, bucket);
        assert!(all.iter().any(|key| key.contains(&segment)), "{segment} is not in {bucket}: {all:?}");
    }

    away(&lab);
    a_gap(&lab);

    for command in ["systemctl disable --now seawall-copy-wal.path", "chmod 755 /var/spool/seawall-copy"] {
        lab.tampered(&[tampering("pgbackrest.copy/db", command)]);
    }
    assert_eq!(fulls(&lab), 3, "a spool that others could write to is not believed");
    left_and_back(&lab);
}

/// One that cannot be made is a failure of its own, and keeps nothing else from being done.
fn never_there(lab: &Rehearsal) {
    // A file in the place of its locks.
    let file = "install -d -o postgres -g postgres -m 0770 /run/postgresql/pgbackrest && touch /run/postgresql/pgbackrest/copy";
    lab.on_server(&["sh", "-c", file]);
    declare(lab);
    lab.edit_inventory("packages: [htop, jq]", "packages: [htop, jq, tree]");
    let ended = lab.expect(1, &["--sandbox", "apply", "--yes"]);
    assert!(ended.stderr.contains("pgbackrest.copy/db  FAILED"), "{}", ended.stderr);
    lab.on_server(&["tree", "--version"]);
    shipped(lab);
    lab.expect(0, &["--sandbox", "backup", "list"]);
    lab.on_server(&["rm", "/run/postgresql/pgbackrest/copy"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
}

/// One that leaves the inventory takes its part of archive_command along. What it missed meanwhile, a full backup makes good.
fn left_and_back(lab: &Rehearsal) {
    let whole = lab.inventory();
    let (before, rest) = whole.split_once("      copies:\n").expect("it is declared");
    let (_, after) = rest.split_once('\n').expect("one copy in a line");
    lab.write_inventory(&format!("{before}{after}"));
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
    let missed = shipped(lab);
    lab.write_inventory(&whole);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
    assert_eq!(fulls(lab), 4);
    assert!(!keys(lab, COPY).iter().any(|key| key.contains(&missed)), "{missed} was kept");
}

/// A repository that does not answer is said and heals nothing; the first one goes on, and what waited arrives.
fn away(lab: &Rehearsal) {
    lab.on_server(&["bash", "-c", DOWN]);
    let first = shipped(lab);
    let second = shipped(lab);
    lab.on_server(&["bash", "-c", &format!("touch -c -d '20 minutes ago' {QUEUE}/{first}")]);
    let plan = lab.expect(2, &["--sandbox", "plan"]).stdout;
    for says in ["the second repository could not be read", "falls behind"] {
        assert!(plan.contains("No changes, but 2 things are not well") && plan.contains(says), "{plan}");
    }
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "backup", "list"]);
    lab.expect(0, &["--sandbox", "backup", "now", "--type", "diff"]);
    lab.on_server(&["bash", "-c", UP]);
    comes(lab, &format!("[ -z \"$(ls -A {QUEUE})\" ]"));
    let all = keys(lab, COPY);
    assert!([first, second].iter().all(|segment| all.iter().any(|key| key.contains(segment))), "{all:?}");
    let plan = lab.expect(0, &["--sandbox", "plan"]).stdout;
    assert!(!plan.contains("second repository"), "{plan}");
}

/// More WAL than may wait: PostgreSQL and the first repository go on, and a full backup closes the gap.
fn a_gap(lab: &Rehearsal) {
    lab.on_server(&["bash", "-c", DOWN]);
    let fill = format!("runuser -u postgres -- fallocate -l 120M {QUEUE}/ffff");
    lab.on_server(&["bash", "-c", &fill]);
    let lost = shipped(lab);
    let held = lab.on_server(&["bash", "-c", &format!("ls {QUEUE}; cat /var/spool/seawall-copy/gap")]).stdout;
    assert!(held.contains(&format!("{lost} was not kept: more WAL waits")), "{held}");
    let plan = lab.expect(2, &["--sandbox", "plan"]).stdout;
    assert!(plan.contains("the second repository has a gap"), "{plan}");
    lab.on_server(&["bash", "-c", &format!("rm {QUEUE}/ffff; {UP}")]);
    let plan = lab.expect(2, &["--sandbox", "plan"]).stdout;
    assert!(plan.contains("pgbackrest.copy/db") && plan.contains("closed by a full backup"), "{plan}");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
    assert_eq!(fulls(lab), 2);
    assert!(!keys(lab, COPY).iter().any(|key| key.contains(&lost)), "nothing was lost, and this test shows nothing");
}

/// Everything in the first bucket is deleted with the key that lies on the server, and then the server is lost.
#[test]
fn a_server_whose_bucket_was_emptied_comes_back_from_the_copy() {
    let Some(lab) = copied("a_server_whose_bucket_was_emptied") else { return };
    lab.sql("postgres", "create table kept (n integer); insert into kept select generate_series(1, 100)");
    lab.expect(0, &["--sandbox", "backup", "now", "--copy", "--type", "diff"]);
    lab.sql("postgres", "insert into kept select generate_series(101, 200)");
    // The row that the template was saved with is older than this machine.
    lab.on_server(&["systemctl", "start", "seawall-heartbeat.service"]);
    shipped(&lab);
    comes(&lab, &format!("[ -z \"$(ls -A {QUEUE})\" ]"));
    the_copy_answers(&lab);
    // The next drill must bring back something newer than the one before.
    lab.on_server(&["systemctl", "start", "seawall-heartbeat.service"]);
    shipped(&lab);
    comes(&lab, &format!("[ -z \"$(ls -A {QUEUE})\" ]"));

    let empty = "for part in archive backup; do runuser -u postgres -- pgbackrest --stanza=chronos repo-rm --recurse $part || exit; done";
    lab.on_server(&["bash", "-c", empty]);
    assert_eq!(keys(&lab, "project-chronos-backups"), Vec::<String>::new());
    let copied = keys(&lab, COPY);
    assert!(!copied.is_empty());
    for (code, command) in [(2, vec!["backup", "list"]), (3, vec!["restore", "--to", "latest", "--yes"])] {
        let said = lab.expect(code, &[&["--sandbox"], command.as_slice()].concat());
        let said = format!("{}{}", said.stdout, said.stderr);
        assert!(said.contains("with `--copy`"), "{command:?} does not lead to the copy: {said}");
    }

    // That is drilled, too: nothing but the copy brings a fresh server to life.
    let lost = lab.expect(0, &["--sandbox", "--format", "json", "rebuild", "--rehearse", "--copy", "--yes"]).stdout;
    let lost: Value = serde_json::from_str(&lost).expect("JSON on stdout");
    let drill = &lost["drill"];
    assert_eq!(
        (&drill["scenario"], &drill["plan"]["repository"]),
        (&json!("fresh-from-copy"), &json!("copy")),
        "{lost}"
    );

    // Where the server is well, an apply mends the first repository; it is emptied again.
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "backup", "list"]);
    lab.on_server(&["bash", "-c", empty]);

    lab.aws("lightsail", "delete_instance", &json!({ "instanceName": "chronos-prod-db", "forceDeleteAddOns": true }));
    let begun = Instant::now();
    while lab.outsider(None, "lightsail", "get_instance", &json!({ "instanceName": "chronos-prod-db" })).code == 0 {
        assert!(begun.elapsed() < Duration::from_mins(1), "the instance does not go");
        std::thread::sleep(Duration::from_millis(300));
    }
    // The bucket alone tells what there is.
    let alone = types(&lab, &section(FROM_COPY)[0], "", &[]);
    assert_eq!(alone.code, 1, "{}", alone.stderr);
    let alone = alone.stdout;
    assert!(alone.contains("full") && alone.contains("diff"), "{alone}");
    let refused = lab.run(&["--sandbox", "rebuild", "--yes"]);
    assert!(refused.code == 3 && refused.stderr.contains("with `--copy`"), "{} {}", refused.code, refused.stderr);

    // As the page for the night has it.
    let commands = section(FROM_COPY);
    let [.., rebuild] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(rebuild.words[1..], ["rebuild", "--copy"]);
    let ended = types(&lab, rebuild, "", &["--format", "json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON on stdout");
    assert_eq!(report["rebuilt"]["plan"]["repository"], "copy", "{report}");
    assert_eq!(lab.sql("postgres", "select count(*), max(n) from kept"), "200|200");
    let plan = lab.expect(0, &["--sandbox", "plan"]).stdout;
    assert!(!plan.contains("falls behind") && !plan.contains("has a gap"), "{plan}");
    // Both have a full backup of the new timeline, and take what is written from here on.
    let segment = shipped(&lab);
    assert!(segment.starts_with("00000002"), "{segment}");
    comes(&lab, &format!("[ -z \"$(ls -A {QUEUE})\" ]"));
    for bucket in ["project-chronos-backups", COPY] {
        let all = keys(&lab, bucket);
        assert!(all.iter().any(|key| key.contains(&segment)), "{segment} is not in {bucket}: {all:?}");
        assert!(all.iter().any(|key| key.contains("00000002.history")), "{bucket}: {all:?}");
    }
    assert_eq!(fulls(&lab), 2, "the copy had no full backup of its own after the rebuild");
    for repository in [&[][..], &["--copy"]] {
        lab.expect(0, &[&["--sandbox", "backup", "list"], repository].concat());
        lab.expect(0, &[&["--sandbox", "backup", "verify"], repository].concat());
    }
}

/// Everything that looks at a repository, restores and measures knows the second one.
fn the_copy_answers(lab: &Rehearsal) {
    let list = lab.expect(0, &["--sandbox", "--format", "json", "backup", "list", "--copy"]).stdout;
    let list: Value = serde_json::from_str(&list).expect("JSON on stdout");
    let server = &list["servers"][0];
    assert_eq!((&server["bucket"], server["backups"].as_array().map(Vec::len)), (&json!(COPY), Some(2)), "{server}");
    lab.expect(0, &["--sandbox", "backup", "verify", "--copy"]);
    lab.expect(0, &["--sandbox", "drill", "--preflight", "--copy"]);
    let commands = section(FROM_COPY);
    let [listing, restore, _] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(listing.words[1..], ["backup", "list", "--copy"]);
    typed(lab, listing, "");
    assert_eq!(restore.words[1..], ["restore", "--copy", "--to", "latest", "--name", "rows"]);
    let restored = typed(lab, restore, "");
    assert!(restored.stdout.contains(COPY), "{}", restored.stdout);
    let rows =
        ["--sandbox", "restore", "psql", "rows", "--", "-XAtq", "-d", "postgres", "-c", "select count(*) from kept"];
    assert_eq!(lab.expect(0, &rows).stdout.trim(), "200");
    lab.expect(0, &["--sandbox", "restore", "drop", "rows"]);
    lab.expect(0, &["--sandbox", "drill", "--copy", "--yes"]);
    // It proves nothing of the first repository.
    let plan = lab.expect(0, &["--sandbox", "plan"]).stdout;
    assert!(plan.contains("drill-stale"), "{plan}");
}
