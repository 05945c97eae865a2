//! Real machines behind the Lightsail API: translates what the API asks for into what the lab's machines understand.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::base::release::Release;
use crate::sandbox::acme::Acme;
use crate::sandbox::lightsail::catalog::REGIONS;
use crate::sandbox::lightsail::machine::{HostKey, Later, Machine, MachineFault, Machines as Behind, Order, PortRule};
use crate::sandbox::machines::{HostState, Machines, Protocol, Running, Spec};
use crate::sandbox::machines::{Options, PortRule as Rule};
use crate::sandbox::tls;

/// Port of the packages proxy at the lab's gateway.
const PACKAGES_PORT: u16 = 3142;
/// Port at which hosts find AWS at the lab's gateway, as they would at AWS.
const AWS_PORT: u16 = 443;

/// What a lab's machines need to know of it.
pub struct Lab<'a> {
    pub folder: &'a Path,
    pub cache: &'a Path,
    pub region: &'a str,
    /// Where the operator's traffic comes from, for the hosts.
    pub operator: Option<std::net::IpAddr>,
    /// Public half of the operator's key.
    pub operator_key: String,
    /// The lab's certificate authority.
    pub ca_pem: String,
}

/// The machines of a lab, as the Lightsail API sees them.
pub struct RealMachines {
    machines: Machines,
    operator_key: String,
    ca_pem: String,
    names: Vec<String>,
    /// Rules that arrive while a machine is being made would find none; they are put when it is there.
    creating: Mutex<BTreeMap<String, Vec<Rule>>>,
}

impl RealMachines {
    /// Brings up the lab's network, and takes over what an earlier daemon left.
    pub async fn open(lab: Lab<'_>) -> Result<Self, MachineFault> {
        let options = Options {
            operator: lab.operator,
            packages_port: Some(PACKAGES_PORT),
            packages_cache: Some(lab.cache.join("packages")),
            ..Options::default()
        };
        let machines =
            Machines::new(&lab.folder.join("machines"), &lab.cache.join("image"), options).await.map_err(fault)?;
        let services = ["lightsail", "iam", "sts", "sns", "monitoring"];
        let mut names: Vec<String> = services.iter().map(|s| format!("{s}.{}.amazonaws.com", lab.region)).collect();
        // A second repository may be in any region.
        names.extend(REGIONS.iter().map(|(region, _, _)| format!("s3.{region}.amazonaws.com")));
        names.extend(["iam.amazonaws.com".to_owned(), "sts.amazonaws.com".to_owned()]);
        names.extend(tls::ACME_NAMES.map(str::to_owned));
        Ok(Self { machines, operator_key: lab.operator_key, ca_pem: lab.ca_pem, names, creating: Mutex::default() })
    }

    /// Let's Encrypt's stand-in for these machines.
    pub fn acme(&self, lab: &Path) -> Acme {
        Acme::new(lab, self.machines.clone())
    }

    /// A listener where hosts look for AWS.
    pub fn listener(&self) -> Result<std::net::TcpListener, MachineFault> {
        let listener = self.machines.listen(AWS_PORT).map_err(fault)?;
        listener.into_std().map_err(|error| MachineFault(error.to_string()))
    }

