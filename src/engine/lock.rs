//! One writer per environment: an object that only one creator wins, holding who, where, since and until.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::base::diag::Diagnostic;
use crate::engine::store::{Claim, Store, StoreFailure};

/// Key of the lock object.
const LOCK: &str = "lock.json";

/// After this time a lock counts as abandoned. Longer than any apply (a rebuild has 30 minutes), and short enough that the
/// lock of a machine that was lost does not stop the next morning's work.
const LIFETIME: SignedDuration = SignedDuration::from_hours(2);

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub who: String,
    pub machine: String,
    pub pid: u32,
    /// Start time of the process in clock ticks since boot. The pid alone would not do: the kernel uses pids again.
    pub started: u64,
    pub what: String,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// A lock that is held. It must be released; dropping it leaves the object for `unlock`.
#[must_use]
pub struct Lock {
    bytes: Vec<u8>,
    /// Set when a dead holder's lock was taken over: what to tell the operator.
    pub took_over: Option<String>,
}

impl Holder {
    /// This process.
    pub fn this(what: &str, who: String, machine: String, now: Timestamp) -> Self {
        let pid = std::process::id();
        Self {
            who,
            machine,
            pid,
            started: start_time(pid).unwrap_or(0),
            what: what.to_owned(),
            since: now,
            until: now + LIFETIME,
        }
    }

    /// In words: who, where, since when, until when.
    pub fn describe(&self) -> String {
        format!(
            "{} on {} (process {}) since {} for `seawall {}`, until {} at the latest",
            self.who,
            self.machine,
            self.pid,
            seconds(self.since),
            self.what,
            seconds(self.until)
        )
    }

    /// Whether the holder cannot be at work any more: its time is up, or its process on this machine is gone.
    fn is_gone(&self, here: &str, now: Timestamp) -> bool {
        now > self.until || (self.machine == here && start_time(self.pid) != Some(self.started))
    }
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Start time of a process from `/proc/PID/stat`, field 22 (proc(5)).
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The second field is the program's name in parentheses and may hold spaces.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Takes the lock in every store, in the order given, or says who holds it and since when.
pub async fn take(stores: &[&Store], holder: &Holder) -> Result<Lock, Diagnostic> {
    let mut lock = Lock { bytes: serde_json::to_vec_pretty(holder).expect("plain data serialises"), took_over: None };
    for (index, store) in stores.iter().enumerate() {
        if let Err(problem) = take_one(store, holder, &mut lock).await {
            return Err(match release(&stores[..index], lock).await {
                Ok(()) => problem,
                Err(failure) => problem.note(format!("this run's own lock could not be given back: {failure}")),
            });
        }
    }
    Ok(lock)
}

async fn take_one(store: &Store, holder: &Holder, lock: &mut Lock) -> Result<(), Diagnostic> {
    // Two tries: the second one follows the removal of a dead holder's lock. Who loses that one, too, lost to a living run.
    for _ in 0..2 {
        match store.claim(LOCK, &lock.bytes).await.map_err(|failure| unusable(store, &failure))? {
            Claim::Won => return Ok(()),
            Claim::Held(found) => {
                let held: Option<Holder> = serde_json::from_slice(&found).ok();
                match held {
                    Some(held) if held.is_gone(&holder.machine, holder.since) => {
                        store.delete_if(LOCK, &found).await.map_err(|failure| unusable(store, &failure))?;
                        lock.took_over = Some(format!("took over the lock of {}: that run is gone", held.describe()));
                    }
                    held => return Err(locked(store, held.as_ref())),
                }
            }
        }
    }
    Err(locked(store, None))
}

/// Gives the lock back, in the reverse order.
pub async fn release(stores: &[&Store], lock: Lock) -> Result<(), StoreFailure> {
    let mut result = Ok(());
    for store in stores.iter().rev() {
        // The first failure is returned; the locks in the other stores are released all the same.
        result = result.and(store.delete_if(LOCK, &lock.bytes).await.map(|_| ()));
    }
    result
}

/// Removes somebody's lock. Returns who held it; `None` if nobody did.
pub async fn break_lock(store: &Store) -> Result<Option<String>, StoreFailure> {
    let Some(found) = store.get(LOCK).await? else { return Ok(None) };
    let who =
        serde_json::from_slice::<Holder>(&found).map_or_else(|_| "an unreadable lock".to_owned(), |h| h.describe());
    store.delete_if(LOCK, &found).await?;
    Ok(Some(who))
}

fn locked(store: &Store, held: Option<&Holder>) -> Diagnostic {
    let problem = Diagnostic::error("locked", "somebody else is changing this environment")
        .note(format!("the lock is in {}", store.describe()));
    let problem = match held {
        Some(held) => problem.note(format!("held by {}", held.describe())),
        None => problem.note("its content could not be read"),
    };
    problem
        .note("nothing was changed by this run")
        .hint("wait until they are done; if that run is certainly dead: seawall unlock --reason \"…\"")
}

fn unusable(store: &Store, failure: &StoreFailure) -> Diagnostic {
    Diagnostic::error("lock-unusable", format!("the lock in {} could not be taken", store.describe()))
        .note(failure.to_string())
        .note("nothing was changed by this run")
}
