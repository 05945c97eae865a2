//! The service's errors, as they go over the wire.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::json;

/// One error answer. `name` is the exception, for example `NotFoundException`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct ApiError {
    pub status: u16,
    pub name: &'static str,
    pub message: String,
    pub tip: String,
}

impl ApiError {
    /// An error with status 400, the status of all of this service's errors but its own failures.
    pub fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, name, message: message.into(), tip: String::new() }
    }

    pub fn not_found(kind: &str, name: &str) -> Self {
        Self::new("NotFoundException", format!("The {kind} does not exist: {name}"))
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidInputException", message)
    }

    #[must_use]
    pub fn tip(mut self, tip: &str) -> Self {
        tip.clone_into(&mut self.tip);
        self
    }

    /// The answer: the type in the header and in the body, as AWS JSON 1.1 has it.
    pub fn into_response(self) -> Response<Body> {
        let body = json!({
            "__type": self.name, "code": self.name, "message": self.message,
            "docs": "https://docs.aws.amazon.com/lightsail/2016-11-28/api-reference/CommonErrors.html",
            "tip": self.tip,
        });
        Response::builder()
            .status(StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amzn-errortype", self.name)
            .body(Body::from(body.to_string()))
            .expect("a status, two plain headers and a body make a response")
    }
}