    /// Ends everything; the hosts' files stay.
    pub async fn shutdown(&self) -> Result<(), MachineFault> {
        self.machines.clone().shutdown(true).await.map_err(fault)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<Rule>>> {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, order: &Order) -> Result<Machine, MachineFault> {
        let spec = Spec {
            name: order.name.clone(),
            hostname: order.hostname.clone(),
            release: Release::of_blueprint(&order.blueprint),
            user: order.username.clone(),
            authorized_keys: order.authorized_keys.iter().cloned().chain([self.operator_key.clone()]).collect(),
            user_data: Some(order.user_data.clone()).filter(|text| !text.is_empty()),
            login_ca: order.user_ca.clone(),
            gateway_names: self.names.clone(),
            trusted_pem: Some(self.ca_pem.clone()),
            packages_port: Some(PACKAGES_PORT),
        };
        let rules = rules(&order.ports)?;
        self.waiting().insert(order.name.clone(), rules.clone());
        let made = self.machines.create(spec, &rules).await.map_err(fault);
        let newest = self.waiting().remove(&order.name).unwrap_or_default();
        let running = made?;
        if newest != rules {
            self.machines.set_ports(&order.name, &newest).await.map_err(fault)?;
        }
        Ok(machine(&running))
    }

    async fn put_ports(&self, name: &str, ports: &[PortRule]) -> Result<(), MachineFault> {
        let rules = rules(ports)?;
        if let Some(waiting) = self.waiting().get_mut(name) {
            *waiting = rules;
            return Ok(());
        }
        self.machines.set_ports(name, &rules).await.map_err(fault)
    }

    async fn take_over(&self, name: &str) -> Result<bool, MachineFault> {
        match self.machines.status(name).await {
            Err(_) => Ok(false),
            Ok(status) if status.state == HostState::Running => Ok(true),
            Ok(_) => self.machines.start(name).await.map(|_| true).map_err(fault),
        }
    }
}

fn fault(error: impl std::fmt::Display) -> MachineFault {
    MachineFault(error.to_string())
}

fn machine(running: &Running) -> Machine {
    let key = |line: &String| {
        let (algorithm, public_key) = line.split_once(' ')?;
        Some(HostKey { algorithm: algorithm.to_owned(), public_key: public_key.to_owned() })
    };
    Machine { v4: running.v4, v6: Some(running.v6), host_keys: running.host_keys.iter().filter_map(key).collect() }
}

/// The rules that the lab's firewall can hold. `lightsail-connect` stands for addresses of AWS's that the lab does not
/// have.
fn rules(ports: &[PortRule]) -> Result<Vec<Rule>, MachineFault> {
    let bad = |text: &String| MachineFault(format!("`{text}` is not a network"));
    ports
        .iter()
        .map(|port| {
            let protocol = match port.protocol.as_str() {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                "icmp" => Protocol::Icmp,
                "icmpv6" => Protocol::Icmpv6,
                "all" => Protocol::All,
                other => return Err(MachineFault(format!("`{other}` is not a protocol"))),
            };
            Ok(Rule {
                protocol,
                from: port.from_port,
                to: port.to_port,
                cidrs: port.cidrs.iter().map(|t| t.parse().map_err(|_| bad(t))).collect::<Result<_, _>>()?,
                ipv6_cidrs: port.ipv6_cidrs.iter().map(|t| t.parse().map_err(|_| bad(t))).collect::<Result<_, _>>()?,
            })
        })
        .collect()
}

impl Behind for RealMachines {
    fn create<'a>(&'a self, order: &'a Order) -> Later<'a, Machine> {
        Box::pin(self.make(order))
    }

    fn start<'a>(&'a self, name: &'a str) -> Later<'a, Machine> {
        Box::pin(async move { self.machines.start(name).await.map(|running| machine(&running)).map_err(fault) })
    }

    fn stop<'a>(&'a self, name: &'a str) -> Later<'a, ()> {
        Box::pin(async move { self.machines.stop(name).await.map_err(fault) })
    }

    fn reboot<'a>(&'a self, name: &'a str) -> Later<'a, ()> {
        Box::pin(async move { self.machines.reboot(name).await.map(|_| ()).map_err(fault) })
    }

    fn delete<'a>(&'a self, name: &'a str) -> Later<'a, ()> {
        Box::pin(async move {
            if self.machines.status(name).await.is_err() {
                return Ok(());
            }
            self.machines.delete(name).await.map_err(fault)
        })
    }

    fn set_ports<'a>(&'a self, name: &'a str, ports: &'a [PortRule]) -> Later<'a, ()> {
        Box::pin(self.put_ports(name, ports))
    }

    fn set_public_address<'a>(&'a self, name: &'a str, address: Option<Ipv4Addr>) -> Later<'a, Ipv4Addr> {
        Box::pin(async move {
            self.machines.set_public_address(name, address).await.map(|running| running.v4).map_err(fault)
        })
    }

    fn static_address(&self, number: u32) -> Option<Ipv4Addr> {
        let reserved = self.machines.reserved();
        match reserved.get(usize::try_from(number).ok()?) {
            Some(address) => Some(*address),
            // A range that is used up is Lightsail's "no address left".
            None => self.machines.reserve_address().ok(),
        }
    }

    fn adopt<'a>(&'a self, name: &'a str) -> Later<'a, bool> {
        Box::pin(self.take_over(name))
    }

    fn here(&self, address: IpAddr) -> IpAddr {
        self.machines.here(address)
    }

    fn rest(&self) -> Later<'_, ()> {
        Box::pin(async move { self.machines.rest().await.map_err(fault) })
    }
}
