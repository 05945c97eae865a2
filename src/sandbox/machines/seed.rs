//! What a cloud writes into a server before its first boot: name, keys, login user, launch script, trust.
//!
//! Host keys are made here, so the caller knows them before the host exists and connections can be strict from the
//! first. The gateway's address stands in a host's files; a lab that gets another number rewrites them before the host boots.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::base::release::Release;
use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::net::Subnet;
use crate::sandbox::machines::tool::run;

/// The login user of the image, and the ids that it has.
pub(super) const IMAGE_USER: &str = "admin";
const USER_ID: u32 = 1000;
/// Files of the image that name the login user.
const USER_FILES: [&str; 6] = ["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/subuid", "etc/subgid"];

/// A host to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Unique in the lab: letters, digits, `.`, `_`, `-`.
    pub name: String,
    pub hostname: String,
    #[serde(default)]
    pub release: Release,
    /// The login user with sudo; `admin` is Debian's.
    pub user: String,
    /// Lines of `authorized_keys`.
    pub authorized_keys: Vec<String>,
    /// The launch script. It runs once as root at the first boot, with `sh` unless it begins with `#!`.
    pub user_data: Option<String>,
    /// Public key of the authority whose login certificates are accepted, as Lightsail's browser login uses.
    pub login_ca: Option<String>,
    /// Names that hosts shall find at the lab's gateway, for example AWS endpoints.
    pub gateway_names: Vec<String>,
    /// One more certificate authority to trust, as PEM.
    pub trusted_pem: Option<String>,
    /// Port of the packages proxy at the gateway.
    pub packages_port: Option<u16>,
}

