//! PostgreSQL's SCRAM-SHA-256 verifier of a password, so that no password ever leaves the operator's machine.
//!
//! RFC 5802 says what it holds, PostgreSQL's `scram-common.c` how it is written. The salt is made from the password and
//! its owner instead of at random: the same password gives the same verifier, so whether a role still has the declared
//! password can be seen without setting it again (decision 17).

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::secret::Secret;

/// Rounds of PBKDF2: PostgreSQL's own default. Drivers repeat them at every login, so more would cost each connection.
const ROUNDS: u32 = 4_096;
/// Bytes of salt: what PostgreSQL draws at random.
const SALT_BYTES: usize = 16;

/// The verifier as `pg_authid.rolpassword` holds it.
///
/// # Errors
/// A password that SASLprep (RFC 4013) forbids: PostgreSQL and drivers disagree on what to do with it.
pub(crate) fn verifier(password: &Secret<String>, owner: &str) -> Result<Secret<String>, &'static str> {
    let password = stringprep::saslprep(password.reveal()).map_err(|_| "it has characters that SCRAM forbids")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, password.as_bytes());
    let salt = hmac::sign(&key, format!("seawall scram salt of {owner}").as_bytes());
    Ok(Secret::new(written(password.as_bytes(), &salt.as_ref()[..SALT_BYTES], ROUNDS)))
}

fn written(password: &[u8], salt: &[u8], rounds: u32) -> String {
    let mut salted = [0_u8; digest::SHA256_OUTPUT_LEN];
    let rounds_set = rounds.try_into().expect("the number of rounds is not zero");
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds_set, salt, password, &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    let [salt, stored, server] = [salt, stored.as_ref(), server.as_ref()].map(|bytes| STANDARD.encode(bytes));
    format!("SCRAM-SHA-256${rounds}:{salt}${stored}:{server}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The salt, rounds and password of RFC 7677's example; the keys were computed with Python's hashlib and hmac.
    #[test]
    fn the_example_of_the_standard() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let expected = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(written(b"pencil", &salt, 4_096), expected);
    }

    #[test]
    fn the_same_password_gives_the_same_verifier_and_another_owner_another() {
        let password = Secret::new("correct horse".to_owned());
        let of = |owner| verifier(&password, owner).expect("a good password").reveal().clone();
        assert_eq!(of("app"), of("app"));
        assert_ne!(of("app"), of("readonly"));
        assert!(verifier(&Secret::new("bell\u{7}".to_owned()), "app").is_err());
    }
}
