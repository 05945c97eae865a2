//! The network of a lab: one namespace, held by a process, that routes between hosts, clients and this computer.
//!
//! Each host hangs on its own veth with a /32 and a /128 route, so everything between two of them passes the
//! lab, where the cloud's firewall is. One more veth, the uplink, makes the hosts reachable from this
//! computer; its other end carries the lab's number in its name, which claims the number for as long as the lab lives.
//! Deliberately absent: any way out, any rule or setting in this computer's own namespace besides that link.

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sched::setns;

use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::firewall;
use crate::sandbox::machines::firewall::PortRule;
use crate::sandbox::machines::tool::run;
use crate::sandbox::machines::tool::run_in_net;

/// The lab's end of the uplink, inside the lab.
const UPLINK: &str = "up0";
/// Every link's address on the lab's side: hosts need a gateway that answers on their own link.
const GATEWAY_LINK: &str = "fe80::1";
/// The last part of this computer's own address in a lab.
const OWN: u8 = 254;
/// Everything in a lab is on this computer and answers or refuses at once.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The range that hosts and static IPs take their last part from.
pub(super) const FIRST_HOST: u8 = 10;
pub(super) const LAST_HOST: u8 = 250;

/// Addresses by lab number and last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet(pub u8);

impl Subnet {
    pub(super) fn v4(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.0, last)
    }

    pub(super) fn v6(self, last: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd99, 0, 0, self.0.into(), 0, 0, 0, last.into())
    }

    pub(super) fn gateway(self) -> Ipv4Addr {
        self.v4(1)
    }

    /// The last part of an address of this subnet.
    pub(super) fn last(self, address: Ipv4Addr) -> Option<u8> {
        let [_, _, _, last] = address.octets();
        (self.v4(last) == address).then_some(last)
    }

    /// An address of any lab's range as this lab has it; every other address as it is.
    pub(super) fn here(self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) => match v4.octets() {
                [10, 99, _, last] => IpAddr::V4(self.v4(last)),
                _ => address,
            },
            IpAddr::V6(v6) => match v6.segments() {
                [0xfd99, 0, 0, _, 0, 0, 0, last] => {
                    u8::try_from(last).map_or(address, |last| IpAddr::V6(self.v6(last)))
                }
                _ => address,
            },
        }
    }

    fn link(self) -> String {
        format!("seawall{}", self.0)
    }
}

/// The network of a running lab.
#[derive(Clone, Debug)]
pub(super) struct LabNet {
    /// The process that holds the namespace.
    pub holder: u32,
    pub subnet: Subnet,
}

impl LabNet {
    /// Connects a fresh namespace to this computer under the first free number, or under the one that is wanted.
    pub(super) async fn connect(holder: u32, wanted: Option<u8>) -> Result<Self, MachineError> {
        let candidates: Vec<u8> = wanted.map_or_else(|| (0..=254).collect(), |number| vec![number]);
        for number in candidates {
            let subnet = Subnet(number);
            let range = format!("10.99.{number}.0/24");
            if !run("ip", &["-4", "route", "show", "table", "all", "root", &range], "").await?.is_empty() {
                continue;
            }
            let link = subnet.link();
            let pid = holder.to_string();
            let add = ["link", "add", &link, "type", "veth", "peer", "name", UPLINK, "netns", &pid];
            match run("ip", &add, "").await {
                Ok(_) => {}
                Err(MachineError::Tool { said, .. }) if said.contains("File exists") => continue,
                Err(other) => return Err(other),
            }
            return Ok(Self { holder, subnet });
        }
        let which = wanted.map_or_else(|| "every network 10.99.N.0/24".to_owned(), |n| format!("10.99.{n}.0/24"));
        Err(MachineError::bad(format!("{which} is in use on this computer")))
    }

    /// Lays addresses, routes and the firewall's tables. `operator` replaces this computer's address as hosts see it.
    pub(super) async fn lay(&self, operator: Option<IpAddr>) -> Result<(), MachineError> {
        let (net, link) = (self.subnet, self.subnet.link());
        let (gateway, gateway6, own, own6) = (net.gateway(), net.v6(1), net.v4(OWN), net.v6(OWN));
        let inside = format!(
            "link set lo up\naddr add {gateway}/32 dev lo\naddr add {gateway6}/128 dev lo\n\
             addr add {GATEWAY_LINK}/64 dev {UPLINK} nodad\nlink set {UPLINK} up\n\
             route add {own}/32 dev {UPLINK} src {gateway}\nroute add {own6}/128 dev {UPLINK}\n\
             route add default dev {UPLINK}\nroute add ::/0 dev {UPLINK}\n"
        );
        run_in_net(self.holder, "ip", &["-batch", "-"], &inside).await?;
        let outside = format!(
            "addr add {own} peer {gateway} dev {link}\naddr add {own6}/128 dev {link} nodad\nlink set {link} up\n\
             route add {}/24 via {gateway} dev {link} src {own}\n\
             route add {}/64 via {GATEWAY_LINK} dev {link} src {own6}\n",
            net.v4(0),
            net.v6(0)
        );
        run("ip", &["-batch", "-"], &outside).await?;
        let seen = match operator {
            Some(IpAddr::V4(v4)) => (v4, gateway6),
            Some(IpAddr::V6(v6)) => (gateway, v6),
            None => (gateway, gateway6),
        };
        let tables = firewall::lab(UPLINK, (own, own6), seen);
        run_in_net(self.holder, "nft", &["-f", "-"], &tables).await?;
        Ok(())
    }

