//! Inventories in, messages out: every file under `tests/inventories/` is one case.
//!
//! `valid/*.yaml` must give no message at all; `invalid/NAME.yaml` must give exactly what `invalid/NAME.txt` says, rules
//! included. `SEAWALL_UPDATE=1` writes the expectations anew; read the difference before committing it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use seawall::base::diag::{Diagnostic, Severity};
use seawall::inventory::check;
use seawall::inventory::load::{Loaded, load, parse, parse_bytes, with_files};
use seawall::inventory::schema::schema;
use seawall::policy;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root().join(folder))
        .expect("the folder is part of the checkout")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{folder} holds no case");
    found
}

/// Everything that is said about a file: reading, checks, rules.
fn said(path: &Path) -> Vec<Diagnostic> {
    let bytes = std::fs::read(path).expect("a case can be read");
    let name = path.file_name().expect("a file").to_string_lossy();
    let folder = path.parent().expect("a file is in a folder");
    everything(with_files(parse_bytes(&name, &bytes), folder))
}

fn everything(loaded: Loaded) -> Vec<Diagnostic> {
    let Loaded { inventory, diagnostics, places, .. } = loaded;
    let mut all = diagnostics.0;
    if let Some(inventory) = inventory {
        all.extend(check::check(&inventory, &places));
        all.extend(policy::check(&inventory, &places));
    }
    all
}

/// A plain rendering. The program's own drawing is the view's.
fn render(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        writeln!(text, "{severity}[{}]: {}", diagnostic.code, diagnostic.message).expect("a String takes all");
        for label in &diagnostic.labels {
            writeln!(text, "  {}+{} {}", label.span, label.span.length, label.text).expect("a String takes all");
        }
        for note in &diagnostic.notes {
            writeln!(text, "  note: {note}").expect("a String takes all");
        }
        if let Some(hint) = &diagnostic.hint {
            writeln!(text, "  hint: {hint}").expect("a String takes all");
        }
    }
    text
}

#[test]
fn valid_files_give_no_message() {
    for path in files("tests/inventories/valid").into_iter().chain(files("inventories")) {
        assert_eq!(render(&said(&path)), "", "{}", path.display());
    }
}

