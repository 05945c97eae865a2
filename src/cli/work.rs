//! What plan, apply, drift and destroy share: an inventory that is resolved, what was asked for, and a way to its world.
//!
//! Commands that only look get a [`Look`] and never hold anything that can act.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::cli::args::{DataArgs, OnlyArgs};
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::{LOCAL_FOLDER, Loaded, Session, refuses};
use crate::cli::world;
use crate::engine::file::Header;
use crate::engine::gate::in_question;
use crate::engine::lock::Holder;
use crate::engine::nonce::Nonce;
use crate::engine::propose::Intent;
use crate::engine::refresh::refresh;
use crate::engine::resolve::Resolved;
use crate::engine::snapshot::{Scope, Snapshot};
use crate::engine::store::{self, LastApplied, Store, StoreFailure};
use crate::engine::{self, Declared, Planned};
use crate::kinds::pgbackrest_repo::drilled;
use crate::kinds::pgbackrest_repo::look::size;
use crate::kinds::postgres::Cluster;
use crate::plan::check::{self, Breach};
use crate::plan::drills::{Past, Proofs};
use crate::plan::remark::broken;
use crate::reach::aws::store::StoreError;
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::recovery::history;
use crate::recovery::look::targets;

/// An inventory, resolved, and what the operator asked for.
pub struct Work {
    pub loaded: Loaded,
    /// The resources that `--only` left.
    pub resolved: Resolved,
    pub intent: Intent,
    pub only: Vec<Address>,
    /// The world is the local cloud.
    pub sandbox: bool,
}

impl Work {
    /// Reads, resolves, connects, and proves whose account it is, for a command that changes nothing.
    pub async fn to_look(session: &mut Session, only: &OnlyArgs, data: &DataArgs) -> Result<(Self, Look), Stop> {
        let (work, world) = Self::to_act(session, only, data, false).await?;
        Ok((work, Look::of(&world)))
    }

    /// Reads, resolves, connects, and proves whose account it is. Nothing else was asked before.
    pub async fn to_act(
        session: &mut Session,
        only: &OnlyArgs,
        data: &DataArgs,
        destroy: bool,
    ) -> Result<(Self, World), Stop> {
        let (mut loaded, resolved) = session.resolve()?;
        // A mistyped address is told before anything is connected or started.
        resolved.only(&only.only).map_err(|problems| Stop::new(Exit::Usage, problems))?;
        let world = world::connect(session, &mut loaded).await?;
        // Again: a rehearsal adds its operator's key.
        let resolved = crate::engine::resolve::resolve(&loaded.inventory).map_err(|p| Stop::new(Exit::Bug, p))?;
        let resolved = resolved.only(&only.only).map_err(|problems| Stop::new(Exit::Usage, problems))?;
        let intent = Intent {
            destroy,
            keep_protected: false,
            lose_data: data.lose_data.iter().cloned().collect::<BTreeSet<_>>(),
            only: !only.only.is_empty(),
        };
        let sandbox = session.global.sandbox;
        Ok((Self { loaded, resolved, intent, only: only.only.clone(), sandbox }, world))
    }

    /// Looks at everything, and at what drills have proven.
    pub async fn look(&self, look: &Look) -> Snapshot {
        let seen = refresh(&self.resolved, &self.resolved.wanted, Scope::Whole, look);
        let (mut snapshot, history) = futures::join!(seen, self.drills(look));
        let targets = targets(&self.loaded.inventory, &self.resolved.servers);
        let bytes = targets.iter().filter_map(|target| {
            let answers = &snapshot.hosts.get(&target.server)?.answers;
            Some((target.server.clone(), size(Cluster { version: target.version }, &target.server, answers)?))
        });
        let bytes = bytes.collect();
        // What servers ran by themselves is on them.
        let history = history.map(|mut all| {
            for target in targets.iter().filter(|target| target.section.drills.schedule.is_some()) {
                let view = snapshot.hosts.get(&target.server);
                all.extend(view.map(|view| drilled::read(&target.server, &view.answers)).unwrap_or_default());
            }
            all.sort_by_key(|past| past.began);
            all
        });
        let now = Timestamp::now().as_second();
        snapshot.proofs = Some(Proofs { history, bytes, backups: BTreeMap::new(), now });
        // What stands for data that a plan would lose is asked of the repository itself, and of no other server's.
        let asked = self.plan(&snapshot).map(|planned| in_question(&planned.plan, &self.resolved)).unwrap_or_default();
        for target in targets.iter().filter(|target| asked.contains(&target.server)) {
            let (known, _) = target.known(look).await;
            if let Some(proofs) = &mut snapshot.proofs {
                proofs.backups.insert(target.server.clone(), known);
            }
        }
        snapshot
    }

    /// Plans against what was seen. A plan that breaks a promise of plans is our bug, and is neither shown nor applied.
    pub fn plan(&self, snapshot: &Snapshot) -> Result<Planned, Stop> {
        let declared = Declared { inventory: &self.loaded.inventory, places: &self.loaded.places };
        engine::plan(declared, &self.resolved, snapshot, &self.intent).map_err(unsound)
    }

