//! What Docker says about a project: its containers, what they were made from, where their ports are really bound, and the
//! volumes. Of a container's environment nothing is asked: it holds secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::kinds::host_compose::{Desired, folder};
use crate::plan::observed::Unseen;

/// The label of volumes that were made here. Compose's own label would make them its own.
pub(super) const LABEL: &str = "seawall.project";

/// Prints one JSON object a line about the daemon, every container and every volume; `image N ID` for each image that is
/// wanted and there; and `hash SERVICE HASH` for what Compose would make of the file on the server.
const ASK: &str = r#"project=$1 folder=$2
shift 2
command -v docker >/dev/null && command -v docker-compose >/dev/null || { echo missing; exit 0; }
all=$(docker ps --all --quiet --no-trunc 2>/dev/null) || { echo stopped; exit 0; }
docker info --format '{"live_restore":{{json .LiveRestoreEnabled}}}' &&
    docker network inspect bridge --format '{"bridge":{{json (index .Options "com.docker.network.bridge.host_binding_ipv4")}}}' &&
    docker volume ls --format '{"volume":{{json .Name}},"project":{{json (.Label "seawall.project")}}}' || exit 1
# shellcheck disable=SC2086 # identifiers, a word each
[ -z "$all" ] || docker inspect --type container --format '{"container":{{json .Name}},"project":{{json (index .Config.Labels "com.docker.compose.project")}},"service":{{json (index .Config.Labels "com.docker.compose.service")}},"hash":{{json (index .Config.Labels "com.docker.compose.config-hash")}},"oneoff":{{json (index .Config.Labels "com.docker.compose.oneoff")}},"image":{{json .Image}},"status":{{json .State.Status}},"ports":{{json .NetworkSettings.Ports}},"mounts":{{json .Mounts}}}' -- $all || exit 1
number=0
for image; do
    id=$(docker image inspect --format '{{.Id}}' -- "$image" 2>/dev/null) && echo "image $number $id"
    number=$((number + 1))
done
[ ! -f "$folder/compose.yaml" ] ||
    docker-compose --project-directory "$folder" -p "$project" -f "$folder/compose.yaml" config --hash '*' 2>/dev/null | sed 's/^/hash /'
exit 0"#;

/// Prints access to an environment file and the names of its variables; `?` for each line that is not `NAME='VALUE'`.
const ASK_SECRETS: &str = r#"[ -e "$1" ] || [ -L "$1" ] || exit 0
[ -f "$1" ] && [ ! -L "$1" ] || { echo 'no regular file'; exit 0; }
stat -c '%a %U:%G' -- "$1" && sed -e '/^#/d' -e "s/^\([A-Za-z_][A-Za-z0-9_]*\)='[^']*'\$/\1/" -e t -e 's/.*/?/' -- "$1""#;

pub(super) fn ask(desired: &Desired) -> Vec<String> {
    let mut argv = ["sh", "-c", ASK, "sh", &desired.project, &folder(desired)].map(str::to_owned).to_vec();
    argv.extend(desired.services.values().map(|service| service.image.clone()));
    argv
}

pub(super) fn ask_secrets(path: &str) -> [&str; 5] {
    ["sh", "-c", ASK_SECRETS, "sh", path]
}

/// A container, as far as it is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Container {
    #[serde(rename = "container")]
    name: String,
    project: Option<String>,
    service: Option<String>,
    hash: Option<String>,
    oneoff: Option<String>,
    image: String,
    status: String,
    ports: Option<BTreeMap<String, Option<Vec<Binding>>>>,
    mounts: Option<Vec<Mount>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Binding {
    #[serde(rename = "HostIp")]
    ip: String,
    #[serde(rename = "HostPort")]
    port: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Mount {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Destination")]
    target: String,
}

/// What Docker said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Docker {
    pub(super) installed: bool,
    pub(super) running: bool,
    pub(super) live_restore: Option<bool>,
    pub(super) binds: Option<String>,
    /// State of each service of the project that has a container: `running` where all is as it should be.
    pub(super) services: BTreeMap<String, String>,
    /// Where they are bound, as `127.0.0.1:8080->80/tcp`.
    pub(super) ports: BTreeMap<String, BTreeSet<String>>,
    pub(super) volumes: BTreeSet<String>,
    /// Made here for this project, by label.
    pub(super) labelled: BTreeSet<String>,
    /// Containers and what they publish to others, past the host's firewall.
    pub(super) holes: BTreeMap<String, BTreeSet<String>>,
    /// Services with a volume that has no name of its own, and where it is.
    pub(super) anonymous: BTreeMap<String, BTreeSet<String>>,
}

