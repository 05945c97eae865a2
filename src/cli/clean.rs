//! The one place where output leaves: nothing passes that does something to a terminal other than being seen, and no secret.
//!
//! What the view formats is clean already. This is for what somebody forgets: it holds for every command, for text and JSON,
//! for messages and for the log.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::base::redact::Redactor;
use crate::base::visible::is_dangerous;

/// What goes out, and therefore what is done about a dangerous character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lines for people. A dangerous character becomes U+FFFD; colours stay, where they are asked for.
    Text { coloured: bool },
    /// JSON. A dangerous character becomes its escape, so that the document says the same.
    Json,
}

/// A writer that cleans whole lines.
pub struct Clean<W: Write> {
    to: W,
    kind: Kind,
    redactor: Redactor,
    /// What has come since the last line break.
    waiting: Vec<u8>,
}

impl<W: Write> Clean<W> {
    pub fn new(to: W, kind: Kind, redactor: Redactor) -> Self {
        Self { to, kind, redactor, waiting: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let text = self.redactor.ours(&String::from_utf8_lossy(bytes));
        let clean = match self.kind {
            Kind::Text { coloured } => for_people(&text, coloured),
            Kind::Json => for_programs(&text),
        };
        self.to.write_all(clean.as_bytes())
    }
}

impl<W: Write> Write for Clean<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if let Some(end) = self.waiting.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.waiting.split_off(end + 1);
            let lines = std::mem::replace(&mut self.waiting, rest);
            self.send(&lines)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.send(&waiting)?;
        self.to.flush()
    }
}

impl<W: Write> Drop for Clean<W> {
    fn drop(&mut self) {
        // Whoever wanted to know whether it arrived has flushed.
        let _ = self.flush();
    }
}

/// Text in which only line breaks, tabs and colours do anything.
fn for_people(text: &str, coloured: bool) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(length) = colour(rest).filter(|_| coloured) {
            clean.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        clean.push(if is_dangerous(first) && !matches!(first, '\n' | '\t') { '\u{fffd}' } else { first });
        rest = &rest[first.len_utf8()..];
    }
    clean
}

/// Length of the colour that a text begins with: `ESC [ 1 ; 31 m`. Bold, faint, italic, underlined, the sixteen colours and
/// one of 256 in front, and back to normal; nothing that hides text, sets a background or moves.
fn colour(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("\u{1b}[")?;
    let end = rest.find('m')?;
    let numbers: Vec<u16> = rest[..end].split(';').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let plain = |number: &u16| matches!(number, 0..=4 | 22 | 30..=37 | 39 | 90..=97);
    let is_colour = numbers.iter().all(plain) || matches!(numbers.as_slice(), [38, 5, ..=255]);
    is_colour.then_some("\u{1b}[".len() + end + 1)
}

/// JSON that says the same. What is dangerous there stands within strings only.
fn for_programs(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) && !matches!(c, '\n' | '\r' | '\t') {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(clean, "\\u{unit:04x}").expect("a String takes all");
            }
        } else {
            clean.push(c);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of everything that a hostile name may hold.
    const HOSTILE: &str =
        "a\u{1b}]0;pwn\u{7}\u{1b}[2J\u{1b}[8m\u{9b}1A\u{85}\u{7f}\u{202e}\u{2066}\u{200f}\u{61c}\rb\u{2028}";

    fn through(kind: Kind, text: &str) -> String {
        let mut out = Vec::new();
        // In pieces, as programs write.
        let mut clean = Clean::new(&mut out, kind, Redactor::default());
        for byte in text.as_bytes() {
            clean.write_all(&[*byte]).expect("a Vec takes all");
        }
        drop(clean);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn nothing_dangerous_leaves_as_text() {
        for coloured in [false, true] {
            let said = through(Kind::Text { coloured }, &format!("{HOSTILE}\nnext\t漢\n"));
            assert!(!said.chars().any(|c| is_dangerous(c) && !matches!(c, '\n' | '\t')), "{said:?}");
            assert!(said.ends_with("\nnext\t漢\n"));
        }
    }

    #[test]
    fn colours_stay_where_they_are_asked_for() {
        for colours in ["\u{1b}[1;31mx\u{1b}[0m", "\u{1b}[38;5;12mx\u{1b}[0m"] {
            assert_eq!(through(Kind::Text { coloured: true }, colours), colours);
            assert!(!through(Kind::Text { coloured: false }, colours).contains('\u{1b}'));
        }
    }

    #[test]
    fn json_says_the_same_without_the_characters() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE] });
        let said = through(Kind::Json, &format!("{value:#}\n"));
        assert!(!said.chars().any(|c| is_dangerous(c) && c != '\n'), "{said:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&said).expect("JSON"), value);
    }

    #[test]
    fn a_secret_that_slipped_through_is_taken_out() {
        let redactor = Redactor::default();
        redactor.remember("Tr0ub4dor&3 and more");
        let mut out = Vec::new();
        let mut clean = Clean::new(&mut out, Kind::Text { coloured: false }, redactor.clone());
        clean.write_all(b"it is Tr0ub4dor&3 an").and_then(|()| clean.write_all(b"d more\n")).expect("a Vec takes all");
        drop(clean);
        assert_eq!(out, b"it is [secret]\n");
    }
}
