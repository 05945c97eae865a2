//! The lab's certificate authority, and the front's certificate for every name that clients use for AWS.
//!
//! The authority is kept over restarts, so that machines which trust it still do; the server's certificate is new
//! at each start. Neither is ever meant for anything but the lab.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::base::read;
use crate::sandbox::lightsail::catalog::REGIONS;
use crate::sandbox::process::write_private;

/// The authority's certificate in the lab's folder.
pub const CA_FILE: &str = "ca.pem";
pub const CA_KEY_FILE: &str = "ca.key";

fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Seawall sandbox CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Let's Encrypt's own names, which hosts ask for an order. Both lead to the same pebble.
pub const ACME_NAMES: [&str; 2] = ["acme-v02.api.letsencrypt.org", "acme-staging-v02.api.letsencrypt.org"];

/// The names in the front's certificate.
fn names(more: &[String]) -> Vec<String> {
    let mut names =
        ["127.0.0.1", "::1", "localhost", "*.amazonaws.com", "*.s3.amazonaws.com"].map(str::to_owned).to_vec();
    for (region, _, _) in REGIONS {
        names.push(format!("s3.{region}.amazonaws.com"));
        names.push(format!("*.s3.{region}.amazonaws.com"));
        names.push(format!("*.{region}.amazonaws.com"));
    }
    names.extend(ACME_NAMES.map(str::to_owned));
    names.extend_from_slice(more);
    names
}

/// Makes or reads the authority in `folder`.
fn issuer(folder: &Path) -> io::Result<Issuer<'static, KeyPair>> {
    let params = authority().map_err(io::Error::other)?;
    let key_file = folder.join(CA_KEY_FILE);
    let key = if folder.join(CA_FILE).exists() && key_file.exists() {
        KeyPair::from_pem(&read::our_text(&key_file, read::OURS)?).map_err(io::Error::other)?
    } else {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        write_private(&key_file, key.serialize_pem().as_bytes())?;
        fs_err::write(folder.join(CA_FILE), certificate.pem())?;
        key
    };
    Ok(Issuer::new(params, key))
}

/// A new certificate of the authority in `folder`, and its key.
fn signed(folder: &Path, names: Vec<String>) -> io::Result<(Certificate, KeyPair)> {
    let mut server = CertificateParams::new(names).map_err(io::Error::other)?;
    server.distinguished_name = rcgen::DistinguishedName::new();
    server.distinguished_name.push(DnType::CommonName, "Seawall sandbox");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let certificate = server.signed_by(&key, &issuer(folder)?).map_err(io::Error::other)?;
    Ok((certificate, key))
}

/// A certificate and its key as PEM, for a program of the lab's own.
pub fn pair(folder: &Path, names: &[String]) -> io::Result<(String, String)> {
    let (certificate, key) = signed(folder, names.to_vec())?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// What ends TLS for the front's names and `more` of them.
pub fn acceptor(folder: &Path, more: &[String]) -> io::Result<TlsAcceptor> {
    let (certificate, key) = signed(folder, names(more))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What begins TLS with who has a certificate of the authority in `folder`.
pub fn connector(folder: &Path) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(folder.join(CA_FILE)).map_err(io::Error::other)?;
    roots.add(ca).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
