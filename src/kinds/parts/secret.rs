//! A secret in a file of root's, alone on one line: whether it is there and the declared one is told by digests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::secret::SecretUse;
use crate::kinds::host;
use crate::plan::change::FieldChange;
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, Probe, command};
use crate::plan::step::{Content, HostStep};

/// Nobody but root.
const ACCESS: &str = "600 root:root";
const AS_DECLARED: &str = "as declared";
/// FILE: access and digest of a regular file, never what is in it.
const LOOK: &str = r#"[ -f "$1" ] && [ ! -L "$1" ] || exit 66
stat -c '%a %U:%G' -- "$1" && tr -d '\n' <"$1" | sha256sum"#;

/// A file with one secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecretFile<'a> {
    pub(crate) path: &'a str,
    pub(crate) secret: &'a SecretUse,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Mode, owner and group; nothing where there is no such file.
    pub access: Option<String>,
    /// `as declared` or `another`; nothing where it could not be compared.
    pub is: Option<String>,
}

impl SecretFile<'_> {
    fn ask(&self) -> [&str; 5] {
        ["sh", "-c", LOOK, "sh", self.path]
    }

    pub(crate) fn probes(&self) -> [Probe; 2] {
        [command(&self.ask()), Probe::Secret(self.secret.clone())]
    }

    /// Status 66 is no regular file.
    pub(crate) fn look(&self, answers: &Answers) -> Result<State, Unseen> {
        let said = host::command(answers, &self.ask(), &[0, 66])?;
        if !said.ok() {
            return Ok(State::default());
        }
        let mut lines = said.stdout.lines();
        let access = lines.next().map(str::to_owned);
        let digest = lines.next().and_then(|line| line.split_whitespace().next());
        let digest = digest.ok_or_else(|| Unseen::Misread(format!("`{}` has no digest", self.path)))?;
        let is = answers.fingerprint(self.secret).map(|wanted| {
            let same = wanted == format!("sha256:{digest}");
            if same { AS_DECLARED } else { "another" }.to_owned()
        });
        Ok(State { access, is })
    }

    pub(crate) fn differences(&self, found: &State) -> Vec<FieldChange> {
        let State { access, is } = found;
        let mut fields: Vec<FieldChange> =
            FieldChange::between(self.path, &access.as_deref(), &Some(ACCESS)).into_iter().collect();
        if access.is_some() && is.is_some() {
            fields.extend(FieldChange::between(&self.is_field(), &is.as_deref(), &Some(AS_DECLARED)));
        }
        fields
    }

    fn is_field(&self) -> String {
        format!("secret.{}", self.path)
    }

    /// Whether one of these differences is this file's.
    pub(crate) fn differs(&self, fields: &[FieldChange]) -> bool {
        host::differs(fields, self.path) || host::differs(fields, &self.is_field())
    }

    /// Writes the secret.
    pub(crate) fn step(&self) -> HostStep {
        HostStep::WriteFile {
            path: self.path.to_owned(),
            owner: "root".to_owned(),
            group: "root".to_owned(),
            mode: "0600".to_owned(),
            content: Content::WithSecrets {
                template: "{{secret}}\n".to_owned(),
                secrets: BTreeMap::from([("secret".to_owned(), self.secret.clone())]),
            },
            validate: None,
        }
    }
}
