//! Versioned JSON of the `backup` commands, as in [`crate::view::json`].

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::plan::backups::{Backups, DumpsMade, Made, Verified};

/// Format of the list.
const BACKUPS: &str = "seawall.backups/1";

/// Format of a proof.
const VERIFIED: &str = "seawall.backups-verified/1";

/// Format of a new backup.
const MADE: &str = "seawall.backup-made/1";

/// Format of new dumps.
const DUMPED: &str = "seawall.dumps-made/1";

/// What there is, as `seawall backup list --format json` prints it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Backups that Seawall saw", deny_unknown_fields)]
pub struct BackupsView<'a> {
    /// `seawall.backups/1`.
    #[schemars(extend("const" = BACKUPS))]
    format: &'a str,
    environment: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    servers: &'a [Backups],
}

/// A proof, as `seawall backup verify --format json` prints it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Backups that Seawall verified", deny_unknown_fields)]
pub struct VerifiedView<'a> {
    /// `seawall.backups-verified/1`.
    #[schemars(extend("const" = VERIFIED))]
    format: &'a str,
    environment: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    servers: &'a [Verified],
}

/// A new backup, as `seawall backup now --format json` prints it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "A backup that Seawall made", deny_unknown_fields)]
pub struct MadeView<'a> {
    /// `seawall.backup-made/1`.
    #[schemars(extend("const" = MADE))]
    format: &'a str,
    environment: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    server: &'a str,
    made: &'a Made,
}

/// New dumps, as `seawall backup dump --format json` prints them.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Logical dumps that Seawall made", deny_unknown_fields)]
pub struct DumpsMadeView<'a> {
    /// `seawall.dumps-made/1`.
    #[schemars(extend("const" = DUMPED))]
    format: &'a str,
    environment: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    server: &'a str,
    made: &'a DumpsMade,
}

/// What there is.
pub fn backups(environment: &str, sandbox: bool, servers: &[Backups]) -> Value {
    to_value(&BackupsView { format: BACKUPS, environment, sandbox, servers })
}

/// A proof.
pub fn verified(environment: &str, sandbox: bool, servers: &[Verified]) -> Value {
    to_value(&VerifiedView { format: VERIFIED, environment, sandbox, servers })
}

/// A new backup.
pub fn made(environment: &str, sandbox: bool, server: &str, made: &Made) -> Value {
    to_value(&MadeView { format: MADE, environment, sandbox, server, made })
}

/// New dumps.
pub fn dumped(environment: &str, sandbox: bool, server: &str, made: &DumpsMade) -> Value {
    to_value(&DumpsMadeView { format: DUMPED, environment, sandbox, server, made })
}

fn to_value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("plain data of this program serialises")
}
