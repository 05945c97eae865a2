//! What Seawall recorded on a host as its own: one JSON file per resource below `/var/lib/seawall/manifest`.

use serde::Deserialize;
use serde_json::Value;

use crate::base::address::Address;
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, HostProbe};
use crate::reach::ssh::program::record_name;

/// Where the records are.
pub const FOLDER: &str = "/var/lib/seawall/manifest";

/// Fixed text, and so not data in a shell: `COUNT`, size in bytes and name of each record on a line of its own, and the records.
/// Two programs for all of them, not two for each.
const READ: &str = r#"cd /var/lib/seawall/manifest 2>/dev/null || { [ ! -e /var/lib/seawall/manifest ] && echo 0; exit; }
set -- *.json; [ -e "$1" ] || shift
echo $#
[ $# -eq 0 ] || { stat -c '%s %n' -- "$@" && cat -- "$@"; }"#;

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

/// A record as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The name of its file.
    pub file: String,
    /// The resource and what was recorded about it, or why it says neither.
    pub record: Result<(Address, Value), String>,
}

/// The records of a host, sorted by file. A host that never had one has none.
///
/// # Errors
/// The list itself could not be read. A record that cannot be is in the list, and is no reason to believe less of the others.
pub fn parse_manifest(answers: &Answers) -> Result<Vec<Found>, Unseen> {
    let state = answers.command(&argv())?;
    if !state.ok() {
        return Err(Unseen::Misread(format!("the manifest could not be read: {}", state.stderr)));
    }
    let mut records = read(&state.stdout).map_err(|why| Unseen::Misread(format!("the manifest: {why}")))?;
    records.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(records)
}

fn read(text: &str) -> Result<Vec<Found>, String> {
    let (count, mut rest) = text.split_once('\n').ok_or("it is empty")?;
    let count: usize = count.parse().map_err(|_| format!("`{count}` is not a count"))?;
    let mut files = Vec::new();
    for _ in 0..count {
        let (line, after) = rest.split_once('\n').ok_or("it is cut")?;
        let file = line.split_once(' ').and_then(|(size, file)| Some((size.parse::<usize>().ok()?, file)));
        files.push(file.ok_or_else(|| format!("`{line}` is not a size and a name"))?);
        rest = after;
    }
    let mut found = Vec::new();
    for (size, file) in files {
        let (text, after) = rest.split_at_checked(size).ok_or("it is cut")?;
        found.push(Found { file: file.to_owned(), record: understand(file, text) });
        rest = after;
    }
    if rest.is_empty() { Ok(found) } else { Err("more follows than it says".to_owned()) }
}

/// A record is where that of its resource belongs: only there it is found again, to be renewed and to be taken away.
fn understand(file: &str, text: &str) -> Result<(Address, Value), String> {
    let Record { address, desired } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if record_name(&address) != file {
        return Err(format!("it is about `{address}`, whose record has another name"));
    }
    Ok((address, desired))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "{\"address\":\"host.swap/db\",\"desired\":{\"note\":\"12\\n}\"}}\n";

    #[test]
    fn records_are_counted_not_searched() {
        let text = format!("1\n{} host.swap--db.json\n{RECORD}", RECORD.len());
        let found = read(&text).expect("a manifest");
        assert_eq!(found[0].record.as_ref().expect("a record").0.to_string(), "host.swap/db");
        assert_eq!(read("0\n"), Ok(Vec::new()));
        for bad in ["", "2\n", "1\n999 x\n{}", &format!("{text}x"), "1\n2\n{}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_that_is_none_spoils_no_other() {
        let text = format!(
            "3\n2 a.json\n{size} host.swap--db.json\n{size} host.swap--web.json\nno{RECORD}{RECORD}",
            size = RECORD.len()
        );
        let found = read(&text).expect("a manifest");
        assert!(found[1].record.is_ok());
        assert!(found[0].record.as_ref().is_err_and(|why| why.contains("line 1")), "{found:?}");
        assert!(found[2].record.as_ref().is_err_and(|why| why.contains("another name")), "{found:?}");
    }

    #[test]
    fn a_host_that_was_not_asked_has_no_manifest_to_speak_of() {
        assert!(parse_manifest(&Answers::default()).is_err());
    }
}
