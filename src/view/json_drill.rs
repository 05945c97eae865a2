//! Versioned JSON of drills, as in [`crate::view::json`]. The same document is what is kept of a drill.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::plan::drills::{Drill, Past};

/// Format of a drill.
const DRILL: &str = "seawall.drill/1";
/// Format of the list.
const DRILLS: &str = "seawall.drills/1";

/// A drill, as `seawall drill --format json` prints it and as it is kept.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "A restore drill of Seawall", deny_unknown_fields)]
pub struct DrillView<'a> {
    /// `seawall.drill/1`.
    #[schemars(extend("const" = DRILL))]
    format: &'a str,
    drill: &'a Drill,
}

/// The drills of an environment, as `seawall drill list --format json` prints them.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Restore drills that were run", deny_unknown_fields)]
pub struct DrillsView<'a> {
    /// `seawall.drills/1`.
    #[schemars(extend("const" = DRILLS))]
    format: &'a str,
    environment: &'a str,
    /// Of the local cloud, not of AWS.
    sandbox: bool,
    /// Oldest first.
    drills: &'a [Past],
}

/// One drill.
pub fn drill(drill: &Drill) -> Value {
    to_value(&DrillView { format: DRILL, drill })
}

/// All of them.
pub fn drills(environment: &str, sandbox: bool, drills: &[Past]) -> Value {
    to_value(&DrillsView { format: DRILLS, environment, sandbox, drills })
}

fn to_value(data: &impl Serialize) -> Value {
    serde_json::to_value(data).expect("plain data of this program serialises")
}
