//! The program of the dumps, what it is to do, its service and its timer.

use serde_json::{Value, json};

use crate::kinds::parts::Parts;
use crate::kinds::parts::file::File;
use crate::kinds::parts::unit::Unit;
use crate::kinds::postgres::PORT;
use crate::kinds::postgres_dumps::Desired;
use crate::kinds::programs;
use crate::render::render;

pub const PROGRAM: &str = "/usr/local/lib/seawall/dump";
/// postgres reads it, who runs the program.
pub(super) const SETTINGS: &str = "/etc/seawall/dump.conf";
pub(super) const SERVICE: &str = "seawall-dump.service";
const TIMER: &str = "seawall-dump.timer";
pub(super) const UNITS: [&str; 2] = [SERVICE, TIMER];
/// A run that takes longer is ended, in seconds: six hours read and send tens of gigabytes.
pub const RUN_S: u32 = 21_600;

/// What the program is to do.
pub(super) fn settings(desired: &Desired) -> File {
    let keep = &desired.keep;
    let mut settings = vec![("version", desired.cluster.version.to_string()), ("port", PORT.to_string())];
    let place = [("bucket", &desired.bucket), ("folder", &desired.folder), ("region", &desired.region)];
    settings.extend(place.map(|(key, value)| (key, value.clone())));
    let counts = [("daily", keep.daily), ("weekly", keep.weekly), ("monthly", keep.monthly)];
    settings.extend(counts.map(|(key, count)| (key, count.to_string())));
    settings.extend(desired.databases.iter().map(|name| ("database", name.clone())));
    settings.extend(desired.schema_only.iter().map(|name| ("schema", name.clone())));
    let tables = desired.tables.iter().flat_map(|(name, tables)| tables.iter().map(move |table| (name, table)));
    settings.extend(tables.map(|(name, table)| ("table", format!("{name} {table}"))));
    programs::configuration(&desired.address, SETTINGS, "postgres", PROGRAM, &settings)
}

pub(super) fn parts_of(desired: &Desired) -> Parts {
    let version = desired.cluster.version;
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
        settings(desired),
        File::program(PROGRAM, programs::DUMP.to_owned()),
        File::public(units[0].path(), service),
        File::public(units[1].path(), text("timer", timer)),
    ];
    Parts::of(files, units.into())
}
