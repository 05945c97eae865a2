//! Faults that a test asks for: the next so many calls of one operation go wrong in one way.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Refused for its rate; clients retry.
    Throttle,
    AccessDenied,
    ExpiredToken,
    Http500,
    /// Accepted, and the operation ends as Failed without an effect (Lightsail only).
    FailOperation,
    /// Done, but the answer never comes (Lightsail only).
    TimeoutAfterEffect,
    /// The instance stays `pending` for ever (CreateInstances only).
    StuckPending,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The service of the credential scope: `lightsail`, `s3`, `sns`, `monitoring`, `iam`, `sts`.
    pub service: String,
    /// The operation, `*` for any. For S3 it is the HTTP method.
    pub operation: String,
    /// How many calls it spoils.
    pub times: u32,
    pub kind: FaultKind,
}

/// The faults that are still to happen.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub fn add(&self, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Takes one occurrence of the first fault that fits.
    pub fn take(&self, service: &str, operation: &str) -> Option<FaultKind> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |fault: &Fault| fault.service == service && (fault.operation == "*" || fault.operation == operation);
        let position = faults.iter().position(|fault| fault.times > 0 && fits(fault))?;
        let kind = faults[position].kind;
        faults[position].times -= 1;
        if faults[position].times == 0 {
            faults.remove(position);
        }
        Some(kind)
    }

    pub fn list(&self) -> Vec<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_so_often_and_no_more() {
        let faults = Faults::default();
        faults.add(Fault { service: "s3".to_owned(), operation: "*".to_owned(), times: 2, kind: FaultKind::Throttle });
        assert_eq!(faults.take("sns", "Publish"), None);
        assert_eq!(faults.take("s3", "PUT"), Some(FaultKind::Throttle));
        assert_eq!(faults.take("s3", "GET"), Some(FaultKind::Throttle));
        assert_eq!(faults.take("s3", "GET"), None);
    }
}