    /// Makes the firewall's chain of a host, everything closed.
    pub(super) async fn add_chain(&self, index: u8) -> Result<(), MachineError> {
        self.nft(&firewall::add_guest(&guest_link(index))).await
    }

    pub(super) async fn remove_chain(&self, index: u8) -> Result<(), MachineError> {
        self.nft(&firewall::remove_guest(&guest_link(index))).await
    }

    /// Replaces the open ports of a host.
    pub(super) async fn set_ports(&self, index: u8, rules: &[PortRule]) -> Result<(), MachineError> {
        self.nft(&firewall::replace(&guest_link(index), rules)).await
    }

    async fn nft(&self, text: &str) -> Result<(), MachineError> {
        run_in_net(self.holder, "nft", &["-f", "-"], text).await.map(drop)
    }

    /// Joins a supervisor's fresh namespace to the lab, with its final addresses, before anything runs in it.
    pub(super) async fn wire(&self, index: u8, supervisor: u32, last: u8) -> Result<(), MachineError> {
        let (link, net) = (guest_link(index), self.subnet);
        let (v4, v6, gateway) = (net.v4(last), net.v6(index), net.gateway());
        // The kernel takes the link of a host that has just ended away a moment later; no link is the usual case.
        let _ = run_in_net(self.holder, "ip", &["link", "del", &link], "").await;
        let lab = format!(
            "link add {link} type veth peer name eth0 netns {supervisor}\naddr add {GATEWAY_LINK}/64 dev {link} nodad\n\
             link set {link} up\nroute add {v4}/32 dev {link} src {gateway}\nroute add {v6}/128 dev {link}\n"
        );
        run_in_net(self.holder, "ip", &["-batch", "-"], &lab).await?;
        let guest = format!(
            "link set lo up\nlink set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n\
             route add {gateway} dev eth0\nroute add default via {gateway} dev eth0\n\
             route add ::/0 via {GATEWAY_LINK} dev eth0\n"
        );
        run_in_net(supervisor, "ip", &["-batch", "-"], &guest).await?;
        Ok(())
    }

    /// Gives a running host another IPv4 address; the old one is gone when this returns. IPv6 stays, as in the cloud.
    pub(super) async fn readdress(&self, index: u8, supervisor: u32, old: u8, new: u8) -> Result<(), MachineError> {
        let (link, gateway) = (guest_link(index), self.subnet.gateway());
        let (old, new) = (self.subnet.v4(old), self.subnet.v4(new));
        let lab = format!("route add {new}/32 dev {link} src {gateway}\nroute del {old}/32 dev {link}\n");
        run_in_net(self.holder, "ip", &["-batch", "-"], &lab).await?;
        let guest = format!("addr add {new}/32 dev eth0\naddr del {old}/32 dev eth0\n");
        run_in_net(supervisor, "ip", &["-batch", "-"], &guest).await?;
        Ok(())
    }

    /// Binds a TCP listener inside the lab, where hosts reach it; the caller's other sockets stay outside.
    pub(super) fn listen(&self, address: SocketAddr) -> Result<TcpListener, MachineError> {
        let bound = in_net(self.holder, move || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map_err(MachineError::io(format!("cannot listen on {address} in the lab")))
    }
}

/// Opens a TCP connection that begins in the network namespace of a lab.
pub(super) fn connect(holder: u32, to: SocketAddr) -> io::Result<TcpStream> {
    in_net(holder, move || {
        let stream = TcpStream::connect_timeout(&to, CONNECT_LIMIT)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    })
}

/// The lab's end of a host's veth, and the name of its firewall chain.
fn guest_link(index: u8) -> String {
    format!("g{index}")
}

/// Runs something short on a thread of its own that has entered the network namespace of a process. A socket stays in
/// the namespace that it was made in; the thread ends, so no other work ever runs in the wrong place.
pub(super) fn in_net<T: Send + 'static>(
    pid: u32,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let entered = thread::spawn(move || {
        let namespace = fs_err::File::open(path)?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    });
    entered.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_lab_is_moved_and_no_other() {
        let here = |text: &str| Subnet(7).here(text.parse().expect("an address")).to_string();
        assert_eq!(here("10.99.3.11"), "10.99.7.11");
        assert_eq!(here("fd99:0:0:3::b"), "fd99:0:0:7::b");
        for other in ["203.0.113.10", "10.98.3.11", "fd98:0:0:3::b", "2001:db8::3"] {
            assert_eq!(here(other), other);
        }
    }
}
