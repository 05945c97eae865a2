//! Transactions on a host as others see them: which run, who holds the lock, and how to take it away.
//!
//! The lock is the folder `/var/lib/seawall/lock`; its `holder` file has four lines: transaction, who, since, and the
//! boot that it was taken in. A transaction takes it when it starts and gives it back when it ends. It is stale, and taken
//! over, when the holder's unit does not run and it is older than [`STALE_S`] or of another boot.

use std::time::Duration;

use crate::plan::host::Endpoint;
use crate::reach::Failure;
use crate::reach::ssh::error::HostError;
use crate::reach::ssh::program::Layout;
use crate::reach::ssh::session::{Limit, Ssh};

/// Age in seconds after which a lock without a running unit is stale. Between taking it and starting the unit lie
/// milliseconds; a minute is room for a host that swaps.
pub const STALE_S: u64 = 60;
/// For the small programs of this file.
const LIMIT: Limit = Limit { time: Duration::from_secs(30), bytes: 64 * 1024 };

const RUNNING: &str = r"systemctl list-units --plain --no-legend --full --state=active,activating,deactivating,reloading 'seawall-apply-*.service'";

/// Ends with 75 where the holder's unit runs. What it prints is the holder.
const UNLOCK: &str = r#"lock=$1/lock
[ -d "$lock" ] || exit 0
cat "$lock/holder"
id=$(head -n 1 "$lock/holder")
if systemctl is-active --quiet "seawall-apply-$id.service" "seawall-deadman-$id.timer"; then exit 75; fi
rm -rf -- "$lock""#;

/// Who holds a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub transaction: String,
    pub who: String,
    /// UTC, RFC 3339.
    pub since: String,
}

impl Holder {
    /// Reads the holder file. A lock that was made this moment has none yet.
    pub fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::to_owned);
        Some(Self { transaction: lines.next()?, who: lines.next()?, since: lines.next()? })
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} since {} (transaction {})", self.who, self.since, self.transaction)
    }
}

impl Ssh {
    /// The ids of the transactions that run on a host now, for example after this program was killed during one.
    pub async fn running(&self, at: &Endpoint) -> Result<Vec<String>, HostError> {
        let printed = self.run_again(at, RUNNING, &[], LIMIT).await?;
        Ok(ids(&String::from_utf8_lossy(&printed.stdout)))
    }

    /// Takes the host's lock away and says whose it was. A transaction that runs keeps it.
    pub async fn unlock(&self, at: &Endpoint) -> Result<Option<Holder>, Failure> {
        let state = Layout::default().state;
        let printed = self.run_again(at, UNLOCK, &[&state], LIMIT).await.map_err(|error| error.failure())?;
        let holder = Holder::read(&String::from_utf8_lossy(&printed.stdout));
        match (printed.status, holder) {
            (0, holder) => Ok(holder),
            (75, Some(holder)) => Err(Failure {
                what: format!("the lock of `{}` was not taken away: {holder}, and its unit is running", at.server),
                position: None,
                code: Some("transaction-runs".to_owned()),
                hint: Some("wait for its end; it has a limit and ends by itself".to_owned()),
            }),
            (status, _) => Err(Failure::new(format!(
                "the lock of `{}` was not taken away (status {status}): {}",
                at.server, printed.stderr
            ))),
        }
    }
}

fn ids(listing: &str) -> Vec<String> {
    listing
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.strip_prefix("seawall-apply-")?.strip_suffix(".service"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_transactions() {
        let listing =
            "seawall-apply-a-1.service loaded active running Seawall\nother.service loaded active running x\n";
        assert_eq!(ids(listing), ["a-1"]);
        assert!(ids("").is_empty());
    }

    #[test]
    fn a_holder_has_three_lines() {
        let holder = Holder::read("a-1\nkim@desk\n2026-11-21T05:00:00Z\n").expect("a holder");
        assert_eq!(holder.to_string(), "kim@desk since 2026-11-21T05:00:00Z (transaction a-1)");
        assert_eq!(Holder::read("a-1\n"), None);
    }
}
