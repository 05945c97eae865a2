//! What is there: one read-only program that asks files, openssl and those who serve, and the reading of its answer.

use std::collections::BTreeMap;

use crate::kinds::host;
use crate::kinds::host_certificate::files::{CREDENTIALS, PASS, object, parts_of};
use crate::kinds::host_certificate::{Actual, Desired, word};
use crate::kinds::parts::{Seen, secret};
use crate::plan::observed::Unseen;
use crate::plan::probe::Answers;

/// Prints one fact a line. The program that issues is not asked: it may be missing, old or somebody else's.
const LOOK: &str = include_str!("look.sh");

/// The folder of the private CA.
pub(super) const AUTHORITY: &str = "/etc/seawall/ca";
pub(super) const CERTIFICATE: &str = "/etc/seawall/tls/server.crt";
/// What [`LOOK`] says where no connection was taken.
pub(super) const NOTHING: &str = "nothing";

/// Mode, owner and group. Debian's postgres is in the group ssl-cert.
pub(super) const ACCESS: [(&str, &str); 7] = [
    ("/etc/seawall", "755 root:root"),
    ("/etc/seawall/tls", "755 root:root"),
    (CERTIFICATE, "644 root:root"),
    ("/etc/seawall/tls/server.key", "640 root:ssl-cert"),
    ("/etc/seawall/tls/ca.crt", "644 root:root"),
    (AUTHORITY, "700 root:root"),
    ("/etc/seawall/ca/ca.key", "600 root:root"),
];

pub(super) fn question(desired: &Desired) -> Vec<String> {
    let target = desired.copy.as_ref().map(|copy| format!("{}/{}/{}", copy.bucket, copy.folder, object(desired)));
    let target = target.unwrap_or_default();
    let fixed = ["sh", "-c", LOOK, "sh", word(desired.issuer), &target, CREDENTIALS, PASS].map(str::to_owned);
    let consumers = desired.consumers.iter().flat_map(|consumer| [consumer.unit.clone(), consumer.port.to_string()]);
    fixed.into_iter().chain(consumers).collect()
}

pub(super) fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let seen = parts_of(desired).look(answers)?;
    let asked = question(desired);
    let said = host::command(answers, &asked.iter().map(String::as_str).collect::<Vec<_>>(), &[0])?;
    let mut actual = facts(&said.stdout)?;
    let in_place = actual.access.contains_key(CERTIFICATE);
    if !in_place && seen.is_empty() {
        return Ok(None);
    }
    if in_place && said.stdout.lines().any(|line| line == "openssl missing") {
        return Err(Unseen::Misread("openssl is not installed, so the certificate cannot be read".to_owned()));
    }
    actual.parts = seen;
    for consumer in &desired.consumers {
        // A unit that is not set up yet, as Debian's package starts it, serves something of its own.
        let settings = host::file(answers, &consumer.settings)?.and_then(|file| file.text);
        if settings.is_none_or(|text| !text.contains(CERTIFICATE)) {
            actual.served.remove(&consumer.unit);
        }
    }
    if let Some(pass) = desired.copy_pass() {
        actual.copy_pass = pass.look(answers)?;
    }
    Ok(Some(actual))
}

/// One fact a line: a word, and what is said about it.
fn facts(text: &str) -> Result<Actual, Unseen> {
    let bad = |line: &str| Unseen::Misread(format!("the question about the certificate was answered `{line}`"));
    let number = |line: &str, value: &str| value.parse::<i64>().map_err(|_| bad(line));
    let mut is = None;
    let mut actual = Actual {
        parts: Seen::default(),
        access: BTreeMap::new(),
        issuer: None,
        names: Vec::new(),
        key_fits: false,
        authority_fits: false,
        served: BTreeMap::new(),
        copy: None,
        copy_pass: secret::State::default(),
        due: false,
        days: None,
        authority_days: None,
        failed: None,
        uncopied: None,
        cnames: BTreeMap::new(),
    };
    for line in text.lines() {
        let (fact, rest) = line.split_once(' ').ok_or_else(|| bad(line))?;
        let pair =
            || rest.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| bad(line));
        match fact {
            "access" => actual.access.extend([pair()?]),
            "serves" => actual.served.extend([pair()?]),
            "cname" => actual.cnames.extend([pair()?]),
            "issuer" => actual.issuer = Some(rest.to_owned()),
            "is" => is = Some(rest.to_owned()),
            "name" => actual.names.push(rest.to_owned()),
            "key" => actual.key_fits = true,
            "authority" => actual.authority_fits = true,
            "due" => actual.due = true,
            "days" => actual.days = Some(number(line, rest)?),
            "authority_days" => actual.authority_days = Some(number(line, rest)?),
            "copy" => actual.copy = Some(rest.to_owned()),
            "failed" => actual.failed = Some(rest.to_owned()),
            "uncopied" => actual.uncopied = Some(rest.to_owned()),
            "openssl" => {}
            _ => return Err(bad(line)),
        }
    }
    // What no issuer of ours gave is told by what it says of itself.
    actual.issuer = actual.issuer.or(is);
    Ok(actual)
}
