//! `host.folders`: the folders that Seawall writes to as root are root's, real ones, and nobody else can write there.
//!
//! Whoever can write to a folder can put a link in the place of what is written there, and root would follow it. A step
//! refuses that on its own (`src/base/folders.sh`); here it is seen before, and mended where nothing is lost by it: owner and
//! access of a folder, from the top down. Deliberately absent: home directories, where steps act as their user, and the
//! removal of a link that somebody put in a folder's place.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::sections::{Inventory, Server};
use crate::kinds::host::{self, QUICK_S};
use crate::kinds::postgres::Cluster;
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::FieldChange;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, Probe, command};
use crate::plan::step::HostStep;

/// Seawall's own folders, with their access. The last one holds what a host is put back by.
const OWN: [(&str, &str); 3] = [("/etc/seawall", "755"), ("/usr/local/lib/seawall", "755"), (STATE, "700")];
const STATE: &str = "/var/lib/seawall";
/// Others that Seawall writes to, where they are there.
const OTHERS: [&str; 28] = [
    "/etc/apt/apt.conf.d",
    "/etc/apt/keyrings",
    "/etc/apt/sources.list.d",
    "/etc/default",
    "/etc/docker",
    "/etc/fail2ban/fail2ban.d",
    "/etc/fail2ban/filter.d",
    "/etc/fail2ban/jail.d",
    "/etc/pgbackrest/conf.d",
    "/etc/pgbackrest/restore.conf.d",
    "/etc/pgbouncer",
    "/etc/postgresql-common/createcluster.d",
    "/etc/seawall/acme",
    "/etc/seawall/ca",
    "/etc/seawall/compose",
    "/etc/seawall/issued",
    "/etc/seawall/jobs",
    "/etc/seawall/tls",
    "/etc/ssh/sshd_config.d",
    "/etc/sudoers.d",
    "/etc/sysctl.d",
    "/etc/systemd/system",
    "/etc/systemd/system/paths.target.wants",
    "/etc/systemd/system/timers.target.wants",
    "/etc/systemd/timesyncd.conf.d",
    "/etc/tmpfiles.d",
    "/etc/ufw",
    "/var/lib/systemd/timers",
];
/// Those of a second repository.
const COPY: [&str; 3] = ["/etc/pgbackrest/copy-restore.conf.d", "/etc/pgbackrest/copy.conf.d", "/var/spool"];
/// Write access for the group and for everybody else.
const OTHERS_WRITE: u32 = 0o022;

/// FOLDER...: files of others than root, or that others may write, become root's, once their folders are.
const TAKE: &str = r#"find -P "$@" -mindepth 1 -maxdepth 1 -type f \( ! -user root -o -perm /022 \) \
    -exec chown -h root -- {} + -exec chmod go-w -- {} +"#;

pub struct HostFolders;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    /// Beside those that every server has.
    pub more: BTreeSet<String>,
    /// Folders whose files must be root's, too: a package makes them another user's.
    pub files: BTreeSet<String>,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What it is, where it is no folder.
    pub is: Option<String>,
    pub owner: String,
    pub group: String,
    /// Octal permission bits as `stat` prints them.
    pub mode: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub folders: BTreeMap<String, Found>,
    /// Files that others than root can write, with their access.
    pub files: BTreeMap<String, String>,
}

impl Found {
    fn access(&self) -> String {
        format!("{} {}:{}", self.mode, self.owner, self.group)
    }

    fn bits(&self) -> u32 {
        u32::from_str_radix(&self.mode, 8).unwrap_or(0o7777)
    }

    /// Only root changes what is in it.
    fn is_closed(&self) -> bool {
        self.owner == "root" && self.bits() & OTHERS_WRITE == 0
    }

    /// The mode without what lets others write.
    fn closed_mode(&self) -> String {
        format!("{:o}", self.bits() & !OTHERS_WRITE)
    }
}

/// The mode of a folder of Seawall's own.
fn own(path: &str) -> Option<&'static str> {
    OWN.iter().find(|(own, _)| *own == path).map(|(_, mode)| *mode)
}

/// Everything on the way to a folder, itself included, from the top down; `/` is nobody's but root's.
fn way(path: &str) -> impl Iterator<Item = &str> {
    let parts = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]);
    parts.chain([path])
}

/// Every folder that is looked at; a parent comes before what is in it.
fn all(desired: &Desired) -> BTreeSet<&str> {
    let named = OWN.iter().map(|(path, _)| *path).chain(OTHERS).chain(desired.more.iter().map(String::as_str));
    named.flat_map(way).collect()
}

fn ask(desired: &Desired) -> Vec<&str> {
    ["stat", "-c", "%f %U %G %a %n", "--"].into_iter().chain(all(desired)).collect()
}

