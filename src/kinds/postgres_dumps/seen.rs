//! What is there: files, units as systemd has loaded them, how the last run ended, and when everything was dumped last.

use std::collections::BTreeMap;

use crate::kinds::host;
use crate::kinds::postgres_dumps::files::{SERVICE, TIMER, UNITS, files, unit_path};
use crate::kinds::postgres_dumps::{Actual, Desired};
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command, file};

/// systemd's word for a unit that somebody made unable to start.
pub(super) const MASKED: &str = "masked";

/// Prints the host's clock, and the mark of the last run that dumped everything.
const ASK_MARK: [&str; 3] = [
    "sh",
    "-c",
    r#"date '+now %s'
mark=$(cat -- /var/lib/postgresql/.seawall-dumped 2>/dev/null) && echo "dumped $mark"
exit 0"#,
];

fn ask_unit(unit: &str) -> [&str; 6] {
    let properties =
        "LoadState,FragmentPath,DropInPaths,NeedDaemonReload,UnitFileState,ActiveState,Result,ExecMainStatus";
    ["systemctl", "show", "-p", properties, "--", unit]
}

pub(super) fn probes(desired: &Desired) -> Vec<Probe> {
    let mut probes: Vec<Probe> = files(desired).iter().map(|wanted| file(wanted.path)).collect();
    probes.extend(UNITS.map(|(unit, _)| command(&ask_unit(unit))));
    probes.push(command(&ASK_MARK));
    probes
}

pub(super) fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let (mut units, mut foreign, mut shared, mut failed) = (BTreeMap::new(), Vec::new(), Vec::new(), None);
    for (unit, _) in UNITS {
        let said = host::properties(&host::command(answers, &ask_unit(unit), &[0])?.stdout);
        let of = |name: &str| said.get(name).copied().unwrap_or_default();
        let mut state = match (of("LoadState"), unit) {
            ("loaded", TIMER) => format!("{}, {}", of("UnitFileState"), of("ActiveState")),
            (load, _) => load.to_owned(),
        };
        if of("NeedDaemonReload") == "yes" {
            state.push_str(", not reloaded");
        }
        units.insert(unit.to_owned(), state);
        let ours = format!("/{unit}");
        for path in of("DropInPaths").split_whitespace() {
            if path.contains(&ours) { &mut foreign } else { &mut shared }.push(path.to_owned());
        }
        // Folders of a higher rank than ours: systemd.unit(5), "Unit File Load Path".
        let fragment = of("FragmentPath");
        if fragment.ends_with(&ours) && fragment != unit_path(unit) {
            foreign.push(fragment.to_owned());
        }
        if unit == SERVICE && !["", "success"].contains(&of("Result")) {
            failed = Some(format!("{}, status {}", of("Result"), of("ExecMainStatus")));
        }
    }
    shared.dedup();
    let mut found = BTreeMap::new();
    // In the place of a masked unit's file is a link to nowhere, which is not read as a file.
    let masked = |path: &str| UNITS.iter().any(|(unit, _)| unit_path(unit) == path && units[*unit].contains(MASKED));
    for wanted in files(desired).into_iter().filter(|wanted| !masked(wanted.path)) {
        found.extend(host::file(answers, wanted.path)?.map(|state| (wanted.path.to_owned(), state)));
    }
    let answer = &host::command(answers, &ASK_MARK, &[0])?.stdout;
    let mark: BTreeMap<&str, &str> = answer.lines().filter_map(|line| line.split_once(' ')).collect();
    let seconds = |name: &str| mark.get(name).and_then(|text| text.parse().ok());
    let now = seconds("now").ok_or_else(|| Unseen::Misread("the host does not say what time it is".to_owned()))?;
    let dumped = seconds("dumped");
    let untouched = foreign.is_empty() && !units.values().any(|state| state.contains(MASKED));
    if found.is_empty() && untouched {
        return Ok(None);
    }
    Ok(Some(Actual { files: found, units, foreign, shared, failed, dumped, now }))
}
