//! Whose account this is: asked of STS before anything else.

use crate::base::diag::Diagnostic;
use crate::reach::aws::Aws;
use crate::reach::aws::fault::{Fault, FaultKind};

/// Where credentials are looked for, in order. Instance metadata is never used.
pub const CHAIN: &str =
    "environment (AWS_ACCESS_KEY_ID), profile files (AWS_PROFILE, credential_process), web identity token, container";

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
    NoCredentials { why: String },
    #[error("the AWS credentials have expired")]
    Expired { why: String },
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
            Self::NoCredentials { why } => Diagnostic::error("no-credentials", self.to_string())
                .note(format!("tried in this order: {CHAIN}; instance metadata is never used"))
                .note(why.clone())
                .note(nothing)
                .hint(match std::env::var("AWS_PROFILE") {
                    Ok(profile) if !profile.is_empty() => {
                        format!("AWS_PROFILE is `{profile}`: is it in ~/.aws/config, with credentials?")
                    }
                    _ => "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or rehearse with --sandbox"
                        .to_owned(),
                }),
            Self::Expired { why } => Diagnostic::error("expired-credentials", self.to_string())
                .note(why.clone())
                .note(nothing)
                .hint("log in again, for example: aws sso login"),
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
    /// Asks STS, and compares with the account that the inventory names.
    pub async fn identify(&self) -> Result<Identity, IdentityError> {
        let answer = self.sts.get_caller_identity().send().await.map_err(|error| {
            let fault = Fault::of("sts:GetCallerIdentity", &error);
            let why = fault.to_string();
            let text = why.to_lowercase();
            match fault.kind {
                FaultKind::NoAnswer if text.contains("credential") => {
                    if text.contains("expired") {
                        IdentityError::Expired { why }
                    } else {
                        IdentityError::NoCredentials { why }
                    }
                }
                FaultKind::NoAnswer | FaultKind::Garbled => IdentityError::Unreachable { why },
                _ if EXPIRED.iter().any(|code| fault.has_code(code)) => IdentityError::Expired { why },
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
