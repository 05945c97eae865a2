//! What the service sells: bundles, blueprints, regions. Prices and sizes are AWS's published ones of 2026.

use serde_json::{Value, json};

use crate::sandbox::lightsail::call::Call;

/// Regions with the letters of their zones.
pub const REGIONS: [(&str, &str, &str); 20] = [
    ("us-east-1", "Virginia", "NA"),
    ("us-east-2", "Ohio", "NA"),
    ("us-west-1", "California", "NA"),
    ("us-west-2", "Oregon", "NA"),
    ("eu-west-1", "Ireland", "EU"),
    ("eu-west-2", "London", "EU"),
    ("eu-west-3", "Paris", "EU"),
    ("eu-central-1", "Frankfurt", "EU"),
    ("eu-north-1", "Stockholm", "EU"),
    ("eu-south-2", "Spain", "EU"),
    ("ca-central-1", "Montreal", "NA"),
    ("ap-east-1", "Hong Kong", "AS"),
    ("ap-south-1", "Mumbai", "AS"),
    ("ap-southeast-1", "Singapore", "AS"),
    ("ap-southeast-2", "Sydney", "OC"),
    ("ap-northeast-1", "Tokyo", "AS"),
    ("ap-northeast-2", "Seoul", "AS"),
    ("ap-southeast-3", "Jakarta", "AS"),
    ("ap-southeast-5", "Malaysia", "AS"),
    ("sa-east-1", "Sao Paulo", "SA"),
];

/// The letters of the zones that every region has here.
pub const ZONES: [char; 3] = ['a', 'b', 'c'];

pub struct Bundle {
    pub id: String,
    pub price: f64,
    pub ram_gb: f64,
    pub cpus: i64,
    pub disk_gb: i64,
    pub transfer_gb: i64,
    pub power: i64,
    pub active: bool,
    pub ipv4: i64,
}

/// Name, price, price without IPv4, RAM in GB, CPUs, disk in GB, transfer in GB, power.
type Size = (&'static str, f64, f64, f64, i64, i64, i64, i64);

const SIZES: [Size; 7] = [
    ("nano", 5.0, 3.5, 0.5, 2, 20, 1024, 300),
    ("micro", 7.0, 5.0, 1.0, 2, 40, 2048, 500),
    ("small", 12.0, 10.0, 2.0, 2, 60, 3072, 1000),
    ("medium", 24.0, 20.0, 4.0, 2, 80, 4096, 2000),
    ("large", 44.0, 40.0, 8.0, 2, 160, 5120, 3000),
    ("xlarge", 84.0, 80.0, 16.0, 4, 320, 6144, 4000),
    ("2xlarge", 164.0, 160.0, 32.0, 8, 640, 7168, 5000),
];

/// All bundles: the current generation, its twins without IPv4, and the inactive generation before.
pub fn bundles() -> Vec<Bundle> {
    let mut all = Vec::new();
    for (name, price, price_v6, ram_gb, cpus, disk_gb, transfer_gb, power) in SIZES {
        for (suffix, price, active, ipv4) in
            [("3_0", price, true, 1), ("ipv6_3_0", price_v6, true, 0), ("2_0", price, false, 1)]
        {
            all.push(Bundle {
                id: format!("{name}_{suffix}"),
                price,
                ram_gb,
                cpus,
                disk_gb,
                transfer_gb,
                power,
                active,
                ipv4,
            });
        }
    }
    all
}

pub fn bundle(id: &str) -> Option<Bundle> {
    bundles().into_iter().find(|bundle| bundle.id == id)
}

pub struct Blueprint {
    pub id: &'static str,
    pub name: &'static str,
    pub version: &'static str,
    pub username: &'static str,
    pub active: bool,
}

/// Whether Lightsail has Debian 13, and in which regions, is not known here: it is in the list so that a rehearsal can
/// have it, and `GetBlueprints` of the region is what counts.
pub const BLUEPRINTS: [Blueprint; 6] = [
    Blueprint { id: "debian_13", name: "Debian", version: "13", username: "admin", active: true },
    Blueprint { id: "debian_12", name: "Debian", version: "12", username: "admin", active: true },
    Blueprint { id: "debian_11", name: "Debian", version: "11", username: "admin", active: false },
    Blueprint { id: "ubuntu_22_04", name: "Ubuntu", version: "22.04 LTS", username: "ubuntu", active: true },
    Blueprint { id: "ubuntu_24_04", name: "Ubuntu", version: "24.04 LTS", username: "ubuntu", active: true },
    Blueprint {
        id: "amazon_linux_2023",
        name: "Amazon Linux 2023",
        version: "2023",
        username: "ec2-user",
        active: true,
    },
];

pub fn blueprint(id: &str) -> Option<&'static Blueprint> {
    BLUEPRINTS.iter().find(|blueprint| blueprint.id == id)
}

pub fn get_bundles(call: &Call) -> Vec<Value> {
    let inactive = call.flag("includeInactive");
    let shown = bundles().into_iter().filter(|bundle| bundle.active || inactive);
    shown
        .map(|b| {
            let size = b.id.split('_').next().unwrap_or_default();
            json!({
                "bundleId": b.id, "price": b.price, "cpuCount": b.cpus, "diskSizeInGb": b.disk_gb,
                "instanceType": size, "name": size, "isActive": b.active, "power": b.power, "ramSizeInGb": b.ram_gb,
                "transferPerMonthInGb": b.transfer_gb, "supportedPlatforms": ["LINUX_UNIX"],
                "publicIpv4AddressCount": b.ipv4,
            })
        })
        .collect()
}

pub fn get_blueprints(call: &Call) -> Vec<Value> {
    let inactive = call.flag("includeInactive");
    let shown = BLUEPRINTS.iter().filter(|blueprint| blueprint.active || inactive);
    shown
        .map(|b| {
            json!({
                "blueprintId": b.id, "name": b.name, "group": b.id, "type": "os", "isActive": b.active, "minPower": 0,
                "description": format!("{} {}", b.name, b.version), "version": b.version, "versionCode": "1",
                "productUrl": "", "platform": "LINUX_UNIX",
            })
        })
        .collect()
}

pub fn get_regions(call: &Call) -> Value {
    let zones = call.flag("includeAvailabilityZones");
    let regions: Vec<Value> = REGIONS
        .iter()
        .map(|(name, display, continent)| {
            let mut region = json!({
                "name": name, "displayName": display, "continentCode": continent,
                "description": format!("This region is recommended to serve users near {display}"),
                "availabilityZones": [], "relationalDatabaseAvailabilityZones": [],
            });
            if zones {
                let zones = ZONES.iter().map(|zone| json!({"zoneName": format!("{name}{zone}"), "state": "available"}));
                region["availabilityZones"] = zones.collect();
            }
            region
        })
        .collect();
    json!({ "regions": regions })
}
