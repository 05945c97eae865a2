//! Let's Encrypt's stand-in: Debian's pebble with its own test DNS, at an address of the lab where nothing else is.
//!
//! Started when the first host asks, so that a lab without certificates does not pay for it. Validation comes from an
//! address that no inventory names, as Let's Encrypt's does: a port that only operators reach fails here, too. Pebble
//! forgets accounts when it ends, and signs with a CA that nobody trusts.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Method, Request, Response, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::sandbox::machines::{self, Machines};
use crate::sandbox::process::{Process, write_private};
use crate::sandbox::tls;

/// The program, in the Debian package of the same name.
pub const PEBBLE: &str = "pebble";
const DNS: &str = "pebble-challtestsrv";

/// Where validation comes from: of the range for benchmarks (RFC 2544), which no inventory has reason to name.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 53);
const ACME_PORT: u16 = 14_000;
const DNS_PORT: u16 = 8_053;
const TELL_PORT: u16 = 8_055;
const MANAGE_PORT: u16 = 15_000;
/// The root certificate in the folder of the ACME service, for clients of a rehearsal.
const ROOT_FILE: &str = "root.pem";
/// Bytes of a root certificate as PEM: two thousand are usual.
const ROOT_LIMIT: usize = 64 * 1024;
/// Seconds that a certificate lives, as Let's Encrypt's did for years: 90 days.
const LIFETIME_S: u64 = 7_776_000;
/// Both are ready within a second; a busy machine gets this long.
const READY_LIMIT: Duration = Duration::from_secs(30);
const READY_LOOK: Duration = Duration::from_millis(50);
/// They keep nothing and end at once.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The stand-in of one lab.
pub struct Acme {
    /// The lab's folder.
    lab: PathBuf,
    machines: Machines,
    /// Names of certificates, and the instances that they lead to.
    names: Mutex<BTreeMap<String, String>>,
    running: AsyncMutex<Option<Running>>,
}

struct Running {
    pebble: Child,
    dns: Child,
    tls: TlsConnector,
    /// What the test DNS answers by now.
    told: BTreeMap<String, Ipv4Addr>,
}

impl Acme {
    pub fn new(lab: &Path, machines: Machines) -> Self {
        Self { lab: lab.to_owned(), machines, names: Mutex::default(), running: AsyncMutex::default() }
    }

    /// Whether a request is for Let's Encrypt, by its Host header.
    pub fn is_asked<B>(request: &Request<B>) -> bool {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        host.is_some_and(|host| tls::ACME_NAMES.contains(&host.split(':').next().unwrap_or_default()))
    }

