//! Attacks by who has an account on the server, or the database: links, names and locks that lead root to where it would not go.
//!
//! Each is made by the user who would make it. What is root's must be what it was, and what was done must be named.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use seawall::base::address::Address;
use seawall::plan::step::{Content, HostStep};
use seawall::reach::ssh::program::{Layout, compile};
use seawall::reach::{Transaction, TransactionStep};

use crate::support::rehearsal::{Ended, Rehearsal, shell_word};
use crate::support::turn::hosts_can_run;

/// A cluster's folders as its package makes them, and as an older version of this program left them.
const AS_DEBIAN_MAKES_THEM: &str = "chown postgres:postgres /etc/postgresql /etc/postgresql/15 /etc/postgresql/15/main \
    /etc/postgresql/15/main/conf.d /etc/postgresql/15/main/*.conf";
/// What root alone may change.
pub(super) const TREASURE: &str = "/root/treasure";

#[test]
fn nobody_on_the_server_leads_root_elsewhere() {
    let Some(lab) = Rehearsal::database("nobody_on_the_server_leads_root_elsewhere") else { return };
    bash(&lab, &format!("install -m 0600 /dev/null {TREASURE}; echo untouched >{TREASURE}"));
    a_key_in_somebody_elses_folder(&lab);
    nobody_stops_the_backups(&lab);
    units_may_do_what_they_need(&lab);
    the_cluster_is_out_of_postgres_hands(&lab);
    a_folder_of_settings_that_is_a_link(&lab);
    files_that_are_links(&lab);
    a_racer_beside_the_access_rules(&lab);
    file_names_that_the_database_tells(&lab);
    folders_of_others(&lab);
    converged(&lab);
}

fn bash(lab: &Rehearsal, text: &str) -> String {
    lab.on_server(&["bash", "-c", text]).stdout
}

/// A user's command that may fail.
fn as_user(lab: &Rehearsal, user: &str, text: &str) -> String {
    let text = format!("runuser -u {user} -- bash -c {}; true", shell_word(text));
    bash(lab, &format!("{{ {text}; }} 2>&1"))
}

fn converged(lab: &Rehearsal) {
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
    assert_eq!(bash(lab, &format!("cat {TREASURE}; stat -c '%a %U:%G' {TREASURE}")), "untouched\n600 root:root\n");
}

/// An apply that must not have done anything, and says why.
#[track_caller]
fn refused(lab: &Rehearsal, code: &str, names: &str) -> Ended {
    let ended = lab.run(&["--sandbox", "apply", "--yes"]);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, 3, "{said}");
    assert!(said.contains(code) && said.contains(names), "not {code} about {names}: {said}");
    ended
}

fn the_cluster_is_out_of_postgres_hands(lab: &Rehearsal) {
    let owners = "stat -c '%U %n' /etc/postgresql/15 /etc/postgresql/15/main /etc/postgresql/15/main/conf.d \
        /etc/postgresql/15/main/*.conf /etc/postgresql/15/main/conf.d/*";
    for line in bash(lab, owners).lines() {
        assert!(line.starts_with("root "), "{line}");
    }
    let tried = "cd /etc/postgresql/15/main && mv conf.d x; ln -s /root y; echo x >>postgresql.conf; rm -f start.conf; touch conf.d/z";
    let said = as_user(lab, "postgres", tried);
    assert_eq!(said.matches("Permission denied").count(), 5, "{said}");
    // What the packages' own programs do there still works.
    bash(
        lab,
        "pg_conftool 15 main set work_mem 5MB && pg_conftool 15 main remove work_mem && pg_lsclusters -h | grep -q online",
    );
    bash(lab, "systemctl daemon-reload && systemctl restart postgresql.service && pg_ctlcluster 15 main reload");
    bash(
        lab,
        "until runuser -u postgres -- pg_isready -q; do sleep 0.2; done; runuser -u postgres -- pgbackrest --stanza=chronos check",
    );
    let other = as_user(lab, "nobody", "psql --version");
    assert!(other.starts_with("psql (PostgreSQL) 15") && other.lines().count() == 1, "{other}");
    converged(lab);
}

