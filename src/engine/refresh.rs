//! Asks everything, concurrently, and never fails as a whole: what could not be seen is in the snapshot as such.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use serde_json::Value;

use crate::base::secret::SecretUse;
use crate::engine::reachability;
use crate::engine::resolve::{Resolved, ServerRef, at};
use crate::engine::snapshot::{HostView, Scope, Snapshot};
use crate::kinds::table::Wanted;
use crate::plan::Place;
use crate::plan::cloud::{Census, Instance};
use crate::plan::host::Endpoint;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, CloudProbe, HostProbe, Probe, SqlAnswer};
use crate::reach::Ask;
use crate::reach::ssh::guard;
use crate::reach::ssh::manifest::manifest_probes;

/// How many AWS resources are read at the same time. AWS throttles reads per account; sixteen in flight stays below its
/// limits with twenty servers and already hides the latency.
const CLOUD_READS_AT_ONCE: usize = 16;

/// How many hosts are asked at the same time: each is one ssh process here.
const HOSTS_AT_ONCE: usize = 32;

/// The port that sshd listens on when nobody has told it otherwise.
pub const SSH_PORT: u16 = 22;
/// How many ports are tried to find sshd: the wanted one, 22, and open ports that nobody declared.
const MOST_WAYS: usize = 4;

/// Asks about the given resources. One connection and one program per host; everything else concurrently.
pub async fn refresh(resolved: &Resolved, wanted: &[Wanted], scope: Scope, ask: &impl Ask) -> Snapshot {
    let mut probes: BTreeSet<CloudProbe> = BTreeSet::new();
    let mut on_servers: BTreeSet<(String, Vec<String>)> = BTreeSet::new();
    for wanted in at(wanted, &Place::Cloud) {
        for probe in (wanted.kind.probes)(&wanted.desired) {
            match probe {
                Probe::Cloud(probe) => drop(probes.insert(probe)),
                Probe::OnServer { server, argv } => drop(on_servers.insert((server, argv))),
                Probe::Host(_) | Probe::Secret(_) => {}
            }
        }
    }
    let asked = |name: &String| {
        at(wanted, &Place::Host(name.clone())).next().is_some() || on_servers.iter().any(|(server, _)| server == name)
    };
    let servers: BTreeMap<&String, &ServerRef> = resolved.servers.iter().filter(|(name, _)| asked(name)).collect();
    let instances: BTreeSet<CloudProbe> =
        servers.values().map(|server| CloudProbe::Instance { name: server.instance.clone() }).collect();
    let census = CloudProbe::Census { environment: resolved.environment.clone() };
    if scope == Scope::Whole {
        probes.insert(census.clone());
    }
    let rest: Vec<CloudProbe> = probes.difference(&instances).cloned().collect();

    let cloud = futures::stream::iter(rest)
        .map(|probe| async move {
            let answer = ask.cloud(&probe).await;
            (probe, answer)
        })
        .buffer_unordered(CLOUD_READS_AT_ONCE)
        .collect::<BTreeMap<_, _>>();
    let hosts = futures::stream::iter(servers)
        .map(|(name, server)| {
            let more = on_servers.iter().filter(|(on, _)| on == name).map(|(_, argv)| argv.clone());
            let probes = host_probes(name, wanted, more);
            let secrets = secret_probes(name, wanted);
            async move {
                let (mut looked, secrets) =
                    futures::join!(look_at_host(name, server, &probes, ask), fingerprints(secrets, ask));
                looked.2.answers.secrets = secrets;
                complaints(&mut looked.2.answers, ask);
                (name.clone(), looked)
            }
        })
        .buffer_unordered(HOSTS_AT_ONCE)
        .collect::<Vec<_>>();
    let (cloud, hosts) = futures::join!(cloud, hosts);

    let mut snapshot = Snapshot { cloud: Answers { cloud, ..Answers::default() }, ..Snapshot::default() };
    for (name, (probe, answer, view)) in hosts {
        snapshot.cloud.cloud.insert(probe, answer);
        snapshot.hosts.insert(name, view);
    }
    for (server, argv) in on_servers {
        let answer = snapshot.hosts.get(&server).map_or_else(
            || Err(Unseen::Misread(format!("`{server}` is no server of the inventory"))),
            |view| view.answers.command(&argv.iter().map(String::as_str).collect::<Vec<_>>()).cloned(),
        );
        snapshot.cloud.on_servers.insert((server, argv), answer);
    }
    if scope == Scope::Whole {
        snapshot.census = Some(snapshot.cloud.cloud::<Census>(&census));
    }
    snapshot
}