/// Names end in NUL: a file may be called anything.
fn ask_files(desired: &Desired) -> Vec<&str> {
    let mut argv = vec!["find", "-P"];
    argv.extend(desired.files.iter().map(String::as_str));
    argv.extend([
        "-mindepth",
        "1",
        "-maxdepth",
        "1",
        "-type",
        "f",
        "(",
        "!",
        "-user",
        "root",
        "-o",
        "-perm",
        "/022",
        ")",
    ]);
    argv.extend(["-printf", r"%m %u:%g %p\0"]);
    argv
}

/// What a file's type bits say, if it is no folder.
fn no_folder(bits: u32) -> Option<String> {
    let is = match bits & 0o170_000 {
        0o040_000 => return None,
        0o120_000 => "a symbolic link",
        0o100_000 => "a file",
        _ => "neither a file nor a folder",
    };
    Some(is.to_owned())
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let argv = ask(desired);
    let said = host::command(answers, &argv, &[0, 1])?;
    let misread = |line: &str| Unseen::Misread(format!("`stat` printed `{line}`"));
    // Where a part of the way is no folder, what it is stands in its own line.
    let absent =
        |line: &&str| [": No such file or directory", ": Not a directory"].iter().any(|why| line.ends_with(why));
    let missing = said.stderr.lines().filter(absent).count();
    if said.stdout.lines().count() + missing != all(desired).len() {
        return Err(misread(said.stderr.lines().find(|line| !absent(line)).unwrap_or("less than it was asked")));
    }
    let mut folders = BTreeMap::new();
    for line in said.stdout.lines() {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().ok_or_else(|| misread(line));
        let bits = u32::from_str_radix(word()?, 16).map_err(|_| misread(line))?;
        let (owner, group, mode) = (word()?.to_owned(), word()?.to_owned(), word()?.to_owned());
        folders.insert(word()?.to_owned(), Found { is: no_folder(bits), owner, group, mode });
    }
    let mut files = BTreeMap::new();
    if desired.files.iter().any(|folder| folders.contains_key(folder)) {
        // One that is not there has no files.
        let said = host::command(answers, &ask_files(desired), &[0, 1])?;
        if let Some(line) = said.stderr.lines().find(|line| !line.ends_with(": No such file or directory")) {
            return Err(Unseen::Misread(format!("`find`: {line}")));
        }
        for entry in said.stdout.split_terminator('\0') {
            let mut words = entry.splitn(3, ' ');
            let (Some(mode), Some(owner), Some(path)) = (words.next(), words.next(), words.next()) else {
                return Err(Unseen::Misread(format!("`find` printed `{entry}`")));
            };
            files.insert(path.to_owned(), format!("{mode} {owner}"));
        }
    }
    let any = OWN.iter().any(|(path, _)| folders.contains_key(*path));
    Ok(any.then_some(Actual { folders, files }))
}

/// What must become of a folder: group and mode, both as they are now but for what lets others write.
fn becomes(path: &str, found: &Found) -> (String, String) {
    match own(path) {
        Some(mode) => ("root".to_owned(), mode.to_owned()),
        None => (found.group.clone(), found.closed_mode()),
    }
}

fn differs(path: &str, found: &Found) -> bool {
    let exact = own(path).is_none_or(|mode| found.mode == mode && found.group == "root");
    found.is.is_some() || !found.is_closed() || !exact
}

impl Kind for HostFolders {
    const NAME: &'static str = host::FOLDERS;
    const SUMMARY: &'static str = "the folders that Seawall writes to as root: real ones that nobody else can write to";
    const EXPLAIN: &'static str = "\
Manages: owner, access and type of every folder that Seawall writes to as root, and of every folder on the way there. Each must
be a folder and no link, must be root's, and nobody else may write to it: whoever can, could put a link in the place of a
file, and root would write through it. /etc/seawall, /usr/local/lib/seawall and /var/lib/seawall are made; the others are judged
where they are there. The files in a PostgreSQL cluster's configuration folder are root's, too; PostgreSQL only reads them.

An owner or a mode that differs is put right, from the top down. A link in a folder's place is not removed and not followed: the
change is refused and names it. A step that meets one all the same, or a folder of somebody else's, stops before it writes.

Does not manage: home directories, where Seawall acts as their user, and what others put into a folder that was open.

