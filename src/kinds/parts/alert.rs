//! What records that a unit of ours failed: `OnFailure=seawall-alert@%n.service` in every service, and one program.
//!
//! The files are the same whichever kind writes them, and no kind takes them away: others may still name them.

use serde_json::json;

use crate::kinds::parts::file::File;
use crate::kinds::parts::unit::Unit;
use crate::render::render;

pub(crate) const SCRIPT: &str = "/usr/local/lib/seawall/alert";
pub(crate) const UNIT_PATH: &str = "/etc/systemd/system/seawall-alert@.service";
/// One file of failures a unit.
const FOLDER: &str = "/var/lib/seawall/alerts";
/// Failures that are kept of each unit: weeks of a daily job, two days of an hourly one.
const KEPT_FAILURES: u32 = 50;
/// Lines of output with each failure, and bytes of a line: where the reason stands.
const KEPT_LINES: u32 = 10;
const KEPT_WIDTH: u32 = 300;
/// Stands in the files for the resource that they belong to.
const OWNERS: &str = "all services";

pub(crate) fn unit() -> Unit {
    Unit::named("seawall-alert@.service")
}

/// The program comes first: what a unit names is there before it.
pub(crate) fn files() -> [File; 2] {
    let script = json!({
        "address": OWNERS, "folder": FOLDER, "keep": KEPT_FAILURES, "lines": KEPT_LINES, "width": KEPT_WIDTH,
    });
    let text = |template: &str, context| {
        render(template, &context).expect("the templates and their contexts are tested together")
    };
    [
        File::program(SCRIPT, text("alert.sh", script)),
        File::public(UNIT_PATH, text("alert.service", json!({ "address": OWNERS, "script": SCRIPT }))),
    ]
}