/// Refuses what could not be a file name, a host name or a user.
pub(super) fn check(spec: &Spec) -> Result<(), MachineError> {
    let word = |text: &str, more: &str| {
        (1..=63).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if !word(&spec.name, "._-") {
        return Err(MachineError::bad(format!("`{}` cannot name a host", spec.name)));
    }
    if !word(&spec.hostname, ".-") {
        return Err(MachineError::bad(format!("`{}` is not a host name", spec.hostname)));
    }
    if !word(&spec.user, "_-") || spec.user.starts_with(|c: char| c.is_ascii_digit()) || spec.user == "root" {
        return Err(MachineError::bad(format!("`{}` cannot be the login user", spec.user)));
    }
    Ok(())
}

/// Writes the files into the empty upper layer. Gives back the host keys as known_hosts has them, without the name.
pub(super) async fn first_boot(
    spec: &Spec,
    image: &Path,
    upper: &Path,
    gateway: Ipv4Addr,
) -> Result<Vec<String>, MachineError> {
    let at = MachineError::io(format!("cannot seed `{}`", upper.display()));
    files(spec, image, upper).and_then(|()| lab_files(spec, gateway, upper)).map_err(at)?;
    let mut keys = Vec::new();
    for kind in ["ed25519", "ecdsa"] {
        let path = upper.join(format!("etc/ssh/ssh_host_{kind}_key"));
        let (file, comment) = (path.display().to_string(), format!("root@{}", spec.hostname));
        run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-C", &comment, "-f", &file], "").await?;
        let public = path.with_extension("pub");
        let text = fs_err::read_to_string(&public).map_err(MachineError::at(&public))?;
        keys.push(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    }
    if let Some(pem) = &spec.trusted_pem {
        trust(pem, image, upper).await?;
    }
    Ok(keys)
}

fn files(spec: &Spec, image: &Path, upper: &Path) -> io::Result<()> {
    let home = format!("home/{}", spec.user);
    write(upper, "etc/hostname", &format!("{}\n", spec.hostname), 0o644)?;
    if spec.user != IMAGE_USER {
        rename_user(&spec.user, image, upper)?;
        for file in fs_err::read_dir(image.join("etc/skel"))? {
            let file = file?;
            fs_err::create_dir_all(upper.join(&home))?;
            fs_err::copy(file.path(), upper.join(&home).join(file.file_name()))?;
            own(upper, &format!("{home}/{}", file.file_name().to_string_lossy()))?;
        }
    }
    let keys = spec.authorized_keys.join("\n") + "\n";
    write(upper, &format!("{home}/.ssh/authorized_keys"), &keys, 0o600)?;
    mode(upper, &format!("{home}/.ssh"), 0o700)?;
    mode(upper, &home, 0o755)?;
    for path in [format!("{home}/.ssh/authorized_keys"), format!("{home}/.ssh"), home] {
        own(upper, &path)?;
    }
    if let Some(script) = &spec.user_data {
        write(upper, "var/lib/cloud/instance/user-data.txt", script, 0o700)?;
    }
    let authority = spec.login_ca.as_deref().map(|key| format!("{}\n", key.trim())).unwrap_or_default();
    write(upper, "etc/ssh/lightsail_instance_ca.pub", &authority, 0o644)?;
    Ok(())
}

/// Files that name the lab's gateway.
const GATEWAY_FILES: [&str; 2] = ["etc/hosts", "etc/apt/apt.conf.d/95lab-proxy"];

/// Leads a host to the gateway of a lab that has another number than its files say: it comes from a template, or the
/// number became somebody else's. A second try after a kill does the same, whatever number the first had written.
pub(super) fn move_gateway(layers: &[PathBuf], upper: &Path, lab: Subnet) -> Result<(), MachineError> {
    let work = || -> io::Result<()> {
        for file in GATEWAY_FILES {
            // The topmost layer that says something of it; what it removed is a device there, and stays away.
            let all = [upper.to_owned()].into_iter().chain(layers.iter().cloned());
            let source = all.map(|layer| layer.join(file)).find(|path| path.symlink_metadata().is_ok());
            let Some(source) = source.filter(|path| path.is_file()) else { continue };
            let text = moved(&fs_err::read_to_string(&source)?, lab);
            write(upper, file, &text, fs_err::metadata(&source)?.permissions().mode() & 0o777)?;
        }
        Ok(())
    };
    work().map_err(MachineError::io("cannot lead a host to this lab's gateway"))
}

/// A text with this lab's gateway in the place of every other lab's.
fn moved(text: &str, lab: Subnet) -> String {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let end = rest[at..].find(|c| !is_part(c)).map_or(rest.len(), |length| at + length);
        let word = &rest[at..end];
        out.push_str(&rest[..at]);
        match word.parse::<Ipv4Addr>() {
            Ok(address) if lab.here(address.into()) == lab.gateway() => out.push_str(&lab.gateway().to_string()),
            _ => out.push_str(word),
        }
        rest = &rest[end..];
    }
    out + rest
}

/// Writes what leads to the lab's gateway.
fn lab_files(spec: &Spec, gateway: Ipv4Addr, upper: &Path) -> io::Result<()> {
    let mut hosts =
        format!("127.0.0.1 localhost\n127.0.1.1 {}\n::1 localhost ip6-localhost ip6-loopback\n", spec.hostname);
    for name in &spec.gateway_names {
        writeln!(hosts, "{gateway} {name}").expect("a String takes all");
    }
    write(upper, "etc/hosts", &hosts, 0o644)?;
    if let Some(port) = spec.packages_port {
        let text = format!("Acquire::http::Proxy \"http://{gateway}:{port}\";\n");
        write(upper, "etc/apt/apt.conf.d/95lab-proxy", &text, 0o644)?;
    }
    Ok(())
}

/// Names the image's login user differently, in every file that knows it.
fn rename_user(user: &str, image: &Path, upper: &Path) -> io::Result<()> {
    for file in USER_FILES {
        let source = image.join(file);
        if !source.exists() {
            continue;
        }
        let mut text = String::new();
        for line in fs_err::read_to_string(&source)?.lines() {
            let fields: Vec<String> = line
                .split(':')
                .map(|field| {
                    let members: Vec<&str> = field.split(',').map(|m| if m == IMAGE_USER { user } else { m }).collect();
                    members.join(",").replace(&format!("/home/{IMAGE_USER}"), &format!("/home/{user}"))
                })
                .collect();
            writeln!(text, "{}", fields.join(":")).expect("a String takes all");
        }
        let permissions = fs_err::metadata(&source)?.permissions();
        write(upper, file, &text, permissions.mode() & 0o777)?;
        let group = std::os::unix::fs::MetadataExt::gid(&fs_err::metadata(&source)?);
        chown(upper.join(file), Some(0), Some(group))?;
    }
    let rule = format!("{user} ALL=(ALL) NOPASSWD:ALL\n");
    write(upper, "etc/sudoers.d/90-cloud-init-users", &rule, 0o440)
}

/// Puts an authority where OpenSSL, curl and everything on top look: the bundle, and a link by hash.
async fn trust(pem: &str, image: &Path, upper: &Path) -> Result<(), MachineError> {
    let image_name = image.display().to_string();
    // The guest's own openssl names the file, so the hash is the one that it will look for.
    let openssl = [&image_name, "openssl", "x509", "-noout", "-subject_hash"];
    let hash = run("chroot", &openssl, pem).await?;
    let work = || -> io::Result<()> {
        write(upper, "usr/local/share/ca-certificates/lab.crt", pem, 0o644)?;
        let bundle = fs_err::read_to_string(image.join("etc/ssl/certs/ca-certificates.crt"))?;
        write(upper, "etc/ssl/certs/ca-certificates.crt", &format!("{bundle}{pem}"), 0o644)?;
        let link = upper.join(format!("etc/ssl/certs/{}.0", hash.trim()));
        std::os::unix::fs::symlink("/usr/local/share/ca-certificates/lab.crt", link)
    };
    work().map_err(MachineError::io("cannot add a certificate authority"))
}

/// Writes a file of the guest. Folders that are new in the upper layer hide nothing of the image: overlayfs merges.
pub(super) fn write(root: &Path, path: &str, text: &str, bits: u32) -> io::Result<()> {
    let target = root.join(path);
    let mut folder = root.to_owned();
    for part in Path::new(path).parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        if !folder.is_dir() {
            // Explicit, because the guest must not inherit the umask of whoever runs this program.
            fs_err::create_dir(&folder)?;
            fs_err::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    fs_err::write(&target, text)?;
    mode(root, path, bits)
}

fn mode(root: &Path, path: &str, bits: u32) -> io::Result<()> {
    fs_err::set_permissions(root.join(path), std::fs::Permissions::from_mode(bits))
}

fn own(root: &Path, path: &str) -> io::Result<()> {
    chown(root.join(path), Some(USER_ID), Some(USER_ID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gateway_is_moved() {
        let before =
            "127.0.0.1 localhost\n10.99.3.1 s3.example\n10.99.3.11 db\nproxy \"http://10.99.0.1:3142\";\n10.99.3.1";
        let after =
            "127.0.0.1 localhost\n10.99.7.1 s3.example\n10.99.3.11 db\nproxy \"http://10.99.7.1:3142\";\n10.99.7.1";
        assert_eq!(moved(before, Subnet(7)), after);
    }
}
