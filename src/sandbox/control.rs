//! The lab's own door: confirms a subscription, injects a fault. Not a part of AWS, and only on this computer.

use std::io;
use std::time::Duration;

use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::sandbox::lab::Lab;
use crate::sandbox::tls;

/// Servers power off side by side; each has a minute, and is then cut off.
const REST_LIMIT: Duration = Duration::from_secs(90);
/// The daemon is on this computer and answers at once.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const ANSWER: usize = 64 * 1024;

/// Sends JSON to one of the lab's own paths. Returns the status and the answer.
pub async fn post(lab: &Lab, path: &str, body: &str) -> io::Result<(u16, String)> {
    tokio::time::timeout(LIMIT, send(lab, path, body)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Powers the lab's servers off in order. Returns as [`post`] does.
pub async fn rest(lab: &Lab) -> io::Result<(u16, String)> {
    let asked = tokio::time::timeout(REST_LIMIT, send(lab, "/_sandbox/rest", "{}")).await;
    asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn send(lab: &Lab, path: &str, body: &str) -> io::Result<(u16, String)> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let stream = TcpStream::connect(("127.0.0.1", lab.running.port)).await?;
    let stream = tls::connector(&lab.folder)?.connect(name, stream).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_owned())))
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status().as_u16();
    let bytes = Limited::new(answer.into_body(), ANSWER).collect().await.map_err(io::Error::other)?.to_bytes();
    connection.abort();
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}
