//! Who we are, and that nothing is asked or changed when that is not known.
//!
//! What depends on the environment runs in a process of its own: this test program again, with one ignored test.

use std::net::TcpListener;
use std::process::{Command, Output};

use seawall::base::diag::Diagnostic;
use seawall::base::secret::Secret;
use seawall::reach::aws::{Aws, Connection};

use crate::aws::{Account, REGION, SECRET, connect};
use crate::support::emulator;
use crate::support::front::Front;

const STS: &str = "GetCallerIdentity";
/// Set in a process that a test starts to play its other half.
const CHILD: &str = "SEAWALL_TEST_CHILD";

async fn diagnostic(aws: &Aws) -> Diagnostic {
    let error = aws.identify().await.expect_err("nobody may take us for somebody here");
    let diagnostic = error.diagnostic();
    assert!(!format!("{error:?} {diagnostic:?}").contains(SECRET), "{error:?} {diagnostic:?}");
    assert!(diagnostic.hint.is_some(), "a way out is named: {diagnostic:?}");
    diagnostic
}

/// Everything that a diagnostic says.
fn words(diagnostic: &Diagnostic) -> String {
    format!("{} {} {}", diagnostic.message, diagnostic.notes.join(" "), diagnostic.hint.as_deref().unwrap_or_default())
}

#[tokio::test]
async fn sts_says_who_we_are() {
    let Some(lab) = Account::new("sts_says_who_we_are").await else { return };
    let identity = lab.aws.identify().await.expect("the account is the expected one");
    assert_eq!(identity.account, lab.number);
    assert_eq!(identity.arn, format!("arn:aws:iam::{}:root", lab.number));
}

#[tokio::test]
async fn another_account_is_refused_by_name() {
    let Some(lab) = Account::new("another_account_is_refused_by_name").await else { return };
    let expected = emulator::new_account();
    let aws = connect(&lab.endpoint, &expected, REGION, &lab.number, SECRET).await;
    let diagnostic = diagnostic(&aws).await;
    assert_eq!(diagnostic.code, "wrong-account");
    let words = words(&diagnostic);
    assert!(words.contains(&expected) && words.contains(&lab.number), "{words}");
}

#[tokio::test]
async fn expired_credentials_are_told_apart() {
    const EXPIRED: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code>\
        <Message>The security token included in the request is expired</Message></Error><RequestId>1</RequestId></ErrorResponse>";
    let sts = Front::new(None, |_, _| Some((403, EXPIRED.to_owned()))).await;
    let aws = connect(&sts.endpoint, "123456789012", REGION, "AKIAEXAMPLE", SECRET).await;
    assert_eq!(diagnostic(&aws).await.code, "expired-credentials");
    assert_eq!(sts.count(STS), 1, "asking again does not help: {:?}", sts.asked());
}

#[tokio::test]
async fn a_moment_of_trouble_is_ridden_out() {
    const WHO: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
        <Arn>arn:aws:iam::123456789012:user/ops</Arn><UserId>AIDAEXAMPLE</UserId><Account>123456789012</Account>\
        </GetCallerIdentityResult></GetCallerIdentityResponse>";
    let sts =
        Front::new(None, |_, before| Some(if before < 2 { (503, String::new()) } else { (200, WHO.to_owned()) })).await;
    let aws = connect(&sts.endpoint, "123456789012", REGION, "AKIAEXAMPLE", SECRET).await;
    let identity = aws.identify().await.expect("the third answer is good");
    assert_eq!(identity.arn, "arn:aws:iam::123456789012:user/ops");
    assert_eq!(sts.count(STS), 3);
}

#[tokio::test]
async fn nobody_at_home_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let endpoint = format!("http://{}", listener.local_addr().expect("a bound socket has an address"));
    drop(listener);
    let aws = connect(&endpoint, "123456789012", REGION, "AKIAEXAMPLE", SECRET).await;
    assert_eq!(diagnostic(&aws).await.code, "aws-unreachable");
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

/// Runs one test of this program again, as [`CHILD`], with an environment of its own.
fn child(test: &str, environment: &[(&str, &str)]) -> Output {
    let program = std::env::current_exe().expect("this program knows where it is");
    let folder = tempfile::tempdir().expect("a temporary folder");
    Command::new(program)
        .args(["--exact", &format!("aws::{test}"), "--nocapture"])
        .env_clear()
        .env(CHILD, "1")
        .env("HOME", folder.path())
        .envs(environment.iter().copied())
        .output()
        .expect("this program runs")
}

