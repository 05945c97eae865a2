//! The packages proxy: how hosts without any way out install real packages.
//!
//! A forward proxy for apt on the lab's gateway. It listens inside the lab and dials from outside of it. It takes GET and
//! HEAD of paths that a package archive has, over plain HTTP (apt checks signatures itself), and keeps `.deb` files on
//! disk. Deliberately absent: CONNECT, other methods, other paths, and addresses of this computer.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::stream::try_unfold;
use http::HeaderMap;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::Uri;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Full;
use http_body_util::Limited;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::TokioIo;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::base::digest::Digest;

/// Requests in work at once; apt opens a few per host.
const AT_ONCE: usize = 32;
/// The largest answer that passes, in bytes. Debian's largest index is about 50 MB, its largest package 2 GB.
const LARGEST: usize = 2 << 30;
/// How long an archive may take to answer, and to deliver one file.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
const FILE_LIMIT: Duration = Duration::from_mins(15);
/// How much of a kept file is read at once, in bytes.
const PIECE: usize = 64 * 1024;

type Fault = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Fault>;

struct Proxy {
    client: Client<HttpConnector, Empty<Bytes>>,
    kept: PathBuf,
    slots: Semaphore,
}

/// Serves until the task is dropped. `kept` is the folder for `.deb` files.
pub(super) async fn serve(listener: TcpListener, kept: PathBuf) {
    let proxy = Arc::new(Proxy {
        client: Client::builder(TokioExecutor::new()).build_http(),
        kept,
        slots: Semaphore::new(AT_ONCE),
    });
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors is the one cause; the next connection may find one again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let proxy = Arc::clone(&proxy);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let proxy = Arc::clone(&proxy);
                async move { Ok::<_, Infallible>(proxy.answer(request).await) }
            });
            // A guest that hangs up is no event.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Proxy {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let Ok(_slot) = self.slots.acquire().await else {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "the proxy ends");
        };
        if let Err(why) = allowed(request.method(), request.uri()).await {
            return refusal(StatusCode::FORBIDDEN, why);
        }
        let keep = request.method() == Method::GET && is_package(request.uri());
        let answer = if keep { self.package(request.uri()).await } else { self.pass(&request).await };
        answer.unwrap_or_else(|fault| refusal(StatusCode::BAD_GATEWAY, &fault.to_string()))
    }

    /// Hands an index or a HEAD through, with the headers that make apt's conditional and ranged requests work.
    async fn pass(&self, request: &Request<Incoming>) -> Result<Response<Body>, Fault> {
        let mut headers = HeaderMap::new();
        for name in [header::IF_MODIFIED_SINCE, header::IF_RANGE, header::RANGE, header::CACHE_CONTROL, header::ACCEPT]
        {
            if let Some(value) = request.headers().get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let answer = self.ask(request.method(), request.uri(), headers).await?;
        Ok(answer.map(|body| Limited::new(body, LARGEST).boxed_unsync()))
    }

    /// Gives a package from disk, fetching it first where it is not there.
    async fn package(&self, uri: &Uri) -> Result<Response<Body>, Fault> {
        let name = uri.path().rsplit('/').next().unwrap_or("package.deb");
        let safe: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._+-~%".contains(*c)).collect();
        let digest = Digest::of_bytes(uri.to_string().as_bytes());
        let path = self.kept.join(format!("{}-{safe}", digest.short()));
        if !path.is_file() {
            let answer = self.ask(&Method::GET, uri, HeaderMap::new()).await?;
            if answer.status() != StatusCode::OK {
                return Ok(answer.map(|body| Limited::new(body, LARGEST).boxed_unsync()));
            }
            timeout(FILE_LIMIT, keep(answer.into_body(), &path)).await??;
        }
        let file = File::open(&path).await?;
        let length = file.metadata().await?.len();
        let pieces = try_unfold(file, |mut file| async move {
            let mut piece = vec![0; PIECE];
            let read = file.read(&mut piece).await?;
            piece.truncate(read);
            Ok::<_, io::Error>((read > 0).then(|| (Frame::data(Bytes::from(piece)), file)))
        });
        let body = StreamBody::new(pieces.map_err(Fault::from)).boxed_unsync();
        Ok(Response::builder().header(header::CONTENT_LENGTH, length).body(body)?)
    }

    async fn ask(&self, method: &Method, uri: &Uri, headers: HeaderMap) -> Result<Response<Incoming>, Fault> {
        let mut request = Request::builder().method(method).uri(uri).body(Empty::new())?;
        *request.headers_mut() = headers;
        Ok(timeout(ANSWER_LIMIT, self.client.request(request)).await??)
    }
}

/// Writes a body beside its name and renames it when whole.
async fn keep(body: Incoming, path: &Path) -> Result<(), Fault> {
    let half = path.with_extension(format!("half-{:08x}", fastrand::u32(..)));
    let written = async {
        let mut file = File::create(&half).await?;
        let mut body = Limited::new(body, LARGEST);
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                file.write_all(&data).await?;
            }
        }
        file.flush().await?;
        tokio::fs::rename(&half, path).await?;
        Ok::<_, Fault>(())
    };
    let result = written.await;
    if result.is_err() {
        let _ = tokio::fs::remove_file(&half).await;
    }
    result
}

fn is_package(uri: &Uri) -> bool {
    Path::new(uri.path()).extension().is_some_and(|e| e == "deb")
}

/// What passes: archives' paths on ordinary ports of other computers.
async fn allowed(method: &Method, uri: &Uri) -> Result<(), &'static str> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err("only GET and HEAD pass");
    }
    if uri.scheme_str() != Some("http") {
        return Err("only http:// passes");
    }
    let archive = ["/dists/", "/pool/"].iter().any(|part| uri.path().contains(part));
    if !archive || uri.path().contains("..") {
        return Err("only the paths of package archives pass");
    }
    let (Some(host), port) = (uri.host(), uri.port_u16().unwrap_or(80)) else {
        return Err("a host is missing");
    };
    let host = host.trim_matches(['[', ']']);
    let resolved = lookup_host((host, port)).await.map_err(|_| "the archive's name does not resolve")?;
    for address in resolved {
        let own = match address.ip() {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
        };
        if own {
            return Err("addresses of this computer do not pass");
        }
    }
    Ok(())
}

fn refusal(status: StatusCode, why: &str) -> Response<Body> {
    let text = BodyExt::map_err(Full::new(Bytes::from(format!("{why}\n"))), |never| match never {});
    let mut response = Response::new(text.boxed_unsync());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_archives_of_others_pass() {
        let uri = |text: &'static str| Uri::from_static(text);
        let get = Method::GET;
        assert!(allowed(&get, &uri("http://192.0.2.7/debian/pool/a.deb")).await.is_ok());
        for bad in [
            "http://192.0.2.7/secrets",
            "http://127.0.0.1/debian/pool/a.deb",
            "http://169.254.169.254/dists/latest",
            "https://192.0.2.7/debian/pool/a.deb",
            "http://192.0.2.7/debian/pool/../../a.deb",
        ] {
            assert!(allowed(&get, &uri(bad)).await.is_err(), "{bad}");
        }
        assert!(allowed(&Method::POST, &uri("http://192.0.2.7/pool/a.deb")).await.is_err());
    }
}
