//! An OpenSSH public key line, read to its last byte: what sshd would ignore, or take and should not, is said here.
//!
//! Deliberately absent: options before a key and certificates. The first make another door of it, the second are trusted
//! by a signature that the inventory does not show.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use crate::base::visible::is_dangerous;
use crate::inventory::scalar::{BadScalar, text_scalar};

/// RSA keys shorter than this are not worth guarding a door with (NIST SP 800-57: 128 bits of strength from 2031 on).
const SHORTEST_RSA_BITS: usize = 3_072;
/// Bytes of an ed25519 key (RFC 8032).
const ED25519_BYTES: usize = 32;

/// Types with what their blob holds after the type's name.
const TYPES: [(&str, Blob); 7] = [
    ("ssh-ed25519", Blob::Ed25519),
    ("ssh-rsa", Blob::Rsa),
    ("ecdsa-sha2-nistp256", Blob::Ecdsa("nistp256", 65)),
    ("ecdsa-sha2-nistp384", Blob::Ecdsa("nistp384", 97)),
    ("ecdsa-sha2-nistp521", Blob::Ecdsa("nistp521", 133)),
    ("sk-ssh-ed25519@openssh.com", Blob::SkEd25519),
    ("sk-ecdsa-sha2-nistp256@openssh.com", Blob::SkEcdsa("nistp256", 65)),
];

