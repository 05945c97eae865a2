//! What Seawall recorded on a host as its own: one JSON file per resource below `/var/lib/seawall/manifest`.

use serde::Deserialize;
use serde_json::Value;

use crate::base::address::Address;
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, HostProbe};

/// Fixed text, and so not data in a shell: `COUNT`, the size of each record in bytes on a line of its own, and the records.
/// Two programs for all of them, not two for each.
const READ: &str = r#"cd /var/lib/seawall/manifest 2>/dev/null || { [ ! -e /var/lib/seawall/manifest ] && echo 0; exit; }
set -- *.json; [ -e "$1" ] || shift
echo $#
[ $# -eq 0 ] || { stat -c %s -- "$@" && cat -- "$@"; }"#;

fn argv() -> [&'static str; 3] {
    ["sh", "-c", READ]
}

/// The questions that bring back the whole manifest.
pub fn manifest_probes() -> Vec<HostProbe> {
    let argv = argv().map(str::to_owned).to_vec();
    vec![HostProbe::Command { argv }]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    address: Address,
    desired: Value,
}

/// The resources of the manifest with what was recorded about each, sorted by address. A host that never had one has an
/// empty manifest.
pub fn parse_manifest(answers: &Answers) -> Result<Vec<(Address, Value)>, Unseen> {
    let state = answers.command(&argv())?;
    if !state.ok() {
        return Err(Unseen::Misread(format!("the manifest could not be read: {}", state.stderr)));
    }
    let mut records = read(&state.stdout).map_err(|why| Unseen::Misread(format!("the manifest: {why}")))?;
    records.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(records)
}

fn read(text: &str) -> Result<Vec<(Address, Value)>, String> {
    let (count, mut rest) = text.split_once('\n').ok_or("it is empty")?;
    let count: usize = count.parse().map_err(|_| format!("`{count}` is not a count"))?;
    let mut sizes = Vec::new();
    for _ in 0..count {
        let (size, after) = rest.split_once('\n').ok_or("it is cut")?;
        sizes.push(size.parse::<usize>().map_err(|_| format!("`{size}` is not a size"))?);
        rest = after;
    }
    let mut records = Vec::new();
    for size in sizes {
        let (record, after) = rest.split_at_checked(size).ok_or("it is cut")?;
        let record: Record = serde_json::from_str(record).map_err(|error| error.to_string())?;
        records.push((record.address, record.desired));
        rest = after;
    }
    if rest.is_empty() { Ok(records) } else { Err("more follows than it says".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_not_searched() {
        let record = "{\"address\":\"host.swap/db\",\"desired\":{\"note\":\"12\\n}\"}}\n";
        let text = format!("1\n{}\n{record}", record.len());
        let read_back = read(&text).expect("a manifest");
        assert_eq!(read_back[0].0.to_string(), "host.swap/db");
        assert_eq!(read("0\n"), Ok(Vec::new()));
        for bad in ["", "2\n", "1\n999\n{}", &format!("{text}x"), "1\n2\n{}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_that_was_not_asked_has_no_manifest_to_speak_of() {
        assert!(parse_manifest(&Answers::default()).is_err());
    }
}
