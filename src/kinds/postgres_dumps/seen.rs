//! What is there: files and units, and when everything was dumped last.

use std::collections::BTreeMap;

use crate::kinds::host;
use crate::kinds::postgres_dumps::files::parts_of;
use crate::kinds::postgres_dumps::{Actual, Desired};
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command};

/// Prints the host's clock, and the mark of the last run that dumped everything. The mark is in a folder of postgres's: a
/// link is not followed, a pipe not waited for, and no more is read than a number has digits.
const ASK_MARK: [&str; 3] = [
    "sh",
    "-c",
    r#"date '+now %s'
mark=$(dd if=/var/lib/postgresql/.seawall-dumped iflag=nofollow,nonblock bs=32 count=1 status=none 2>/dev/null | head -n 1 | tr -cd 0-9)
[ -z "$mark" ] || echo "dumped $mark"
exit 0"#,
];

pub(super) fn probes(desired: &Desired) -> Vec<Probe> {
    let mut probes = parts_of(desired).probes();
    probes.push(command(&ASK_MARK));
    probes
}

pub(super) fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let seen = parts_of(desired).look(answers)?;
    let answer = &host::command(answers, &ASK_MARK, &[0])?.stdout;
    let mark: BTreeMap<&str, &str> = answer.lines().filter_map(|line| line.split_once(' ')).collect();
    let seconds = |name: &str| mark.get(name).and_then(|text| text.parse().ok());
    let now = seconds("now").ok_or_else(|| Unseen::Misread("the host does not say what time it is".to_owned()))?;
    let dumped = seconds("dumped");
    Ok((!seen.is_empty()).then_some(Actual { parts: seen, dumped, now }))
}
