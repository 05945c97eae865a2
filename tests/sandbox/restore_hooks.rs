//! `after_restore` on a real server: in a copy, in place, and when it fails.

use crate::support::rehearsal::{Ended, Rehearsal};

/// Looks at the database, and fails or does not end where the test says so.
const LOOK: &str = r#"#!/bin/sh
echo "rows: $(psql -XAtc 'select count(*) from marked') argument: $1 user: $(id -un)"
env | sed 's/=.*//' | sort | tr '\n' ' '
case $(cat /opt/hooks/red 2>/dev/null) in
fail) echo "the schema is not the one of the program"; exit 3 ;;
slow) sleep 300 & sleep 300 ;;
hold) sleep 300 & ;;
esac
echo "all heads are there"
"#;
const POOL: &str = "printf '[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' \
    >/etc/systemd/system/pgbouncer.service && systemctl daemon-reload && systemctl enable -q --now pgbouncer.service";
const HOOKS: &str = "      after_restore:
        - { run: [/opt/hooks/look, \"two words; $(id)\"], database: chronos_db, limit: 4s }
        - { run: [sh, -c, 'echo as $(id -un) on $PGHOST $PGDATABASE'], when: promoted, user: www-data }
";

fn restore(lab: &Rehearsal, name: &str, more: &[&str]) -> Ended {
    lab.run(&[&["--sandbox", "restore", "--to", "latest", "--name", name, "--yes"], more].concat())
}

/// What a hook printed.
fn printed(lab: &Rehearsal, name: &str, hook: u8) -> String {
    lab.on_server(&["cat", &format!("/var/lib/postgresql/seawall-restores/{name}/hook-{hook}.log")]).stdout
}

#[track_caller]
fn fails(ended: &Ended, says: &[&str]) {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(ended.code == 1 && said.contains("error[restore-hook]"), "{}: {said}", ended.code);
    for word in says {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn what_runs_after_a_restore_sees_it_and_is_believed() {
    let Some(lab) = Rehearsal::database("what_runs_after_a_restore") else { return };
    let pass = "      cipher_pass: { env: SEAWALL_CIPHER_PASS, escrow: confirmed }\n";
    lab.edit_inventory(pass, &format!("{pass}{HOOKS}"));
    lab.on_server(&[
        "sh",
        "-c",
        "install -d -m 0755 /opt/hooks && printf %s \"$0\" >/opt/hooks/look && chmod 0755 /opt/hooks/look",
        LOOK,
    ]);
    // What stands for the pool: a restore in place knows it by its unit.
    lab.on_server(&["sh", "-c", POOL]);
    lab.sql("chronos_db", "create table marked as select generate_series(1, 7) as n");
    lab.expect(0, &["--sandbox", "backup", "now", "--type", "diff"]);
    let red = |how: &str| drop(lab.on_server(&["sh", "-c", "printf %s \"$0\" >/opt/hooks/red", how]));

    let good = restore(&lab, "good", &[]);
    assert_eq!(good.code, 0, "{}{}", good.stdout, good.stderr);
    assert!(good.stdout.contains("all heads are there") && !good.stdout.contains("www-data"), "{}", good.stdout);
    let seen = printed(&lab, "good", 1);
    assert!(seen.contains("rows: 7 argument: two words; $(id) user: postgres"), "{seen}");
    assert!(
        seen.contains("HOME LC_ALL PATH PGDATABASE PGHOST PGPORT PGUSER PWD"),
        "nothing of ours is in its environment: {seen}"
    );
    lab.on_server(&["test", "!", "-e", "/var/lib/postgresql/seawall-restores/good/hook-2.log"]);

    let status = lab.run(&["--sandbox", "status"]).stdout;
    assert!(status.contains("restore good (beside) stands on the server for"), "{status}");

    // It fails, it does not end, and it is not root's and postgres' alone: the copy is there all the same.
    red("fail");
    fails(
        &restore(&lab, "bad", &[]),
        &["ended with status 3", "the schema is not the one of the program", "hook-1.log"],
    );
    let rows = lab.expect(
        0,
        &["--sandbox", "restore", "psql", "bad", "--", "-XAtd", "chronos_db", "-c", "select count(*) from marked"],
    );
    assert_eq!(rows.stdout.trim(), "7");
    // What goes on in the background and holds the output open does not keep the restore from its end.
    red("hold");
    let held = restore(&lab, "hold", &[]);
    assert_eq!(held.code, 0, "{}{}", held.stdout, held.stderr);
    red("slow");
    fails(&restore(&lab, "slow", &[]), &["did not end within 4 s"]);
    lab.on_server(&["chmod", "0757", "/opt/hooks"]);
    fails(&restore(&lab, "open", &[]), &["was not run", "/opt/hooks can be written by others"]);
    lab.on_server(&["test", "!", "-e", "/var/lib/postgresql/seawall-restores/open/hook-1.log"]);
    lab.on_server(&["chmod", "0755", "/opt/hooks"]);
    for name in ["good", "bad", "hold", "slow", "open"] {
        lab.expect(0, &["--sandbox", "restore", "drop", name]);
    }
    let left = lab.on_server(&["sh", "-c", "pgrep -c -u postgres sleep || true"]);
    assert_eq!(left.stdout.trim(), "0", "what a hook left behind goes with its copy");

    // In place: what was restored runs, clients of the pool wait, and both ways are open.
    red("fail");
    let failed = restore(&lab, "wrong", &["--in-place"]);
    fails(&failed, &["restore undo wrong", "restore accept wrong", "PgBouncer is stopped"]);
    assert_eq!(lab.sql("chronos_db", "select count(*) from marked"), "7");
    let status = lab.run(&["--sandbox", "status"]).stdout;
    assert!(status.contains("restore wrong in place waits for") && !status.contains("(beside)"), "{status}");
    assert_ne!(lab.tried_on_server(&["systemctl", "is-active", "pgbouncer.service"]).stdout.trim(), "active");
    lab.expect(0, &["--sandbox", "restore", "undo", "wrong", "--yes"]);
    lab.on_server(&["systemctl", "is-active", "pgbouncer.service"]);

    lab.on_server(&["rm", "/opt/hooks/red"]);
    let kept = restore(&lab, "kept", &["--in-place"]);
    assert_eq!(kept.code, 0, "{}{}", kept.stdout, kept.stderr);
    assert!(
        printed(&lab, "kept", 2).contains("as www-data on /var/run/postgresql chronos_db"),
        "{}",
        printed(&lab, "kept", 2)
    );
    lab.on_server(&["systemctl", "is-active", "pgbouncer.service"]);
    lab.expect(0, &["--sandbox", "restore", "accept", "kept"]);
    lab.on_server(&["sh", "-c", "systemctl disable -q --now pgbouncer.service; rm /etc/systemd/system/pgbouncer.service; systemctl daemon-reload"]);
    lab.sql("chronos_db", "drop table marked");
    lab.expect(0, &["--sandbox", "plan"]);
}
