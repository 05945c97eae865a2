//! Versioned JSON of restores, as in [`crate::view::json`].

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::plan::rebuild::Rebuilt;
use crate::plan::restores::{DumpPlan, RestorePlan, Standing, Told};

/// Format of a restore.
const RESTORE: &str = "seawall.restore/1";
/// Format of the list.
const RESTORES: &str = "seawall.restores/1";

/// A restore, as `seawall restore --format json` prints it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "A restore that Seawall planned or carried out", deny_unknown_fields)]
pub struct RestoreView<'a> {
    /// `seawall.restore/1`.
    #[schemars(extend("const" = RESTORE))]
    format: &'a str,
    environment: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    plan: &'a RestorePlan,
    /// `None` where it was planned only.
    told: Option<&'a Told>,
}

/// The restores on servers, as `seawall restore list --format json` prints them.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Restores that stand on servers", deny_unknown_fields)]
pub struct RestoresView<'a> {
    /// `seawall.restores/1`.
    #[schemars(extend("const" = RESTORES))]
    format: &'a str,
    environment: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    servers: Vec<ServerRestores<'a>>,
}

/// Those of one server.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ServerRestores<'a> {
    server: &'a str,
    restores: &'a [Standing],
}

/// Format of a restore from a dump.
const RESTORED_DUMP: &str = "seawall.restored-dump/1";

/// A restore from a dump, as `seawall restore --from-dump --format json` prints it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "A restore from a logical dump that Seawall planned or carried out", deny_unknown_fields)]
pub struct RestoredDumpView<'a> {
    /// `seawall.restored-dump/1`.
    #[schemars(extend("const" = RESTORED_DUMP))]
    format: &'a str,
    environment: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    plan: &'a DumpPlan,
    /// Whether the new database is there; false where it was planned only.
    restored: bool,
}

/// The document of a restore from a dump.
pub fn restored_dump(environment: &str, sandbox: bool, plan: &DumpPlan, restored: bool) -> Value {
    let view = RestoredDumpView { format: RESTORED_DUMP, environment, sandbox, plan, restored };
    serde_json::to_value(view).expect("plain data serialises")
}

/// Format of a rebuild.
const REBUILT: &str = "seawall.rebuilt/1";

/// A rebuild, as `seawall rebuild --format json` prints it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "A server that Seawall rebuilt", deny_unknown_fields)]
pub struct RebuiltView<'a> {
    /// `seawall.rebuilt/1`.
    #[schemars(extend("const" = REBUILT))]
    format: &'a str,
    environment: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    rebuilt: &'a Rebuilt,
}

/// A rebuild.
pub fn rebuilt(environment: &str, sandbox: bool, rebuilt: &Rebuilt) -> Value {
    to_value(&RebuiltView { format: REBUILT, environment, sandbox, rebuilt })
}

/// One restore.
pub fn restore(environment: &str, sandbox: bool, plan: &RestorePlan, told: Option<&Told>) -> Value {
    to_value(&RestoreView { format: RESTORE, environment, sandbox, plan, told })
}

/// All of them.
pub fn restores(environment: &str, sandbox: bool, all: &[(String, Vec<Standing>)]) -> Value {
    let servers = all.iter().map(|(server, restores)| ServerRestores { server, restores }).collect();
    to_value(&RestoresView { format: RESTORES, environment, sandbox, servers })
}

fn to_value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("plain data of this program serialises")
}