/// The drift that has the folder made is the attacker's own.
fn a_folder_of_settings_that_is_a_link(lab: &Rehearsal) {
    bash(lab, AS_DEBIAN_MAKES_THEM);
    as_user(lab, "postgres", "cd /etc/postgresql/15/main && mv conf.d kept && ln -s /usr/local/lib/seawall conf.d");
    let drift = lab.expect(2, &["--sandbox", "drift"]);
    assert!(drift.stdout.contains("/etc/postgresql/15/main/conf.d"), "{}", drift.stdout);
    refused(lab, "unsafe-folder", "/etc/postgresql/15/main/conf.d");
    assert_eq!(bash(lab, "stat -c '%a %U:%G' /usr/local/lib/seawall"), "755 root:root\n");
    bash(lab, "cd /etc/postgresql/15/main && rm conf.d && mv kept conf.d");
    converged(lab);
}

fn files_that_are_links(lab: &Rehearsal) {
    for name in ["start.conf", "conf.d/50-seawall.conf", "pg_hba.conf"] {
        bash(lab, AS_DEBIAN_MAKES_THEM);
        let swap = format!("cd /etc/postgresql/15/main && cp {name} /tmp/kept && rm {name} && ln -s {TREASURE} {name}");
        as_user(lab, "postgres", &swap);
        let ended = lab.run(&["--sandbox", "apply", "--yes"]);
        assert_ne!(ended.code, 0, "{name}: {}", ended.stdout);
        assert!(format!("{}{}", ended.stdout, ended.stderr).contains(name), "{name}: {}{}", ended.stdout, ended.stderr);
        bash(
            lab,
            &format!("cd /etc/postgresql/15/main && rm {name} && install -o root -g postgres -m 0640 /tmp/kept {name}"),
        );
        converged(lab);
    }
}

/// The moment in which a candidate can be seen is watched for by the one who would put a link in its place.
fn a_racer_beside_the_access_rules(lab: &Rehearsal) {
    bash(lab, AS_DEBIAN_MAKES_THEM);
    let racer = RACER.replace("FOLDER", "/etc/postgresql/15/main").replace("TARGET", TREASURE);
    let start = format!(
        "cat >/tmp/racer.py <<'END'\n{racer}\nEND\nchmod 644 /tmp/racer.py; : >/tmp/raced; chown postgres /tmp/raced
         systemd-run --quiet --collect --unit=racer --uid=postgres --property=StandardOutput=append:/tmp/raced python3 /tmp/racer.py
         until grep -q watching /tmp/raced; do sleep 0.1; done"
    );
    bash(lab, &start);
    as_user(lab, "postgres", "echo '# mine' >>/etc/postgresql/15/main/pg_hba.conf");
    converged(lab);
    bash(lab, "systemctl stop racer");
    assert_eq!(bash(lab, "ls -A /etc/postgresql/15/main | grep -c before; true"), "0\n");
    assert_eq!(bash(lab, "grep -c '# mine' /etc/postgresql/15/main/pg_hba.conf; true"), "0\n");
}

/// Puts a link where a candidate is about to be kept, and one in the candidate's own place.
const RACER: &str = r#"import ctypes, os, struct
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
libc.inotify_add_watch(fd, b"FOLDER", 0x100 | 0x80)
print("watching", flush=True)
while True:
    events = os.read(fd, 65536)
    while events:
        size = struct.unpack("iIII", events[:16])[3]
        name = events[16:16 + size].rstrip(b"\0").decode()
        events = events[16 + size:]
        if not name.startswith(".seawall-"):
            continue
        for path in (name + ".before", name + ".asked", name):
            try:
                if path == name:
                    os.unlink("FOLDER/" + path)
                os.symlink("TARGET", "FOLDER/" + path)
            except OSError:
                pass
