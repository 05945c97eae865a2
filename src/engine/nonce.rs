//! The random name of one apply. It names a folder, a key in the state bucket and a transaction on hosts, so a nonce that
//! was read from a file has the form in which they are made, or it is refused: no `../`, no line break.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lower-case letters and digits without those that look alike. 32 divides 256: every letter is equally likely.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Characters of a nonce: 60 random bits.
const LENGTH: usize = 12;

/// Twelve random characters that name one apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce(#[schemars(regex(pattern = r"^[a-km-np-z2-9]{12}$"))] String);

/// A text that is no nonce of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the nonce does not have the form in which they are made")]
pub struct NotANonce;

impl Nonce {
    /// A new one.
    pub fn random() -> Self {
        let mut bytes = [0_u8; LENGTH];
        // /dev/urandom does not fail on Linux; should it, time still differs.
        let read = fs_err::File::open("/dev/urandom").and_then(|mut f| std::io::Read::read_exact(&mut f, &mut bytes));
        if read.is_err() {
            bytes[..8].copy_from_slice(&Timestamp::now().as_nanosecond().to_le_bytes()[..8]);
        }
        Self(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Nonce {
    type Error = NotANonce;

    fn try_from(text: String) -> Result<Self, NotANonce> {
        let well = text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte));
        if well { Ok(Self(text)) } else { Err(NotANonce) }
    }
}

impl std::str::FromStr for Nonce {
    type Err = NotANonce;

    fn from_str(text: &str) -> Result<Self, NotANonce> {
        Self::try_from(text.to_owned())
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        nonce.0
    }
}

impl std::fmt::Display for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_taken_and_nothing_else() {
        let made = Nonce::random();
        assert_eq!(made.as_str().parse(), Ok(made.clone()));
        assert_ne!(made, Nonce::random());
        let hostile = ["", "abc", "../../../tmp", "abcdefghijk\n", "abcdefghijk\u{1b}", "abcdefghijkl", "ABCDEFGHIJKM"];
        for text in hostile.into_iter().chain(["abcdefghijkmn", "abcdefghij/m", "abcdefghij\u{202e}"]) {
            assert_eq!(text.parse::<Nonce>(), Err(NotANonce), "{text:?}");
        }
    }
}