#[derive(Clone, Copy)]
enum Blob {
    Ed25519,
    Rsa,
    /// The curve's name and the bytes of an uncompressed point on it.
    Ecdsa(&'static str, usize),
    /// As the one without `Sk`, and the application that the token knows it by.
    SkEd25519,
    SkEcdsa(&'static str, usize),
}

/// An OpenSSH public key line: type, base64, comment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(String);

text_scalar!(PublicKey, "seawall-public-key", "an OpenSSH public key line: ssh-ed25519 AAAA… comment");

impl PublicKey {
    /// The whole line.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Type and key without the comment: what makes two lines the same key.
    pub fn identity(&self) -> String {
        self.0.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PublicKey {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let bad = |why: &str| BadScalar(format!("this is not an OpenSSH public key: {why}"));
        if text.contains("PRIVATE KEY") {
            let why = "this is a private key; it opens doors and belongs nowhere but on its owner's machine: name the line of its `.pub` file";
            return Err(BadScalar(why.to_owned()));
        }
        if text.contains(['\n', '\r']) {
            return Err(bad("it has more than one line"));
        }
        // Files, plans and terminals have its comment in a line of theirs.
        if text.chars().any(|c| is_dangerous(c) || matches!(c, '\u{2028}' | '\u{2029}')) {
            return Err(bad("it has characters that are not seen, or turn the direction of text"));
        }
        let mut words = text.split_whitespace();
        let kind = words.next().ok_or_else(|| bad("it is empty"))?;
        let Some((_, form)) = TYPES.iter().find(|(name, _)| *name == kind) else {
            return Err(refused(kind, text));
        };
        let blob = words.next().ok_or_else(|| bad("there is nothing after its type"))?;
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(blob).map_err(|_| bad("its second word is not base64"))?;
        let parts = strings(&bytes).filter(|parts| parts.first() == Some(&kind.as_bytes()));
        let parts = parts.ok_or_else(|| bad("its type and its base64 do not belong together, or it is cut short"))?;
        form.check(&parts[1..]).map_err(|why| match why {
            Fault::Form => bad(&format!("its base64 is no key of the type `{kind}`")),
            Fault::Short(bits) => BadScalar(format!(
                "this RSA key has {bits} bits, and at least {SHORTEST_RSA_BITS} are needed; make a new one: `ssh-keygen -t ed25519`"
            )),
        })?;
        Ok(Self(text.trim().to_owned()))
    }
}

/// Why a line that does not begin with a type of ours is not taken.
fn refused(kind: &str, text: &str) -> BadScalar {
    let names = TYPES.map(|(name, _)| name);
    if kind == "ssh-dss" {
        return BadScalar("`ssh-dss` keys are too weak, and sshd does not take them any more; make a new one: `ssh-keygen -t ed25519`".to_owned());
    }
    if kind.contains("-cert-v0") {
        return BadScalar(format!("`{kind}` is a certificate; name the key itself"));
    }
    if text.split_whitespace().skip(1).any(|word| names.contains(&word)) {
        return BadScalar("options before a key are not taken; begin with its type and leave the rest out".to_owned());
    }
    BadScalar(format!("this is not an OpenSSH public key: its type `{kind}` is none of {}", names.join(", ")))
}

enum Fault {
    Form,
    Short(usize),
}

impl Blob {
    fn check(self, parts: &[&[u8]]) -> Result<(), Fault> {
        let point = |curve: &str, length: usize, name: &[u8], point: &[u8]| {
            name == curve.as_bytes() && point.len() == length && point.first() == Some(&4)
        };
        let good = match (self, parts) {
            (Self::Ed25519, [key]) => key.len() == ED25519_BYTES,
            (Self::SkEd25519, [key, application]) => key.len() == ED25519_BYTES && !application.is_empty(),
            (Self::Ecdsa(curve, length), [name, at]) => point(curve, length, name, at),
            (Self::SkEcdsa(curve, length), [name, at, application]) => {
                point(curve, length, name, at) && !application.is_empty()
            }
            (Self::Rsa, [exponent, modulus]) => {
                let length = bits(modulus);
                if length < SHORTEST_RSA_BITS {
                    return Err(Fault::Short(length));
                }
                // An exponent of 1 signs everything.
                bits(exponent) > 1
            }
            _ => false,
        };
        if good { Ok(()) } else { Err(Fault::Form) }
    }
}

/// Significant bits of a number, highest byte first.
fn bits(number: &[u8]) -> usize {
    let mut rest = number;
    while let [0, tail @ ..] = rest {
        rest = tail;
    }
    rest.first().map_or(0, |top| rest.len() * 8 - top.leading_zeros() as usize)
}

/// The length-prefixed strings that a blob consists of (RFC 4251, 5), without a byte left over.
fn strings(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (string, rest) = rest.split_at_checked(length)?;
        found.push(string);
        bytes = rest;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, parts: &[&[u8]]) -> String {
        let strings = [kind.as_bytes()].into_iter().chain(parts.iter().copied());
        let blob: Vec<u8> = strings
            .flat_map(|part| {
                let length = u32::try_from(part.len()).expect("a short part");
                length.to_be_bytes().into_iter().chain(part.iter().copied())
            })
            .collect();
        format!("{kind} {} ops", base64::engine::general_purpose::STANDARD.encode(blob))
    }

    fn point(length: usize) -> Vec<u8> {
        let mut point = vec![7; length];
        point[0] = 4;
        point
    }

    /// A modulus of so many bits, with the zero byte that keeps it positive.
    fn modulus(bits: usize) -> Vec<u8> {
        let mut number = vec![0xff; bits / 8];
        number.insert(0, 0);
        number
    }

    #[test]
    fn every_type_is_taken_as_it_is_written() {
        let application = b"ssh:".as_slice();
        for good in [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops".to_owned(),
            line("ssh-rsa", &[&[1, 0, 1], &modulus(3_072)]),
            line("ssh-rsa", &[&[1, 0, 1], &modulus(4_096)]),
            line("ecdsa-sha2-nistp256", &[b"nistp256", &point(65)]),
            line("ecdsa-sha2-nistp384", &[b"nistp384", &point(97)]),
            line("ecdsa-sha2-nistp521", &[b"nistp521", &point(133)]),
            line("sk-ssh-ed25519@openssh.com", &[&[7; 32], application]),
            line("sk-ecdsa-sha2-nistp256@openssh.com", &[b"nistp256", &point(65), application]),
        ] {
            assert_eq!(good.parse::<PublicKey>().expect("a key").as_str(), good);
        }
    }

    #[test]
    fn what_is_no_key_or_a_weak_one_says_why() {
        let ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";
        for (bad, why) in [
            (String::new(), "it is empty"),
            ("ssh-ed25519".to_owned(), "nothing after its type"),
            ("ssh-ed25519 !!!".to_owned(), "not base64"),
            ("ssh-ed25519 AAAA".to_owned(), "cut short"),
            (ed25519[..60].to_owned(), "cut short"),
            (ed25519.replace("ssh-ed25519", "ssh-rsa"), "do not belong together"),
            (line("ssh-ed25519", &[&[7; 31]]), "no key of the type `ssh-ed25519`"),
            (line("ssh-ed25519", &[&[7; 32], b"more"]), "no key of the type `ssh-ed25519`"),
            (line("ecdsa-sha2-nistp256", &[b"nistp384", &point(65)]), "no key of the type"),
            (line("ssh-rsa", &[&[1], &modulus(3_072)]), "no key of the type"),
            (line("ssh-rsa", &[&[1, 0, 1], &modulus(2_048)]), "has 2048 bits, and at least 3072"),
            (line("ssh-dss", &[&[7; 32]]), "too weak"),
            (line("ssh-ed25519-cert-v01@openssh.com", &[&[7; 32]]), "is a certificate"),
            (format!("command=\"/bin/true\" {ed25519}"), "options before a key"),
            (format!("no-pty,from=\"192.0.2.1\" {ed25519}"), "options before a key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), "this is a private key"),
            ("~/.ssh/id_ed25519.pub".to_owned(), "is none of"),
        ] {
            let said = bad.parse::<PublicKey>().expect_err(&bad).0;
            assert!(said.contains(why), "{bad}: {said}");
        }
    }
}