"#;

/// A superuser of the database has it tell of files that are not its own.
fn file_names_that_the_database_tells(lab: &Rehearsal) {
    let shadow = bash(lab, "sha256sum /etc/pam.d/common-auth /etc/postgresql/15/main/pg_hba.conf");
    let view = |file: &str, line: u32| {
        let rows = if file.is_empty() {
            String::new()
        } else {
            format!(" union all select '{file}', {line}, 99999, 'work_mem', '4MB', true, null")
        };
        let sql = format!(
            "set allow_system_table_mods = on; create or replace view pg_catalog.pg_file_settings as select * from pg_show_all_file_settings(){rows}"
        );
        lab.on_server(&["runuser", "-u", "postgres", "--", "psql", "-Xqd", "postgres", "-c", &sql]);
    };
    for file in [
        "/etc/pam.d/common-auth",
        "/etc/postgresql/15/main/../../../pam.d/common-auth",
        "/etc/postgresql/15/main/pg_hba.conf",
    ] {
        view(file, 19);
        refused(lab, "setting-elsewhere", file);
    }
    // A file of settings, and a line that does not set what is told.
    view("/etc/postgresql/15/main/postgresql.conf", 1);
    let ended = lab.run(&["--sandbox", "apply", "--yes"]);
    assert!(ended.code == 1 && ended.stderr.contains("does not set work_mem"), "{}{}", ended.stdout, ended.stderr);
    view("", 0);
    assert_eq!(bash(lab, "sha256sum /etc/pam.d/common-auth /etc/postgresql/15/main/pg_hba.conf"), shadow);
    assert_eq!(bash(lab, "grep -c 'not in effect' /etc/postgresql/15/main/postgresql.conf; true"), "0\n");
    converged(lab);
}

fn folders_of_others(lab: &Rehearsal) {
    let opened = [
        ("chown nobody /etc/apt/apt.conf.d", "755 nobody:root"),
        ("chmod 777 /usr/local/lib/seawall", "777 root:root"),
        ("chown -R postgres: /etc/postgresql/15", "755 postgres:postgres"),
        ("chmod 755 /var/lib/seawall", "755 root:root"),
        ("chgrp nogroup /etc/systemd/system; chmod g+w /etc/systemd/system", "775 root:nogroup"),
    ];
    for (command, _) in opened {
        bash(lab, command);
    }
    let drift = lab.expect(2, &["--sandbox", "drift"]).stdout;
    for (command, says) in opened {
        assert!(drift.contains("host.folders/db") && drift.contains(says), "`{command}`: {drift}");
    }
    converged(lab);
    let access = "stat -c '%a %U' /etc/apt/apt.conf.d /usr/local/lib/seawall /etc/postgresql/15/main /etc/systemd/system /var/lib/seawall";
    assert_eq!(bash(lab, access), "755 root\n755 root\n755 root\n755 root\n700 root\n");
    // Nothing is run from a folder that others could have written to.
    bash(lab, "chmod 777 /var/lib/seawall");
    refused(lab, "unsafe-folder", "/var/lib/seawall");
    bash(lab, "chown -R root: /var/lib/seawall && chmod 700 /var/lib/seawall");
    bash(lab, "mv /etc/sysctl.d /etc/sysctl.kept && ln -s /root /etc/sysctl.d");
    refused(lab, "unsafe-folder", "/etc/sysctl.d");
    bash(lab, "rm /etc/sysctl.d && mv /etc/sysctl.kept /etc/sysctl.d");
    converged(lab);
}

