//! Which addresses a lab's hosts have, and which are kept for static IPs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::lab::Machines;
use crate::sandbox::machines::lab::lock;
use crate::sandbox::machines::net::FIRST_HOST;
use crate::sandbox::machines::net::LAST_HOST;
use crate::sandbox::machines::record::save;
use crate::sandbox::machines::status::Running;

impl Machines {
    /// Takes a free address of the lab out of the pool, for a static IP, until it is released.
    pub fn reserve_address(&self) -> Result<Ipv4Addr, MachineError> {
        let taken = lock(&self.lab.taken);
        let mut file = lock(&self.lab.file);
        let last = free_last(&taken, &file.reserved)?;
        file.reserved.insert(last);
        save(&self.lab.state.join("lab.json"), &*file)?;
        Ok(self.lab.net.subnet.v4(last))
    }

    /// The reserved addresses, lowest first.
    pub fn reserved(&self) -> Vec<Ipv4Addr> {
        lock(&self.lab.file).reserved.iter().map(|last| self.lab.net.subnet.v4(*last)).collect()
    }

    /// Puts a reserved address back into the pool.
    pub fn release_address(&self, address: Ipv4Addr) -> Result<(), MachineError> {
        let mut file = lock(&self.lab.file);
        if let Some(last) = self.lab.net.subnet.last(address) {
            file.reserved.remove(&last);
        }
        save(&self.lab.state.join("lab.json"), &*file)
    }

    /// Gives a host a reserved address, or a free one of the pool. The old one stops answering; sessions over it end.
    pub async fn set_public_address(&self, name: &str, to: Option<Ipv4Addr>) -> Result<Running, MachineError> {
        let host = self.host(name)?;
        let mut host = host.lock().await;
        let lab = &self.lab;
        let (index, old) = (host.record.index, host.record.last);
        let new = self.pick(name, to)?;
        if new == old {
            return Ok(self.at(&host.record));
        }
        if let Some(supervisor) = host.supervisor.as_ref().filter(|s| !s.life().over()) {
            lab.net.readdress(index, supervisor.pid, old, new).await?;
        }
        host.record.last = new;
        save(&self.folder(name).join("host.json"), &host.record)?;
        Ok(self.at(&host.record))
    }

    /// Takes a name, a link and an address.
    pub(super) fn claim(&self, name: &str) -> Result<(u8, u8), MachineError> {
        let mut taken = lock(&self.lab.taken);
        if taken.contains_key(name) {
            return Err(MachineError::Exists { name: name.to_owned() });
        }
        let reserved = lock(&self.lab.file).reserved.clone();
        let index = free(|n| taken.values().any(|(index, _)| *index == n))?;
        let last = free_last(&taken, &reserved)?;
        taken.insert(name.to_owned(), (index, last));
        Ok((index, last))
    }

    /// Takes another address for a host: a reserved one that nobody has, or any free one.
    fn pick(&self, name: &str, to: Option<Ipv4Addr>) -> Result<u8, MachineError> {
        let net = self.lab.net.subnet;
        let mut taken = lock(&self.lab.taken);
        let file = lock(&self.lab.file);
        let new = match to {
            None => free_last(&taken, &file.reserved)?,
            Some(address) => {
                let last = net.last(address).filter(|last| file.reserved.contains(last));
                last.ok_or_else(|| MachineError::bad(format!("{address} is not a reserved address of this lab")))?
            }
        };
        if let Some((other, _)) = taken.iter().find(|(other, (_, last))| *last == new && *other != name) {
            return Err(MachineError::bad(format!("host `{other}` has {}", net.v4(new))));
        }
        if let Some((_, last)) = taken.get_mut(name) {
            *last = new;
        }
        Ok(new)
    }
}

fn free_last(taken: &BTreeMap<String, (u8, u8)>, reserved: &BTreeSet<u8>) -> Result<u8, MachineError> {
    free(|n| reserved.contains(&n) || taken.values().any(|(_, last)| *last == n))
}

fn free(taken: impl Fn(u8) -> bool) -> Result<u8, MachineError> {
    (FIRST_HOST..=LAST_HOST).find(|n| !taken(*n)).ok_or_else(|| MachineError::bad("the lab has no free address"))
}
