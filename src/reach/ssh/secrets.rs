//! Secrets, fetched at the last moment: from the environment, a file, or a command on the operator's machine.
//!
//! A secret's value is in memory between here and a host's standard input; messages name the place, never the value.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use crate::base::digest::Digest;
use crate::base::read;
use crate::base::redact::Redactor;
use crate::base::secret::{LARGEST, Secret, SecretForm, SecretRef, SecretUse};
use crate::reach::scram;
use crate::reach::ssh::asked::{COMMAND_LIMIT, printed_by};
use crate::reach::ssh::program::Secrets;
use crate::reach::{Failure, Transaction};

/// Which secret could not be had, where it was looked for, and how to give it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("secret `{name}` from {from} {}: {why}", lack.verb())]
pub struct NoSecret {
    pub lack: Lack,
    pub name: String,
    pub from: String,
    pub why: String,
    pub hint: String,
}

/// What is wrong with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    Missing,
    /// It is there, and not as its use asks for.
    Malformed,
}

impl Lack {
    fn verb(self) -> &'static str {
        match self {
            Self::Missing => "could not be had",
            Self::Malformed => "cannot be used",
        }
    }
}

impl NoSecret {
    /// A stable word for scripts and documentation.
    pub fn code(&self) -> &'static str {
        match self.lack {
            Lack::Missing => "secret-missing",
            Lack::Malformed => "secret-form",
        }
    }

    /// The failure of the step at `position`, with what it is needed for.
    pub fn failure(&self, position: usize, needed: &str) -> Failure {
        Failure {
            what: format!("{self}; it is needed {needed}"),
            position: Some(position),
            code: Some(self.code().to_owned()),
            hint: Some(self.hint.clone()),
        }
    }

    /// A secret that is there and does not have the form that its use asks for.
    fn form(name: &str, from: &SecretRef, why: impl std::fmt::Display) -> Self {
        Self {
            lack: Lack::Malformed,
            name: name.to_owned(),
            from: from.to_string(),
            why: why.to_string(),
            hint: "give it as one line of printable characters, without blanks around it".to_owned(),
        }
    }
}

/// What was had so far. A password manager asks a person for each secret, so each is asked for once.
#[derive(Default)]
pub struct Vault {
    known: Mutex<BTreeMap<SecretRef, Secret<String>>>,
    redactor: Redactor,
}

impl Vault {
    /// An empty one, which tells `redactor` of every secret that it comes to know.
    pub fn new(redactor: Redactor) -> Self {
        Self { known: Mutex::default(), redactor }
    }

    /// What takes the secrets of this vault out of text.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Whether a secret can be had and has the form that its use asks for.
    ///
    /// # Errors
    /// Why not. Nothing of the secret is said.
    pub async fn check(&self, name: &str, wanted: &SecretUse) -> Result<(), NoSecret> {
        self.formed(name, wanted).await.map(drop)
    }

    /// A secret in its form, for what is done with it here.
    ///
    /// # Errors
    /// Why it is not to be had. Nothing of it is said.
    pub(crate) async fn open(&self, name: &str, wanted: &SecretUse) -> Result<Secret<String>, NoSecret> {
        self.formed(name, wanted).await
    }

    /// The secrets of every step, in the order of the steps.
    ///
    /// # Errors
    /// The position of the first step whose secret is missing, and why.
    pub async fn of_transaction(&self, transaction: &Transaction) -> Result<Vec<Secrets>, (usize, NoSecret)> {
        let mut all = Vec::with_capacity(transaction.steps.len());
        for (position, step) in transaction.steps.iter().enumerate() {
            let mut found = Secrets::new();
            for (name, wanted) in step.step.secrets() {
                let value = self.formed(name, wanted).await.map_err(|error| (position, error))?;
                found.insert(name.clone(), value);
            }
            all.push(found);
        }
        Ok(all)
    }

    /// `sha256:…` of a secret in its form, or why it is not to be had.
    pub async fn fingerprint(&self, wanted: &SecretUse) -> Result<String, String> {
        let value = self.formed("", wanted).await.map_err(|error| error.why)?;
        Ok(Digest::of_bytes(value.reveal().as_bytes()).to_string())
    }

    /// A secret in the form in which a host gets it. `name` is for the message.
    async fn formed(&self, name: &str, wanted: &SecretUse) -> Result<Secret<String>, NoSecret> {
        // Held while it is fetched: two that want the same secret ask once.
        let mut known = self.known.lock().await;
        let value = if let Some(value) = known.get(&wanted.from) {
            value.clone()
        } else {
            let value = resolve(name, &wanted.from).await?;
            self.redactor.remember(value.reveal());
            known.insert(wanted.from.clone(), value.clone());
            value
        };
        let bad = |why: &dyn std::fmt::Display| NoSecret::form(name, &wanted.from, why);
        wanted.form.check(value.reveal()).map_err(|why| bad(&why))?;
        match &wanted.form {
            SecretForm::Line | SecretForm::InQuotes | SecretForm::InComposeQuotes | SecretForm::Passphrase => Ok(value),
            SecretForm::ScramVerifier { owner } => {
                let verifier = scram::verifier(&value, owner).map_err(|why| bad(&why))?;
                // What every verifier begins with is no secret.
                if let Some((_, own)) = verifier.reveal().split_once('$') {
                    self.redactor.remember(own);
                }
                Ok(verifier)
            }
        }
    }
}

