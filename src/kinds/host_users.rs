//! `host.users`: the login user, its sudo, and the keys that open its door.
//!
//! Keys that nobody declared are taken away, and the image's own user where operators log in as another. All of it is
//! guarded: a new login proves it, or the host puts it back. Deliberately absent: passwords (the account has none to
//! guess), other users, and sshd's settings.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::inventory::public_key::PublicKey;
use crate::inventory::sections::Inventory;
use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff, Risk};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::remark::Remark;
use crate::plan::step::HostStep;
use crate::render::render;

const SHELL: &str = "/bin/bash";
/// The user that Debian's cloud images bring, with sudo and the key pair of the instance.
const IMAGE_USER: &str = "admin";
/// What gives the image's user its sudo.
const IMAGE_SUDOERS: &str = "/etc/sudoers.d/90-cloud-init-users";

pub struct HostUsers;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub user: String,
    pub keys: Vec<PublicKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub shell: String,
    /// Primary group, by name.
    pub group: String,
    /// What sudo grants in effect, all its files together: `ALL` to any user without a password.
    pub passwordless_sudo: bool,
    pub sudoers: Option<FileState>,
    /// Mode, owner and group of `~/.ssh`.
    pub directory: Option<String>,
    pub keys: Option<FileState>,
    /// `authorized_keys2`, which sshd reads as well by default.
    pub more_keys: Option<FileState>,
    /// What is left of the image's user, where operators log in as another.
    pub image_user: Option<ImageUser>,
    /// Ways in that nobody declared, in words. Not part of a plan's guard: nothing is done about them.
    #[serde(skip)]
    pub doors: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUser {
    /// No login of any kind succeeds.
    pub expired: bool,
    pub sudo: bool,
    pub keys: bool,
}

fn home(user: &str) -> String {
    if user == "root" { "/root".to_owned() } else { format!("/home/{user}") }
}

fn ssh_path(desired: &Desired) -> String {
    format!("{}/.ssh", home(&desired.user))
}

fn keys_path(desired: &Desired) -> String {
    format!("{}/.ssh/authorized_keys", home(&desired.user))
}

fn sudoers_path(desired: &Desired) -> String {
    // sudo skips files with a dot in their name. 90 comes after cloud-init's 90-cloud-init-users; the last rule wins.
    format!("/etc/sudoers.d/90-seawall-{}", desired.user.replace('.', "_"))
}

fn sudoers(desired: &Desired) -> String {
    let context = serde_json::json!({ "address": desired.address, "user": desired.user });
    render("sudoers", &context).expect("the template and its context are tested together")
}

/// Whether a line is this key and nothing else before it: options such as `command="…"` make it another door.
fn is_plain(line: &str, key: &PublicKey) -> bool {
    line.split_whitespace().take(2).eq(key.identity().split_whitespace())
}

/// Whether a line is about this key, with options or without.
fn is_about(line: &str, key: &PublicKey) -> bool {
    let identity = key.identity();
    let blob = identity.split_whitespace().nth(1).unwrap_or(&identity);
    !line.trim_start().starts_with('#') && line.split_whitespace().any(|word| word == blob)
}

/// sshd takes the first line that is about a key; that line must be the plain one.
fn opens(text: &str, key: &PublicKey) -> bool {
    text.lines().find(|line| is_about(line, key)).is_some_and(|line| is_plain(line, key))
}

/// Lines that open the door to somebody who is not declared. A declared key with options is told by [`opens`].
fn foreign<'a>(desired: &Desired, text: &'a str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter(|line| !desired.keys.iter().any(|key| is_about(line, key))).collect()
}

/// A line of somebody's, short enough to be read: type, the end of the key, and what it is called.
fn short(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let blob = words.iter().position(|word| word.starts_with("AAAA"));
    match blob {
        Some(at) if at > 0 => {
            let tail: String = words[at].chars().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect();
            format!("{} …{tail} {}", words[at - 1], words[at + 1..].join(" ")).trim_end().to_owned()
        }
        _ => line.chars().take(60).collect(),
    }
}

