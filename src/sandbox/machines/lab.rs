//! A lab: the processes, addresses and records of all hosts, and what the cloud's API does with them.

mod addresses;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use nix::fcntl::Flock;
use tokio::net::TcpListener;
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinHandle;

use crate::sandbox::machines::doctor;
use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::firewall::PortRule;
use crate::sandbox::machines::holder::Holder;
use crate::sandbox::machines::holder::connect;
use crate::sandbox::machines::holder::hold;
use crate::sandbox::machines::holder::program;
use crate::sandbox::machines::holder::sweep;
use crate::sandbox::machines::host::Life;
use crate::sandbox::machines::host::Phase;
use crate::sandbox::machines::host::Supervisor;
use crate::sandbox::machines::image::ensure_image;
use crate::sandbox::machines::net;
use crate::sandbox::machines::net::LabNet;
use crate::sandbox::machines::packages;
use crate::sandbox::machines::record::LabFile;
use crate::sandbox::machines::record::Record;
use crate::sandbox::machines::record::folder;
use crate::sandbox::machines::record::group_of;
use crate::sandbox::machines::record::load;
use crate::sandbox::machines::record::lock_folder;
use crate::sandbox::machines::record::records;
use crate::sandbox::machines::record::remove;
use crate::sandbox::machines::record::save;
use crate::sandbox::machines::record::started;
use crate::sandbox::machines::seed;
use crate::sandbox::machines::seed::Spec;
use crate::sandbox::machines::status::HostState;
use crate::sandbox::machines::status::HostStatus;
use crate::sandbox::machines::status::Running;
use crate::sandbox::machines::supervise::Orders;
use crate::sandbox::machines::supervise::POWER_OFF;
use crate::sandbox::machines::supervise::REBOOT;

/// An orderly power-off takes 0.2 s, some seconds with a database; then the power is cut.
const OFF_LIMIT: Duration = Duration::from_mins(1);
/// An orderly reboot up to the first process of the next boot; then the power is cut.
const REBOOT_LIMIT: Duration = Duration::from_mins(1);
/// How a lab is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The address that this computer's connections appear to come from, inside of hosts and to the firewall. By
    /// default the gateway's.
    pub operator: Option<IpAddr>,
    /// N of `10.99.N.0/24`, by default the first free.
    pub subnet: Option<u8>,
    /// Port of the packages proxy on the gateway; none means no proxy.
    pub packages_port: Option<u16>,
    /// Where downloaded packages are kept, by default in the state folder.
    pub packages_cache: Option<PathBuf>,
    /// A program whose `main` calls `hidden_entry`, by default this one.
    pub exe: Option<PathBuf>,
}

struct Host {
    record: Record,
    /// Also present after the host powered itself off; its life tells.
    supervisor: Option<Supervisor>,
}

/// A lab. Clones are the same lab. It ends with [`Machines::shutdown`], with the last clone or with the process.
#[derive(Clone)]
pub struct Machines {
    lab: Arc<Lab>,
}

struct Lab {
    state: PathBuf,
    exe: PathBuf,
    /// The cache of images.
    images: PathBuf,
    group: String,
    net: LabNet,
    file: Mutex<LabFile>,
    holder: Mutex<Option<Holder>>,
    hosts: Mutex<BTreeMap<String, Arc<AsyncMutex<Host>>>>,
    /// Index and last part of every host, busy ones included.
    taken: Mutex<BTreeMap<String, (u8, u8)>>,
    packages: Mutex<Option<JoinHandle<()>>>,
    _lock: Flock<std::fs::File>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(packages) = lock(&self.packages).take() {
            packages.abort();
        }
    }
}

