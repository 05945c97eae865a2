//! Debian packages that cannot be installed beside each other.

/// A package, and those that its archive says cannot be beside it (`Conflicts:` and `Breaks:` of Debian 12 and 13, of which
/// apt removes one to install the other, without a question). Not all there are: those that a section installs, with what people
/// have instead of them. apt is told to remove nothing, so any other pair fails before anything is installed.
pub const EXCLUSIVE: [(&str, &[&str]); 3] = [
    ("systemd-timesyncd", &["chrony", "ntpsec", "openntpd"]),
    ("ufw", &["iptables-persistent", "netfilter-persistent"]),
    ("docker.io", &["docker-ce", "docker-ce-cli", "docker-ce-rootless-extras", "containerd.io"]),
];

/// What cannot be beside a package.
pub fn excluded_by(package: &str) -> &'static [&'static str] {
    EXCLUSIVE.iter().find(|(name, _)| *name == package).map_or(&[], |(_, others)| others)
}
