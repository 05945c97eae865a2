//! Attacks in the folders that services read, by the users whom these services run as: of the pool and of jobs.
//!
//! Other tests have the servers; each of them calls this for its own folder.

use super::attacks_paths::TREASURE;
use crate::support::rehearsal::{Rehearsal, shell_word};

/// A folder of configuration, a file in it, and the user of the service that reads it.
pub(super) struct Ground {
    pub folder: &'static str,
    pub file: &'static str,
    pub user: &'static str,
}

fn bash(lab: &Rehearsal, text: &str) -> String {
    lab.on_server(&["bash", "-c", text]).stdout
}

impl Ground {
    /// A command of the user's that may fail, in the folder's parent, with `$f` and `$d` for file and folder.
    fn as_user(&self, lab: &Rehearsal, text: &str) -> String {
        let Self { folder, file, user } = self;
        let text = format!("d={folder} f={folder}/{file}; {text}");
        bash(lab, &format!("cd /; {{ runuser -u {user} -- bash -c {}; }} 2>&1; true", shell_word(&text)))
    }

    /// What root's files are at the end, whatever was tried.
    fn is_roots_again(&self, lab: &Rehearsal) {
        let Self { folder, file, .. } = self;
        let plan = lab.expect(0, &["--sandbox", "plan"]);
        assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
        let found = bash(lab, &format!("stat -c '%F %U' {folder} {folder}/{file}"));
        assert_eq!(found, "directory root\nregular file root\n", "{folder}");
        let treasure = bash(lab, &format!("cat {TREASURE}; stat -c '%a %U:%G' {TREASURE}"));
        assert_eq!(treasure, "untouched\n600 root:root\n", "{folder}");
    }
}

/// The user cannot change the folder; where somebody has let him, what he leaves there leads root nowhere.
pub(super) fn nobody_leads_root_elsewhere_in(lab: &Rehearsal, ground: &Ground) {
    let Ground { folder, file, user } = ground;
    bash(lab, &format!("install -m 0600 /dev/null {TREASURE}; echo untouched >{TREASURE}"));
    let said = ground.as_user(lab, "mv $f $d/kept; ln -s /root $d/link; echo x >>$f; touch $d/foreign");
    assert_eq!(said.matches("Permission denied").count(), 4, "{folder}: {said}");
    ground.is_roots_again(lab);

    // Somebody gave it away, and the user writes what his service reads.
    bash(lab, &format!("chown {user} {folder} {folder}/{file}"));
    ground.as_user(lab, "echo '# mine' >>$f; touch $d/foreign");
    let drift = lab.expect(2, &["--sandbox", "drift"]).stdout;
    assert!(drift.contains("host.folders/db") && drift.contains(folder), "{drift}");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    ground.is_roots_again(lab);
    assert_eq!(bash(lab, &format!("grep -c '# mine' {folder}/{file}; true")), "0\n");

    // And a link in the place of what root is about to write: refused, or replaced as a link. What it leads to stays.
    bash(lab, &format!("rm -f {folder}/foreign; cp -a {folder}/{file} /root/kept; chown {user} {folder}"));
    ground.as_user(lab, &format!("rm -f $f; ln -s {TREASURE} $f"));
    assert_eq!(bash(lab, &format!("readlink {folder}/{file}")).trim(), TREASURE, "the attack was made");
    let ended = lab.run(&["--sandbox", "apply", "--yes"]);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(ended.code == 0 || said.contains(&format!("{folder}/{file}")), "{said}");
    assert_eq!(bash(lab, &format!("cat {TREASURE}; stat -c '%a %U:%G' {TREASURE}")), "untouched\n600 root:root\n");
    if ended.code != 0 {
        bash(lab, &format!("rm {folder}/{file}; mv /root/kept {folder}/{file}; chown root {folder}"));
        lab.expect(0, &["--sandbox", "apply", "--yes"]);
    }
    ground.is_roots_again(lab);
}
