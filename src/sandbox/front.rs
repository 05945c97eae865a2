//! The front: ends TLS, routes by the service in the credential scope, and injects faults.
//!
//! Lightsail is answered in this process; everything else streams to the emulator. Paths below `/_sandbox/` are the
//! lab's own and need no signature: who reaches the loopback port owns the lab. Hosts come in by the gateway, where
//! there are no such paths.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::sandbox::acme::Acme;
use crate::sandbox::faults::{Fault, FaultKind, Faults};
use crate::sandbox::gaps::{Form, Gaps, decode, form};
use crate::sandbox::lightsail::api::{Lightsail, Scope};

/// The largest request that is read whole (Query and JSON calls; AWS's own limits are below).
const WHOLE: usize = 4 << 20;
/// A client that does not finish its TLS handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// By which listener a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// This computer's loopback: whoever is here owns the lab.
    Loopback,
    /// The lab's network, where its hosts are: AWS and nothing else.
    Gateway,
}

/// What answers.
pub struct Front {
    pub lightsail: Arc<Lightsail>,
    pub faults: Arc<Faults>,
    pub gaps: Gaps,
    /// The access key id of the account's owner.
    access_key: String,
    /// Where the emulator listens; without one only Lightsail is answered.
    emulator: Option<SocketAddr>,
    /// Let's Encrypt's stand-in, where there are machines.
    pub acme: Option<Acme>,
    client: Client<HttpConnector, Body>,
}

impl Front {
    pub fn new(
        lightsail: Arc<Lightsail>,
        gaps: Gaps,
        access_key: &str,
        emulator: Option<SocketAddr>,
        acme: Option<Acme>,
    ) -> Arc<Self> {
        Arc::new(Self {
            faults: Arc::clone(&lightsail.faults),
            lightsail,
            gaps,
            access_key: access_key.to_owned(),
            emulator,
            acme,
            client: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    /// Serves an already bound listener for ever: TLS with an acceptor, plain without (tests in process).
    pub async fn serve(
        self: Arc<Self>,
        listener: std::net::TcpListener,
        tls: Option<TlsAcceptor>,
        door: Door,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: give the connections that are open a chance to end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // A small answer should not wait for the next packet; failing to say so costs time only.
            drop(stream.set_nodelay(true));
            let front = Arc::clone(&self);
            let tls = tls.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let front = Arc::clone(&front);
                    async move { Ok::<_, std::convert::Infallible>(front.answer(request, door).await) }
                });
                let ended = match tls {
                    None => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
                    Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                        Ok(Ok(stream)) => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
                        _ => return,
                    },
                };
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>, door: Door) -> Response<Body> {
        if door == Door::Loopback && request.uri().path().starts_with("/_sandbox/") {
            return self.control(request).await;
        }
        if let Some(acme) = self.acme.as_ref().filter(|_| Acme::is_asked(&request)) {
            return acme.answer(request.map(Body::new), &self.addresses()).await;
        }
        let Some(scope) = scope(&request) else {
            return xml_error("", 403, "MissingAuthenticationToken", "Request is missing Authentication Token");
        };
        if scope.service == "lightsail" {
            let (parts, body) = request.into_parts();
            return match whole(body).await {
                Ok(body) => {
                    let permits = |operation: &str| {
                        self.gaps.permit(&scope.access_key, &format!("lightsail:{operation}"), &scope.region)
                    };
                    self.lightsail.respond(&parts.headers, &body, &permits).await
                }
                Err(response) => response,
            };
        }
        // The emulator takes any 12 digits, and `test`, as the owner of some account; AWS does not.
        let twelve = scope.access_key.len() == 12 && scope.access_key.bytes().all(|byte| byte.is_ascii_digit());
        if scope.access_key != self.access_key && (twelve || scope.access_key == "test") {
            return xml_error(
                &scope.service,
                403,
                "InvalidClientTokenId",
                "The security token included in the request is invalid.",
            );
        }
        match scope.service.as_str() {
            "sns" | "iam" | "sts" | "monitoring" => self.query(&scope, request).await,
            service => match self.faults.take(service, request.method().as_str()) {
                Some(kind) => spoiled(service, kind, false),
                None => self.proxy(request.map(Body::new)).await,
            },
        }
    }

