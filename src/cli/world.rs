//! Connects: to AWS as the operator is set up, or to the local cloud. The account is proven before anything is asked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::diag::Diagnostic;
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::{Loaded, Session};
use crate::inventory::sections::{Bucket, Inventory};
use crate::reach::aws::identity::IdentityError;
use crate::reach::aws::{Aws, Connection};
use crate::reach::ssh::secrets::Vault;
use crate::reach::ssh::session::Ssh;
use crate::reach::world::World;

/// Private key to log in with; without it the agent and the usual files are tried.
const IDENTITY: &str = "SEAWALL_SSH_IDENTITY";
/// An ssh_config of the operator, for jump hosts. It can add to our settings and not weaken them.
const SSH_CONFIG: &str = "SEAWALL_SSH_CONFIG";

/// Connects to the inventory's world. In a rehearsal the sandbox is started if need be, and its operator's key joins the
/// keys that may log in.
pub async fn connect(session: &mut Session, loaded: &mut Loaded) -> Result<World, Stop> {
    let mut connection = Connection {
        region: loaded.inventory.aws.region.clone(),
        account: loaded.inventory.aws.account.clone(),
        buckets: elsewhere(&loaded.inventory),
        ..Connection::default()
    };
    let mut identity = std::env::var_os(IDENTITY).map(PathBuf::from);
    if session.global.sandbox {
        identity = Some(crate::cli::sandbox::rehearse(session, loaded, &mut connection).await?);
    }
    let aws = Aws::connect(&connection).await.map_err(|error| {
        Stop::failed(Diagnostic::error("no-certificates", error.to_string()).note("nothing was asked or changed"))
    })?;
    aws.identify().await.map_err(|error| {
        let exit = if matches!(error, IdentityError::WrongAccount { .. }) { Exit::Refused } else { Exit::Failed };
        Stop::new(exit, error.diagnostic())
    })?;
    let mut ssh = Ssh::new(identity, std::env::var_os(SSH_CONFIG).map(PathBuf::from));
    ssh.vault = Vault::new(session.redactor.clone());
    let ssh = Arc::new(ssh);
    session.ssh = Some(Arc::clone(&ssh));
    Ok(World { aws, ssh })
}

/// The buckets that are not in the environment's region, by their names at AWS, with their regions.
fn elsewhere(inventory: &Inventory) -> BTreeMap<String, String> {
    let away = |bucket: &Bucket| Some((bucket.name.clone(), bucket.region.clone()?));
    inventory.buckets.values().filter_map(away).collect()
}
