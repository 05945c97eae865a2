//! Two things beside questions and transactions: a secret file put on a host, and a new server waited for.

use std::time::{Duration, Instant};

use crate::base::secret::Secret;
use crate::base::shell::{FOLDERS, UNSAFE};
use crate::plan::host::Endpoint;
use crate::reach::Failure;
use crate::reach::ssh::error::{HostError, place};
use crate::reach::ssh::session::{Limit, Ssh};

/// For the delivery of one small file.
const DELIVER: Limit = Limit { time: Duration::from_secs(30), bytes: 64 * 1024 };
/// From the first try until a new server lets us in and its first boot is done. Lightsail needs one to two minutes.
pub const READY_LIMIT: Duration = Duration::from_mins(3);
/// Between two tries to log in; sshd's own limits on new connections are far above one a second.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Writes standard input to PATH, mode 0640, root:GROUP, beside it first; [`FOLDERS`] stands before it. Only where the way is
/// root's alone: a key in a folder of somebody else's would be his, or could be put over a file of root's.
const WRITE: &str = r#"path=$1 group=$2 length=$3 folder=${1%/*}
LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
umask 077
getent group -- "$group" >/dev/null || { echo "there is no group $group" >&2; exit 67; }
made() {
    # A transaction may make it in the same moment.
    [ -d "$1/" ] || { made "${1%/*}" && only_root "$1" && { mkdir -m 0755 -- "$1" || [ -d "$1" ]; }; }
}
{ made "$folder" && only_root "$path"; } >&2 || exit
new=$(mktemp "$folder/.seawall-XXXXXXXX") || exit 73
trap 'rm -f -- "$new"' EXIT
head -c "$length" >"$new" || exit 74
[ "$(stat -c %s "$new")" = "$length" ] || { echo "it did not arrive whole" >&2; exit 74; }
chgrp -h -- "$group" "$new" && chmod 640 "$new" && sync -- "$new" && mv -T -- "$new" "$path" && sync -- "$folder/""#;

/// Ends when cloud-init has run the first boot's user data to its end, or with 75 after SECONDS.
const BOOTED: &str = r#"limit=$1
until [ -e /var/lib/cloud/instance/boot-finished ]; do
    [ "$limit" -gt 0 ] || exit 75
    limit=$((limit - 1))
    sleep 1
done"#;

impl Ssh {
    /// Puts a secret file on a host, readable by root and one group, at once or not at all. Its folder is made (0755)
    /// where it is missing. Refused where somebody else than root can change what the path leads to.
    pub async fn deliver_key(
        &self,
        at: &Endpoint,
        path: &str,
        group: &str,
        bytes: &Secret<Vec<u8>>,
    ) -> Result<(), Failure> {
        let refused = |why: String| Failure::new(format!("`{path}` was not written on `{}`: {why}", at.server));
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(refused("it is not an absolute path".to_owned()));
        }
        let length = bytes.reveal().len().to_string();
        let session = self.connect(at).await.map_err(|error| error.failure())?;
        session.keeps_no_input().await.map_err(|error| error.failure())?;
        let args = [path, group, length.as_str()];
        let write = format!("{FOLDERS}{WRITE}");
        let printed = match session.run(&write, &args, bytes.reveal(), DELIVER).await {
            // Writing the same file again does no harm, so a connection that was dead already gets a second one.
            Err(HostError::Lost(_)) => {
                self.forget(at).await;
                let session = self.connect(at).await.map_err(|error| error.failure())?;
                session.run(&write, &args, bytes.reveal(), DELIVER).await
            }
            other => other,
        };
        let printed = printed.map_err(|error| error.failure())?;
        if printed.status == 0 {
            return Ok(());
        }
        let failure = refused(printed.stderr.trim().to_owned());
        let elsewhere = "name a file whose folders are all root's, for example below /etc/seawall";
        Err(if printed.status == UNSAFE { failure.unsafe_folder().hint(elsewhere) } else { failure })
    }

    /// Waits until a new server lets us in, lets us become root, and has finished its first boot.
    pub async fn wait_ready(&self, at: &Endpoint) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let left = READY_LIMIT.saturating_sub(start.elapsed());
            let error = match self.booted(at, left).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    return Err(Failure {
                        what: format!(
                            "{} lets us in, but its first boot did not finish within {} s",
                            place(at),
                            READY_LIMIT.as_secs()
                        ),
                        position: None,
                        code: Some("boot-not-finished".to_owned()),
                        hint: Some("`cloud-init status --long` on the host says what it waits for".to_owned()),
                    });
                }
                Err(error) => error,
            };
            // Users and sudo are made by the first boot too, so a refusal there may pass; a wrong host key does not.
            let early = matches!(error, HostError::PermissionDenied { .. } | HostError::SudoRefused { .. });
            if !(error.may_pass() || early) || left <= TRY_AGAIN {
                return Err(error.failure());
            }
            self.forget(at).await;
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    async fn booted(&self, at: &Endpoint, left: Duration) -> Result<bool, HostError> {
        let session = self.connect(at).await?;
        let limit = Limit { time: left + Duration::from_secs(15), bytes: 64 * 1024 };
        let printed = session.run(BOOTED, &[&left.as_secs().to_string()], b"", limit).await?;
        Ok(printed.status == 0)
    }
}