    /// Where instances are, by name.
    fn addresses(&self) -> BTreeMap<String, Ipv4Addr> {
        let state = self.lightsail.snapshot();
        let instances = state.instances.into_values();
        instances.filter_map(|i| Some((i.common.name, i.v4?.parse().ok()?))).collect()
    }

    /// A small call, read whole: Query, or CBOR for CloudWatch.
    async fn query(&self, scope: &Scope, request: Request<Incoming>) -> Response<Body> {
        let service = scope.service.as_str();
        let (parts, body) = request.into_parts();
        let body = match whole(body).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        let cbor = parts.headers.get("smithy-protocol").is_some();
        let fields: Form = if cbor { Form::new() } else { form(&String::from_utf8_lossy(&body)) };
        let operation = match fields.get("Action") {
            Some(action) => action.clone(),
            None => parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned(),
        };
        if let Some(kind) = self.faults.take(service, &operation) {
            return spoiled(service, kind, cbor);
        }
        // The emulator does not look into CBOR, and so judges nothing that comes in it.
        let is_owner = scope.access_key == self.access_key;
        if cbor && !is_owner && !self.gaps.permit(&scope.access_key, &format!("cloudwatch:{operation}"), &scope.region)
        {
            let why = format!("User is not authorized to perform: cloudwatch:{operation}");
            return cbor_error(403, "AccessDenied", &why);
        }
        if let Some((status, code, message)) = self.gaps.refuse(service, &fields) {
            return xml_error(service, status, code, &message);
        }
        let answer = self.proxy(Request::from_parts(parts, Body::from(body))).await;
        if cbor || !answer.status().is_success() || !["sns", "iam"].contains(&service) {
            return answer;
        }
        let (mut parts, body) = answer.into_parts();
        let Ok(body) = body.collect().await else {
            return xml_error(service, 502, "ServiceUnavailable", "The emulator broke off its answer");
        };
        let xml = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::TRANSFER_ENCODING);
        Response::from_parts(parts, Body::from(self.gaps.correct(service, &fields, xml)))
    }

    /// Passes a request on as it is: the signature covers the Host header, so that stays.
    async fn proxy(&self, mut request: Request<Body>) -> Response<Body> {
        let Some(emulator) = self.emulator else {
            return xml_error("", 503, "ServiceUnavailable", "This lab has no emulator; only Lightsail answers");
        };
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        match format!("http://{emulator}{path}").parse::<Uri>() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(_) => return xml_error("", 400, "InvalidURI", "The path is not one"),
        }
        let headers = request.headers_mut();
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        // Hop by hop: this connection has been told to continue already.
        headers.remove(header::EXPECT);
        headers.remove(header::CONNECTION);
        match self.client.request(request).await {
            Ok(mut response) => {
                response.headers_mut().remove(header::CONNECTION);
                response.map(Body::new)
            }
            Err(error) => xml_error("", 503, "ServiceUnavailable", &format!("The emulator does not answer: {error}")),
        }
    }

    async fn control(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = match whole(body).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        match (&parts.method, parts.uri.path()) {
            (&Method::POST, "/_sandbox/faults") => match serde_json::from_slice::<Fault>(&body) {
                Ok(fault) => {
                    self.faults.add(fault);
                    json_answer(200, &json!({ "faults": self.faults.list() }))
                }
                Err(error) => json_answer(400, &json!({ "error": error.to_string() })),
            },
            (&Method::POST, "/_sandbox/confirm") => {
                let request: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let endpoint = request.get("endpoint").and_then(serde_json::Value::as_str).unwrap_or_default();
                json_answer(200, &json!({ "confirmed": self.gaps.confirm(endpoint) }))
            }
            (&Method::POST, "/_sandbox/names") => match serde_json::from_slice(&body) {
                Ok(names) => {
                    self.acme.iter().for_each(|acme| acme.learn(BTreeMap::clone(&names)));
                    json_answer(200, &json!({}))
                }
                Err(error) => json_answer(400, &json!({ "error": error.to_string() })),
            },
            (&Method::POST, "/_sandbox/snapshots") => {
                json_answer(200, &json!({ "taken": self.lightsail.take_snapshots() }))
            }
            (&Method::POST, "/_sandbox/rest") => match self.lightsail.rest().await {
                Ok(()) => json_answer(200, &json!({})),
                Err(error) => json_answer(500, &json!({ "error": error.to_string() })),
            },
            (&Method::GET, "/_sandbox/status") => {
                let state = self.lightsail.snapshot();
                let instances = state.instances.values().map(|i| json!({"name": i.common.name, "state": i.state}));
                let instances: Vec<_> = instances.collect();
                let emulator = self.emulator.map(|address| address.to_string());
                json_answer(
                    200,
                    &json!({ "version": 1, "emulator": emulator, "instances": instances, "faults": self.faults.list() }),
                )
            }
            _ => json_answer(404, &json!({ "error": "no such page of the sandbox" })),
        }
    }
}