fn authorized_keys(desired: &Desired) -> String {
    let context = serde_json::json!({ "address": desired.address, "keys": desired.keys });
    render("authorized_keys", &context).expect("the template and its context are tested together")
}

/// Access to the key file as sshd's StrictModes wants it.
fn keys_access(user: &str, group: &str) -> String {
    format!("600 {user}:{group}")
}

/// The last rule for all commands decides. `sudo -l -U` prints one rule a line: `(ALL : ALL) NOPASSWD: ALL`.
fn grants_all(listing: &str) -> bool {
    let mut rules = listing.lines().map(str::trim).filter(|line| line.starts_with('('));
    let last = rules.rfind(|rule| rule.ends_with(" ALL"));
    last.is_some_and(|rule| rule.starts_with("(ALL") && rule.contains("NOPASSWD:"))
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let user = desired.user.as_str();
    // Status 2: no such entry.
    let entry = host::command(answers, &["getent", "passwd", user], &[0, 2])?;
    if !entry.ok() {
        return Ok(None);
    }
    let fields: Vec<&str> = entry.stdout.trim_end().split(':').collect();
    let [_, _, _, _, _, at, shell] = fields.as_slice() else {
        return Err(Unseen::Misread(format!("getent printed `{}`", entry.stdout.trim_end())));
    };
    if *at != home(user) {
        let why = format!("the home of `{user}` is {at}; keys are only looked for in {}", home(user));
        return Err(Unseen::Misread(why));
    }
    let keys = host::file(answers, &keys_path(desired))?;
    if keys.as_ref().is_some_and(|file| file.text.is_none()) {
        let why = format!("{} is not text; its other keys could not be kept", keys_path(desired));
        return Err(Unseen::Misread(why));
    }
    let image_user = if user == IMAGE_USER { None } else { image_user(answers)? };
    let group = host::command(answers, &["id", "-gn", "--", user], &[0])?;
    let sudo = answers.command(&["sudo", "-n", "-l", "-U", user])?;
    let doors = host::command(answers, &ask_doors(user), &[0])?;
    let directory = answers.command(&["stat", "-c", "%a %U:%G", &ssh_path(desired)])?;
    Ok(Some(Actual {
        shell: (*shell).to_owned(),
        group: group.stdout.trim().to_owned(),
        passwordless_sudo: sudo.ok() && grants_all(&sudo.stdout),
        sudoers: host::file(answers, &sudoers_path(desired))?,
        directory: directory.ok().then(|| directory.stdout.trim().to_owned()),
        keys,
        more_keys: host::file(answers, &more_keys_path(desired))?,
        image_user,
        doors: doors.stdout.lines().map(str::to_owned).collect(),
    }))
}

/// Ways in that nobody declared. They are named and left alone: whose they are is not known here.
const DOORS: &str = include_str!("host_users/doors.sh");
/// So many are named; whoever has more has been told.
const DOORS_SHOWN: usize = 20;

fn ask_doors(user: &str) -> [&str; 5] {
    ["sh", "-c", DOORS, "sh", user]
}

fn more_keys_path(desired: &Desired) -> String {
    format!("{}2", keys_path(desired))
}

fn image_keys() -> String {
    format!("{}/.ssh/authorized_keys", home(IMAGE_USER))
}

fn image_user(answers: &Answers) -> Result<Option<ImageUser>, Unseen> {
    // Status 1: there is no such user.
    let account = host::command(answers, &["chage", "-l", IMAGE_USER], &[0, 1])?;
    if !account.ok() {
        return Ok(None);
    }
    let expires = account.stdout.lines().find_map(|line| line.strip_prefix("Account expires"));
    Ok(Some(ImageUser {
        expired: expires.is_some_and(|at| at.trim_start_matches([':', ' ', '\t']).starts_with("Jan 01, 1970")),
        sudo: host::file(answers, IMAGE_SUDOERS)?.is_some(),
        keys: host::file(answers, &image_keys())?.is_some(),
    }))
}

