//! What plan, apply, drift and destroy share: connect, look, propose, add the rules.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::cli::args::{DataArgs, OnlyArgs};
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::{LOCAL_FOLDER, Loaded, Session, refuses};
use crate::cli::world;
use crate::engine::file::Header;
use crate::engine::lock::Holder;
use crate::engine::propose::{Intent, Proposal, propose};
use crate::engine::reachability::reachability;
use crate::engine::refresh::{Scope, Snapshot, refresh};
use crate::engine::resolve::Resolved;
use crate::engine::store::{Store, StoreFailure};
use crate::plan::Plan;
use crate::policy;
use crate::reach::Ask;
use crate::reach::world::World;

/// An inventory, resolved, and a connection to its world.
pub struct Work {
    pub loaded: Loaded,
    pub resolved: Resolved,
    /// The whole inventory's resources, also where `--only` left fewer.
    pub intent: Intent,
    pub only: Vec<Address>,
    pub world: World,
    /// The world is the local cloud.
    pub sandbox: bool,
}

impl Work {
    /// Reads, resolves, connects, and proves whose account it is. Nothing else was asked before.
    pub async fn begin(session: &mut Session, only: &OnlyArgs, data: &DataArgs, destroy: bool) -> Result<Self, Stop> {
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
        Ok(Self { loaded, resolved, intent, only: only.only.clone(), world, sandbox })
    }

    /// Looks at everything.
    pub async fn look(&self, ask: &impl Ask) -> Snapshot {
        refresh(&self.resolved, &self.resolved.wanted, Scope::Whole, ask).await
    }

    /// Plans against what was seen, and adds what the rules say.
    pub fn propose(&self, snapshot: &Snapshot) -> Proposal {
        let locate = |path: &str| self.loaded.locate(path);
        let mut proposal = propose(&self.resolved, snapshot, &self.intent, &locate);
        if !self.intent.destroy {
            let inventory = &self.loaded.inventory;
            proposal.plan.findings.extend(policy::check(inventory, &self.loaded.places));
            proposal.plan.objectives = policy::objectives(inventory);
            proposal.plan.cost = policy::cost(inventory);
            proposal.plan.reachability = reachability(inventory, &self.resolved, snapshot);
        }
        proposal
    }

    /// Where this environment's lock, used plans and journals are, as of now: a bucket may come into being or go.
    pub async fn stores(&self) -> Result<Stores, StoreFailure> {
        let environment = &self.resolved.environment;
        let kind = if self.sandbox { "sandbox-state" } else { "state" };
        let local = Store::Local(std::path::Path::new(LOCAL_FOLDER).join(kind).join(environment));
        let inventory = &self.loaded.inventory;
        let named = inventory.state.as_ref().and_then(|state| Some((state, inventory.buckets.get(&state.bucket)?)));
        let Some((state, bucket)) = named else {
            let why = "the inventory names no `state` bucket: the lock guards this machine only".to_owned();
            return Ok(Stores { local, shared: None, why_not_shared: Some(why) });
        };
        let name = &bucket.name;
        if !self.world.aws.bucket_exists(name).await? {
            let why = format!("bucket `{name}` does not exist yet: until it does, the lock guards this machine only");
            return Ok(Stores { local, shared: None, why_not_shared: Some(why) });
        }
        let prefix = format!("{}/{environment}", state.prefix);
        let shared = Store::S3 { aws: self.world.aws.clone(), bucket: name.clone(), prefix };
        Ok(Stores { local, shared: Some(shared), why_not_shared: None })
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
            nonce: nonce(),
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

/// The exit code of a plan that was only shown.
pub fn exit_of(plan: &Plan) -> Exit {
    if refuses(&plan.findings) {
        Exit::Refused
    } else if !plan.is_complete() {
        Exit::Failed
    } else if plan.is_empty() {
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

/// Twelve random characters that name one apply: lower-case letters and digits.
pub fn nonce() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 12];
    // 32 divides 256: every letter is equally likely. /dev/urandom does not fail on Linux; should it, time still differs.
    let read = fs_err::File::open("/dev/urandom").and_then(|mut f| std::io::Read::read_exact(&mut f, &mut bytes));
    if read.is_err() {
        bytes[..8].copy_from_slice(&Timestamp::now().as_nanosecond().to_le_bytes()[..8]);
    }
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
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