/// All questions to one host, each once.
fn host_probes(name: &str, wanted: &[Wanted], more: impl Iterator<Item = Vec<String>>) -> Vec<HostProbe> {
    let mut probes: BTreeSet<HostProbe> =
        manifest_probes().into_iter().chain(reachability::probes()).chain([guard::armed_probe()]).collect();
    for wanted in at(wanted, &Place::Host(name.to_owned())) {
        probes.extend((wanted.kind.probes)(&wanted.desired).into_iter().filter_map(|probe| match probe {
            Probe::Host(probe) => Some(probe),
            Probe::Cloud(_) | Probe::OnServer { .. } | Probe::Secret(_) => None,
        }));
    }
    probes.extend(more.map(|argv| HostProbe::Command { argv }));
    probes.into_iter().collect()
}

/// What programs complain about may quote a line with a secret in it, and is shown. What they answer is compared, and stays.
/// Only now are this server's secrets known.
fn complaints(answers: &mut Answers, ask: &impl Ask) {
    for state in answers.commands.values_mut() {
        state.stderr = ask.redacted(&state.stderr);
    }
    for answer in answers.sql.values_mut() {
        if let SqlAnswer::Failed(why) | SqlAnswer::NoSession(why) = answer {
            *why = ask.redacted(why);
        }
    }
}

fn secret_probes(name: &str, wanted: &[Wanted]) -> BTreeSet<SecretUse> {
    let here = Place::Host(name.to_owned());
    at(wanted, &here)
        .flat_map(|wanted| (wanted.kind.probes)(&wanted.desired))
        .filter_map(|probe| match probe {
            Probe::Secret(secret) => Some(secret),
            Probe::Host(_) | Probe::Cloud(_) | Probe::OnServer { .. } => None,
        })
        .collect()
}

/// One after the other: a command that prints a secret may ask a person.
async fn fingerprints(secrets: BTreeSet<SecretUse>, ask: &impl Ask) -> BTreeMap<SecretUse, Result<String, String>> {
    let mut found = BTreeMap::new();
    for secret in secrets {
        let answer = ask.fingerprint(&secret).await;
        found.insert(secret, answer);
    }
    found
}

/// Finds a host through the cloud, then asks it everything at once.
async fn look_at_host(
    name: &str,
    server: &ServerRef,
    probes: &[HostProbe],
    ask: &impl Ask,
) -> (CloudProbe, Observed<Value>, HostView) {
    let probe = CloudProbe::Instance { name: server.instance.clone() };
    let answer = ask.cloud(&probe).await;
    let view = match ways(name, server, &answer) {
        Err(why) => HostView { endpoint: None, answers: Answers::unseen(why) },
        Ok((first, others)) => {
            let answers = ask.host(&first, probes).await;
            let mut view = HostView { endpoint: Some(first), answers };
            for at in others {
                if !matches!(view.answers.unseen, Some(Unseen::Unreachable(_))) {
                    break;
                }
                let answers = ask.host(&at, probes).await;
                // If no port answers, the message is the one about the port that the inventory wants.
                if answers.unseen.is_none() {
                    view = HostView { endpoint: Some(at), answers };
                }
            }
            view
        }
    };
    (probe, answer, view)
}

/// The way to a server that is tried first: where it was found before, as long as the cloud keeps that open.
pub fn way(name: &str, server: &ServerRef, answer: &Observed<Value>, known: Option<u16>) -> Result<Endpoint, Unseen> {
    let (first, _) = ways(name, server, answer)?;
    let open = open_tcp(answer);
    let port = known.filter(|port| open.is_empty() || open.contains(port)).unwrap_or(first.port);
    Ok(Endpoint { port, ..first })
}

fn open_tcp(answer: &Observed<Value>) -> Vec<u16> {
    match answer {
        Observed::Present(value) => {
            serde_json::from_value(value.get("open_tcp").cloned().unwrap_or_default()).unwrap_or_default()
        }
        Observed::Absent | Observed::Unknown(_) => Vec::new(),
    }
}

