//! Changes that may lock their operator out: kept when a new login proves them, put back when none does.
//!
//! A host has armed itself before its first step and puts the change back when its time is over; what is decided here
//! is said to it once. The cloud cannot do that: if a host cannot be reached, the ports that this apply changed are put
//! back from here. See `docs/decisions/0012-the-deadman.md`.

use std::time::{Duration, Instant};

use crate::engine::journal::Journal;
use crate::plan::change::{Change, Proof};
use crate::plan::event::JournalEvent;
use crate::plan::host::Endpoint;
use crate::plan::step::CloudStep;
use crate::reach::{Act, Failure, Guarded};

/// Reserved at the end of the host's limit for telling the host that the change stays: a login and a small program.
const CONFIRM_RESERVE: Duration = Duration::from_secs(20);
/// Shortest time to try to log in, where the change itself took most of the host's limit.
const PROVE_MIN: Duration = Duration::from_secs(10);
/// How long a new login may take to work after the cloud's ports have changed. Lightsail says done when it is.
const PORTS_PROVE: Duration = Duration::from_secs(20);
/// How much longer than its own limit a host is waited for: it may be rebooting.
const SILENT: Duration = Duration::from_mins(2);

/// How a guarded change ended that was not kept.
#[derive(Clone, Debug, PartialEq)]
pub enum NotKept {
    /// Nothing was put back, because nothing had begun or nobody could see it.
    Failed(Failure),
    /// It was put back, with what the host says about it.
    PutBack(Failure, Vec<String>),
}

/// Decides whether a host's guarded change is kept or put back.
pub struct Guard<'a> {
    /// The transaction's id.
    pub id: &'a str,
    /// The host's own limit in seconds, and since when it runs.
    pub limit_s: u32,
    pub since: Instant,
    /// The way in before the change, and the one that the plan promises.
    pub before: &'a Endpoint,
    pub after: &'a Endpoint,
    pub proofs: Vec<Proof>,
    /// Puts back what this apply changed in the cloud in front of the host.
    pub undo: Vec<CloudStep>,
}

impl Guard<'_> {
    /// Decides what becomes of a change whose steps ended like `acted`: proven changes are kept, all others are put back.
    pub async fn keep_or_put_back(
        &self,
        acted: Result<(), Failure>,
        reach: &impl Act,
        journal: &Journal<'_>,
    ) -> Result<(), NotKept> {
        let limit = Duration::from_secs(self.limit_s.into());
        let why = match acted {
            Err(why) => why,
            Ok(()) => match self.proven(limit, reach).await {
                Ok(()) => {
                    journal.record(&JournalEvent::Kept { server: self.after.server.clone() });
                    return Ok(());
                }
                Err(why) => why,
            },
        };
        self.put_back(why, limit, reach, journal).await
    }

    /// Logs in anew, checks the proofs, and tells the host before its limit that the change stays.
    async fn proven(&self, limit: Duration, reach: &impl Act) -> Result<(), Failure> {
        let left = limit.saturating_sub(self.since.elapsed() + CONFIRM_RESERVE).max(PROVE_MIN);
        reach.prove(self.after, &self.proofs, left).await?;
        match reach.keep(self.after, self.id).await? {
            Guarded::Kept => Ok(()),
            Guarded::None | Guarded::Armed | Guarded::PutBack(_) => {
                Err(Failure::new("the proof came too late: the host had put the change back"))
            }
        }
    }

    async fn put_back(
        &self,
        why: Failure,
        limit: Duration,
        reach: &impl Act,
        journal: &Journal<'_>,
    ) -> Result<(), NotKept> {
        let ways: Vec<Endpoint> = if self.before == self.after {
            vec![self.before.clone()]
        } else {
            vec![self.before.clone(), self.after.clone()]
        };
        let mut what = Vec::new();
        let mut said = reach.put_back(&ways, self.id, Duration::ZERO).await;
        if said.is_err() {
            // Nobody gets in. The host will do its part; the cloud's is ours.
            what.extend(undo(&self.undo, reach).await);
            let left = limit.saturating_sub(self.since.elapsed()) + SILENT;
            said = reach.put_back(&ways, self.id, left).await;
        }
        match said {
            Ok(Guarded::PutBack(lines)) => {
                what.extend(lines);
                journal.record(&JournalEvent::PutBack { server: self.before.server.clone(), what: what.clone() });
                Err(NotKept::PutBack(why, what))
            }
            // It failed before it was armed: nothing was changed.
            Ok(Guarded::None | Guarded::Armed) => Err(NotKept::Failed(why)),
            // The host was told that the change stays; only its answer to that was lost.
            Ok(Guarded::Kept) => {
                journal.record(&JournalEvent::Kept { server: self.before.server.clone() });
                Ok(())
            }
            Err(silence) => Err(NotKept::Failed(
                Failure {
                    what: format!(
                        "{}; and whether `{}` has put it back was not seen: {}",
                        why.what, self.before.server, silence.what
                    ),
                    ..why
                }
                .hint("the host puts it back by itself, also after a reboot; plan again when it answers"),
            )),
        }
    }
}

/// Checks that a host can still be logged in to after its ports in the cloud have changed, and puts the ports back if not.
pub async fn keep_or_put_back_ports(
    change: &Change,
    at: &Endpoint,
    reach: &impl Act,
    journal: &Journal<'_>,
) -> Result<(), NotKept> {
    let Err(why) = reach.prove(at, &change.proofs, PORTS_PROVE).await else { return Ok(()) };
    let what = undo(&change.undo, reach).await;
    journal.record(&JournalEvent::PutBack { server: at.server.clone(), what: what.clone() });
    Err(NotKept::PutBack(why, what))
}

async fn undo(steps: &[CloudStep], reach: &impl Act) -> Vec<String> {
    let mut what = Vec::new();
    for step in steps {
        what.push(match reach.act_cloud(step, &[]).await {
            Ok(()) => format!("{}, as it was", step.summary()),
            Err(failure) => format!("FAILED: {}: {failure}", step.summary()),
        });
    }
    what
}
