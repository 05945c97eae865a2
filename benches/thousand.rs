//! How long a plan of a thousand simulated servers takes, and how much memory: `cargo bench --bench thousand`.
//!
//! Nothing is asked: every cloud probe answers "absent", so every server is planned in full from the templates, which is
//! the largest plan there can be. Printed: seconds for one server, seconds for a thousand, their ratio, and peak memory.

use std::time::Instant;

use seawall::base::secret::SecretUse;
use seawall::engine::propose::{Intent, propose};
use seawall::engine::refresh::refresh;
use seawall::engine::resolve::resolve;
use seawall::engine::snapshot::Scope;
use seawall::inventory::sections::Inventory;
use seawall::plan::host::Endpoint;
use seawall::plan::observed::{Observed, Unseen};
use seawall::plan::probe::{Answers, CloudProbe, HostProbe};
use seawall::reach::Ask;

/// A world in which nothing exists yet.
struct Nothing;

impl Ask for Nothing {
    fn redacted(&self, words: &str) -> String {
        words.to_owned()
    }

    async fn cloud(&self, probe: &CloudProbe) -> Observed<serde_json::Value> {
        match probe {
            CloudProbe::Census { .. } => Observed::Present(serde_json::json!({ "entries": [] })),
            _ => Observed::Absent,
        }
    }

    async fn host(&self, at: &Endpoint, _: &[HostProbe]) -> Answers {
        Answers::unseen(Unseen::Unreachable(at.server.clone()))
    }

    async fn fingerprint(&self, _: &SecretUse) -> Result<String, String> {
        Err("this world keeps no secrets".to_owned())
    }
}

fn inventory(servers: usize) -> Inventory {
    let file = std::path::Path::new("inventories/chronos-prod.yaml");
    let mut inventory = seawall::inventory::load::load(file).inventory.expect("the worked example is valid");
    let template = inventory.servers.values().next().expect("the worked example has a server").clone();
    inventory.servers.clear();
    for number in 0..servers {
        let name = format!("db-{number}").parse().expect("a valid name");
        inventory.servers.insert(name, template.clone());
    }
    inventory
}

fn plan(servers: usize) -> (f64, usize, usize) {
    let inventory = inventory(servers);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let started = Instant::now();
    let resolved = resolve(&inventory).expect("the worked example resolves");
    let snapshot = runtime.block_on(refresh(&resolved, &resolved.wanted, Scope::Whole, &Nothing));
    let plan = propose(&resolved, &snapshot, &Intent::default(), &|_| None).plan;
    let bytes = serde_json::to_vec(&plan).expect("a plan serialises").len();
    (started.elapsed().as_secs_f64(), plan.changes().count() + plan.deferred.len(), bytes)
}

/// Peak resident memory of this process in MiB, from `/proc/self/status` (proc(5), VmHWM).
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[expect(clippy::print_stdout, reason = "a benchmark's product is what it prints")]
fn main() {
    let (one, _, _) = plan(1);
    let (thousand, changes, bytes) = plan(1_000);
    println!("one server         {one:.4} s");
    println!("a thousand         {thousand:.3} s, {changes} changes, plan of {} KiB", bytes / 1024);
    println!("ratio              {:.0}", thousand / one);
    println!("peak memory        {} MiB", peak_mib());
}