impl Machines {
    /// Makes the lab's network in `state`, and takes over the hosts that an earlier lab left there, stopped. One lab per
    /// folder at a time. `images` is the cache of images, which are built when the first host needs them.
    pub async fn new(state: &Path, images: &Path, options: Options) -> Result<Self, MachineError> {
        let exe = program(options.exe.as_deref())?;
        let state = folder(state)?;
        doctor::doctor(&exe, &state).await?;
        let held = lock_folder(&state)?;
        let group = group_of(&state);
        sweep(&exe, &state, &group).await?;
        let records = records(&state)?;
        let mut file: LabFile = load(&state.join("lab.json"))?.unwrap_or_default();
        // A lab that goes on keeps its number where it can: operators know its addresses. One from a template takes any,
        // because others of the same template run beside it.
        let bound = !file.copied && (!records.is_empty() || !file.reserved.is_empty());
        let wanted = if bound { Some(file.subnet) } else { options.subnet };
        let (holder, pid) = hold(&exe, &state, &group).await?;
        let net = match connect(pid, wanted).await {
            // Somebody else's by now: the lab moves.
            Err(MachineError::Bad { .. }) if bound => connect(pid, None).await?,
            other => other?,
        };
        net.lay(options.operator).await?;
        if file.copied || net.subnet.0 != file.subnet {
            for record in &records {
                seed::move_gateway(&record.layers, &upper(&state, &record.spec.name), net.subnet)?;
            }
            file.copied = false;
        }
        file.subnet = net.subnet.0;
        file.holder = pid;
        file.started = started(pid).unwrap_or_default();
        save(&state.join("lab.json"), &file)?;
        let mut packages = None;
        if let Some(port) = options.packages_port {
            let kept = options.packages_cache.unwrap_or_else(|| state.join("packages"));
            fs_err::create_dir_all(&kept).map_err(MachineError::at(&kept))?;
            let listener = net.listen(SocketAddr::from((net.subnet.gateway(), port)))?;
            let listener = TcpListener::from_std(listener).map_err(MachineError::io("the packages proxy"))?;
            packages = Some(tokio::spawn(packages::serve(listener, kept)));
        }
        let mut hosts = BTreeMap::new();
        let mut taken = BTreeMap::new();
        for record in records {
            net.add_chain(record.index).await?;
            net.set_ports(record.index, &record.ports).await?;
            taken.insert(record.spec.name.clone(), (record.index, record.last));
            let name = record.spec.name.clone();
            let host = Host { record, supervisor: None };
            hosts.insert(name, Arc::new(AsyncMutex::new(host)));
        }
        let lab = Lab {
            state,
            exe,
            images: folder(images)?,
            group,
            net,
            file: Mutex::new(file),
            holder: Mutex::new(Some(holder)),
            hosts: Mutex::new(hosts),
            taken: Mutex::new(taken),
            packages: Mutex::new(packages),
            _lock: held,
        };
        Ok(Self { lab: Arc::new(lab) })
    }

    /// The address where hosts find this lab's services.
    pub fn gateway(&self) -> Ipv4Addr {
        self.lab.net.subnet.gateway()
    }

    /// Binds a TCP listener on the gateway, inside the lab: hosts and clients reach it, this computer does too.
    pub fn listen(&self, port: u16) -> Result<TcpListener, MachineError> {
        let listener = self.lab.net.listen(SocketAddr::from((self.gateway(), port)))?;
        TcpListener::from_std(listener).map_err(MachineError::io("a listener in the lab"))
    }

    /// Opens a TCP connection to an address of the lab that this computer has no route to.
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<std::net::TcpStream> {
        net::connect(self.lab.net.holder, to)
    }

    /// Makes a host, opens `ports` and waits until its sshd answers. Goes on when the caller no longer waits for it, so
    /// that no half-made host stays.
    pub async fn create(&self, spec: Spec, ports: &[PortRule]) -> Result<Running, MachineError> {
        let (this, ports) = (self.clone(), ports.to_vec());
        let task = tokio::spawn(async move { this.create_here(spec, ports).await });
        task.await.unwrap_or_else(|e| Err(MachineError::bad(format!("creating a host ended: {e}"))))
    }

    async fn create_here(&self, spec: Spec, ports: Vec<PortRule>) -> Result<Running, MachineError> {
        seed::check(&spec)?;
        let name = spec.name.clone();
        let (index, last) = self.claim(&name)?;
        let record =
            Record { spec, image: String::new(), layers: Vec::new(), index, last, host_keys: Vec::new(), ports };
        let host = Arc::new(AsyncMutex::new(Host { record, supervisor: None }));
        let mut making = host.lock().await;
        lock(&self.lab.hosts).insert(name.clone(), Arc::clone(&host));
        let made = self.make(&mut making).await;
        if let Err(error) = made {
            let _ = self.unmake(&mut making).await;
            lock(&self.lab.hosts).remove(&name);
            lock(&self.lab.taken).remove(&name);
            return Err(error);
        }
        Ok(self.at(&making.record))
    }

