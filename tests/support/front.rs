//! A server with answers from a script, in front of an emulator or of nothing, for what no emulator does: Lightsail,
//! throttling, conflicts between writers, expired tokens.
//!
//! Deliberately absent: any behaviour. What a test expects from AWS stands in that test.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Largest request that a test sends, in bytes.
const REQUEST_LIMIT: usize = 1024 * 1024;

/// A request as the script sees it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Operation of a Lightsail call, or action of a query call, or `METHOD PATH?QUERY`.
    pub(crate) what: String,
    pub(crate) body: String,
    /// The account that must own the bucket, where the request names one.
    pub(crate) owner: Option<String>,
    /// The region that the request is signed for.
    pub(crate) region: Option<String>,
}

/// A status that no server gives: the request is let through, and its answer is lost on the way back.
pub(crate) const LOST: u16 = 599;

/// Status and body; `None` lets the request through to the emulator.
pub(crate) type Answer = Option<(u16, String)>;

type Script = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

pub(crate) struct Front {
    pub(crate) endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

struct Inner {
    behind: Option<String>,
    script: Box<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Front {
    /// Serves until the test's runtime ends. The script also gets how often the same thing was asked before.
    pub(crate) async fn new(
        behind: Option<&str>,
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let inner = Inner { behind: behind.map(str::to_owned), script: Box::new(script), asked: Arc::clone(&asked) };
        let app = Router::new().fallback(answer).with_state(Arc::new(inner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { endpoint, asked }
    }

    /// Everything asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often something was asked.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.asked().iter().filter(|asked| asked.what == what).count()
    }
}

fn name(request: &Request, body: &str) -> String {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
    if let Some((_, operation)) = target.and_then(|target| target.split_once('.')) {
        return operation.to_owned();
    }
    let action = body.split('&').find_map(|field| field.strip_prefix("Action="));
    action.map_or_else(|| format!("{} {}", request.method(), request.uri()), str::to_owned)
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, REQUEST_LIMIT).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let request = Request::from_parts(parts, Body::empty());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let owner = request.headers().get("x-amz-expected-bucket-owner").and_then(|owner| owner.to_str().ok());
    let scope = request.headers().get("authorization").and_then(|scope| scope.to_str().ok());
    let region = scope.and_then(|scope| scope.split("Credential=").nth(1)?.split('/').nth(2));
    let (owner, region) = (owner.map(str::to_owned), region.map(str::to_owned));
    let asked = Asked { what: name(&request, &text), owner, region, body: text };
    let before = {
        let mut list = inner.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = list.iter().filter(|earlier| earlier.what == asked.what).count();
        list.push(asked.clone());
        before
    };
    match ((inner.script)(&asked, before), &inner.behind) {
        (Some((LOST, _)), Some(behind)) => {
            forward(behind, request, bytes).await;
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        (Some((status, text)), _) => {
            let status = StatusCode::from_u16(status).expect("the script has valid statuses");
            (status, [("content-type", "application/x-amz-json-1.1")], text).into_response()
        }
        (None, Some(behind)) => forward(behind, request, bytes).await,
        (None, None) => {
            (StatusCode::NOT_IMPLEMENTED, format!("the script has no answer to {}", asked.what)).into_response()
        }
    }
}

/// Sends a request on as it is, its `Host` too: that is signed.
async fn forward(behind: &str, request: Request, bytes: Bytes) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (mut parts, _) = request.into_parts();
    parts.uri = format!("{behind}{path}").parse().expect("an address and a path make an address");
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    match client.request(http::Request::from_parts(parts, Full::new(bytes))).await {
        Ok(answer) => {
            let (parts, body) = answer.into_parts();
            let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            Response::from_parts(parts, Body::from(bytes))
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
