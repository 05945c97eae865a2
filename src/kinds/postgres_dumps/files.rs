//! The program of the dumps, its service and its timer.

use serde_json::{Value, json};

use crate::kinds::parts::Parts;
use crate::kinds::parts::file::File;
use crate::kinds::parts::unit::Unit;
use crate::kinds::postgres::PORT;
use crate::kinds::postgres_dumps::Desired;
use crate::render::render;

pub(super) const PROGRAM: &str = "/usr/local/lib/seawall/dump";
pub(super) const SERVICE: &str = "seawall-dump.service";
const TIMER: &str = "seawall-dump.timer";
pub(super) const UNITS: [&str; 2] = [SERVICE, TIMER];
/// A run that takes longer is ended by its unit, in seconds: six hours read and send tens of gigabytes.
const RUN_S: u32 = 21_600;

pub(super) fn parts_of(desired: &Desired) -> Parts {
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
    let units = UNITS.map(Unit::named);
    let service = text("dump.service", json!({ "version": version, "limit": RUN_S }));
    let files = vec![
        File::program(PROGRAM, text("dump.sh", program)),
        File::public(units[0].path(), service),
        File::public(units[1].path(), text("timer", timer)),
    ];
    Parts::of(files, units.into())
}
