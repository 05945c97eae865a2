//! Text that comes from hosts and AWS: control characters are replaced, long names shortened, lines broken.

pub use crate::base::visible::{clean, clean_line, is_dangerous};

/// The last column of a wrapped line gets at least this many characters: narrower text is hard to read.
const LEAST: usize = 24;

/// Characters of a subscription's id that are shown; the whole is in the journal.
const ID_SHOWN: usize = 8;

/// What must be told apart to the last character: each dangerous one, a line break among them, as Rust writes it (`\u{1b}`).
pub fn escape_line(text: &str) -> String {
    let escaped = |c: char| if is_dangerous(c) { c.escape_default().collect::<String>() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

/// Shortens AWS's long names in a line to the part that a person calls the thing by.
pub fn without_arns(line: &str) -> String {
    line.split(' ').map(short_arn).collect::<Vec<_>>().join(" ")
}

fn short_arn(word: &str) -> String {
    let mut parts = word.splitn(6, ':');
    let (Some("arn"), Some(_), Some(_), Some(_), Some(_), Some(name)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return word.to_owned();
    };
    match name.split_once(':') {
        Some((name, id)) if id.len() > ID_SHOWN && id.is_ascii() => format!("{name} {}…", &id[..ID_SHOWN]),
        _ => name.to_owned(),
    }
}

/// Shortens the public keys in a text: the first and the last eight characters tell two keys apart for a person.
pub fn without_long_keys(text: &str) -> String {
    text.split(' ').map(short_key).collect::<Vec<_>>().join(" ")
}

fn short_key(word: &str) -> String {
    // Every OpenSSH key blob begins with the length of its type's name, which is three zero bytes: `AAAA` in base64.
    let is_key = word.len() >= 40
        && word.starts_with("AAAA")
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='));
    if is_key { format!("{}…{}", &word[..8], &word[word.len() - 8..]) } else { word.to_owned() }
}

/// Breaks a line at `width` columns; lines after the first begin with `indent` spaces. Without a width nothing breaks:
/// what goes to a file or a pipe is the same on every terminal.
pub fn wrap(line: &str, indent: usize, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| *width >= indent + LEAST) else { return line.to_owned() };
    let mut text = String::new();
    let mut rest: Vec<char> = line.chars().collect();
    let mut begin = 0;
    while rest.len() > width {
        let space = (begin + 1..=width).rev().find(|&at| rest[at] == ' ' && rest[..at].iter().any(|c| *c != ' '));
        let at = space.filter(|&at| at > begin + LEAST / 2).unwrap_or(width);
        text.extend(&rest[..at]);
        text = text.trim_end_matches(' ').to_owned();
        text.push('\n');
        let tail: Vec<char> = rest[at..].iter().copied().skip_while(|c| *c == ' ').collect();
        rest = vec![' '; indent];
        rest.extend(tail);
        begin = indent;
    }
    text.extend(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        let cases = [
            ("set the policy of arn:aws:sns:ca-central-1:123456789012:prod-alerts", "set the policy of prod-alerts"),
            (
                "unsubscribe arn:aws:sns:ca-central-1:123456789012:prod-alerts:5be7c2a8-09f6-4a2b-8d0e-3b7f8a6f0c11",
                "unsubscribe prod-alerts 5be7c2a8…",
            ),
            ("detach arn:aws:iam::aws:policy/ReadOnlyAccess from x", "detach policy/ReadOnlyAccess from x"),
            ("write /etc/a:b:c", "write /etc/a:b:c"),
        ];
        for (line, expected) in cases {
            assert_eq!(without_arns(line), expected);
        }
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAwKEkPg0++j59LdlVn0HFnl4XblPUyiZVzfLswLUePy ops@example.com";
        assert_eq!(without_long_keys(key), "ssh-ed25519 AAAAC3Nz…LswLUePy ops@example.com");
        assert_eq!(without_long_keys("AAAA is no key"), "AAAA is no key");
    }

    #[test]
    fn lines_break_between_words_where_there_is_room() {
        assert_eq!(wrap("one two three four", 4, None), "one two three four");
        let broken = wrap("    name  one two three four five six seven eight", 10, Some(34));
        assert_eq!(broken, "    name  one two three four five\n          six seven eight");
        let word = "x".repeat(60);
        assert_eq!(wrap(&word, 2, Some(40)), format!("{}\n  {}", "x".repeat(40), "x".repeat(20)));
        assert_eq!(wrap(&word, 30, Some(40)), word, "too narrow to be of use");
    }
}