#[test]
fn invalid_files_give_exactly_these_messages() {
    let update = std::env::var_os("SEAWALL_UPDATE").is_some();
    let mut wrong = String::new();
    for path in files("tests/inventories/invalid") {
        let found = render(&said(&path));
        assert_ne!(found, "", "{} gives no message", path.display());
        let expected_file = path.with_extension("txt");
        if update {
            std::fs::write(&expected_file, &found).expect("the expectation can be written");
            continue;
        }
        let expected = std::fs::read_to_string(&expected_file).unwrap_or_default();
        if found != expected {
            writeln!(wrong, "== {}\n-- expected\n{expected}-- found\n{found}", path.display())
                .expect("a String takes all");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The page about the rules is made from the rules.
#[test]
fn the_page_about_the_rules_is_in_step() {
    let mut page = String::from(
        "# Rules\n\nWhat `plan` refuses (error) or points out (warning) about an inventory that is otherwise sound. Each id is the \
         finding's code.\n\n| id | severity | wants | because |\n| --- | --- | --- | --- |\n",
    );
    for rule in policy::rules() {
        let severity = match rule.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        writeln!(page, "| `{}` | {severity} | {} | {} |", rule.id, rule.wants, rule.source)
            .expect("a String takes all");
    }
    let file = root().join("docs/rules.md");
    if std::env::var_os("SEAWALL_UPDATE").is_some() {
        std::fs::write(&file, &page).expect("the page can be written");
    }
    let published = std::fs::read_to_string(&file).expect("the page is published");
    assert_eq!(published, page, "run with SEAWALL_UPDATE=1 and commit the difference");
}

#[test]
fn the_worked_example_says_what_it_costs_and_what_is_proven() {
    let loaded = load(&root().join("inventories/chronos-prod.yaml"));
    let inventory = loaded.inventory.expect("the example is sound");
    let cost = policy::cost(&inventory);
    assert_eq!(cost.monthly_cents(), 1_200);
    let table: Vec<String> = policy::objectives(&inventory, None)
        .into_iter()
        .map(|row| format!("{} | {} | {} | {}", row.name, row.wanted, row.by_configuration, row.last_proof))
        .collect();
    assert_eq!(
        table,
        [
            "rpo | 15m | ≤ 320s (archive_timeout 5m and 20 s to ship) | NOT EVALUATED: no drill was looked for",
            "rto | 1h | NOT EVALUATED: only a drill can tell how long a restore takes | NOT EVALUATED: no drill was looked for",
            "rebuild | 30m | – | NOT EVALUATED: no drill was looked for",
            "drill | every 7d | NOT EVALUATED: drills are not scheduled | NOT EVALUATED: no drill was looked for",
            "monthly budget | 25 USD | 12 USD and storage by use | –",
        ]
    );
}

/// A rule that no case breaks is a rule that nobody has seen work.
#[test]
fn every_rule_has_a_case() {
    let broken: std::collections::BTreeSet<String> =
        files("tests/inventories/invalid").iter().flat_map(|path| said(path)).map(|d| d.code).collect();
    for rule in policy::rules() {
        assert!(broken.contains(rule.id), "no case breaks `{}`", rule.id);
    }
}

#[test]
fn no_expectation_without_its_case() {
    for entry in std::fs::read_dir(root().join("tests/inventories/invalid")).expect("the folder is there") {
        let path = entry.expect("a readable folder").path();
        assert!(path.with_extension("yaml").exists(), "{} has no case", path.display());
    }
}

/// An editor, or any other reader of the published schema, must agree with the program about structure.
#[test]
fn the_published_schema_is_in_step_and_tells_good_from_bad() {
    let file = root().join("docs/inventory.schema.json");
    let text = format!("{:#}\n", schema());
    if std::env::var_os("SEAWALL_UPDATE").is_some() {
        std::fs::write(&file, &text).expect("the schema can be written");
    }
    let published = std::fs::read_to_string(&file).expect("the schema is published");
    assert_eq!(published, text, "run with SEAWALL_UPDATE=1 and commit the difference");

    let published: serde_json::Value = serde_json::from_str(&published).expect("JSON");
    let validator = jsonschema::validator_for(&published).expect("a valid schema");
    let value =
        |path: &Path| -> Option<serde_json::Value> { serde_yaml::from_str(&std::fs::read_to_string(path).ok()?).ok() };
    for path in files("tests/inventories/valid").into_iter().chain(files("inventories")) {
        let value = value(&path).expect("a valid case is YAML");
        assert!(validator.is_valid(&value), "{}", path.display());
    }
    let structural = ["unknown-key", "missing-key", "wrong-type", "unknown-word", "wrong-shape", "out-of-range"];
    let mut refused = 0;
    for path in files("tests/inventories/invalid") {
        let by_us = parse_bytes("case.yaml", &std::fs::read(&path).expect("a case can be read")).diagnostics.0;
        if by_us.iter().any(|d| structural.contains(&d.code.as_str()))
            && let Some(value) = value(&path)
        {
            assert!(!validator.is_valid(&value), "{} passes the schema", path.display());
            refused += 1;
        }
    }
    assert!(refused > 10, "only {refused} structural cases");
}

/// The worked example cut at every byte and with a few thousand random damages: an answer each time, never a panic, and
/// whatever is understood has been said to be sound.
#[test]
fn no_damaged_file_makes_it_panic() {
    let example = std::fs::read(root().join("inventories/chronos-prod.yaml")).expect("the example is there");
    let mut understood = 0;
    let mut answer = |bytes: &[u8]| {
        let loaded = parse_bytes("damaged.yaml", bytes);
        assert_eq!(loaded.inventory.is_none(), loaded.diagnostics.has_errors());
        understood += usize::from(loaded.inventory.is_some());
        drop(everything(loaded));
    };
    for end in 0..example.len() {
        answer(&example[..end]);
    }
    let mut random = fastrand::Rng::with_seed(20_251_127);
    let telling = b"{}[]:,-#&*!|>'\"%@`\t\n\r ?~0\\\xff\x00e";
    for _ in 0..3_000 {
        let mut bytes = example.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] = telling[random.usize(..telling.len())],
                2 => bytes.insert(at, telling[random.usize(..telling.len())]),
                _ => {
                    let end = (at + random.usize(1..30)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
        }
        answer(&bytes);
    }
    assert!(understood > 10, "the damages must leave some files whole: {understood}");
}

/// Files made to be expensive are refused or answered soon.
#[test]
fn hostile_files_are_bounded() {
    let deep = "[".repeat(100_000);
    let deep_blocks = (0..200).map(|level| "  ".repeat(level) + "a:").collect::<Vec<_>>().join("\n");
    let wide = format!("packages: [{}]", "a,".repeat(100_000));
    let keys = (0..20_000).map(|key| format!("k{key}: 1")).collect::<Vec<_>>().join("\n");
    let quoted = format!("packages: [{}]", "\"a\",".repeat(100_000));
    let many_names = (0..30_000).map(|n| format!("p{n}")).collect::<Vec<_>>().join(", ");
    let networks = (0..30_000).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect::<Vec<_>>().join(", ");
    let large = " ".repeat(2 * 1024 * 1024);
    let long_key = format!("{}: 1", "k".repeat(10_000));
    for text in [&deep, &deep_blocks, &wide, &quoted, &keys, &large, &long_key] {
        let loaded = parse("hostile.yaml", text);
        assert!(loaded.inventory.is_none() && loaded.diagnostics.has_errors());
        assert!(loaded.diagnostics.0.len() <= 101);
    }
    // Sound in form, and far beyond what AWS takes: answered without comparing everything with everything.
    let example = std::fs::read_to_string(root().join("inventories/chronos-prod.yaml")).expect("the example is there");
    let packages = example.replace("[htop, jq]", &format!("[{many_names}]"));
    let sources = example.replace("[203.0.113.0/24]", &format!("[{networks}]"));
    assert!(everything(parse("hostile.yaml", &packages)).is_empty());
    assert_eq!(everything(parse("hostile.yaml", &sources))[0].code, "too-many-sources");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let missing = load(Path::new("no/such/inventory.yaml"));
    assert!(missing.inventory.is_none());
    assert_eq!(
        missing.diagnostics.0[0].message,
        "the inventory `no/such/inventory.yaml` cannot be read: there is no such file"
    );
    let folder = load(&root());
    assert!(folder.diagnostics.0[0].message.ends_with("it is a directory"));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_change_nothing() {
    let example = std::fs::read_to_string(root().join("inventories/chronos-prod.yaml")).expect("the example is there");
    let plain = parse("example.yaml", &example);
    let windows = parse("example.yaml", &format!("\u{feff}{}", example.replace('\n', "\r\n")));
    assert_eq!(plain.inventory, windows.inventory);
    assert_eq!(plain.places, windows.places);
}
