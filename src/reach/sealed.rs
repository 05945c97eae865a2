//! Whether a passphrase opens what pgBackRest has sealed. What is inside never leaves this file: it holds the passphrases of
//! the backups themselves.
//!
//! pgBackRest seals as `openssl enc -aes-256-cbc -md sha1` does: `Salted__`, eight bytes of salt, then the cipher text. Key and
//! vector are made by OpenSSL's EVP_BytesToKey with one round.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::digest;
use aws_lc_rs::iv::FixedLength;

use crate::base::secret::SecretUse;
use crate::reach::world::World;

const MAGIC: &[u8] = b"Salted__";
const SALT_BYTES: usize = 8;
const KEY_BYTES: usize = 32;
const VECTOR_BYTES: usize = 16;
/// What each of pgBackRest's files of information has in it.
const INSIDE: &[u8] = b"[backrest]";

/// What a sealed object said to a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    Opens,
    DoesNotOpen,
    /// It is not sealed: anybody who can read the bucket can read the backups.
    NotSealed,
    /// There is no such object.
    Absent,
}

impl World {
    /// Fetches an object and tries the passphrase on it, in memory.
    ///
    /// # Errors
    /// Why the object or the passphrase was not to be had. Nothing of the passphrase is said.
    pub async fn opens(&self, bucket: &str, key: &str, passphrase: &SecretUse) -> Result<Opened, String> {
        let Some(object) = self.aws.near(bucket).get_object(bucket, key).await.map_err(|why| why.to_string())? else {
            return Ok(Opened::Absent);
        };
        let passphrase = self.ssh.vault.open("cipher_pass", passphrase).await.map_err(|why| why.to_string())?;
        Ok(opened(&object.bytes, passphrase.reveal().as_bytes()))
    }
}

fn opened(sealed: &[u8], passphrase: &[u8]) -> Opened {
    if sealed.windows(INSIDE.len()).any(|part| part == INSIDE) {
        return Opened::NotSealed;
    }
    let Some((salt, body)) = sealed.strip_prefix(MAGIC).and_then(|rest| rest.split_at_checked(SALT_BYTES)) else {
        return Opened::DoesNotOpen;
    };
    let text = decrypted(body, passphrase, salt);
    if text.is_some_and(|text| text.windows(INSIDE.len()).any(|part| part == INSIDE)) {
        Opened::Opens
    } else {
        Opened::DoesNotOpen
    }
}

fn decrypted(body: &[u8], passphrase: &[u8], salt: &[u8]) -> Option<Vec<u8>> {
    // EVP_BytesToKey: each part is the digest of the part before, the passphrase and the salt.
    let (mut made, mut last) = (Vec::new(), Vec::new());
    while made.len() < KEY_BYTES + VECTOR_BYTES {
        let mut next = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        for part in [&last, passphrase, salt] {
            next.update(part);
        }
        last = next.finish().as_ref().to_vec();
        made.extend_from_slice(&last);
    }
    let vector: [u8; VECTOR_BYTES] = made[KEY_BYTES..KEY_BYTES + VECTOR_BYTES].try_into().ok()?;
    let key = UnboundCipherKey::new(&AES_256, &made[..KEY_BYTES]).ok()?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
    let mut text = body.to_vec();
    let context = DecryptionContext::Iv128(FixedLength::from(vector));
    Some(key.decrypt(&mut text, context).ok()?.to_vec())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// `printf '[backrest]\nbackrest-format=5\n' | openssl enc -aes-256-cbc -md sha1 -pass 'pass:a passphrase of some length' -base64`
    const SEALED: &str = "U2FsdGVkX18xvJhQifGbXZHtTqEcBO9ei+Cb1R3pM9eSamiIQNpQ2gfpqo2iiJ7d";

    #[test]
    fn what_another_program_sealed_is_opened_by_its_passphrase_and_no_other() {
        let sealed = STANDARD.decode(SEALED).expect("base64");
        assert_eq!(opened(&sealed, b"a passphrase of some length"), Opened::Opens);
        for wrong in ["a passphrase of some lengt", "", "A passphrase of some length"] {
            assert_eq!(opened(&sealed, wrong.as_bytes()), Opened::DoesNotOpen, "{wrong}");
        }
        assert_eq!(opened(&sealed[..sealed.len() - 1], b"a passphrase of some length"), Opened::DoesNotOpen, "cut off");
        for noise in [&b""[..], b"Salted__", b"Salted__12345678", b"something else"] {
            assert_eq!(opened(noise, b"a passphrase of some length"), Opened::DoesNotOpen);
        }
        assert_eq!(opened(b"[backrest]\nbackrest-format=5\n", b"x"), Opened::NotSealed);
    }
}