    async fn make(&self, host: &mut Host) -> Result<(), MachineError> {
        let lab = &self.lab;
        let folder = self.folder(&host.record.spec.name);
        for part in ["upper", "work", "root"] {
            let path = folder.join(part);
            fs_err::create_dir_all(&path).map_err(MachineError::at(&path))?;
        }
        let upper = folder.join("upper");
        let record = &mut host.record;
        let image = ensure_image(&lab.images, record.spec.release, |_| {}).await?;
        record.host_keys = seed::first_boot(&record.spec, &image.root, &upper, self.gateway()).await?;
        record.image = image.digest;
        lab.net.add_chain(record.index).await?;
        lab.net.set_ports(record.index, &record.ports).await?;
        self.boot(host).await?;
        save(&folder.join("host.json"), &host.record)
    }

    async fn boot(&self, host: &mut Host) -> Result<(), MachineError> {
        let record = &host.record;
        let folder = self.folder(&record.spec.name);
        // Now, and not when it was made: a folder that was moved or copied has other paths.
        let orders = Orders {
            hostname: record.spec.hostname.clone(),
            lower: self.lower(record)?,
            folder: folder.clone(),
            group: format!("{}/{}", self.lab.group, record.spec.name),
        };
        save(&folder.join("orders.json"), &orders)?;
        let place = (record.index, record.last);
        let started = Supervisor::start(&record.spec.name, &self.lab.exe, &folder, &self.lab.net, place).await?;
        host.supervisor = Some(started);
        Ok(())
    }

    /// Powers a host off in order, or cuts its power when it takes too long. Its files stay.
    pub async fn stop(&self, name: &str) -> Result<(), MachineError> {
        let host = self.host(name)?;
        let mut host = host.lock().await;
        let Some(mut supervisor) = host.supervisor.take() else {
            return Ok(());
        };
        if !supervisor.life().over() {
            supervisor.order(POWER_OFF).await?;
            let _ = supervisor.wait("a power-off", OFF_LIMIT, Life::over).await;
        }
        supervisor.kill().await
    }

    /// What a host's own files lie upon. All of it must be there: overlayfs would say no more than "no such file".
    fn lower(&self, record: &Record) -> Result<Vec<PathBuf>, MachineError> {
        let image = self.lab.images.join(format!("image-{}", record.image));
        let lower: Vec<PathBuf> = record.layers.iter().cloned().chain([image]).collect();
        match lower.iter().find(|layer| !layer.is_dir()) {
            None => Ok(lower),
            Some(gone) => {
                let (name, gone) = (&record.spec.name, gone.display());
                Err(MachineError::bad(format!("host `{name}` stands on `{gone}`, which is gone")))
            }
        }
    }

    /// Powers all hosts off in order, beside each other. Their files stay.
    pub async fn rest(&self) -> Result<(), MachineError> {
        let names: Vec<String> = lock(&self.lab.hosts).keys().cloned().collect();
        let mut stops = tokio::task::JoinSet::new();
        for name in names {
            let machines = self.clone();
            stops.spawn(async move { machines.stop(&name).await });
        }
        let mut result = Ok(());
        while let Some(stop) = stops.join_next().await {
            let stop = stop.unwrap_or_else(|e| Err(MachineError::bad(format!("stopping a host ended: {e}"))));
            result = result.and(stop);
        }
        result
    }

    /// The address in this lab that an address had in the lab whose template this one comes from.
    pub fn here(&self, address: IpAddr) -> IpAddr {
        self.lab.net.subnet.here(address)
    }

    /// Boots a stopped host with the files that it had, and waits until its sshd answers.
    pub async fn start(&self, name: &str) -> Result<Running, MachineError> {
        let host = self.host(name)?;
        let mut host = host.lock().await;
        if state(&host) != HostState::Stopped {
            return Err(MachineError::State { name: name.to_owned(), is: "running", wanted: "stopped" });
        }
        host.supervisor = None;
        self.boot(&mut host).await?;
        Ok(self.at(&host.record))
    }

    /// Reboots a host in order, or by a power cut when it takes too long, and waits until its sshd answers.
    pub async fn reboot(&self, name: &str) -> Result<Running, MachineError> {
        let host = self.host(name)?;
        let mut host = host.lock().await;
        let Some(mut supervisor) = host.supervisor.take().filter(|s| !s.life().over()) else {
            return Err(MachineError::State { name: name.to_owned(), is: "stopped", wanted: "running" });
        };
        let boots = supervisor.life().boots;
        supervisor.order(REBOOT).await?;
        let again = supervisor.wait("a reboot", REBOOT_LIMIT, |life| life.boots > boots).await;
        if again.is_ok() {
            supervisor.wait_ssh().await?;
            host.supervisor = Some(supervisor);
        } else {
            supervisor.kill().await?;
            self.boot(&mut host).await?;
        }
        Ok(self.at(&host.record))
    }