/// Fetches one secret. Its final newline is dropped; an empty one counts as missing.
pub async fn resolve(name: &str, place: &SecretRef) -> Result<Secret<String>, NoSecret> {
    let (value, hint) = match place {
        SecretRef::Env { env } => (
            std::env::var(env).map_err(|error| match error {
                std::env::VarError::NotPresent => "it is not set".to_owned(),
                std::env::VarError::NotUnicode(_) => "it is not UTF-8 text".to_owned(),
            }),
            format!("set `{env}` in the environment of this command"),
        ),
        SecretRef::File { file } => {
            let hint = format!("put it into `{}` with mode 0600", file.display());
            (from_file(file), hint)
        }
        SecretRef::Command { command } => {
            let hint = "run the command by hand and see that it prints the secret and ends with status 0".to_owned();
            (printed_by(command, COMMAND_LIMIT).await, hint)
        }
    };
    let value = value.and_then(|text| {
        let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
        if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(Secret::new(text)) }
    });
    value.map_err(|why| NoSecret { lack: Lack::Missing, name: name.to_owned(), from: place.to_string(), why, hint })
}

fn from_file(path: &std::path::Path) -> Result<String, String> {
    read::private(path, LARGEST).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::redact::HIDDEN;
    use std::os::unix::fs::PermissionsExt as _;

    fn command(words: &[&str]) -> SecretRef {
        SecretRef::Command { command: words.iter().map(|&word| word.to_owned()).collect() }
    }

    #[tokio::test]
    async fn each_place_gives_its_value_without_the_final_newline() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("secret");
        fs_err::write(&file, "from file\n").expect("a file");
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        let file = resolve("a", &SecretRef::File { file }).await.expect("a secret");
        assert_eq!(file.reveal(), "from file");
        let printed = resolve("b", &command(&["printf", "from command\n"])).await.expect("a secret");
        assert_eq!(printed.reveal(), "from command");
        let env = resolve("c", &SecretRef::Env { env: "PATH".to_owned() }).await.expect("set everywhere");
        assert!(!env.reveal().is_empty());
    }

    #[tokio::test]
    async fn what_is_missing_is_named_with_a_way_to_give_it() {
        let unset = SecretRef::Env { env: "SEAWALL_TEST_UNSET".to_owned() };
        let error = resolve("cipher", &unset).await.expect_err("not set");
        assert_eq!(
            error.to_string(),
            "secret `cipher` from environment variable `SEAWALL_TEST_UNSET` could not be had: it is not set"
        );
        assert!(error.hint.contains("SEAWALL_TEST_UNSET"));
        for bad in [&["false"][..], &["true"], &["no-such-program-here"], &[]] {
            assert!(resolve("x", &command(bad)).await.is_err(), "{bad:?}");
        }
        let dir = tempfile::tempdir().expect("a folder");
        let open = dir.path().join("open");
        fs_err::write(&open, "x").expect("a file");
        fs_err::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).expect("its mode");
        let error = resolve("x", &SecretRef::File { file: open }).await.expect_err("open to others");
        assert_eq!(error.why, "others may read it");
    }

    /// A second line would be a line of its own in a configuration, a password file or an environment.
    #[tokio::test]
    async fn a_secret_of_two_lines_is_refused_and_not_shown() {
        let vault = Vault::default();
        let first = "the first line of it";
        for (form, said) in [
            (SecretForm::Passphrase, format!("{first}\\nrepo1-storage-verify-tls=n")),
            (SecretForm::Line, format!("{first}\\r\\n")),
            (SecretForm::ScramVerifier { owner: "app".to_owned() }, format!("{first}\\t")),
            (SecretForm::Line, format!(" {first}")),
        ] {
            let wanted = SecretUse { from: command(&["printf", &said]), form };
            let error = vault.check("cipher", &wanted).await.expect_err("it is no line");
            assert_eq!(error.code(), "secret-form");
            let shown = format!("{error} {error:?} {}", error.hint).replace(&said, "");
            assert!(!shown.contains("the first"), "{shown}");
            assert!(vault.fingerprint(&wanted).await.is_err());
        }
        assert_eq!(vault.redactor().tools(&format!("line 2: {first}")), format!("line 2: {HIDDEN}"));
    }
}