impl Kind for HostUsers {
    const NAME: &'static str = "host.users";
    const SUMMARY: &'static str = "the login user, its passwordless sudo, and its keys";
    const EXPLAIN: &'static str = "\
Manages: that the login user exists with a shell, may use sudo without a password (a drop-in checked by visudo before it
is put in place, and judged by what sudo grants in effect), and that the declared keys open its door and no others do: in
~/.ssh/authorized_keys, without restrictions. Where operators log in as somebody else than the image's own `admin`, that
account is expired, and its sudo and keys are taken away.

Other ways to a login or to root are named and left as they are: accounts with a password or keys, groups that are as good as
root, lines of sudo, what runs by itself and is no package's, programs with the rights of their owner.

A change is kept only if a new login works and becomes root; otherwise the host puts everything back by itself. A key that
is taken away from somebody who is connected ends no connection.

Does not manage: passwords, and other users than these two. The login cannot leave the inventory, so nothing is removed.

    servers:
      db:
        login:
          user: admin
          keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops]
";

    const RISK: Risk = Risk::MayLockOut;

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .map(|(name, server)| {
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired {
                    address: address.clone(),
                    user: server.login.user.clone(),
                    keys: server.login.keys.clone(),
                };
                host::declared(address, name, &[], "login", desired)
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let user = desired.user.as_str();
        let mut probes = vec![
            command(&["getent", "passwd", user]),
            command(&["id", "-gn", "--", user]),
            command(&["sudo", "-n", "-l", "-U", user]),
            command(&ask_doors(user)),
            command(&["stat", "-c", "%a %U:%G", &ssh_path(desired)]),
            file(&sudoers_path(desired)),
            file(&keys_path(desired)),
            file(&more_keys_path(desired)),
        ];
        if user != IMAGE_USER {
            probes.extend([command(&["chage", "-l", IMAGE_USER]), file(IMAGE_SUDOERS), file(&image_keys())]);
        }
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, user, keys } = desired;
        let Actual {
            shell,
            group,
            passwordless_sudo,
            doors: _,
            sudoers: drop_in,
            directory,
            keys: key_file,
            more_keys,
            image_user,
        } = actual;
        let mut fields = Vec::new();
        // Any shell that lets one in is the user's own choice.
        if shell.is_empty() || shell.ends_with("/nologin") || shell.ends_with("/false") {
            fields.extend(FieldChange::between("shell", shell, &SHELL));
        }
        fields.extend(sudoers_file(desired, &sudoers_path(desired)).change(drop_in.as_ref()));
        fields.extend(FieldChange::between("passwordless_sudo", passwordless_sudo, &true));
        fields.extend(FieldChange::between("ssh_directory", directory, &Some(format!("700 {user}:{group}"))));
        let text = key_file.as_ref().and_then(|file| file.text.as_deref()).unwrap_or_default();
        for key in keys.iter().filter(|key| !opens(text, key)) {
            let path = format!("keys.{}", key.identity());
            fields.push(FieldChange::new(path, None, Some(Value::from(key.as_str()))));
        }
        for line in foreign(desired, text) {
            let path = format!("keys.{}", short(line));
            fields.push(FieldChange::new(path, Some(Value::from("opens the door, not declared")), None));
        }
        if more_keys.is_some() {
            let before = Some(Value::from("read by sshd as well"));
            fields.push(FieldChange::new(format!("keys.{}", more_keys_path(desired)), before, None));
        }
        if let Some(ImageUser { expired, sudo, keys }) = image_user {
            let path = |what: &str| format!("image_user.{what}");
            fields.extend(FieldChange::between(&path("expired"), expired, &true));
            fields.extend(FieldChange::between(&path("sudo"), sudo, &false));
            fields.extend(FieldChange::between(&path("keys"), keys, &false));
        }
        if let Some(file) = key_file {
            let access = format!("{} {}:{}", file.mode, file.owner, file.group);
            fields.extend(FieldChange::between("keys_access", &access, &keys_access(user, group)));
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let user = desired.user.as_str();
        let differs = |path: &str| host::differs(fields, path);
        let mut steps = Vec::new();
        if actual.is_none() {
            let argv = ["useradd", "--create-home", "--user-group", "--shell", SHELL, "--", user];
            steps.push(host::run(&argv, QUICK_S, format!("add user {user}")));
        } else if differs("shell") {
            let argv = ["usermod", "--shell", SHELL, "--", user];
            steps.push(host::run(&argv, QUICK_S, format!("give {user} the shell {SHELL}")));
        }
        let path = sudoers_path(desired);
        if differs(&path) || differs("passwordless_sudo") {
            // A broken drop-in would end sudo for everybody.
            steps.push(sudoers_file(desired, &path).step(Some(&["visudo", "-cf", "{}"])));
        }
        let group = actual.map_or(user, |actual| actual.group.as_str());
        if differs("ssh_directory") {
            steps.push(host::directory(&ssh_path(desired), user, group, "0700"));
        }
        if fields.iter().any(|field| field.path.starts_with("keys") && field.limit.is_none()) {
            let keys =
                Wanted { path: &keys_path(desired), owner: user, group, mode: "0600", text: authorized_keys(desired) };
            steps.push(keys.step(None));
        }
        if differs(&format!("keys.{}", more_keys_path(desired))) {
            steps.push(host::remove_file(&more_keys_path(desired)));
        }
        if differs("image_user.keys") {
            steps.push(host::remove_file(&image_keys()));
        }
        if differs("image_user.sudo") {
            steps.push(host::remove_file(IMAGE_SUDOERS));
        }
        if differs("image_user.expired") {
            let (expire, undo) = (["chage", "-E", "0", IMAGE_USER], ["chage", "-E", "-1", IMAGE_USER]);
            steps.push(host::run_guarded(&expire, &undo, QUICK_S, format!("expire the image's user {IMAGE_USER}")));
        }
        steps
    }

    fn remove(_owned: &Owned) -> Vec<HostStep> {
        // Every server has a login; what is recorded here goes with its server.
        Vec::new()
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let user = &desired.user;
        let new = |path: &str, value: String| FieldChange::new(path, None, Some(Value::from(value)));
        let mut fields = vec![new("user", user.clone()), new("shell", SHELL.to_owned())];
        fields.extend(sudoers_file(desired, &sudoers_path(desired)).change(None));
        fields.push(new("ssh_directory", format!("700 {user}:{user}")));
        let keys = desired.keys.iter();
        fields.extend(keys.map(|key| new(&format!("keys.{}", key.identity()), key.to_string())));
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let keys = actual.and_then(|actual| actual.keys.as_ref());
        let text = keys.and_then(|file| file.text.as_deref()).unwrap_or_default();
        let path = sudoers_path(desired);
        let mut files = vec![sudoers_file(desired, &path).diff(actual.and_then(|actual| actual.sudoers.as_ref()))];
        let access = keys.map(|file| format!("{} {}:{}", file.mode, file.owner, file.group));
        let wanted = actual.map(|actual| keys_access(&desired.user, &actual.group));
        // Only where it is written: a file that is good enough stays without our heading.
        let good = desired.keys.iter().all(|key| opens(text, key)) && foreign(desired, text).is_empty();
        if access != wanted || !good {
            let after = authorized_keys(desired);
            files.push(Wanted::public(&keys_path(desired), after).diff(keys));
        }
        files
    }

    fn remarks(_desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let named = actual.doors.iter().take(DOORS_SHOWN).map(|door| format!("not declared: {door}"));
        let more = actual.doors.len().saturating_sub(DOORS_SHOWN);
        named.chain((more > 0).then(|| format!("not declared: {more} more"))).map(Remark::from).collect()
    }
}

fn sudoers_file<'a>(desired: &Desired, path: &'a str) -> Wanted<'a> {
    Wanted { path, owner: "root", group: "root", mode: "0440", text: sudoers(desired) }
}