    /// Ends a host at once and removes everything of it.
    pub async fn delete(&self, name: &str) -> Result<(), MachineError> {
        let host = self.host(name)?;
        let mut host = host.lock().await;
        self.unmake(&mut host).await?;
        lock(&self.lab.hosts).remove(name);
        lock(&self.lab.taken).remove(name);
        Ok(())
    }

    async fn unmake(&self, host: &mut Host) -> Result<(), MachineError> {
        if let Some(supervisor) = host.supervisor.take() {
            supervisor.kill().await?;
        }
        let chain = self.lab.net.remove_chain(host.record.index).await;
        remove(self.folder(&host.record.spec.name)).await?;
        chain
    }

    /// Replaces everything that is open for a host, as the cloud's API does. Open connections stay.
    pub async fn set_ports(&self, name: &str, rules: &[PortRule]) -> Result<(), MachineError> {
        let host = self.host(name)?;
        let mut host = host.lock().await;
        self.lab.net.set_ports(host.record.index, rules).await?;
        host.record.ports = rules.to_vec();
        save(&self.folder(name).join("host.json"), &host.record)
    }

    /// All hosts by name. A host that is being worked on is waited for.
    pub async fn list(&self) -> Vec<HostStatus> {
        let hosts: Vec<_> = lock(&self.lab.hosts).values().cloned().collect();
        let mut all = Vec::new();
        for host in hosts {
            all.push(self.told(&*host.lock().await));
        }
        all
    }

    /// One host.
    pub async fn status(&self, name: &str) -> Result<HostStatus, MachineError> {
        let host = self.host(name)?;
        let host = host.lock().await;
        Ok(self.told(&host))
    }

    /// Ends everything: hosts in parallel by power cut, then the network. `keep` leaves the hosts' files for the next lab.
    pub async fn shutdown(self, keep: bool) -> Result<(), MachineError> {
        let hosts: Vec<_> = lock(&self.lab.hosts).values().cloned().collect();
        let mut ends = tokio::task::JoinSet::new();
        for host in hosts {
            ends.spawn(async move {
                match host.lock().await.supervisor.take() {
                    Some(supervisor) => supervisor.kill().await,
                    None => Ok(()),
                }
            });
        }
        let mut result = Ok(());
        while let Some(end) = ends.join_next().await {
            result = result.and(end.unwrap_or(Ok(())));
        }
        let packages = lock(&self.lab.packages).take();
        if let Some(packages) = packages {
            packages.abort();
            let _ = packages.await;
        }
        let holder = lock(&self.lab.holder).take();
        if let Some(holder) = holder {
            holder.end().await?;
        }
        if !keep {
            remove(self.lab.state.join("hosts")).await?;
            remove(self.lab.state.join("cgroup")).await?;
        }
        result
    }

    fn told(&self, host: &Host) -> HostStatus {
        let live = host.supervisor.as_ref().filter(|s| !s.life().over());
        HostStatus {
            name: host.record.spec.name.clone(),
            state: state(host),
            user: host.record.spec.user.clone(),
            at: self.at(&host.record),
            pid: live.map(|s| s.pid),
        }
    }

    fn at(&self, record: &Record) -> Running {
        Running {
            v4: self.lab.net.subnet.v4(record.last),
            v6: self.lab.net.subnet.v6(record.index),
            host_keys: record.host_keys.clone(),
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        host_folder(&self.lab.state, name)
    }

    fn host(&self, name: &str) -> Result<Arc<AsyncMutex<Host>>, MachineError> {
        let found = lock(&self.lab.hosts).get(name).cloned();
        found.ok_or_else(|| MachineError::Unknown { name: name.to_owned() })
    }
}

fn host_folder(state: &Path, name: &str) -> PathBuf {
    state.join("hosts").join(name)
}

/// A host's own files.
fn upper(state: &Path, name: &str) -> PathBuf {
    host_folder(state, name).join("upper")
}

fn state(host: &Host) -> HostState {
    match host.supervisor.as_ref().map(|s| s.life().phase) {
        None | Some(Phase::Off | Phase::Dead) => HostState::Stopped,
        Some(Phase::Rebooting) => HostState::Rebooting,
        Some(_) => HostState::Running,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these; if it did, the data would still be whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