impl Container {
    fn bound(&self) -> BTreeSet<String> {
        let ports = self.ports.iter().flatten();
        ports
            .flat_map(|(inner, outer)| {
                outer.iter().flatten().map(move |bound| format!("{}:{}->{inner}", bound.ip, bound.port))
            })
            .collect()
    }
}

/// Reads what [`ask`] printed.
pub(super) fn read(desired: &Desired, printed: &str) -> Result<Docker, Unseen> {
    let misread = |line: &str| Unseen::Misread(format!("what Docker says: `{line}`"));
    let mut docker = Docker { installed: true, running: true, ..Docker::default() };
    let (mut containers, mut images, mut hashes) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for line in printed.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["missing"] => return Ok(Docker::default()),
            ["stopped"] => return Ok(Docker { installed: true, ..Docker::default() }),
            ["image", number, id] => {
                let number: usize = number.parse().map_err(|_| misread(line))?;
                images.insert(number, (*id).to_owned());
            }
            ["hash", service, hash] => drop(hashes.insert((*service).to_owned(), (*hash).to_owned())),
            _ => {
                let object: Value = serde_json::from_str(line).map_err(|_| misread(line))?;
                let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
                if object.get("container").is_some() {
                    containers.push(serde_json::from_value::<Container>(object).map_err(|_| misread(line))?);
                } else if let Some(name) = text("volume") {
                    if text("project").as_ref() == Some(&desired.project) {
                        docker.labelled.insert(name.clone());
                    }
                    docker.volumes.insert(name);
                } else if object.get("bridge").is_some() {
                    docker.binds = text("bridge");
                } else if let Some(live) = object.get("live_restore").and_then(Value::as_bool) {
                    docker.live_restore = Some(live);
                } else {
                    return Err(misread(line));
                }
            }
        }
    }
    if docker.live_restore.is_none() || docker.binds.is_none() {
        return Err(misread("nothing about the daemon"));
    }
    let wanted: BTreeMap<&str, Option<&String>> =
        desired.services.keys().enumerate().map(|(number, name)| (name.as_str(), images.get(&number))).collect();
    for container in containers {
        let holes: BTreeSet<String> = container.bound().into_iter().filter(|bound| !is_local(bound)).collect();
        if !holes.is_empty() {
            docker.holes.insert(container.name.trim_start_matches('/').to_owned(), holes);
        }
        if container.project.as_ref() != Some(&desired.project) || container.oneoff.as_deref() == Some("True") {
            continue;
        }
        docker.of_project(&container, &wanted, &hashes);
    }
    Ok(docker)
}

/// Whether only the host itself can connect.
fn is_local(bound: &str) -> bool {
    bound.starts_with("127.") || bound.starts_with("::1:")
}

impl Docker {
    fn of_project(
        &mut self,
        container: &Container,
        images: &BTreeMap<&str, Option<&String>>,
        hashes: &BTreeMap<String, String>,
    ) {
        let name = container.service.clone().unwrap_or_default();
        let mut state = container.status.clone();
        if images.get(name.as_str()).is_some_and(|image| *image != Some(&container.image)) {
            state.push_str(", of another image");
        }
        if images.contains_key(name.as_str()) && hashes.get(&name) != container.hash.as_ref() {
            state.push_str(", of another configuration");
        }
        // Of several containers of one service the one that is not well counts.
        let known = self.services.entry(name.clone()).or_insert_with(|| state.clone());
        if known == "running" {
            *known = state;
        }
        self.ports.entry(name.clone()).or_default().extend(container.bound());
        // Docker gives a volume without a name 64 hexadecimal digits.
        let nameless = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let mounts = container.mounts.iter().flatten().filter(|mount| mount.kind == "volume" && nameless(&mount.name));
        for mount in mounts {
            self.anonymous.entry(name.clone()).or_default().insert(mount.target.clone());
        }
    }
}
