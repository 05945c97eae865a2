//! What an SDK error means, in three words: not there, not allowed, or something else.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::plan::observed::Unseen;
use crate::reach::Failure;

/// Codes by which AWS's services say that a thing or a part of it does not exist.
const NOT_THERE: [&str; 15] = [
    "NotFound",
    "NotFoundException",
    "NoSuchBucket",
    "NoSuchEntity",
    "NoSuchEntityException",
    "NoSuchKey",
    "NoSuchBucketPolicy",
    "NoSuchLifecycleConfiguration",
    "NoSuchPublicAccessBlockConfiguration",
    "NoSuchTagSet",
    "ObjectLockConfigurationNotFoundError",
    "OwnershipControlsNotFoundError",
    "ResourceNotFound",
    "ResourceNotFoundException",
    "ServerSideEncryptionConfigurationNotFoundError",
];

/// Codes of a missing permission.
const NOT_ALLOWED: [&str; 6] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "UnauthorizedOperation",
    "AllAccessDisabled",
];

/// A call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For example `s3:GetBucketPolicy`.
    pub call: &'static str,
    pub code: Option<String>,
    pub message: String,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    NotThere,
    NotAllowed,
    /// No answer came, or AWS broke down over it: whether the call had its effect is not known.
    NoAnswer,
    /// An answer came that cannot be read; the call may have had its effect.
    Garbled,
    Refused,
}

impl Fault {
    /// Reads an SDK error.
    pub fn of<E>(call: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().map(str::to_owned);
        let known = |list: &[&str]| code.as_deref().is_some_and(|code| list.contains(&code));
        let kind = match error {
            SdkError::ServiceError(_) if known(&NOT_THERE) || (code.is_none() && status == Some(404)) => {
                FaultKind::NotThere
            }
            SdkError::ServiceError(_) if known(&NOT_ALLOWED) || (code.is_none() && status == Some(403)) => {
                FaultKind::NotAllowed
            }
            SdkError::ServiceError(_) if status.is_some_and(|status| status >= 500) => FaultKind::NoAnswer,
            SdkError::ServiceError(_) if status.is_some_and(|status| status < 300) => FaultKind::Garbled,
            SdkError::ResponseError(_) => FaultKind::Garbled,
            SdkError::ServiceError(_) | SdkError::ConstructionFailure(_) => FaultKind::Refused,
            _ => FaultKind::NoAnswer,
        };
        let message = error.message().map_or_else(|| reasons(error), str::to_owned);
        Self { call, code, message, kind }
    }

    pub fn is_not_there(&self) -> bool {
        self.kind == FaultKind::NotThere
    }

    pub fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// The same for someone who only looked.
    pub fn unseen(&self) -> Unseen {
        let text = self.to_string();
        match self.kind {
            FaultKind::NotAllowed => Unseen::Refused(text),
            FaultKind::NoAnswer => Unseen::Unreachable(text),
            FaultKind::NotThere | FaultKind::Refused | FaultKind::Garbled => Unseen::Misread(text),
        }
    }

    /// The same for someone who acted.
    pub fn failure(&self, what: &str) -> Failure {
        let (effect, hint) = match self.kind {
            FaultKind::NoAnswer | FaultKind::Garbled => {
                ("; whether it was done is not known", Some("a new plan shows what is there".to_owned()))
            }
            FaultKind::NotAllowed => {
                let lack = format!(
                    "the credentials in use lack {}; `seawall policy operator` prints what is needed",
                    self.call
                );
                ("; nothing was changed by it", Some(lack))
            }
            FaultKind::NotThere | FaultKind::Refused => ("; nothing was changed by it", None),
        };
        Failure { what: format!("could not {what}: {self}{effect}"), position: None, code: self.code.clone(), hint }
    }
}

/// An error and what caused it, once each. Not the SDK's own form of this: it shows the whole answer, and the answer to
/// CreateAccessKey holds a secret.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !parts.last().is_some_and(|last| last.ends_with(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} answered {code}: {}", self.call, self.message),
            None => write!(f, "{}: {}", self.call, self.message),
        }
    }
}

/// An answer of a read: what is not there is `None`.
pub(crate) fn look<T, E>(call: &'static str, result: Result<T, SdkError<E, HttpResponse>>) -> Result<Option<T>, Unseen>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match result {
        Ok(output) => Ok(Some(output)),
        Err(error) => {
            let fault = Fault::of(call, &error);
            if fault.is_not_there() { Ok(None) } else { Err(fault.unseen()) }
        }
    }
}

/// An answer of a call that changes something.
pub(crate) fn done<T, E>(
    call: &'static str,
    what: &str,
    result: Result<T, SdkError<E, HttpResponse>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    result.map_err(|error| Fault::of(call, &error).failure(what))
}

/// An answer of a call that takes something away: what is gone already is fine.
pub(crate) fn gone<T, E>(
    call: &'static str,
    what: &str,
    result: Result<T, SdkError<E, HttpResponse>>,
) -> Result<(), Failure>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match result {
        Ok(_) => Ok(()),
        Err(error) => {
            let fault = Fault::of(call, &error);
            if fault.is_not_there() { Ok(()) } else { Err(fault.failure(what)) }
        }
    }
}
