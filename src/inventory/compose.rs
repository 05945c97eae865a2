//! A Compose file: what it declares, and what in it opens holes, loses data, or cannot be judged beforehand.
//!
//! Docker publishes ports past the host's firewall, and `docker compose down -v` removes every volume that the file itself
//! declares. So ports are bound to the loopback by name, volumes are external, and whatever would be decided only on the
//! server (a variable in a port, a second file, an image that is built there) is refused. What is not judged here is
//! Compose's own business: its syntax is checked by Compose before the file is put in place.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::base::diag::Diagnostic;
use crate::inventory::places::{Places, child, item};
use crate::inventory::yaml;

/// Keys of a service that bring in something from outside of the file, or from the server.
const FROM_ELSEWHERE: [&str; 6] = ["build", "extends", "env_file", "configs", "secrets", "volumes_from"];
/// Rights with which a container is root on the server.
const RIGHTS: [&str; 4] = ["ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO"];
/// The same at the top level.
const TOP_FROM_ELSEWHERE: [&str; 3] = ["include", "configs", "secrets"];
/// Keys that share a part of the host with a container when they say `host`.
const SHARED: [&str; 5] = ["network_mode", "pid", "ipc", "userns_mode", "uts"];
/// What must not be within reach of a container: the database, its backups' keys, Seawall's own records, and Docker's
/// socket, which is as good as root.
const KEPT_OUT: [&str; 9] = [
    "/var/lib/postgresql",
    "/etc/postgresql",
    "/var/lib/pgbackrest",
    "/etc/pgbackrest",
    "/var/lib/seawall",
    "/etc/seawall",
    "/var/lib/docker",
    "/var/run/docker.sock",
    "/run/docker.sock",
];

/// What a file declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    pub services: BTreeMap<String, Service>,
    /// Names of the external volumes.
    pub volumes: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub image: String,
    /// As Docker shows them: `127.0.0.1:8080->80/tcp`.
    pub ports: BTreeSet<String>,
}

/// Reads a file: what it declares, and every problem, each with its place in the file as a note.
pub fn read(file: &str, text: &str) -> (Stack, Vec<Diagnostic>) {
    let read = yaml::read(file, text);
    let mut reader = Reader { places: &read.places, stack: Stack::default(), found: Vec::new() };
    match &read.value {
        Some(value) if merges(value) => {
            reader.error("compose-unreadable", "the Compose file has a merge key, `<<`", "").hint =
                Some("write it out: `docker compose config` prints it so".to_owned());
        }
        Some(Value::Object(top)) if read.problems.is_empty() => reader.top(top),
        _ => {
            for problem in &read.problems {
                let place = problem.labels.first().map_or_else(|| file.to_owned(), |label| label.span.to_string());
                reader.found.push(
                    Diagnostic::error(
                        "compose-unreadable",
                        format!("the Compose file cannot be read: {}", problem.message),
                    )
                    .note(format!("{place}: the place in the Compose file"))
                    .hint("write it without anchors, tags and empty values: `docker compose config` prints it so"),
                );
            }
            if reader.found.is_empty() {
                reader.error("compose-unreadable", "the Compose file is not a mapping", "").hint =
                    Some("it has `services:` at its top".to_owned());
            }
        }
    }
    (reader.stack, reader.found)
}

/// Compose reads YAML 1.1, in which this key puts another mapping in its place.
fn merges(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| key == "<<" || merges(value)),
        Value::Array(items) => items.iter().any(merges),
        _ => false,
    }
}