    /// Where this environment's lock, used plans and journals are, as of now: a bucket may come into being or go.
    pub async fn stores(&self, world: &World) -> Result<Stores, StoreFailure> {
        let local = Store::Local(self.local_state());
        let Some((name, prefix)) = self.loaded.shared_state() else {
            let why = "the inventory names no `state` bucket: the lock guards this machine only".to_owned();
            return Ok(Stores { local, shared: None, why_not_shared: Some(why) });
        };
        if !world.aws.near(&name).bucket_exists(&name).await? {
            let why = format!("bucket `{name}` does not exist yet: until it does, the lock guards this machine only");
            return Ok(Stores { local, shared: None, why_not_shared: Some(why) });
        }
        let shared = Store::S3 { aws: world.aws.near(&name), bucket: name, prefix };
        Ok(Stores { local, shared: Some(shared), why_not_shared: None })
    }

    /// What was last applied, for those who only look.
    pub async fn last_applied(&self, look: &Look) -> Result<LastApplied, StoreFailure> {
        if let Some((bucket, prefix)) = self.loaded.shared_state() {
            match look.bucket_exists(&bucket).await {
                Ok(true) => {
                    let bytes = look.object(&bucket, &format!("{prefix}/{}", store::LAST_APPLIED)).await?;
                    return Ok(store::parse_last_applied(bytes));
                }
                // It only words a message; that the bucket is not to be seen is said of the resource.
                Ok(false) | Err(StoreError::NotSeen { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        store::last_applied(&Store::Local(self.local_state())).await
    }

    /// The drills that were run, for those who only look.
    ///
    /// # Errors
    /// Why that is not known.
    pub async fn drills(&self, look: &Look) -> Result<Vec<Past>, String> {
        match self.loaded.shared_state() {
            Some((bucket, prefix)) if look.bucket_exists(&bucket).await.map_err(|why| why.to_string())? => {
                let bytes = look.object(&bucket, &format!("{prefix}/{}", history::LIST)).await;
                history::read(bytes.map_err(|why| why.to_string())?.as_deref())
            }
            _ => history::of(&Store::Local(self.local_state())).await,
        }
    }

    fn local_state(&self) -> PathBuf {
        let folder = if self.sandbox { "sandbox-state" } else { "state" };
        Path::new(LOCAL_FOLDER).join(folder).join(&self.resolved.environment)
    }

    /// The header of a plan file made now.
    pub fn header(&self) -> Header {
        Header {
            environment: self.resolved.environment.clone(),
            account: self.resolved.account.clone(),
            region: self.resolved.region.clone(),
            sandbox: self.sandbox,
            inventory: self.loaded.digest.clone(),
            only: self.only.clone(),
            destroy: self.intent.destroy,
            keep_protected: self.intent.keep_protected,
            lose_data: self.intent.lose_data.iter().cloned().collect(),
            made_at: Timestamp::now(),
            made_by: who(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            nonce: Nonce::random(),
        }
    }
}

/// A folder of this machine, and the state bucket of all operators where there is one.
pub struct Stores {
    pub local: Store,
    pub shared: Option<Store>,
    pub why_not_shared: Option<String>,
}

impl Stores {
    /// The one that the most people see.
    pub fn widest(&self) -> &Store {
        self.shared.as_ref().unwrap_or(&self.local)
    }

    /// Both, the narrower first. Locks are taken in all: the bucket may come into being while a run holds only the folder's.
    pub fn all(&self) -> Vec<&Store> {
        std::iter::once(&self.local).chain(&self.shared).collect()
    }
}

/// A plan that breaks a promise of plans, as a message.
pub fn unsound(breaches: Vec<Breach>) -> Stop {
    Stop::new(Exit::Bug, check::report(breaches))
}

/// The exit code of a plan that was only shown.
pub fn exit_of(planned: &Planned) -> Exit {
    let plan = &planned.plan;
    if refuses(&plan.findings) {
        Exit::Refused
    } else if !plan.is_complete() {
        Exit::Failed
    } else if plan.is_empty() && broken(&planned.remarks) == 0 {
        Exit::Done
    } else {
        Exit::Differences
    }
}

/// Who runs this, for locks and headers.
pub fn who() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned())
}

/// This machine's name.
pub fn machine() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "unknown".to_owned())
}

/// The holder of a lock taken by this process.
pub fn holder(what: &str) -> Holder {
    Holder::this(what, who(), machine(), Timestamp::now())
}

/// A store that cannot be used before anything was done, as a message.
pub fn store_failed(failure: &StoreFailure) -> Stop {
    unusable(failure, "nothing was changed by this run")
}

/// A store that cannot be used any more after something was done: `done` says what.
pub fn store_failed_after(failure: &StoreFailure, done: &str) -> Stop {
    unusable(failure, done)
}

fn unusable(failure: &StoreFailure, changed: &str) -> Stop {
    Stop::failed(
        Diagnostic::error("state-unusable", "what operators share could not be read or written")
            .note(failure.to_string())
            .note(changed),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::plan::check::check;
    use crate::plan::remark::Remark;

    #[test]
    fn what_is_broken_is_no_success_and_hides_no_worse_end() {
        let broken = (Address::new("pgbackrest.repo", "db"), Remark::broken("nothing is archived"));
        let known = (Address::new("host.updates", "db"), Remark::from("a reboot is due"));
        let exit = |plan: Plan, remarks: Vec<(Address, Remark)>| {
            exit_of(&Planned { plan: check(plan).expect("a sound plan"), remarks })
        };
        assert_eq!(exit(Plan::default(), vec![]), Exit::Done);
        assert_eq!(exit(Plan::default(), vec![known.clone()]), Exit::Done);
        assert_eq!(exit(Plan::default(), vec![known, broken.clone()]), Exit::Differences);
        let refused = Plan { findings: vec![Diagnostic::error("not-ours", "x")], ..Plan::default() };
        assert_eq!(exit(refused, vec![broken]), Exit::Refused);
    }
}
