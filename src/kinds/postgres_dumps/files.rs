//! The program of the dumps, its service and its timer.

use serde_json::{Value, json};

use crate::kinds::host::Wanted;
use crate::kinds::postgres::PORT;
use crate::kinds::postgres_dumps::Desired;
use crate::render::render;

pub(super) const FOLDER: &str = "/usr/local/lib/seawall";
pub(super) const PROGRAM: &str = "/usr/local/lib/seawall/dump";
pub(super) const SERVICE: &str = "seawall-dump.service";
pub(super) const TIMER: &str = "seawall-dump.timer";
const SERVICE_PATH: &str = "/etc/systemd/system/seawall-dump.service";
const TIMER_PATH: &str = "/etc/systemd/system/seawall-dump.timer";

/// The units, with the state that they must have. The service is started by the timer alone.
pub(super) const UNITS: [(&str, &str); 2] = [(SERVICE, "loaded"), (TIMER, "enabled, active")];

/// A run that takes longer is ended by its unit, in seconds: six hours read and send tens of gigabytes.
const RUN_S: u32 = 21_600;

pub(super) fn unit_path(unit: &str) -> &'static str {
    if unit == TIMER { TIMER_PATH } else { SERVICE_PATH }
}

pub(super) fn files(desired: &Desired) -> Vec<Wanted<'static>> {
    let version = desired.cluster.version;
    let program = json!({
        "version": version, "port": PORT, "bucket": desired.bucket, "folder": desired.folder,
        "region": desired.region, "databases": desired.databases,
        "daily": desired.keep.daily, "weekly": desired.keep.weekly, "monthly": desired.keep.monthly,
    });
    let timer = json!({
        "what": "When logical dumps are made", "calendar": desired.calendar, "unit": SERVICE, "persistent": true,
    });
    let text = |template: &str, mut context: Value| {
        context["address"] = desired.address.to_string().into();
        render(template, &context).unwrap_or_else(|error| panic!("{}: {error}", desired.address))
    };
    vec![
        Wanted { mode: "0755", ..Wanted::public(PROGRAM, text("dump.sh", program)) },
        Wanted::public(SERVICE_PATH, text("dump.service", json!({ "version": version, "limit": RUN_S }))),
        Wanted::public(TIMER_PATH, text("timer", timer)),
    ]
}