fn a_key_in_somebody_elses_folder(lab: &Rehearsal) {
    bash(lab, "useradd --system app 2>/dev/null; install -d -o app -g app /srv/app");
    let before = lab.inventory();
    let stranger = "identities:\n  stranger:\n    bucket: backups\n    prefix: elsewhere\n    key: { server: db, file: /srv/app/key }\n";
    lab.edit_inventory("identities:\n", stranger);
    let ended = lab.run(&["--sandbox", "apply", "--yes"]);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(ended.code == 1 && said.contains("/srv/app is app's, who could put a link there"), "{said}");
    assert_eq!(bash(lab, "ls -A /srv/app"), "");
    bash(lab, "chown root: /srv/app");
    converged(lab);
    assert_eq!(bash(lab, "stat -c '%a %U:%G' /srv/app/key"), "640 root:root\n");
    lab.write_inventory(&before);
    converged(lab);
}

/// Locks that anybody may take, and folders that whoever comes first has.
fn nobody_stops_the_backups(lab: &Rehearsal) {
    as_user(lab, "nobody", "mkdir -p /tmp/pgbackrest; chmod 700 /tmp/pgbackrest");
    bash(lab, "systemctl start seawall-backup@diff.service");
    for lock in [
        "/run/postgresql/.seawall-backup.lock",
        "/run/postgresql/pgbackrest/chronos-backup.lock",
        "/var/lib/seawall/alerts/.lock",
    ] {
        let said = as_user(lab, "nobody", &format!("flock -n {lock} echo held"));
        assert!(!said.contains("held"), "{lock}: {said}");
    }
    let readable = "find /var/lib/postgresql /var/lib/seawall /run/postgresql /run/seawall /etc/seawall -name '*.lock' -perm /007 2>/dev/null";
    assert_eq!(bash(lab, &format!("{readable} | grep -v '^/run/postgresql/.s.PGSQL'; true")), "");
    bash(lab, "systemctl start seawall-backup@diff.service");
    // What a probe reads of postgres' is bounded, and no link of his is followed.
    as_user(lab, "postgres", "ln -sf /dev/zero /var/lib/postgresql/.seawall-dumped");
    lab.expect(0, &["--sandbox", "plan"]);
}

/// The exposure of a service must be at most so many tenths.
pub(super) fn held_to(lab: &Rehearsal, unit: &str, tenths: u32) {
    let judge = format!(
        "systemd-analyze security --no-pager --threshold={tenths} {unit} >/tmp/exposure 2>&1 || cat /tmp/exposure"
    );
    let said = bash(lab, &judge);
    assert!(said.is_empty(), "{unit} is above {tenths} tenths: {said}");
}

fn units_may_do_what_they_need(lab: &Rehearsal) {
    for unit in ["seawall-alert@x.service", "seawall-repository-key.service", "seawall-heartbeat.service"] {
        held_to(lab, unit, 40);
    }
    held_to(lab, "seawall-backup@full.service", 60);
    // Each of them does its work under what it is held to.
    bash(
        lab,
        "rm /etc/pgbackrest/conf.d/key.conf && systemctl start seawall-repository-key.service && stat -c '%a %U:%G' /etc/pgbackrest/conf.d/key.conf | grep -qx '640 root:postgres'",
    );
    let beat = "runuser -u postgres -- psql -XAtqd postgres -c 'select at from seawall.heartbeat'";
    bash(
        lab,
        &format!("before=$({beat}); systemctl start seawall-heartbeat.service; [ \"$({beat})\" != \"$before\" ]"),
    );
    let failing = "systemctl stop postgresql@15-main; ! systemctl start seawall-heartbeat.service; systemctl start postgresql@15-main
        for _ in $(seq 50); do [ -s /var/lib/seawall/alerts/seawall-heartbeat.service.jsonl ] && break; sleep 0.2; done
        tail -n 1 /var/lib/seawall/alerts/seawall-heartbeat.service.jsonl";
    let recorded = bash(lab, failing);
    assert!(recorded.contains("\"result\":\"exit-code\"") && recorded.contains("connection to server"), "{recorded}");
    bash(
        lab,
        "until runuser -u postgres -- pg_isready -q; do sleep 0.2; done; systemctl start seawall-heartbeat.service",
    );
}

