//! What changes a unit without touching its file: each is named with what it sets, one apply heals them all.

use crate::support::rehearsal::Rehearsal;

/// What is done on the server, and what drift must say about it.
const TAMPERINGS: [(&str, &[&str]); 7] = [
    (
        "d=/etc/systemd/system/seawall-backup@.service.d; mkdir -p $d; printf '[Service]\\nExecStart=\\nExecStart=/bin/true\\n' >$d/x.conf",
        &["/etc/systemd/system/seawall-backup@.service.d/x.conf", "ExecStart=/bin/true"],
    ),
    (
        "systemctl disable --now seawall-backup-diff.timer; ln -sfn /dev/null /etc/systemd/system/seawall-backup-diff.timer",
        &["/etc/systemd/system/seawall-backup-diff.timer", "masked → \"enabled, active\""],
    ),
    (
        "d=/run/systemd/system/seawall-heartbeat.timer.d; mkdir -p $d; printf '[Unit]\\nConditionPathExists=/nowhere\\n' >$d/x.conf; \
         systemctl daemon-reload; systemctl restart seawall-heartbeat.timer",
        &["/run/systemd/system/seawall-heartbeat.timer.d/x.conf", "ConditionPathExists=/nowhere"],
    ),
    (
        "d=/etc/systemd/system/seawall-certificate.service.d; mkdir -p $d; printf '[Service]\\nExecStart=/bin/false\\n' >$d/y.conf",
        &["/etc/systemd/system/seawall-certificate.service.d/y.conf", "ExecStart=/bin/false"],
    ),
    ("systemctl mask postgresql@15-main.service", &["/etc/systemd/system/postgresql@15-main.service", "masked"]),
    ("systemctl disable postgresql.service", &["postgresql.service", "disabled"]),
    ("systemctl mask ssh.service", &["/etc/systemd/system/ssh.service", "masked"]),
];

#[test]
fn what_changes_a_unit_beside_its_file_is_named_and_healed() {
    let Some(lab) = Rehearsal::database("what_changes_a_unit") else { return };
    for (tampering, _) in TAMPERINGS {
        lab.on_server(&["bash", "-c", tampering]);
    }
    // A package on hold is an installed one, and no difference.
    lab.on_server(&["apt-mark", "hold", "postgresql-15"]);
    lab.on_server(&["systemctl", "daemon-reload"]);

    let drift = lab.expect(2, &["--sandbox", "drift", "--verbose"]);
    for (tampering, expected) in TAMPERINGS {
        for words in expected {
            assert!(drift.stdout.contains(words), "{tampering}: `{words}`: {}", drift.stdout);
        }
    }
    assert!(!drift.stdout.contains("packages.postgresql-15"), "{}", drift.stdout);

    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let healed = lab.expect(0, &["--sandbox", "plan"]);
    assert!(healed.stdout.contains("No changes"), "{}", healed.stdout);
    let state =
        lab.on_server(&["systemctl", "is-enabled", "ssh.service", "postgresql.service", "seawall-backup-diff.timer"]);
    assert_eq!(state.stdout.split_whitespace().collect::<Vec<_>>(), ["enabled"; 3], "{}", state.stdout);
    let runs = lab.on_server(&["systemctl", "show", "-p", "ExecStart", "seawall-backup@full.service"]);
    assert!(runs.stdout.contains("/usr/local/lib/seawall/backup"), "{}", runs.stdout);
    let held = lab.on_server(&["apt-mark", "showhold"]);
    assert_eq!(held.stdout.trim(), "postgresql-15", "what an operator holds stays held");

    packages_do_what_the_plan_says(&lab);
}

/// Installing a package restarts and removes nothing that no plan has named.
fn packages_do_what_the_plan_says(lab: &Rehearsal) {
    let quietly = "export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1; apt-get update -qq && apt-get install -qq -y --no-install-recommends";
    // Its hook would restart everything that uses a library which was replaced: PostgreSQL does.
    let waits = format!("{quietly} needrestart busybox-syslogd && {quietly} --reinstall zlib1g && dpkg --remove jq");
    lab.on_server(&["bash", "-c", &waits]);
    let since = lab.sql("postgres", "select pg_postmaster_start_time()");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.on_server(&["jq", "--version"]);
    assert_eq!(lab.sql("postgres", "select pg_postmaster_start_time()"), since, "PostgreSQL was restarted unannounced");

    // apt took ufw away for the other one; the plan names what goes for it.
    lab.on_server(&["bash", "-c", &format!("{quietly} iptables-persistent")]);
    let plan = lab.expect(2, &["--sandbox", "plan"]).stdout;
    for says in ["iptables-persistent", "installed → removed", "packages.ufw"] {
        assert!(plan.contains(says), "`{says}`: {plan}");
    }
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);

    // Debian keeps these two from being beside each other; nobody has decided for one.
    lab.edit_inventory("packages: [htop, jq]", "packages: [htop, jq, inetutils-syslogd]");
    let refused = lab.expect(1, &["--sandbox", "apply", "--yes"]).stderr;
    assert!(refused.contains("it would remove busybox-syslogd"), "{refused}");
    lab.on_server(&["dpkg", "-s", "busybox-syslogd"]);
}
