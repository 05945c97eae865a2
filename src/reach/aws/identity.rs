//! Whose account this is: asked of STS before anything else.

use crate::base::diag::Diagnostic;
use crate::reach::aws::Aws;
use crate::reach::aws::credentials::{CHAIN, Uses, profile};
use crate::reach::aws::fault::{Fault, FaultKind};

/// Codes by which STS says that credentials are no longer or not yet good.
const EXPIRED: [&str; 4] = ["ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"];

/// Who the credentials belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub account: String,
    pub arn: String,
}

/// Why nothing may be asked or done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("no AWS credentials were found")]
    NoCredentials { why: String, uses: Option<Uses> },
    #[error("the AWS credentials have expired")]
    Expired { why: String, uses: Option<Uses> },
    #[error("AWS does not accept the credentials")]
    Refused { why: String },
    #[error("the inventory is for account {expected}, and the credentials are for account {actual}")]
    WrongAccount { expected: String, actual: String, arn: String },
    #[error("AWS did not answer")]
    Unreachable { why: String },
}

impl IdentityError {
    /// As a message.
    pub fn diagnostic(&self) -> Diagnostic {
        let nothing = "nothing was asked or changed";
        match self {
            Self::NoCredentials { why, uses } => {
                let problem = Diagnostic::error("no-credentials", self.to_string());
                let problem = uses.iter().fold(problem, |problem, uses| problem.note(uses.what.clone()));
                let none = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or rehearse with --sandbox";
                problem
                    .note(format!("tried in this order: {CHAIN}; instance metadata is never used"))
                    .note(why.clone())
                    .note(nothing)
                    .hint(uses.as_ref().map_or(none, |uses| uses.hint.as_str()))
            }
            Self::Expired { why, uses } => {
                let problem = Diagnostic::error("expired-credentials", self.to_string());
                let problem = uses.iter().fold(problem, |problem, uses| problem.note(uses.what.clone()));
                let again = "log in again, or take another session into the environment";
                problem
                    .note(why.clone())
                    .note(nothing)
                    .hint(uses.as_ref().map_or(again, |uses| uses.hint.as_str()))
            }
            Self::Refused { why } => Diagnostic::error("refused-credentials", self.to_string())
                .note(why.clone())
                .note(nothing)
                .hint("check which profile is in use: aws sts get-caller-identity"),
            Self::WrongAccount { arn, .. } => Diagnostic::error("wrong-account", self.to_string())
                .note(format!("the credentials are {arn}"))
                .note(nothing)
                .hint("use the profile of the inventory's account"),
            Self::Unreachable { why } => Diagnostic::error("aws-unreachable", self.to_string())
                .note(why.clone())
                .note(nothing)
                .hint("check the network, `aws.region` in the inventory, and AWS_ENDPOINT_URL and AWS_CA_BUNDLE where they are set"),
        }
    }
}

impl Aws {
    /// What the profile uses, where the credentials come from one.
    async fn uses(&self) -> Option<Uses> {
        let elsewhere = self.given || std::env::var_os("AWS_ACCESS_KEY_ID").is_some();
        if elsewhere { None } else { profile().await }
    }

    /// Asks STS, and compares with the account that the inventory names.
    pub async fn identify(&self) -> Result<Identity, IdentityError> {
        let asked = self.sts.get_caller_identity().send().await;
        let uses = if asked.is_err() { self.uses().await } else { None };
        let answer = asked.map_err(|error| {
            let fault = Fault::of("sts:GetCallerIdentity", &error);
            let why = fault.to_string();
            let text = why.to_lowercase();
            match fault.kind {
                FaultKind::NoAnswer if text.contains("credential") => {
                    if text.contains("expired") {
                        IdentityError::Expired { why, uses }
                    } else {
                        IdentityError::NoCredentials { why, uses }
                    }
                }
                FaultKind::NoAnswer | FaultKind::Garbled => IdentityError::Unreachable { why },
                _ if EXPIRED.iter().any(|code| fault.has_code(code)) => IdentityError::Expired { why, uses },
                _ => IdentityError::Refused { why },
            }
        })?;
        let account = answer.account().unwrap_or_default().to_owned();
        let arn = answer.arn().unwrap_or_default().to_owned();
        if account == self.account {
            Ok(Identity { account, arn })
        } else {
            Err(IdentityError::WrongAccount { expected: self.account.clone(), actual: account, arn })
        }
    }
}