    servers:
      db:
        login:
          keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops]
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .map(|(name, server)| {
                let address = Address::new(Self::NAME, name.as_str());
                let files = files_of(server);
                let mut more = files.clone();
                more.extend(server.compose.iter().map(|section| format!("/etc/seawall/compose/{}", section.project)));
                if server.backup.as_ref().is_some_and(|section| !section.copies.is_empty()) {
                    more.extend(COPY.map(str::to_owned));
                }
                let desired = Desired { address: address.clone(), more, files };
                host::declared(address, name, &[], "instance", desired)
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let mut probes = vec![command(&ask(desired))];
        if !desired.files.is_empty() {
            probes.push(command(&ask_files(desired)));
        }
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Actual { folders, files } = actual;
        let mut fields = Vec::new();
        for path in all(desired) {
            match (folders.get(path), own(path)) {
                (Some(found), _) if differs(path, found) => {
                    let before = match &found.is {
                        Some(is) => format!("{is} of {}'s", found.owner),
                        None => found.access(),
                    };
                    let (group, mode) = becomes(path, found);
                    let after = if found.is.is_some() {
                        "a folder of root's".to_owned()
                    } else {
                        format!("{mode} root:{group}")
                    };
                    fields.push(FieldChange::new(path, Some(before.into()), Some(after.into())));
                }
                (None, Some(mode)) => {
                    fields.push(FieldChange::new(path, None, Some(format!("{mode} root:root").into())));
                }
                (Some(_), _) | (None, None) => {}
            }
        }
        fields.extend(
            files
                .iter()
                .map(|(path, access)| FieldChange::new(path, Some(access.as_str().into()), Some("root's".into()))),
        );
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, _fields: &[FieldChange]) -> Vec<HostStep> {
        let nothing = BTreeMap::new();
        let folders = actual.map_or(&nothing, |actual| &actual.folders);
        let mut steps = Vec::new();
        for path in all(desired) {
            match (folders.get(path), own(path)) {
                (Some(found), _) if differs(path, found) => {
                    let (group, mode) = becomes(path, found);
                    steps.push(host::directory(path, "root", &group, &mode));
                }
                (None, Some(mode)) => steps.push(host::directory(path, "root", "root", mode)),
                (Some(_), _) | (None, None) => {}
            }
        }
        if actual.is_some_and(|actual| !actual.files.is_empty()) {
            steps.push(take(desired.files.iter().map(String::as_str)));
        }
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        // Other things of a server's stand in them.
        Vec::new()
    }

    fn describe(_desired: &Desired) -> Vec<FieldChange> {
        let made = OWN.into_iter();
        made.map(|(path, mode)| FieldChange::new(path, None, Some(format!("{mode} root:root").into()))).collect()
    }

    fn refusals(desired: &Desired, actual: &Actual, _fields: &[FieldChange]) -> Vec<Diagnostic> {
        let folders = all(desired).into_iter().filter_map(|path| Some((path, actual.folders.get(path)?)));
        folders
            .filter_map(|(path, found)| {
                let why = match &found.is {
                    Some(is) => format!("`{path}`, which Seawall writes to as root, is {is} of {}'s", found.owner),
                    None if path == STATE && !found.is_closed() => {
                        format!("`{path}` was open to others than root: {}", found.access())
                    }
                    None => return None,
                };
                let hint = if found.is.is_some() {
                    format!("find out who put it there; then remove it (`rm {path}`), and the next apply makes a folder")
                } else {
                    format!("what root runs may have been put there: look through it, then `chown -R root: {path} && chmod 700 {path}`")
                };
                Some(Diagnostic::error("unsafe-folder", why).note("nothing was written there").hint(hint))
            })
            .collect()
    }
}

/// The folders of a server whose files a package gives to another user.
fn files_of(server: &Server) -> BTreeSet<String> {
    let cluster = server.postgres.as_ref().map(|section| Cluster { version: section.version });
    cluster.iter().flat_map(|cluster| [cluster.conf(), format!("{}/conf.d", cluster.conf())]).collect()
}

/// Gives the files of folders to root, which has the folders.
fn take<'a>(folders: impl IntoIterator<Item = &'a str>) -> HostStep {
    let argv: Vec<&str> = ["sh", "-c", TAKE, "sh"].into_iter().chain(folders).collect();
    host::run(&argv, QUICK_S, "give the files of PostgreSQL's configuration to root")
}

/// What makes a cluster's configuration root's after a package's program made it PostgreSQL's user's.
pub(crate) fn take_cluster(cluster: Cluster) -> Vec<HostStep> {
    let (conf, more) = (cluster.conf(), format!("{}/conf.d", cluster.conf()));
    let folders = way(&more).filter(|path| path.starts_with("/etc/postgresql"));
    let mut steps: Vec<HostStep> = folders.map(|path| host::directory(path, "root", "postgres", "0755")).collect();
    steps.push(take([conf.as_str(), &more]));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_begins_at_the_top() {
        assert_eq!(way("/etc/ssh/sshd_config.d").collect::<Vec<_>>(), ["/etc", "/etc/ssh", "/etc/ssh/sshd_config.d"]);
    }

    #[test]
    fn parents_come_first() {
        let address = Address::new("host.folders", "db");
        let desired = Desired { address, more: BTreeSet::new(), files: BTreeSet::new() };
        let mut seen = BTreeSet::new();
        for path in all(&desired) {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            assert!(parent.is_empty() || seen.contains(parent), "{path}");
            seen.insert(path);
        }
    }
}
