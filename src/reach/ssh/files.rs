//! What a host's answer says about files. Everything that does not fit together is `Unknown`.

use std::collections::BTreeMap;

use crate::base::digest::Digest;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{FILE_CONTENT_LIMIT, FileState};
use crate::reach::ssh::frame::Parts;

/// The files of an answer, in the order in which they were asked about.
pub(super) fn read_files(paths: &[String], parts: &Parts<'_>) -> BTreeMap<String, Observed<FileState>> {
    let facts = facts(parts.whole("files.stat"));
    let sums = sums(parts.whole("files.sums"));
    let unread = String::from_utf8_lossy(parts.whole("files.unread"));
    let mut missing = String::from_utf8_lossy(parts.whole("files.err")).into_owned();
    if missing.lines().count() != paths.iter().filter(|path| !facts.contains_key(path.as_bytes())).count() {
        missing = String::new();
    }
    let mut missing = missing.lines();
    let mut text = parts.whole("files.text");
    let mut found = BTreeMap::new();
    for path in paths {
        let observed = match facts.get(path.as_bytes()) {
            None => absent(path, missing.next()),
            Some(fact) => match (fact.kind(), sums.get(path.as_bytes())) {
                (Some(kind), _) => Observed::Unknown(Unseen::Misread(format!("`{path}` is {kind}: {}", fact.shown))),
                (None, None) => {
                    let why = unread.lines().find(|line| line.contains(path.as_str())).unwrap_or("no digest in time");
                    Observed::Unknown(Unseen::Refused(format!("`{path}` could not be read: {why}")))
                }
                (None, Some(sum)) => {
                    let length = usize::try_from(fact.size).unwrap_or(usize::MAX).min(FILE_CONTENT_LIMIT + 1);
                    let (content, rest) = text.split_at(length.min(text.len()));
                    text = rest;
                    fact.state(path, sum, content)
                }
            },
        };
        found.insert(path.clone(), observed);
    }
    found
}

/// What `stat` says about one path.
struct Fact {
    mode: u32,
    bits: String,
    owner: String,
    group: String,
    size: u64,
    /// The quoted name, with the target of a symbolic link.
    shown: String,
}

impl Fact {
    /// What it is, if not a regular file (`st_mode`'s type bits).
    fn kind(&self) -> Option<&'static str> {
        Some(match self.mode & 0o170_000 {
            0o100_000 => return None,
            0o040_000 => "a directory",
            0o120_000 => "a symbolic link",
            0o010_000 => "a pipe",
            0o140_000 => "a socket",
            _ => "a device",
        })
    }

    fn state(&self, path: &str, sum: &str, content: &[u8]) -> Observed<FileState> {
        let small = self.size <= FILE_CONTENT_LIMIT as u64;
        let digest = if small { Digest::of_bytes(content).as_str().to_owned() } else { format!("sha256:{sum}") };
        if digest != format!("sha256:{sum}") {
            return Observed::Unknown(Unseen::Misread(format!(
                "`{path}` (or a file before it) changed while it was read"
            )));
        }
        Observed::Present(FileState {
            owner: self.owner.clone(),
            group: self.group.clone(),
            mode: self.bits.clone(),
            size: self.size,
            text: text(content).filter(|_| small),
            digest,
        })
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| text.to_owned())
}

/// Reads records of seven fields that end in NUL.
fn facts(stat: &[u8]) -> BTreeMap<&[u8], Fact> {
    let fields: Vec<&[u8]> = stat.split(|&byte| byte == 0).collect();
    let word = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    fields
        .chunks_exact(7)
        .filter_map(|record| {
            let fact = Fact {
                mode: u32::from_str_radix(std::str::from_utf8(record[1]).ok()?, 16).ok()?,
                bits: word(record[2]),
                owner: word(record[3]),
                group: word(record[4]),
                size: std::str::from_utf8(record[5]).ok()?.parse().ok()?,
                shown: word(record[6]),
            };
            Some((record[0], fact))
        })
        .collect()
}

/// Reads `HEX  NAME` records that end in NUL.
fn sums(sums: &[u8]) -> BTreeMap<&[u8], &str> {
    sums.split(|&byte| byte == 0)
        .filter_map(|record| {
            let (sum, name) = record.split_at_checked(66)?;
            Some((name, std::str::from_utf8(&sum[..64]).ok()?))
        })
        .collect()
}

/// A path that `stat` did not print, with the line that it wrote about it.
fn absent(path: &str, line: Option<&str>) -> Observed<FileState> {
    match line {
        Some(line) if line.ends_with(": No such file or directory") => Observed::Absent,
        Some(line) if line.ends_with(": Not a directory") => {
            Observed::Unknown(Unseen::Misread(format!("a part of `{path}` before its name is not a directory")))
        }
        Some(line) => Observed::Unknown(Unseen::Refused(line.to_owned())),
        None => Observed::Unknown(Unseen::Misread(format!("`{path}` came or went while it was looked at"))),
    }
}

/// A file that the kernel makes up as it is read, below `/proc` or `/sys`.
pub(super) fn read_made_up(parts: &Parts<'_>, name: &str, path: &str) -> Observed<FileState> {
    let content = parts.get(name, "out").unwrap_or_default();
    if parts.get(name, "ok").is_none() {
        let line = String::from_utf8_lossy(parts.get(name, "err").unwrap_or_default()).into_owned();
        return absent(path, line.lines().next());
    }
    let small = content.len() <= FILE_CONTENT_LIMIT;
    if !small {
        return Observed::Unknown(Unseen::Misread(format!("`{path}` is larger than {FILE_CONTENT_LIMIT} bytes")));
    }
    // Ownership of what the kernel makes up is not configuration; it is root's and says nothing.
    Observed::Present(FileState {
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: "444".to_owned(),
        size: content.len() as u64,
        text: text(content),
        digest: Digest::of_bytes(content).as_str().to_owned(),
    })
}