/// The ways to a server in the order in which they are tried. While sshd moves it is still at its old port, which is open
/// in the cloud; a port of the firewall list that is not sshd's is somebody else's.
fn ways(name: &str, server: &ServerRef, answer: &Observed<Value>) -> Result<(Endpoint, Vec<Endpoint>), Unseen> {
    let first = endpoint(name, server, answer)?;
    let open = open_tcp(answer);
    let undeclared = open.iter().copied().filter(|port| !server.declared_tcp.contains(port));
    let mut ports: Vec<u16> = std::iter::once(SSH_PORT).filter(|port| open.contains(port)).chain(undeclared).collect();
    ports.retain(|port| *port != server.port);
    ports.dedup();
    ports.truncate(MOST_WAYS - 1);
    let others = ports.into_iter().map(|port| Endpoint { port, ..first.clone() }).collect();
    // A port that the cloud keeps closed is not tried first: it would take as long as a host that is down.
    if open.contains(&server.port) || open.is_empty() {
        return Ok((first, others));
    }
    let mut others: Vec<Endpoint> = others;
    if others.is_empty() {
        return Ok((first, others));
    }
    let found = others.remove(0);
    others.push(first);
    Ok((found, others))
}

/// Where a server is logged in to, as far as the cloud knows it.
pub fn endpoint(name: &str, server: &ServerRef, answer: &Observed<Value>) -> Result<Endpoint, Unseen> {
    let value = match answer {
        Observed::Present(value) => value.clone(),
        Observed::Absent => return Err(Unseen::NotYetCreated(server.address.clone())),
        Observed::Unknown(why) => return Err(why.clone()),
    };
    let instance: Instance = serde_json::from_value(value).map_err(|error| Unseen::Misread(error.to_string()))?;
    if instance.state != "running" {
        return Err(Unseen::Unreachable(format!("instance `{}` is {}", instance.name, instance.state)));
    }
    let Some(address) = instance.public_ip else {
        return Err(Unseen::Unreachable(format!("instance `{}` has no public address", instance.name)));
    };
    if instance.host_keys.is_empty() {
        return Err(Unseen::Unreachable(format!("Lightsail has not witnessed a host key of `{}` yet", instance.name)));
    }
    Ok(Endpoint {
        server: name.to_owned(),
        address,
        port: server.port,
        user: server.login.clone(),
        host_keys: instance.host_keys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::redact::Redactor;
    use crate::plan::probe::CommandState;

    /// A world that knows one secret and answers nothing.
    struct Knowing(Redactor);

    impl Ask for Knowing {
        async fn cloud(&self, _: &CloudProbe) -> Observed<serde_json::Value> {
            Observed::Absent
        }

        async fn host(&self, _: &Endpoint, _: &[HostProbe]) -> Answers {
            Answers::default()
        }

        fn redacted(&self, words: &str) -> String {
            self.0.tools(words)
        }

        async fn fingerprint(&self, _: &SecretUse) -> Result<String, String> {
            Err("it is not set".to_owned())
        }
    }

    #[test]
    fn complaints_lose_their_secrets_and_answers_stay() {
        let world = Knowing(Redactor::default());
        world.0.remember("7Qhz-22-aXbw-9Kfe");
        let quoted = "ERROR: [029]: missing '=' at line 3: 7Qhz-22-aXb".to_owned();
        let state = CommandState { status: 29, stdout: quoted.clone(), stderr: quoted.clone() };
        let mut answers = Answers::default();
        answers.commands.insert(vec!["pgbackrest".to_owned()], state);
        let sql = |n: &str| ("db".to_owned(), n.to_owned());
        answers.sql.insert(sql("1"), SqlAnswer::Said(quoted.clone()));
        answers.sql.insert(sql("2"), SqlAnswer::Failed(quoted.clone()));
        answers.sql.insert(sql("3"), SqlAnswer::NoSession(quoted.clone()));
        complaints(&mut answers, &world);
        let clean = "ERROR: [029]: missing '=' at line 3: [secret]";
        let state = &answers.commands[&vec!["pgbackrest".to_owned()]];
        assert_eq!((state.stdout.as_str(), state.stderr.as_str()), (quoted.as_str(), clean));
        assert_eq!(answers.sql[&sql("1")], SqlAnswer::Said(quoted));
        assert_eq!(answers.sql[&sql("2")], SqlAnswer::Failed(clean.to_owned()));
        assert_eq!(answers.sql[&sql("3")], SqlAnswer::NoSession(clean.to_owned()));
    }
}