#[track_caller]
fn assert_passed(output: &Output) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "--- stdout\n{out}\n--- stderr\n{err}");
}

fn from_the_environment(account: &str, endpoint: Option<&str>) -> Connection {
    Connection {
        buckets: std::collections::BTreeMap::new(),
        region: REGION.to_owned(),
        account: account.to_owned(),
        endpoint: endpoint.map(str::to_owned),
        ca_file: None,
        credentials: None,
    }
}

#[test]
fn without_credentials_the_machines_own_identity_is_not_used() {
    if is_child() {
        return runtime().block_on(in_a_bare_environment());
    }
    let metadata = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    metadata.set_nonblocking(true).expect("a socket that does not wait");
    let address = format!("http://{}", metadata.local_addr().expect("a bound socket has an address"));
    let output = child(
        "identity::without_credentials_the_machines_own_identity_is_not_used",
        &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &address)],
    );
    assert_passed(&output);
    let knocked = metadata.accept().is_ok();
    assert!(!knocked, "the metadata service was asked for credentials");
}

/// In a process without credentials.
async fn in_a_bare_environment() {
    let nobody = Front::new(None, |_, _| Some((500, String::new()))).await;
    let connection = from_the_environment("123456789012", Some(&nobody.endpoint));
    let aws = Aws::connect(&connection).await.expect("credentials are looked for when they are needed");
    let diagnostic = diagnostic(&aws).await;
    assert_eq!(diagnostic.code, "no-credentials", "{diagnostic:?}");
    assert!(words(&diagnostic).contains("nothing was"), "{diagnostic:?}");
    assert!(nobody.asked().is_empty(), "{:?}", nobody.asked());
}