/// The credential scope from the header or, for presigned requests, from the query.
fn scope<B>(request: &Request<B>) -> Option<Scope> {
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        return Scope::of(value.to_str().ok()?);
    }
    let mut pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == "X-Amz-Credential").and_then(|(_, value)| Scope::of_credential(&decode(value)))
}

async fn whole(body: Incoming) -> Result<Bytes, Response<Body>> {
    let read = Limited::new(body, WHOLE).collect().await;
    read.map(http_body_util::Collected::to_bytes)
        .map_err(|_| xml_error("", 413, "RequestEntityTooLarge", "The request is too large or was broken off"))
}

fn respond(status: u16, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json_answer(status: u16, value: &serde_json::Value) -> Response<Body> {
    respond(status, "application/json", value.to_string().into_bytes())
}

/// An error as S3 writes it, or as the Query services do.
fn xml_error(service: &str, status: u16, code: &str, message: &str) -> Response<Body> {
    let message = message.replace('&', "&amp;").replace('<', "&lt;");
    let kind = if status < 500 { "Sender" } else { "Receiver" };
    let text = match service {
        "sns" | "iam" | "sts" | "monitoring" => format!(
            "<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>sandbox</RequestId></ErrorResponse>"
        ),
        _ => format!("<Error><Code>{code}</Code><Message>{message}</Message><RequestId>sandbox</RequestId></Error>"),
    };
    respond(status, "application/xml", text.into_bytes())
}

/// The answer of an injected fault. Kinds that only Lightsail knows are a plain failure elsewhere.
fn spoiled(service: &str, kind: FaultKind, cbor: bool) -> Response<Body> {
    let (status, code) = match (kind, service) {
        (FaultKind::Throttle, "s3") => (503, "SlowDown"),
        (FaultKind::Throttle, _) => (400, "Throttling"),
        (FaultKind::AccessDenied, _) => (403, "AccessDenied"),
        (FaultKind::ExpiredToken, "s3") => (400, "ExpiredToken"),
        (FaultKind::ExpiredToken, _) => (403, "ExpiredToken"),
        _ => (500, "InternalError"),
    };
    if !cbor {
        return xml_error(service, status, code, "An injected fault");
    }
    cbor_error(status, code, "An injected fault")
}

/// An error as CloudWatch writes it: a map of two texts, as RFC 8949 encodes it.
fn cbor_error(status: u16, code: &str, message: &str) -> Response<Body> {
    let mut body = vec![0xa2];
    for text in ["__type", code, "message", message] {
        let length = u8::try_from(text.len()).expect("the texts are short");
        match length {
            0..24 => body.push(0x60 + length),
            _ => body.extend([0x78, length]),
        }
        body.extend_from_slice(text.as_bytes());
    }
    let mut response = respond(status, "application/cbor", body);
    response.headers_mut().insert("smithy-protocol", HeaderValue::from_static("rpc-v2-cbor"));
    response
}
