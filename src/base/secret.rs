//! Secrets: a reference to where one is kept, and a value that cannot be shown by accident.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a secret is kept. The inventory, plans and journals hold references only; `reach` and `cli` resolve them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum SecretRef {
    /// An environment variable of the operator's shell or CI job.
    Env { env: String },
    /// A file on the operator's machine, read without its final newline. It must not be readable by others.
    File { file: PathBuf },
    /// A command on the operator's machine that prints the secret: program and arguments, no shell. `plan` and `drift` run it,
    /// too: an inventory with commands is code, and is reviewed as such.
    Command { command: Vec<String> },
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env { env } => write!(f, "environment variable `{env}`"),
            Self::File { file } => write!(f, "file `{}`", file.display()),
            Self::Command { command } => write!(f, "command `{}`", command.first().map_or("", String::as_str)),
        }
    }
}

/// A secret in the form in which a host gets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretUse {
    pub from: SecretRef,
    #[serde(default)]
    pub form: SecretForm,
}

/// Largest secret in bytes; a key file of a certificate chain stays well below.
pub const LARGEST: u64 = 64 * 1024;
/// Fewest characters of a passphrase that can never be changed: twenty random letters and digits are 103 bits, and five
/// words of a list are rarely shorter.
pub const PASSPHRASE_LEAST: usize = 20;
/// Most characters of it. OpenSSL reads no more than 1 024 bytes of a passphrase from a file, and a character has up to four.
pub const PASSPHRASE_MOST: usize = 256;

/// What a secret must be, and what is made of it before it leaves the operator's machine. Every secret is one line: it
/// enters a line of a file, a statement or a password list, where a second line would be a line of somebody's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretForm {
    /// The value itself, one line.
    #[default]
    Line,
    /// The value itself, within the single quotes of an environment file that systemd reads.
    InQuotes,
    /// The same for an environment file that Compose reads: it takes `\\` and `${` for its own within quotes.
    InComposeQuotes,
    /// The value itself, one line of at least [`PASSPHRASE_LEAST`] characters: what it encrypts can never get another.
    Passphrase,
    /// PostgreSQL's SCRAM-SHA-256 verifier of a password: who holds it can check the password and not log in with it.
    /// `owner` names whose it is, so that two roles with one password do not look alike.
    ScramVerifier { owner: String },
}

/// Why a secret does not have the form that its use asks for. Says nothing of the secret but that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadForm {
    #[error("it holds a control character, for example a line break or a tab, and must be one line of text")]
    Control,
    #[error("it begins or ends with a blank, which some programs keep and others drop")]
    OuterBlank,
    #[error("it holds a single quote, which an environment file cannot carry")]
    Quote,
    #[error("it holds a single quote, a backslash or `${{`, which Compose would read differently")]
    ComposeQuote,
    #[error("it is shorter than {PASSPHRASE_LEAST} characters, and it can never be changed")]
    Short,
    #[error("it is longer than {PASSPHRASE_MOST} characters")]
    Long,
}

impl SecretForm {
    /// Whether a value has what this form asks for.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self, value: &str) -> Result<(), BadForm> {
        if value.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
            return Err(BadForm::Control);
        }
        if value.trim() != value {
            return Err(BadForm::OuterBlank);
        }
        let length = value.chars().count();
        match self {
            Self::InQuotes if value.contains('\'') => Err(BadForm::Quote),
            Self::InComposeQuotes if value.contains(['\'', '\\']) || value.contains("${") => Err(BadForm::ComposeQuote),
            Self::Passphrase if length < PASSPHRASE_LEAST => Err(BadForm::Short),
            Self::Passphrase if length > PASSPHRASE_MOST => Err(BadForm::Long),
            Self::Line | Self::InQuotes | Self::InComposeQuotes | Self::Passphrase | Self::ScramVerifier { .. } => {
                Ok(())
            }
        }
    }
}

impl From<SecretRef> for SecretUse {
    fn from(from: SecretRef) -> Self {
        Self { from, form: SecretForm::Line }
    }
}

/// A value that must not be shown: it has no `Display`, no `Serialize`, and its `Debug` says nothing.
#[derive(Clone)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Gives the value to code that writes it where it belongs. Every call is worth a look in review.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line() {
        let scram = SecretForm::ScramVerifier { owner: "app".to_owned() };
        for form in [SecretForm::Line, SecretForm::Passphrase, scram] {
            let value = |part: &str| format!("a long passphrase{part}with an end");
            assert_eq!(form.check(&value(" grüße 漢 ")), Ok(()));
            for control in
                ["\n", "\r\n", "\r", "\t", "\0", "\u{1b}", "\u{7f}", "\u{85}", "\u{9b}", "\u{2028}", "\u{2029}"]
            {
                assert_eq!(form.check(&value(control)), Err(BadForm::Control), "{control:?}");
            }
            for blank in [" ", "\u{a0}", "\u{3000}"] {
                assert_eq!(form.check(&format!("{}{blank}", value("-"))), Err(BadForm::OuterBlank));
                assert_eq!(form.check(&format!("{blank}{}", value("-"))), Err(BadForm::OuterBlank));
            }
        }
    }

    #[test]
    fn what_stands_in_quotes_cannot_end_them() {
        assert_eq!(SecretForm::InQuotes.check(r"a\b${c}"), Ok(()));
        assert_eq!(SecretForm::InQuotes.check("it's"), Err(BadForm::Quote));
        for text in ["it's", r"a\b", "a${b}"] {
            assert_eq!(SecretForm::InComposeQuotes.check(text), Err(BadForm::ComposeQuote), "{text}");
        }
        assert_eq!(SecretForm::InComposeQuotes.check("a$b {c}"), Ok(()));
    }

    #[test]
    fn what_cannot_be_changed_is_long() {
        assert_eq!(SecretForm::Line.check("x"), Ok(()));
        assert_eq!(SecretForm::Passphrase.check(&"x".repeat(PASSPHRASE_LEAST - 1)), Err(BadForm::Short));
        assert_eq!(SecretForm::Passphrase.check(&"é".repeat(PASSPHRASE_LEAST)), Ok(()));
        assert_eq!(SecretForm::Passphrase.check(&"x".repeat(PASSPHRASE_MOST + 1)), Err(BadForm::Long));
    }
}
