//! The jails and our files: what the inventory comes to, as text for fail2ban and as what fail2ban must then say.

use serde::Serialize;
use serde_json::{Value, json};

use crate::kinds::host::Wanted;
use crate::kinds::host_fail2ban::Desired;
use crate::kinds::host_fail2ban::effect::{self, Effect};
use crate::render::render;

/// The last of the `.local` files is read last and wins; this is after every name that people give.
pub(super) const JAILS: &str = "/etc/fail2ban/jail.d/zzzz-seawall.local";
pub(super) const SERVER: &str = "/etc/fail2ban/fail2ban.d/zzzz-seawall.local";
pub(super) const FILTER: &str = "/etc/fail2ban/filter.d/seawall-postgresql.conf";
pub(super) const NEVER_BAN: &str = "/usr/local/lib/seawall/never-ban";
pub(super) const FOLDER: &str = "/usr/local/lib/seawall";
/// Where the answers of `files.sh` are remembered.
pub(super) const REMEMBERED: [&str; 2] = ["/var/lib/seawall/fail2ban/loads", "/var/lib/seawall/fail2ban/catches"];
pub(super) const LOG: &str = "/var/log/fail2ban.log";
pub(super) const SSHD_JOURNAL: &str = "_SYSTEMD_UNIT=ssh.service";

/// For how many days a login with a key protects its address: over a weekend and a week's holiday, and no longer than
/// a journal is sure to reach back.
pub(super) const REMEMBER_DAYS: u32 = 7;
/// Bans within a day that make an address a repeater, for which every port is closed.
pub(super) const REPEATER_BANS: u32 = 3;
pub(super) const DAY_S: u64 = 86_400;

pub(super) const SSHD: &str = "sshd";
pub(super) const REPEATERS: &str = "recidive";
pub(super) const POSTGRES: &str = "postgresql";

/// A jail as the template has it.
#[derive(Serialize)]
pub(super) struct Jail {
    name: &'static str,
    why: Vec<&'static str>,
    own: Vec<(&'static str, String)>,
    retries: u32,
    within: u64,
    ban: u64,
    /// What `effect` says that it reads and how it acts; nothing where a host decides.
    #[serde(skip)]
    reads: Option<&'static str>,
    #[serde(skip)]
    ports: String,
}

pub(super) fn jails(desired: &Desired) -> Vec<Jail> {
    let multiport = || ("banaction", "nftables[type=multiport]".to_owned());
    let (retries, within, ban) = (desired.retries, desired.within, desired.ban);
    let mut jails = vec![
        Jail {
            name: SSHD,
            why: vec![
                "Aggressive, because sshd takes keys only: whoever has none leaves no failed password behind, but a connection",
                "that ends before the login. The journal is asked for sshd's unit: no other user can write in its name, and",
                "newer versions of sshd log from a program of another name.",
            ],
            own: vec![
                ("backend", "systemd".to_owned()),
                ("filter", "sshd[mode=aggressive]".to_owned()),
                // Here and not as the filter's argument: Debian 13 gives this jail a match of its own, which would be
                // one more and sees nothing of newer versions.
                ("journalmatch", SSHD_JOURNAL.to_owned()),
                ("port", desired.ssh_port.to_string()),
                multiport(),
                ("action", "%(action_)s".to_owned()),
            ],
            retries,
            within,
            ban,
            reads: Some(SSHD_JOURNAL),
            ports: format!("multiport {}", desired.ssh_port),
        },
        Jail {
            name: REPEATERS,
            why: vec!["Addresses that were banned again and again: every port is closed, for the longest time."],
            own: vec![
                ("backend", "polling".to_owned()),
                ("filter", "recidive".to_owned()),
                ("logpath", LOG.to_owned()),
                ("banaction", "nftables[type=allports]".to_owned()),
                ("port", "0:65535".to_owned()),
                ("action", "%(action_)s".to_owned()),
            ],
            retries: REPEATER_BANS,
            within: DAY_S,
            ban: desired.longest_ban,
            reads: Some(LOG),
            ports: "allports 0:65535".to_owned(),
        },
    ];
    if desired.postgres {
        jails.push(Jail {
            name: POSTGRES,
            why: vec![
                "fail2ban does not start where a jail has no file. Its own log is named to have one before the first",
                "cluster is made; no line of it looks like PostgreSQL's.",
            ],
            own: vec![
                ("backend", "polling".to_owned()),
                ("filter", "seawall-postgresql".to_owned()),
                ("logpath", format!("/var/log/postgresql/postgresql-*.log\n    {LOG}")),
                ("port", "5432".to_owned()),
                multiport(),
                ("action", "%(action_)s".to_owned()),
            ],
            retries,
            within,
            ban,
            reads: None,
            ports: "multiport 5432".to_owned(),
        });
    }
    jails
}

pub(super) fn names(desired: &Desired) -> Vec<&'static str> {
    jails(desired).iter().map(|jail| jail.name).collect()
}

/// Everybody who must never be banned: the host itself, and the named networks.
pub(super) fn never(desired: &Desired) -> String {
    effect::networks(["127.0.0.0/8", "::1/128"].into_iter().chain(desired.never.iter().map(String::as_str)))
}

pub(super) fn history(desired: &Desired) -> u64 {
    desired.longest_ban.max(DAY_S)
}

/// What fail2ban must say of itself, loaded and running.
pub(super) fn wanted(desired: &Desired) -> Effect {
    let mut effect = Effect::from([
        ("server.history".to_owned(), history(desired).to_string()),
        ("server.log".to_owned(), LOG.to_owned()),
    ]);
    for jail in jails(desired) {
        let mut say = |what: &str, value: String| drop(effect.insert(format!("{}.{what}", jail.name), value));
        say("retries", jail.retries.to_string());
        say("within", jail.within.to_string());
        say("ban", jail.ban.to_string());
        say("longer_each_time", "True".to_owned());
        say("longest", desired.longest_ban.to_string());
        say("never", never(desired));
        say("never_if", format!("{NEVER_BAN} <ip>"));
        say("action", format!("nftables {}", jail.ports));
        if let Some(reads) = jail.reads {
            say("reads", reads.to_owned());
        }
    }
    effect
}

/// Our files, in the order in which each is valid when it is written: Debian's own jails load only with ours over them.
pub(super) fn files(desired: &Desired) -> Vec<Wanted<'static>> {
    let text = |template: &str, more: Value| {
        let mut context = json!({ "address": desired.address });
        let own = more.as_object().cloned().unwrap_or_default();
        context.as_object_mut().expect("it was made as an object").extend(own);
        render(template, &context).expect("the templates and their contexts are tested together")
    };
    let jails = json!({
        "jails": jails(desired), "ignore": never(desired), "longest_ban": desired.longest_ban, "never_ban": NEVER_BAN,
    });
    let mut files = vec![Wanted {
        mode: "0755",
        ..Wanted::public(NEVER_BAN, text("never-ban.sh", json!({ "days": REMEMBER_DAYS })))
    }];
    if desired.postgres {
        files.push(Wanted::public(FILTER, text("fail2ban-postgresql.conf", json!({}))));
    }
    files.push(Wanted::public(JAILS, text("fail2ban-jails.conf", jails)));
    let server = json!({ "log": LOG, "history": history(desired) });
    files.push(Wanted::public(SERVER, text("fail2ban-server.conf", server)));
    files
}
