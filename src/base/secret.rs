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
    /// A command on the operator's machine that prints the secret: program and arguments, no shell.
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

/// What is made of a secret before it leaves the operator's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretForm {
    /// The value itself.
    #[default]
    AsIs,
    /// PostgreSQL's SCRAM-SHA-256 verifier of a password: who holds it can check the password and not log in with it.
    /// `owner` names whose it is, so that two roles with one password do not look alike.
    ScramVerifier { owner: String },
}

impl From<SecretRef> for SecretUse {
    fn from(from: SecretRef) -> Self {
        Self { from, form: SecretForm::AsIs }
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
