//! The environment that the sandbox's own processes get: what programs need to run, and none of the operator's secrets. They
//! live as long as the lab does, and whoever is root here could read them there.

use std::ffi::{OsStr, OsString};

/// Variables that are passed on.
const NEEDED: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "SEAWALL_LOG",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "APT_CONFIG",
    "DEBIAN_FRONTEND",
];

/// The environment of a process of the sandbox.
pub fn needed() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| is_needed(name))
}

/// The same for pip, with where it finds packages and whom it trusts.
pub fn needed_by_pip() -> impl Iterator<Item = (OsString, OsString)> {
    let pip = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("PIP_") || name == "REQUESTS_CA_BUNDLE");
    std::env::vars_os().filter(move |(name, _)| is_needed(name) || pip(name))
}

fn is_needed(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        NEEDED.contains(&name) || name.starts_with("LC_") || name.to_ascii_lowercase().ends_with("_proxy")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_behind() {
        for kept in ["PATH", "LC_ALL", "https_proxy", "NO_PROXY"] {
            assert!(is_needed(OsStr::new(kept)), "{kept}");
        }
        for left in
            ["AWS_SECRET_ACCESS_KEY", "SEAWALL_CIPHER_PASS", "SSH_AUTH_SOCK", "LD_PRELOAD", "PYTHONPATH", "BASH_ENV"]
        {
            assert!(!is_needed(OsStr::new(left)), "{left}");
        }
    }
}