    /// Learns which names lead to which instances: what the DNS of the world would say.
    pub fn learn(&self, names: BTreeMap<String, String>) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Answers a host. `addresses` are the instances' public addresses as they are now.
    pub async fn answer(&self, request: Request<Body>, addresses: &BTreeMap<String, Ipv4Addr>) -> Response<Body> {
        match self.pass_on(request, addresses).await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(%error, "the ACME service of the sandbox failed");
                let detail = format!("the sandbox's ACME service: {error}");
                let problem = json!({ "type": "urn:ietf:params:acme:error:serverInternal", "detail": detail });
                let mut response = Response::new(Body::from(problem.to_string()));
                *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                let kind = http::HeaderValue::from_static("application/problem+json");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
        }
    }

    async fn pass_on(
        &self,
        mut request: Request<Body>,
        addresses: &BTreeMap<String, Ipv4Addr>,
    ) -> io::Result<Response<Body>> {
        let tls = {
            let mut running = self.running.lock().await;
            let running = match &mut *running {
                Some(running) => running,
                none => none.insert(self.start().await?),
            };
            self.tell(running, addresses).await?;
            running.tls.clone()
        };
        // Let's Encrypt's directory has another path; all further addresses are what the directory says.
        let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let path = if path == "/directory" { "/dir" } else { path };
        *request.uri_mut() = path.parse::<Uri>().map_err(io::Error::other)?;
        request.headers_mut().remove(header::CONNECTION);
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = tls.connect(name, self.connect(ACME_PORT).await?).await?;
        send(stream, request).await
    }

    async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let machines = self.machines.clone();
        let connected = tokio::task::spawn_blocking(move || machines.connect(SocketAddr::from((ADDRESS, port)))).await;
        TcpStream::from_std(connected.map_err(io::Error::other)??)
    }

    /// Brings the test DNS up to date with names and addresses.
    async fn tell(&self, running: &mut Running, addresses: &BTreeMap<String, Ipv4Addr>) -> io::Result<()> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wanted: BTreeMap<String, Ipv4Addr> =
            names.into_iter().filter_map(|(name, instance)| Some((name, *addresses.get(&instance)?))).collect();
        for name in running.told.keys().filter(|name| wanted.get(*name) != running.told.get(*name)) {
            self.post("/clear-a", &json!({ "host": format!("{name}.") })).await?;
        }
        for (name, address) in wanted.iter().filter(|(name, address)| running.told.get(*name) != Some(*address)) {
            self.post("/add-a", &json!({ "host": format!("{name}."), "addresses": [address] })).await?;
        }
        running.told = wanted;
        Ok(())
    }

    async fn post(&self, path: &str, body: &serde_json::Value) -> io::Result<()> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, "localhost")
            .body(Body::from(body.to_string()))
            .map_err(io::Error::other)?;
        let status = send(self.connect(TELL_PORT).await?, request).await?.status();
        if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("{DNS} answers {path} with {status}"))) }
    }

    async fn start(&self) -> io::Result<Running> {
        let folder = self.lab.join("acme");
        fs_err::create_dir_all(&folder)?;
        let (certificate, key) = tls::pair(&self.lab, &["localhost".to_owned()])?;
        write_private(&folder.join("key.pem"), key.as_bytes())?;
        fs_err::write(folder.join("certificate.pem"), certificate)?;
        let config = json!({ "pebble": {
            "listenAddress": format!("{ADDRESS}:{ACME_PORT}"),
            "managementListenAddress": format!("{ADDRESS}:{MANAGE_PORT}"),
            "certificate": folder.join("certificate.pem"),
            "privateKey": folder.join("key.pem"),
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": LIFETIME_S,
        } });
        fs_err::write(folder.join("pebble.json"), config.to_string())?;
        let resolver = format!("127.0.0.1:{DNS_PORT}");
        let config = folder.join("pebble.json").display().to_string();
        let argv = [PEBBLE, "-config", &config, "-dnsserver", &resolver].map(Into::into);
        let inside = machines::exec_from(&self.lab.join("machines"), None, IpAddr::V4(ADDRESS), &argv);
        let inside = inside.map_err(io::Error::other)?;
        let words = [inside.get_program()].into_iter().chain(inside.get_args());
        // Validation at once, and no surprises: a rehearsal must come out the same each time.
        let settings = [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0"), ("PEBBLE_AUTHZREUSE", "0")];
        let mut pebble = spawn(
            Command::new("setpriv").args(["--pdeathsig", "TERM", "--"]).args(words).envs(settings),
            &folder,
            PEBBLE,
        )?;
        self.ready(&mut pebble, ACME_PORT).await?;
        // It listens, so it has its own network by now, which the DNS joins.
        let network = format!("--net=/proc/{}/ns/net", pebble.id().unwrap_or_default());
        let told = format!(":{TELL_PORT}");
        let mut dns = spawn(
            Command::new("setpriv")
                .args(["--pdeathsig", "TERM", "--", "nsenter", &network, DNS])
                .args(["-dns01", &resolver, "-management", &told, "-http01", "", "-https01", "", "-tlsalpn01", ""])
                // A name that nobody declared leads nowhere.
                .args(["-defaultIPv4", "", "-defaultIPv6", ""]),
            &folder,
            DNS,
        )?;
        self.ready(&mut dns, TELL_PORT).await?;
        let tls = tls::connector(&self.lab)?;
        let root = self.root(&tls).await?;
        fs_err::write(folder.join(ROOT_FILE), root)?;
        Ok(Running { pebble, dns, tls, told: BTreeMap::new() })
    }

    /// The root certificate that clients of a rehearsal trust, as everybody else trusts Let's Encrypt's: new at each start.
    async fn root(&self, tls: &TlsConnector) -> io::Result<axum::body::Bytes> {
        let request = Request::builder().uri("/roots/0").header(header::HOST, "localhost").body(Body::empty());
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = tls.connect(name, self.connect(MANAGE_PORT).await?).await?;
        let answer = send(stream, request.map_err(io::Error::other)?).await?;
        axum::body::to_bytes(answer.into_body(), ROOT_LIMIT).await.map_err(io::Error::other)
    }

    /// Waits until a program takes connections.
    async fn ready(&self, child: &mut Child, port: u16) -> io::Result<()> {
        let limit = Instant::now() + READY_LIMIT;
        while Instant::now() < limit && child.try_wait()?.is_none() {
            if self.connect(port).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(READY_LOOK).await;
        }
        Err(io::Error::other(format!("it did not start; its log is in `{}`", self.lab.join("acme").display())))
    }

    /// Ends what was started.
    pub async fn stop(&self) {
        let Some(mut running) = self.running.lock().await.take() else { return };
        for child in [&mut running.dns, &mut running.pebble] {
            if let Some(process) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Process::of)
                && !matches!(tokio::task::spawn_blocking(move || process.end(STOP_LIMIT)).await, Ok(true))
            {
                tracing::error!(pid = process.pid, "the ACME service did not end");
            }
            drop(tokio::time::timeout(STOP_LIMIT, child.wait()).await);
        }
    }
}

/// Whether this computer has what it takes.
pub fn installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    [PEBBLE, DNS].iter().all(|tool| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()))
}

fn spawn(command: &mut Command, folder: &Path, name: &str) -> io::Result<Child> {
    if !installed() {
        return Err(io::Error::other(format!("this computer has no `{PEBBLE}` (Debian package {PEBBLE})")));
    }
    let log = fs_err::File::create(folder.join(format!("{name}.log")))?.into_parts().0;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()
}

/// One request over a connection of its own.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> io::Result<Response<Body>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let mut response = sender.send_request(request).await.map_err(io::Error::other)?;
    response.headers_mut().remove(header::CONNECTION);
    Ok(response.map(Body::new))
}
