//! Takes secrets out of text that others wrote, and that this program shows or keeps: a tool that quotes the line that it
//! cannot read does not know what stands in it.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

/// What stands in the place of a secret or of a piece of one.
pub const HIDDEN: &str = "[secret]";
/// Shortest piece of a secret that is taken out of a tool's words, in characters. Tools shorten and cut what they quote;
/// eight characters of a good secret are still too many to give away.
const PIECE_OF_TOOLS: usize = 8;
/// The same for everything that leaves this program, our own words among it. Longer: a secret of plain words shares short
/// pieces with them.
const PIECE_OF_OURS: usize = 16;
/// A shorter secret is not looked for: it could be any word.
const LEAST: usize = PIECE_OF_TOOLS;

/// The secrets that this run has come to know. Clones share them.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Vec<Vec<char>>>>);

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor(…)")
    }
}

impl Redactor {
    /// Remembers a secret: from now on it is taken out.
    pub fn remember(&self, secret: &str) {
        let secret: Vec<char> = secret.trim().chars().collect();
        let mut known = self.0.write().expect("no thread panics while it holds the secrets");
        if secret.len() >= LEAST && !known.contains(&secret) {
            known.push(secret);
        }
    }

    /// A tool's words without any piece of a secret.
    pub fn tools(&self, text: &str) -> String {
        self.without(text, PIECE_OF_TOOLS)
    }

    /// A text of any origin, on its way out.
    pub fn ours(&self, text: &str) -> String {
        self.without(text, PIECE_OF_OURS)
    }

    fn without(&self, text: &str, piece: usize) -> String {
        let known = self.0.read().expect("no thread panics while it holds the secrets");
        if known.is_empty() {
            return text.to_owned();
        }
        let chars: Vec<char> = text.chars().collect();
        let mut hidden = vec![false; chars.len()];
        for length in known.iter().map(|secret| secret.len().min(piece)).collect::<BTreeSet<_>>() {
            let pieces: BTreeSet<&[char]> = known
                .iter()
                .filter(|secret| secret.len().min(piece) == length)
                .flat_map(|secret| secret.windows(length))
                // A row of blanks is no secret.
                .filter(|piece| piece.iter().any(|c| !c.is_whitespace()))
                .collect();
            for (at, found) in chars.windows(length).enumerate() {
                if pieces.contains(found) {
                    hidden[at..at + length].fill(true);
                }
            }
        }
        let mut shown = String::with_capacity(text.len());
        let mut before = false;
        for (c, hide) in chars.into_iter().zip(hidden) {
            match (hide, before) {
                (false, _) => shown.push(c),
                (true, false) => shown.push_str(HIDDEN),
                (true, true) => {}
            }
            before = hide;
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowing(secrets: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        for secret in secrets {
            redactor.remember(secret);
        }
        redactor
    }

    #[test]
    fn pieces_of_secrets_go_and_the_rest_stays() {
        let redactor = knowing(&["correct horse battery staple", "Tr0ub4dor&3"]);
        for (said, shown) in [
            (
                "ERROR: [029]: missing '=' at line 2: correct horse batt",
                "ERROR: [029]: missing '=' at line 2: [secret]",
            ),
            ("pass=Tr0ub4dor&3;", "pass=[secret];"),
            ("…horse battery… and Tr0ub4do", "…[secret]… and [secret]"),
            ("a horse", "a horse"),
        ] {
            assert_eq!(redactor.tools(said), shown);
        }
        assert_eq!(redactor.ours("horse battery is a word of ours"), "horse battery is a word of ours");
        assert_eq!(redactor.ours("it is correct horse battery staple"), "it is [secret]");
        // A secret that is shorter than a piece is looked for as a whole.
        assert_eq!(redactor.ours("Tr0ub4dor&3 and Tr0ub4dor"), "[secret] and Tr0ub4dor");
    }

    #[test]
    fn clones_share_what_they_know_and_short_words_are_no_secrets() {
        let redactor = knowing(&["short"]);
        let other = redactor.clone();
        assert_eq!(other.tools("short"), "short");
        redactor.remember("grüße-gruß-grüße");
        assert_eq!(other.tools("x grüße-gruß y"), "x [secret] y");
        assert_eq!(knowing(&["a                    b"]).tools("                    "), "                    ");
    }
}