/// How often the racer must lose.
const ROUNDS: usize = 200;

/// Swaps a folder of his own with a link to root's, as fast as he can, and puts a link in a candidate's place as soon as the
/// kernel tells of one.
const SWAPPER: &str = r#"import ctypes, os, threading
folder, name, treasure = "FOLDER", "NAME", "TREASURE"
here, real, link = (folder + "/" + word for word in (name, "real", "link"))
libc = ctypes.CDLL(None)
fd = libc.inotify_init()
libc.inotify_add_watch(fd, here.encode(), 0x100 | 0x80)
os.symlink(treasure, link)
def candidates():
    while True:
        os.read(fd, 65536)
        for place in (here, real):
            try:
                for file in os.listdir(place):
                    if file.startswith(".seawall-"):
                        os.unlink(place + "/" + file)
                        os.symlink(treasure + "/file", place + "/" + file)
            except OSError:
                pass
threading.Thread(target=candidates, daemon=True).start()
print("watching", flush=True)
while True:
    for old, new in ((here, real), (link, here), (here, link), (real, here)):
        try:
            os.rename(old, new)
        except OSError:
            pass
"#;

/// One transaction, run here by a shell of root's. Whether it ended well.
fn transaction(root: &Path, id: &str, steps: Vec<HostStep>) -> bool {
    let layout =
        Layout { run: root.join("run").display().to_string(), state: root.join("state").display().to_string() };
    let address = Address::new("host.users", "db");
    let steps = steps.into_iter().enumerate();
    let steps = steps.map(|(index, step)| TransactionStep { address: address.clone(), index, step }).collect();
    let (program, _) =
        compile(&Transaction { id: id.to_owned(), guard_s: None, steps }, &[], &layout).expect("a program");
    let here = root.join("run").join(id);
    std::fs::create_dir_all(&here).expect("a folder");
    std::fs::write(here.join("program"), program.reveal()).expect("a program");
    std::fs::write(here.join("events"), "").expect("its events");
    Command::new("sh").arg(here.join("program")).stdin(Stdio::null()).status().expect("sh runs");
    std::fs::read_to_string(here.join("events")).expect("its events").contains("end ok")
}

/// The user who races.
const NOBODY: u32 = 65534;

/// A folder of a racer's that he swaps, and what is root's alone beside it.
struct Race {
    name: &'static str,
    folder: tempfile::TempDir,
    racer: std::process::Child,
}

impl Race {
    /// `name` is in the racer's folder `his`.
    fn begin(name: &'static str) -> Self {
        // Not below a folder that anybody can write to.
        let folder = tempfile::tempdir_in("/run").expect("a temporary folder");
        let root = folder.path();
        for part in ["his", &format!("his/{name}"), "treasure", "run", "state/journal"] {
            std::fs::create_dir_all(root.join(part)).expect("a folder");
        }
        for path in [root.to_owned(), root.join("treasure")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        }
        std::fs::write(root.join("treasure/file"), "root's").expect("a file");
        for path in ["his".to_owned(), format!("his/{name}")] {
            chown(root.join(path), Some(NOBODY), Some(NOBODY)).expect("a user's folder");
        }
        let at = |part: &str| root.join(part).display().to_string();
        let script = SWAPPER.replace("FOLDER", &at("his")).replace("NAME", name).replace("TREASURE", &at("treasure"));
        let mut racer = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a racer");
        let mut said = [0; 8];
        std::io::Read::read_exact(racer.stdout.as_mut().expect("its output"), &mut said).expect("it watches");
        Self { name, folder, racer }
    }

    fn at(&self, part: &str) -> String {
        self.folder.path().join(part).display().to_string()
    }

    /// Gives the racer his folders back, whatever stands in them.
    fn his_again(&self) {
        for part in ["his", &format!("his/{}", self.name), "his/real"] {
            let _ = std::os::unix::fs::lchown(self.folder.path().join(part), Some(NOBODY), Some(NOBODY));
        }
    }

