//! Other files of sshd's configuration, and the lines in them that win over ours.
//!
//! sshd takes the first value that it reads, so a line wins in a file that sorts before ours, before the `Include` of the
//! main file, and in any `Match` block; and a line of a list that adds up counts wherever it stands (sshd_config(5)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kinds::host;
use crate::plan::probe::FileState;

const INCLUDE: &str = "Include /etc/ssh/sshd_config.d/*.conf";
/// Keywords whose lines all count, in whichever file they stand.
const ADD_UP: [&str; 5] = ["port", "allowusers", "denyusers", "allowgroups", "denygroups"];
const ALGORITHMS: [&str; 4] = ["kexalgorithms", "hostkeyalgorithms", "ciphers", "macs"];
/// Names of a keyword from before, which sshd still reads.
const OLD_NAMES: [(&str, &str); 3] = [
    ("challengeresponseauthentication", "kbdinteractiveauthentication"),
    ("skeyauthentication", "kbdinteractiveauthentication"),
    ("dsaauthentication", "pubkeyauthentication"),
];

/// Another file as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    pub owner: String,
    pub group: String,
    pub mode: String,
    pub text: String,
}

impl Other {
    pub(super) fn of(file: &FileState) -> Self {
        Self {
            owner: file.owner.clone(),
            group: file.group.clone(),
            mode: format!("0{}", file.mode),
            text: file.text.clone().unwrap_or_default(),
        }
    }
}

/// Where drop-ins are.
const FOLDER: &str = "/etc/ssh/sshd_config.d";
/// Prints for each drop-in `SIZE MODE OWNER GROUP PATH` and its text.
const ASK: &str = r#"for file in /etc/ssh/sshd_config.d/*.conf; do
    [ -f "$file" ] || continue
    stat -L -c '%s %a %U %G %n' -- "$file" && cat -- "$file" && echo
done"#;

pub(super) fn ask() -> [&'static str; 3] {
    ["sh", "-c", ASK]
}

/// The drop-ins but ours.
pub(super) fn read(printed: &str) -> Result<BTreeMap<String, Other>, String> {
    let mut all = BTreeMap::new();
    let mut rest = printed;
    while !rest.is_empty() {
        let (head, tail) = rest.split_once('\n').ok_or("a drop-in of sshd arrived without its text")?;
        let mut words = head.splitn(5, ' ');
        let mut word = || words.next().ok_or_else(|| format!("`{head}` does not describe a file"));
        let size: usize = word()?.parse().map_err(|_| format!("`{head}` does not begin with a size"))?;
        let (mode, owner, group, path) = (word()?, word()?.to_owned(), word()?.to_owned(), word()?.to_owned());
        let text = tail.get(..size).ok_or_else(|| format!("{path} is not text, or was cut"))?;
        rest =
            tail.get(size..).and_then(|rest| rest.strip_prefix('\n')).ok_or_else(|| format!("{path} is not text"))?;
        if !host::is_below(&path, [FOLDER]) {
            return Err(format!("`{head}` is told of a file that is no drop-in of sshd"));
        }
        if path != crate::kinds::host_sshd::PATH {
            let mode = format!("0{mode}");
            all.insert(path, Other { owner, group, mode, text: text.to_owned() });
        }
    }
    Ok(all)
}

/// Another drop-in's text without the lines that win over ours.
pub(super) fn drop_in(path: &str, ours: &str, text: &str, wanted: &[(&'static str, String)]) -> String {
    silence(text, path < ours, wanted)
}

/// The main file's text with the `Include` first and without the lines that win.
pub(super) fn main(text: &str, wanted: &[(&'static str, String)]) -> String {
    let directive = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let first = text.lines().find(|line| directive(line)).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let includes_first = first.is_some_and(|words| words.join(" ").eq_ignore_ascii_case(INCLUDE));
    let text = silence(text, false, wanted);
    if includes_first { text } else { format!("# Put first by Seawall: the first value counts.\n{INCLUDE}\n\n{text}") }
}

fn silence(text: &str, first: bool, wanted: &[(&'static str, String)]) -> String {
    let mut in_match = false;
    host::silenced(text, |line| {
        in_match |= keyword(line) == "match";
        wins(line, first, in_match, wanted)
    })
}

/// The keyword of a line in lower case, by its present name. Keyword and value are parted by blanks or one `=`.
fn keyword(line: &str) -> String {
    let word =
        line.trim_start().split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or_default().to_lowercase();
    let new = OLD_NAMES.iter().find(|(old, _)| *old == word).map(|(_, new)| (*new).to_owned());
    new.unwrap_or(word)
}

fn wins(line: &str, first: bool, in_match: bool, wanted: &[(&'static str, String)]) -> bool {
    let key = keyword(line);
    if ALGORITHMS.contains(&key.as_str()) {
        return first || in_match;
    }
    let Some((_, value)) = wanted.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key)) else { return false };
    let counts = first || in_match || ADD_UP.contains(&key.as_str());
    let said = line.trim_start().get(key_length(line)..).unwrap_or_default();
    let said = said.trim_matches(|c: char| c.is_whitespace() || c == '=' || c == '"');
    counts && !said.eq_ignore_ascii_case(value)
}

fn key_length(line: &str) -> usize {
    let line = line.trim_start();
    line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Vec<(&'static str, String)> {
        vec![
            ("PasswordAuthentication", "no".to_owned()),
            ("KbdInteractiveAuthentication", "no".to_owned()),
            ("AllowUsers", "admin".to_owned()),
        ]
    }

    #[test]
    fn only_lines_that_win_are_taken_out() {
        let text = "PasswordAuthentication yes\nChallengeResponseAuthentication=yes\nDenyUsers bob\nPrintMotd no\n";
        assert_eq!(silence(text, false, &wanted()), text);
        let early = silence(text, true, &wanted());
        assert!(early.starts_with("# not in effect by Seawall: PasswordAuthentication yes\n"), "{early}");
        assert!(early.contains("# not in effect by Seawall: ChallengeResponseAuthentication=yes"), "{early}");
        assert!(early.ends_with("\nPrintMotd no\n"), "{early}");
        let blocks = silence("AllowUsers bob\nMatch User x\n  PasswordAuthentication yes\n", false, &wanted());
        assert_eq!(
            blocks,
            "# not in effect by Seawall: AllowUsers bob\nMatch User x\n# not in effect by Seawall:   PasswordAuthentication yes\n"
        );
        assert_eq!(silence(&blocks, true, &wanted()), blocks);
    }

    #[test]
    fn the_include_comes_first_once() {
        let good = "# comment\n\nInclude /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n";
        assert_eq!(main(good, &wanted()), good);
        let without = main("UsePAM yes\n", &wanted());
        assert!(without.contains("\nInclude /etc/ssh/sshd_config.d/*.conf\n\nUsePAM yes\n"), "{without}");
        assert_eq!(main(&without, &wanted()), without);
    }

    #[test]
    fn files_are_read_by_their_size() {
        let printed = format!(
            "5 600 root root {}\na b\nc\n6 644 root root /etc/ssh/sshd_config.d/a.conf\nx y\nz\n\n",
            crate::kinds::host_sshd::PATH
        );
        let read = read(&printed).expect("two files");
        assert_eq!(read.len(), 1);
        assert_eq!(read["/etc/ssh/sshd_config.d/a.conf"].text, "x y\nz\n");
    }
}