struct Reader<'a> {
    places: &'a Places,
    stack: Stack,
    found: Vec<Diagnostic>,
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Reader<'_> {
    fn error(&mut self, code: &str, message: impl Into<String>, path: &str) -> &mut Diagnostic {
        let place = format!("{}: `{path}` in the Compose file", self.places.span(path));
        self.found.push(Diagnostic::error(code, message).note(place));
        self.found.last_mut().expect("one was just pushed")
    }

    fn top(&mut self, top: &Map<String, Value>) {
        for key in TOP_FROM_ELSEWHERE.iter().filter(|key| top.contains_key(**key)) {
            self.elsewhere(key, key);
        }
        let none = Map::new();
        let volumes = top.get("volumes").and_then(Value::as_object).unwrap_or(&none);
        for (name, volume) in volumes {
            self.volume(name, volume);
        }
        for (name, network) in top.get("networks").and_then(Value::as_object).unwrap_or(&none) {
            self.network(name, network);
        }
        let Some(services) = top.get("services").and_then(Value::as_object).filter(|services| !services.is_empty())
        else {
            self.error("compose-unreadable", "the Compose file has no services", "").hint =
                Some("it has `services:` at its top".to_owned());
            return;
        };
        for (name, service) in services {
            let path = child("services", name);
            match service.as_object() {
                Some(service) => self.service(name, &path, service, volumes),
                None => drop(self.error("compose-unreadable", format!("service `{name}` is not a mapping"), &path)),
            }
        }
    }

    fn elsewhere(&mut self, key: &str, path: &str) {
        self.error("compose-not-judged", format!("`{key}` brings in what this file does not show"), path).hint = Some(
            match key {
                "build" => "build the image elsewhere and name it by tag or digest",
                "env_file" | "secrets" => "declare secrets in the inventory, and use `${NAME}` under `environment`",
                _ => "write it into this one file; nothing else goes to the server",
            }
            .to_owned(),
        );
    }

    /// A value with a variable in it, which only the server can fill in. Under `environment` that is allowed, for
    /// passwords; a value that is judged here must be written out.
    fn is_variable(&mut self, value: &str, path: &str) -> bool {
        let variable = value.contains('$');
        if variable {
            self.error("compose-not-judged", format!("`{value}` is known on the server only"), path).hint =
                Some("write the value; variables are for secrets under `environment`".to_owned());
        }
        variable
    }

    fn volume(&mut self, name: &str, volume: &Value) {
        let path = child("volumes", name);
        if volume.get("external") != Some(&Value::Bool(true)) {
            self.error("compose-volume", format!("volume `{name}` would go with `docker compose down -v`"), &path)
                .hint =
                Some("write `external: true` under it; Seawall makes the volume and never removes it".to_owned());
        }
        let real = volume.get("name").map_or_else(|| name.to_owned(), text);
        if !self.is_variable(&real, &path) {
            self.stack.volumes.insert(real);
        }
    }

    /// Networks that are not of Docker's own making would put a container beside the server, not behind it.
    fn network(&mut self, name: &str, network: &Value) {
        let of = |key: &str| network.get(key).map(text);
        let driver = of("driver").unwrap_or_else(|| "bridge".to_owned());
        let external = network.get("external").and_then(|external| external.get("name")).map(text);
        let real = of("name").or(external).unwrap_or_else(|| name.to_owned());
        let path = child("networks", name);
        if driver != "bridge" || real == "host" {
            self.error("compose-privileged", format!("network `{name}` is not behind the server's firewall"), &path)
                .hint = Some("leave `driver` out: a network of Docker's own is enough".to_owned());
        }
        let _ = self.is_variable(&real, &path);
    }

    fn service(&mut self, name: &str, path: &str, service: &Map<String, Value>, volumes: &Map<String, Value>) {
        for key in FROM_ELSEWHERE.iter().filter(|key| service.contains_key(**key)) {
            self.elsewhere(key, &child(path, key));
        }
        // Compose's own reader takes `yes` for true, so anything but `false` counts.
        if service.get("privileged").is_some_and(|value| *value != Value::Bool(false)) {
            self.error(
                "compose-privileged",
                format!("service `{name}` is privileged: it would be root on the server"),
                &child(path, "privileged"),
            )
            .hint = Some("take it out; `cap_add` gives a single right".to_owned());
        }
        for key in SHARED {
            let shared = service.get(key).map(text).filter(|value| value == "host" || value.contains('$'));
            if shared.is_some() {
                self.error(
                    "compose-privileged",
                    format!("service `{name}` shares the server's own {key}"),
                    &child(path, key),
                )
                .hint = Some("take it out; services of one file reach each other by name".to_owned());
            }
        }
        let wanted = service.get("cap_add").and_then(Value::as_array).into_iter().flatten().map(text);
        let right = wanted
            .map(|right| right.to_uppercase())
            .find(|right| right.contains('$') || RIGHTS.contains(&right.trim_start_matches("CAP_")));
        if let Some(what) =
            right.or_else(|| service.contains_key("devices").then(|| "devices of the server".to_owned()))
        {
            self.error(
                "compose-privileged",
                format!("service `{name}` takes {what}: it would be root on the server"),
                path,
            )
            .hint = Some("take it out; a service beside a database needs neither".to_owned());
        }
        let image = service.get("image").map(text).unwrap_or_default();
        self.image(name, path, &image);
        let mut ports = BTreeSet::new();
        for (index, port) in service.get("ports").and_then(Value::as_array).into_iter().flatten().enumerate() {
            ports.extend(self.port(name, &item(&child(path, "ports"), index), port));
        }
        for (index, mount) in service.get("volumes").and_then(Value::as_array).into_iter().flatten().enumerate() {
            self.mount(name, &item(&child(path, "volumes"), index), mount, volumes);
        }
        if !service.contains_key("restart") {
            let place = format!("{}: `{path}` in the Compose file", self.places.span(path));
            self.found.push(
                Diagnostic::warning("compose-restart", format!("service `{name}` would not come back after a reboot"))
                    .note(place)
                    .hint("write `restart: unless-stopped`, or `restart: \"no\"` where that is meant"),
            );
        }
        self.stack.services.insert(name.to_owned(), Service { image, ports });
    }

    fn image(&mut self, name: &str, path: &str, image: &str) {
        let at = child(path, "image");
        if image.is_empty() {
            self.error("compose-image", format!("service `{name}` names no image"), path).hint =
                Some("write `image: NAME:TAG`".to_owned());
            return;
        }
        if self.is_variable(image, &at) {
            return;
        }
        let last = image.rsplit('/').next().unwrap_or(image);
        let pinned = image.contains("@sha256:") || last.split_once(':').is_some_and(|(_, tag)| tag != "latest");
        if !pinned {
            self.error("compose-image", format!("image `{image}` is another one every time that it is fetched"), &at)
                .hint = Some("name a version (`NAME:1.2.3`) or a digest (`NAME@sha256:…`)".to_owned());
        }
    }

    /// `127.0.0.1:8080:80`, and `/udp` at its end. Everything else binds elsewhere or cannot be compared with what is bound.
    fn port(&mut self, name: &str, path: &str, port: &Value) -> Option<String> {
        let shown = text(port);
        let refused = |reader: &mut Self, why: &str| {
            reader.error("compose-port", format!("service `{name}` publishes `{shown}`, and {why}"), path).hint = Some(
                "write \"127.0.0.1:8080:80\"; to let others in, put a proxy of the host in front, with a certificate"
                    .to_owned(),
            );
            None
        };
        let Some(given) = port.as_str() else {
            return refused(self, "only the form with an address in quotes says where it is bound");
        };
        if self.is_variable(given, path) {
            return None;
        }
        let (address, protocol) = given.rsplit_once('/').unwrap_or((given, "tcp"));
        let local = ["127.0.0.1:", "[::1]:"].iter().find_map(|host| Some((*host, address.strip_prefix(host)?)));
        let Some((host, rest)) = local else {
            return refused(self, "Docker opens that to the world, past the host's firewall");
        };
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        match rest.split_once(':').map(|(outer, inner)| (number(outer), number(inner))) {
            Some((Some(outer), Some(inner))) if ["tcp", "udp"].contains(&protocol) => {
                let host = host.trim_end_matches(':').trim_matches(['[', ']']);
                Some(format!("{host}:{outer}->{inner}/{protocol}"))
            }
            _ => refused(self, "a single port of the host and one of the container are needed"),
        }
    }

    fn mount(&mut self, name: &str, path: &str, mount: &Value, volumes: &Map<String, Value>) {
        let (kind, source) = match mount {
            Value::String(short) => match short.split_once(':') {
                Some((source, _)) => {
                    (if source.starts_with(['/', '.', '~', '$']) { "bind" } else { "volume" }, source.to_owned())
                }
                None => ("volume", String::new()),
            },
            long => {
                let of = |key: &str| long.get(key).map(text).unwrap_or_default();
                let kind = of("type");
                (
                    if kind == "bind" {
                        "bind"
                    } else if kind == "tmpfs" {
                        "tmpfs"
                    } else {
                        "volume"
                    },
                    of("source"),
                )
            }
        };
        if self.is_variable(&source, path) {
            return;
        }
        match kind {
            "volume" if source.is_empty() => {
                self.error(
                    "compose-volume",
                    format!("service `{name}` has a volume without a name, which any clean-up takes"),
                    path,
                )
                .hint = Some("give it a name, and declare that under `volumes` with `external: true`".to_owned());
            }
            "volume" if !volumes.contains_key(&source) => {
                self.error(
                    "compose-volume",
                    format!("service `{name}` uses volume `{source}`, which is not under `volumes`"),
                    path,
                )
                .hint = Some(format!("declare `{source}: {{ external: true }}` under `volumes`"));
            }
            "bind" => self.bind(name, path, &source),
            _ => {}
        }
    }

    fn bind(&mut self, name: &str, path: &str, source: &str) {
        if !source.starts_with('/') || source.split('/').any(|part| part == "..") {
            self.error(
                "compose-not-judged",
                format!("service `{name}` mounts `{source}`, and nothing but this file goes to the server"),
                path,
            )
            .hint = Some("name a path of the server from its root, or use a volume".to_owned());
            return;
        }
        let source = format!("{}/", source.trim_end_matches('/'));
        let within = |kept: &&&str| format!("{kept}/").starts_with(&source) || source.starts_with(&format!("{kept}/"));
        if let Some(kept) = KEPT_OUT.iter().find(within) {
            self.error("compose-bind", format!("service `{name}` would have `{kept}` in its hands"), path).hint =
                Some("mount a directory of its own; to reach the database, connect to it".to_owned());
        }
    }
}
