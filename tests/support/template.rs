//! Templates of the tests: servers that were converged once, and are cloned by every test that does not begin from
//! nothing. In the project's cache, built by whoever needs one first.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use seawall::base::digest::Digest;

use crate::support::rehearsal::Rehearsal;
use crate::support::turn::{cache, locked};

/// Raised when the way changes in which these are made.
const RECIPE: u32 = 1;
/// A server that was off for longer wakes up to schedules that it missed, and to others that are late.
const AGE_LIMIT: Duration = Duration::from_hours(6);

/// What is cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The worked example without what may lock out: nothing of ours is in the way of a login.
    Open,
    /// The worked example without its database.
    Base,
    /// The worked example.
    Database,
}

/// What `Open` has: everything of `Base` but sshd, the firewall, users and bans.
const OPEN: [&str; 11] = [
    "lightsail.instance/db",
    "lightsail.key_pair/db",
    "lightsail.ports/db",
    "lightsail.static_ip/db",
    "s3.bucket/backups",
    "sns.topic/alerts",
    "host.packages/db",
    "host.updates/db",
    "host.sysctl/db",
    "host.time/db",
    "host.swap/db",
];

/// A template, which stays as long as this is held.
pub(crate) struct Held {
    pub name: String,
    _used: Flock<std::fs::File>,
}

pub(crate) fn folder() -> PathBuf {
    cache().join("templates")
}

fn lock_file(name: &str) -> std::fs::File {
    std::fs::create_dir_all(folder()).expect("a folder for templates");
    std::fs::File::create(folder().join(format!(".{name}.lock"))).expect("a file to lock")
}

/// The program decides what a server becomes: its templates and the recipes of its images are in it.
fn program() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| {
        // Not in this process: without optimisation it takes a minute.
        let said = Command::new("sha256sum").arg(env!("CARGO_BIN_EXE_seawall")).output().expect("sha256sum runs");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).split_whitespace().next().expect("a digest").to_owned()
    })
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Base => "base",
            Self::Database => "database",
        }
    }

    /// Finds this template or builds it; others that need it wait meanwhile, in this process and in others.
    pub(crate) fn hold(self, inventory: &str) -> Held {
        let key = Digest::of(&(RECIPE, program(), inventory)).short().to_owned();
        let name = format!("{}-{key}", self.word());
        let _building = locked(lock_file(self.word()), FlockArg::LockExclusive);
        if !is_fresh(&folder().join(&name)) {
            self.remove_stale();
            self.build(&name);
        }
        let used = locked(lock_file(&name), FlockArg::LockShared);
        Held { name, _used: used }
    }

    fn build(self, name: &str) {
        let lab = match self {
            Self::Open | Self::Base => Rehearsal::within_turn(),
            Self::Database => Rehearsal::clone_within_turn(Self::Base),
        };
        if self == Self::Database {
            lab.write_inventory(&crate::support::rehearsal::example());
        }
        let mut apply = vec!["--sandbox", "apply", "--yes"];
        if self == Self::Open {
            apply.extend(OPEN.iter().flat_map(|address| ["--only", address]));
        }
        lab.expect(0, &apply);
        // The one with the database stands on the other, in which that was done.
        if self != Self::Database {
            lab.somebody_reads_alerts();
        }
        if self != Self::Open {
            lab.expect(0, &["--sandbox", "plan"]);
        }
        lab.expect(0, &["sandbox", "save", name]);
    }

    /// Removes templates of this kind that nobody stands on: another program's, or too old.
    fn remove_stale(self) {
        let entries = std::fs::read_dir(folder()).expect("the folder can be listed").filter_map(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        for name in names.filter(|name| name.strip_prefix(self.word()).is_some_and(|rest| rest.starts_with('-'))) {
            if let Ok(_nobody) = Flock::lock(lock_file(&name), FlockArg::LockExclusiveNonblock) {
                std::fs::remove_dir_all(folder().join(&name)).expect("a stale template can be removed");
                std::fs::remove_file(folder().join(format!(".{name}.lock"))).expect("its lock can be removed");
            }
        }
    }
}

fn is_fresh(template: &Path) -> bool {
    let saved = std::fs::metadata(template.join("template.json")).and_then(|about| about.modified());
    saved.is_ok_and(|saved| saved.elapsed().is_ok_and(|age| age < AGE_LIMIT))
}