#[test]
fn the_sdks_environment_is_honoured() {
    if is_child() {
        return runtime().block_on(as_the_environment_says());
    }
    let Some(cloud) = emulator::emulator("the_sdks_environment_is_honoured") else { return };
    let account = emulator::new_account();
    let settings = [
        ("AWS_ENDPOINT_URL", cloud.endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", &account),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ];
    assert_passed(&child("identity::the_sdks_environment_is_honoured", &settings));

    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("credentials");
    std::fs::write(&file, format!("[ops]\naws_access_key_id = {account}\naws_secret_access_key = {SECRET}\n"))
        .expect("written");
    let file = file.to_str().expect("temporary folders have plain names");
    let settings =
        [("AWS_ENDPOINT_URL", cloud.endpoint.as_str()), ("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_PROFILE", "ops")];
    assert_passed(&child("identity::the_sdks_environment_is_honoured", &settings));
}

/// In a process with settings of its own.
async fn as_the_environment_says() {
    let aws = Aws::connect(&from_the_environment("123456789012", None)).await.expect("the environment is complete");
    let error = aws.identify().await.expect_err("a test's account is never the documentation's");
    assert_eq!(error.diagnostic().code, "wrong-account", "the key and the address were found: {error:?}");
}

const ROLE: &str = "arn:aws:iam::123456789012:role/ops";
const ASSUMED: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
    <AssumedRoleUser><AssumedRoleId>AROAEXAMPLE:s</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/ops/s</Arn></AssumedRoleUser>\
    <Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>short-lived</SecretAccessKey>\
    <SessionToken>a-token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
const ASSUMER: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
    <Arn>arn:aws:sts::123456789012:assumed-role/ops/s</Arn><UserId>AROAEXAMPLE:s</UserId><Account>123456789012</Account>\
    </GetCallerIdentityResult></GetCallerIdentityResponse>";

const DENIED: &str = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";

/// Profiles of each kind, and what STS is asked for with them.
#[test]
fn profiles_of_every_kind_give_credentials_or_say_what_they_lack() {
    if is_child() {
        return runtime().block_on(as_the_profile_says());
    }
    let runtime = runtime();
    let sts = runtime.block_on(Front::new(None, |asked, _| {
        Some(match asked.what.as_str() {
            STS => (200, ASSUMER.to_owned()),
            "AssumeRole" if asked.body.contains("denied") => (403, DENIED.to_owned()),
            "AssumeRole" => (200, ASSUMED.to_owned()),
            "AssumeRoleWithWebIdentity" => (200, ASSUMED.replace("AssumeRole", "AssumeRoleWithWebIdentity")),
            _ => (500, String::new()),
        })
    }));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("temporary folders have plain names").to_owned();
    std::fs::write(at("token"), "a.web.token").expect("written");
    let config = format!(
        "[profile role]\nrole_arn = {ROLE}\nsource_profile = base\n[profile base]\naws_access_key_id = AKIAEXAMPLE\n\
         aws_secret_access_key = {SECRET}\n[profile web]\nrole_arn = {ROLE}\nweb_identity_token_file = {}\n\
         [profile machine]\nrole_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata\n\
         [profile factor]\nrole_arn = {ROLE}-denied\nsource_profile = base\nmfa_serial = arn:aws:iam::123456789012:mfa/me\n\
         [profile sso]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = ops\n\
         [sso-session work]\nsso_start_url = https://work.awsapps.com/start\nsso_region = ca-central-1\n",
        at("token")
    );
    std::fs::write(at("config"), config).expect("written");
    let file = at("config");
    let metadata = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    metadata.set_nonblocking(true).expect("a socket that does not wait");
    let address = format!("http://{}", metadata.local_addr().expect("a bound socket has an address"));
    for (name, says) in [
        ("role", ""),
        ("web", ""),
        ("machine", "instance metadata is never used"),
        ("factor", "with a second factor"),
        ("sso", "aws sso login --profile sso"),
        ("nobody", "profile `nobody` is in no profile file"),
    ] {
        let settings = [
            ("AWS_CONFIG_FILE", file.as_str()),
            ("AWS_PROFILE", name),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &address),
            ("AWS_ENDPOINT_URL", &sts.endpoint),
            ("SAYS", says),
        ];
        assert_passed(&child("identity::profiles_of_every_kind_give_credentials_or_say_what_they_lack", &settings));
    }
    assert!(metadata.accept().is_err(), "the metadata service was asked for credentials");
}

/// In a process with a profile.
async fn as_the_profile_says() {
    let aws = Aws::connect(&from_the_environment("123456789012", None)).await.expect("the environment is complete");
    let says = std::env::var("SAYS").expect("the parent has set it");
    if says.is_empty() {
        let identity = aws.identify().await.expect("the profile gives credentials");
        assert_eq!(identity.arn, "arn:aws:sts::123456789012:assumed-role/ops/s");
        return;
    }
    let diagnostic = diagnostic(&aws).await;
    assert!(diagnostic.code == "no-credentials" && words(&diagnostic).contains(&says), "`{says}`: {diagnostic:?}");
}

/// An STS of which only a private authority knows, for one connection after the other.
async fn private_sts(name: &str) -> (String, String) {
    let key = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a name makes a certificate");
    let chain = vec![key.cert.der().clone()];
    let private = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(
        tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().into(),
    )
    .with_safe_default_protocol_versions()
    .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private.into()))
    .expect("the certificate belongs to the key");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
            let denied =
                "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>expired</Message></Error></ErrorResponse>";
            let head =
                format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", denied.len());
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, format!("{head}{denied}").as_bytes()).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
        }
    });
    (format!("https://{name}:{port}"), key.cert.pem())
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_when_it_is_named() {
    let (endpoint, pem) = private_sts("localhost").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, pem).expect("the temporary folder is writable");
    let mut connection = Connection {
        buckets: std::collections::BTreeMap::new(),
        region: REGION.to_owned(),
        account: "123456789012".to_owned(),
        endpoint: Some(endpoint),
        ca_file: Some(file.clone()),
        credentials: Some(("AKIAEXAMPLE".to_owned(), Secret::new(SECRET.to_owned()))),
    };
    let known = Aws::connect(&connection).await.expect("the authority's file is readable");
    assert_eq!(diagnostic(&known).await.code, "expired-credentials");

    connection.ca_file = None;
    let unknown = Aws::connect(&connection).await.expect("the system's authorities are there");
    assert_eq!(diagnostic(&unknown).await.code, "aws-unreachable");

    connection.ca_file = Some(folder.path().join("missing.pem"));
    assert!(Aws::connect(&connection).await.is_err(), "a file that is not there is no authority");
    std::fs::write(&file, "no certificate").expect("the temporary folder is writable");
    connection.ca_file = Some(file);
    assert!(Aws::connect(&connection).await.is_err(), "a file without a certificate is no authority");
}
