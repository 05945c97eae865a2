//! The parts of a rebuild that a rehearsal walks, too: a new server, and everything that stands on its data.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::cli::apply::{Approved, carry_out};
use crate::cli::exit::{Exit, Stop};
use crate::cli::secrets;
use crate::cli::session::{Session, refuses};
use crate::cli::work::{Stores, Work};
use crate::engine::nonce::Nonce;
use crate::plan::Place;
use crate::plan::rebuild::Step;
use crate::reach::look::Look;
use crate::reach::world::World;

/// Kinds that stand on what is in the database, or archive it, or lead clients to it: after the restore.
const AFTERWARDS: [&str; 11] = [
    "postgres.roles",
    "postgres.databases",
    "postgres.extensions",
    "postgres.views",
    "postgres.access",
    "postgres.dumps",
    "pgbouncer.pool",
    "pgbackrest.repo",
    "pgbackrest.copy",
    "host.jobs",
    "host.compose",
];
/// What moves clients: last.
const ADDRESS: &str = "lightsail.static_ip";

/// What is made, and where.
pub struct Walk<'a> {
    pub work: &'a Work,
    pub world: &'a World,
    pub stores: &'a Stores,
    /// What to do when a part of it fails.
    pub again: &'static str,
}

/// Begins a part of the work on the one clock, and says so.
pub fn begin(session: &mut Session, work: &Work, begun: i64, steps: &mut Vec<Step>, name: &str, words: &str) {
    let at = Timestamp::now().as_second();
    steps.push(Step { name: name.to_owned(), began: at });
    let since = at - begun;
    let of = work.loaded.inventory.objectives.rebuild.map_or_else(String::new, |span| format!(" of {span}"));
    session.say(format!("[{}:{:02}{of}] {words}", since / 60, since % 60));
}

impl Walk<'_> {
    /// A new instance, hardened, with the packages of the database, and with the keys that lie on it.
    pub async fn server(&self, session: &mut Session, server: &str, keys: &[Address]) -> Result<(), Stop> {
        let here = Place::Host(server.to_owned());
        let part = |address: &Address, place: &Place| {
            let of = *place == here || address.name() == server || keys.contains(address);
            of && address.kind() != ADDRESS && !AFTERWARDS.contains(&address.kind())
        };
        self.apply(session, part).await
    }

    /// Everything else but the address, and what comes after it.
    pub async fn rest(&self, session: &mut Session, later: &[Address]) -> Result<(), Stop> {
        self.apply(session, |address, _| address.kind() != ADDRESS && !later.contains(address)).await
    }

    /// Makes a part of the inventory so.
    pub async fn apply(&self, session: &mut Session, part: impl Fn(&Address, &Place) -> bool) -> Result<(), Stop> {
        let mut work = Work {
            loaded: self.work.loaded.clone(),
            resolved: self.work.resolved.clone(),
            intent: self.work.intent.clone(),
            only: Vec::new(),
            sandbox: self.work.sandbox,
        };
        work.resolved.wanted.retain(|wanted| part(&wanted.address, &wanted.place));
        work.only = work.resolved.wanted.iter().map(|wanted| wanted.address.clone()).collect();
        // Nothing is removed on this night.
        work.intent.only = true;
        let snapshot = work.look(&Look::of(self.world)).await;
        let planned = work.plan(&snapshot)?;
        if refuses(&planned.plan.findings) {
            return Err(Stop::new(Exit::Refused, Diagnostics(planned.plan.findings.clone())));
        }
        if !planned.plan.is_complete() {
            let unseen: Vec<String> =
                planned.plan.unknown.iter().map(|unseen| format!("{}: {}", unseen.address, unseen.why)).collect();
            let problem =
                Diagnostic::error("rebuild-unseen", "not everything could be looked at, so nothing more was changed");
            let problem = unseen.into_iter().fold(problem, Diagnostic::note);
            return Err(Stop::failed(problem.hint(self.again)));
        }
        if planned.plan.is_empty() {
            return Ok(());
        }
        secrets::ready(&work, self.world, &planned.plan).await?;
        let approved = Approved {
            plan: planned.plan.clone(),
            already: BTreeSet::new(),
            unchanged: planned.plan.unchanged.clone(),
            snapshot,
            nonce: Nonce::random(),
        };
        let store = self.stores.widest();
        let (ended, folder) = carry_out(session, &work, self.world, store, &approved).await?;
        if ended.failed.is_empty() && ended.put_back.is_empty() && ended.not_started.is_empty() {
            return Ok(());
        }
        let problem = Diagnostic::error("rebuild-failed", "a part of the new server could not be made");
        let problem = ended
            .failed
            .iter()
            .chain(&ended.put_back)
            .fold(problem, |problem, (address, failure)| problem.note(format!("{address}: {failure}")));
        Err(Stop::failed(problem.note(format!("journal: {}", folder.join("journal.jsonl").display())).hint(self.again)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::resolve::resolve;
    use crate::inventory::load::parse;
    use crate::kinds::KINDS;

    #[test]
    fn nothing_before_the_restore_waits_for_what_comes_after_it() {
        let text = "
seawall: 1
environment: prod
aws: { account: \"123456789012\", region: ca-central-1 }
servers:
  db:
    instance: { bundle: small_3_0, blueprint: debian_12, zone: ca-central-1a, static_ip: true }
    login: { keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops] }
    firewall:
      - { port: 22, from: [203.0.113.0/24], why: operators }
      - { port: 6432, from: [198.51.100.7/32], why: application }
    updates: { security: automatic, reboot: report }
    sysctl: {}
    time: {}
    sshd: {}
    fail2ban: {}
    swap: { size_mib: 1024 }
    certificate: { name: db.example.com, issuer: private, copy_pass: { env: COPY } }
    postgres:
      version: 15
      databases: [shop]
      roles: { app: { login: true, connections: 5, owns: [shop], password: { env: APP } } }
      access: [{ role: app, database: shop, from: [198.51.100.7/32] }]
    pgbouncer: { clients: 50, pool: 5 }
    backup:
      bucket: backups
      stanza: shop
      cipher_pass: { env: PASS, escrow: confirmed }
      dumps: {}
    jobs: { report: { run: /opt/report, user: postgres, schedule: \"daily 05:00\" } }
buckets: { backups: { name: prod-backups } }
";
        let loaded = parse("test.yaml", text);
        let inventory = loaded.inventory.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let resolved = resolve(&inventory).expect("no circle");
        let later = |address: &Address| AFTERWARDS.contains(&address.kind());
        let (after, before): (Vec<_>, Vec<_>) = resolved.wanted.iter().partition(|wanted| later(&wanted.address));
        assert!(after.len() >= 6 && before.len() > 12, "{} and {}", after.len(), before.len());
        for wanted in before {
            let waits = wanted.after.iter().find(|needed| later(needed));
            assert!(waits.is_none(), "{} waits for {waits:?}", wanted.address);
        }
        for name in AFTERWARDS {
            assert!(KINDS.iter().any(|kind| kind.name == name), "`{name}` is no kind");
        }
    }
}