    /// Waits until he is seen swapping, half a second at most.
    fn is_on(&self) -> bool {
        let his = self.folder.path().join("his");
        let swapped = || his.join("real").symlink_metadata().is_ok() || his.join("link").symlink_metadata().is_err();
        (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            swapped()
        })
    }

    /// Ends it: the racer was on in most rounds, without him the same steps do their work, and what is root's is what it was.
    fn lost(mut self, on: usize, steps: Vec<HostStep>) {
        self.racer.kill().expect("the racer ends");
        self.racer.wait().expect("the racer ends");
        assert!(on > ROUNDS / 2, "the racer was seen in {on} rounds of {ROUNDS}");
        let his = self.folder.path().join("his");
        std::fs::remove_dir_all(&his).expect("his folder goes");
        std::fs::create_dir_all(his.join(self.name)).expect("a folder");
        self.his_again();
        assert!(transaction(self.folder.path(), "quiet", steps), "without the racer the steps do their work");
        let treasure = self.folder.path().join("treasure");
        assert_eq!(std::fs::read_to_string(treasure.join("file")).expect("it stays"), "root's");
        let all = std::fs::read_dir(&treasure).expect("a folder").flatten();
        let names: Vec<_> = all.map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["file"], "nothing was made there");
        for (path, bits) in [(treasure.clone(), 0o755), (treasure.join("file"), 0o644)] {
            let found = std::fs::metadata(&path).expect("it stays");
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (0, 0, bits), "{}", path.display());
        }
    }
}

fn file(path: String, owner: &str, group: &str, text: String) -> HostStep {
    let (owner, group) = (owner.to_owned(), group.to_owned());
    HostStep::WriteFile { path, owner, group, mode: "0600".to_owned(), content: Content::Text(text), validate: None }
}

fn folder(path: String, owner: &str, group: &str) -> HostStep {
    HostStep::MakeDirectory { path, owner: owner.to_owned(), group: group.to_owned(), mode: "0755".to_owned() }
}

#[test]
fn a_racer_in_his_own_home_loses_every_time() {
    if !hosts_can_run("a_racer_in_his_own_home_loses_every_time") {
        return;
    }
    let race = Race::begin(".ssh");
    let key = race.at("his/.ssh/file");
    let mut on = 0;
    for round in 0..ROUNDS {
        on += usize::from(race.is_on());
        let step = match round % 3 {
            0 => file(key.clone(), "nobody", "nogroup", format!("key {round}\n")),
            1 => folder(race.at("his/.ssh"), "nobody", "nogroup"),
            _ => HostStep::RemoveFile { path: key.clone() },
        };
        transaction(race.folder.path(), &format!("t-{round}"), vec![step]);
    }
    let quiet =
        vec![folder(race.at("his/.ssh"), "nobody", "nogroup"), file(key, "nobody", "nogroup", "key\n".to_owned())];
    race.lost(on, quiet);
}

/// What `host.folders` does to a folder that was a user's, and what comes after it: he has until then.
#[test]
fn a_racer_in_a_folder_that_is_taken_from_him_loses_every_time() {
    if !hosts_can_run("a_racer_in_a_folder_that_is_taken_from_him_loses_every_time") {
        return;
    }
    let race = Race::begin("conf.d");
    let steps = |round: usize| {
        vec![
            folder(race.at("his"), "root", "root"),
            folder(race.at("his/conf.d"), "root", "root"),
            file(race.at("his/conf.d/file"), "root", "root", format!("setting {round}\n")),
        ]
    };
    let mut on = 0;
    for round in 0..ROUNDS {
        race.his_again();
        on += usize::from(race.is_on());
        transaction(race.folder.path(), &format!("t-{round}"), steps(round));
    }
    let quiet = steps(ROUNDS);
    race.lost(on, quiet);
}
