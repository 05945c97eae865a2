//! What stands behind an instance. The real machines implement [`Machines`]; [`NoMachines`] is the cloud half alone.
//!
//! Calls for one instance never overlap. A machine is named by its instance's name, which is unique in the lab.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A boxed future, so that the trait can be an object.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, MachineFault>> + Send + 'a>>;

/// Why a machine did not do it; ends up in the operation's `errorDetails`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MachineFault(pub String);

/// What a new machine is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub name: String,
    pub hostname: String,
    /// The login user of the blueprint.
    pub username: String,
    pub blueprint: String,
    /// Lines for the login user's `authorized_keys`.
    pub authorized_keys: Vec<String>,
    /// Runs once as root at first boot; empty if there is none.
    pub user_data: String,
    /// The lab's SSH user certificate authority (`TrustedUserCAKeys`), where there is one.
    pub user_ca: Option<String>,
    /// The open ports at birth.
    pub ports: Vec<PortRule>,
}

/// A machine that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub v4: Ipv4Addr,
    pub v6: Option<Ipv6Addr>,
    pub host_keys: Vec<HostKey>,
}

/// One public host key: `ssh-ed25519` and the base64 text, as in a `.pub` file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostKey {
    pub algorithm: String,
    pub public_key: String,
}

/// One rule of an instance's firewall, as the API takes it. Rules only allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRule {
    pub from_port: i32,
    pub to_port: i32,
    /// `tcp`, `udp`, `all`, `icmp`, `icmpv6`. For the latter two the ports are type and code, -1 meaning any.
    pub protocol: String,
    #[serde(default)]
    pub cidrs: Vec<String>,
    #[serde(default)]
    pub ipv6_cidrs: Vec<String>,
    /// Only `lightsail-connect` exists.
    #[serde(default)]
    pub cidr_list_aliases: Vec<String>,
}

/// The machines behind the instances.
pub trait Machines: Send + Sync {
    /// Makes a machine and returns when it answers.
    fn create<'a>(&'a self, order: &'a Order) -> Later<'a, Machine>;
    /// Starts a stopped machine; its dynamic address may be another one.
    fn start<'a>(&'a self, name: &'a str) -> Later<'a, Machine>;
    fn stop<'a>(&'a self, name: &'a str) -> Later<'a, ()>;
    fn reboot<'a>(&'a self, name: &'a str) -> Later<'a, ()>;
    /// Removes a machine; one that is not there is fine.
    fn delete<'a>(&'a self, name: &'a str) -> Later<'a, ()>;
    /// Replaces the whole firewall of a machine.
    fn set_ports<'a>(&'a self, name: &'a str, rules: &'a [PortRule]) -> Later<'a, ()>;
    /// Gives a machine a static address, or with `None` a dynamic one; returns the address it now has.
    fn set_public_address<'a>(&'a self, name: &'a str, address: Option<Ipv4Addr>) -> Later<'a, Ipv4Addr>;
    /// The static address with this number (counted from 0), from a range that the machines can route; `None` when the
    /// range is used up.
    fn static_address(&self, number: u32) -> Option<Ipv4Addr>;
    /// Takes note of an instance that an earlier daemon made; returns whether its machine is still up.
    fn adopt<'a>(&'a self, name: &'a str) -> Later<'a, bool>;
    /// The address that stands here for one of an earlier lab: a lab from a template may have another range.
    fn here(&self, address: IpAddr) -> IpAddr;
    /// Powers all machines off in order; the instances are not told, so that they run again under the next daemon.
    fn rest(&self) -> Later<'_, ()>;
}

/// No machine behind: instances get documentation addresses (RFC 5737, RFC 3849) and made-up host keys.
#[derive(Debug, Default)]
pub struct NoMachines {
    next: AtomicU32,
}

/// Usable last octets in a /24 of documentation addresses.
const OCTETS: u32 = 250;

impl NoMachines {
    fn dynamic(&self) -> (Ipv4Addr, Ipv6Addr) {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % OCTETS + 2;
        let octet = u8::try_from(number).expect("OCTETS + 2 fits an octet");
        (Ipv4Addr::new(198, 51, 100, octet), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(octet)))
    }

    fn machine(&self) -> Machine {
        let (v4, v6) = self.dynamic();
        let mut blob = vec![0, 0, 0, 11];
        blob.extend_from_slice(b"ssh-ed25519");
        blob.extend_from_slice(&[0, 0, 0, 32]);
        blob.extend((0..32).map(|_| fastrand::u8(..)));
        Machine {
            v4,
            v6: Some(v6),
            host_keys: vec![HostKey { algorithm: "ssh-ed25519".to_owned(), public_key: STANDARD.encode(blob) }],
        }
    }
}

impl Machines for NoMachines {
    fn create<'a>(&'a self, _order: &'a Order) -> Later<'a, Machine> {
        Box::pin(async { Ok(self.machine()) })
    }

    fn start<'a>(&'a self, _name: &'a str) -> Later<'a, Machine> {
        Box::pin(async {
            let mut machine = self.machine();
            // The host keys are on the disk, which a stop does not touch: the API keeps those it knows.
            machine.host_keys.clear();
            Ok(machine)
        })
    }

    fn stop<'a>(&'a self, _name: &'a str) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn reboot<'a>(&'a self, _name: &'a str) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn delete<'a>(&'a self, _name: &'a str) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn set_ports<'a>(&'a self, _name: &'a str, _rules: &'a [PortRule]) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn set_public_address<'a>(&'a self, _name: &'a str, address: Option<Ipv4Addr>) -> Later<'a, Ipv4Addr> {
        Box::pin(async move { Ok(address.unwrap_or_else(|| self.dynamic().0)) })
    }

    fn static_address(&self, number: u32) -> Option<Ipv4Addr> {
        let octet = u8::try_from(number).ok().filter(|octet| u32::from(*octet) < OCTETS)?;
        Some(Ipv4Addr::new(203, 0, 113, octet + 2))
    }

    fn adopt<'a>(&'a self, _name: &'a str) -> Later<'a, bool> {
        Box::pin(async { Ok(true) })
    }

    fn here(&self, address: IpAddr) -> IpAddr {
        address
    }

    fn rest(&self) -> Later<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
