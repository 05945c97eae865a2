//! Key pairs. Deleting one leaves the instances alone that were made with it.

use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::base::read;
use crate::sandbox::lightsail::access::fingerprint;
use crate::sandbox::lightsail::call::{Call, one};
use crate::sandbox::lightsail::check;
use crate::sandbox::lightsail::error::ApiError;
use crate::sandbox::lightsail::state::{KeyPair, key, with};

/// Reads an OpenSSH public key line, as it is or with one more layer of base64 (clients do both).
fn public_line(text: &str) -> Option<String> {
    let is_line = |line: &str| {
        let mut words = line.split_whitespace();
        let algorithm = words.next().unwrap_or_default();
        let blob = words.next().and_then(|blob| STANDARD.decode(blob).ok()).unwrap_or_default();
        ["ssh-rsa", "ssh-ed25519"].contains(&algorithm)
            && blob.get(4..4 + algorithm.len()) == Some(algorithm.as_bytes())
    };
    if is_line(text) {
        return Some(text.trim().to_owned());
    }
    let decoded = String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?;
    is_line(&decoded).then(|| decoded.trim().to_owned())
}

fn insert(call: &mut Call, name: &str, line: &str) -> Result<KeyPair, ApiError> {
    check::name(name)?;
    call.state.refuse_taken(call.region, name)?;
    let tags = check::tags(call.params.get("tags"))?;
    let common = call.state.common("KeyPair", call.region, "all", name, tags);
    let blob = line.split_whitespace().nth(1).unwrap_or_default();
    let pair = KeyPair { common, public_key: line.to_owned(), fingerprint: fingerprint(blob) };
    call.state.key_pairs.insert(key(call.region, name), pair.clone());
    Ok(pair)
}

pub fn import(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("keyPairName")?;
    let text = call.need("publicKeyBase64")?;
    let line =
        public_line(&text).ok_or_else(|| ApiError::invalid("The public key is not an ssh-rsa or ssh-ed25519 key"))?;
    let pair = insert(call, &name, &line)?;
    Ok(one(&call.soon("", "KeyPair", &pair.common)).take_type())
}

/// The answer is the only place where the private key ever is.
pub fn create(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("keyPairName")?;
    let (private, line) = generate().map_err(|error| ApiError::new("OperationFailureException", error))?;
    let pair = insert(call, &name, &line)?;
    let answer = one(&call.soon("", "KeyPair", &pair.common)).take_type();
    Ok(with(answer, json!({ "keyPair": view(&pair), "publicKeyBase64": line, "privateKeyBase64": private })))
}

/// Makes an RSA pair with `ssh-keygen` in a folder that only we can read and that is gone afterwards.
fn generate() -> Result<(String, String), String> {
    let folder = std::env::temp_dir().join(format!("seawall-key-{:032x}", fastrand::u128(..)));
    let work = || -> std::io::Result<(String, String)> {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder)?;
        let file = folder.join("key");
        let status = Command::new("ssh-keygen")
            .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-C", "lightsail", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(std::io::Error::other("ssh-keygen failed"));
        }
        Ok((
            read::our_text(&file, read::OURS)?,
            read::our_text(&file.with_extension("pub"), read::OURS)?.trim().to_owned(),
        ))
    };
    let result = work().map_err(|error| error.to_string());
    if folder.exists() {
        fs_err::remove_dir_all(&folder).map_err(|error| error.to_string())?;
    }
    result
}

/// The model has no operation type for key pairs.
trait TakeType {
    fn take_type(self) -> Self;
}

impl TakeType for Value {
    fn take_type(mut self) -> Self {
        if let Some(operation) = self.get_mut("operation").and_then(Self::as_object_mut) {
            operation.remove("operationType");
        }
        self
    }
}

fn view(pair: &KeyPair) -> Value {
    with(pair.common.view("KeyPair"), json!({ "fingerprint": pair.fingerprint }))
}

fn find<'a>(call: &'a Call, name: &str) -> Result<&'a KeyPair, ApiError> {
    let found = call.state.key_pairs.get(&key(call.region, name));
    found.ok_or_else(|| ApiError::not_found("KeyPair", name))
}

pub fn get(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("keyPairName")?;
    Ok(json!({ "keyPair": view(find(call, &name)?) }))
}

pub fn list(call: &mut Call) -> Result<Value, ApiError> {
    let here = call.state.key_pairs.values().filter(|pair| pair.common.region == call.region);
    let views: Vec<Value> = here.map(view).collect();
    call.page("keyPairs", &views)
}

pub fn delete(call: &mut Call) -> Result<Value, ApiError> {
    let name = call.need("keyPairName")?;
    let pair = find(call, &name)?.clone();
    if call.text("expectedFingerprint").is_some_and(|expected| expected != pair.fingerprint) {
        return Err(ApiError::invalid(format!("The fingerprint of {name} is another one")));
    }
    call.state.key_pairs.remove(&key(call.region, &name));
    Ok(one(&call.soon("", "KeyPair", &pair.common)).take_type())
}
