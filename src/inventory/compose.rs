//! A Compose file: what it declares, and what in it opens holes, loses data, or cannot be judged beforehand.
//!
//! Docker publishes ports past the host's firewall, and `docker compose down -v` removes every volume that the file itself
//! declares. So ports are bound to the loopback by name, volumes are external, and whatever would be decided only on the
//! server (a variable in a port, a second file, an image that is built there) is refused. So is every key that is not known
//! to stay within the container ([`keys`]). What is not judged here is Compose's own business: its syntax is checked by
//! Compose before the file is put in place.

mod keys;
mod mounts;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::base::diag::Diagnostic;
use crate::inventory::places::{Places, child, item};
use crate::inventory::scalar::whole;
use crate::inventory::yaml;

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

/// Reads the file of a project: what it declares, and every problem, each with its place in the file as a label.
pub fn read(project: &str, file: &str, text: &str) -> (Stack, Vec<Diagnostic>) {
    let read = yaml::read(file, text);
    let mut reader = Reader { project, places: &read.places, stack: Stack::default(), found: Vec::new() };
    match &read.value {
        Some(value) if merges(value) => {
            reader.error("compose-unreadable", "the Compose file has a merge key, `<<`", "").hint =
                Some("write it out: `docker compose config` prints it so".to_owned());
        }
        Some(Value::Object(top)) if read.problems.is_empty() => reader.top(top),
        _ => {
            for problem in &read.problems {
                // Where and what kind, and nothing of the text: it may be any file, and no Compose file at all.
                let refused = Diagnostic::error("compose-unreadable", "the Compose file cannot be read")
                    .note(format!("its YAML is refused: `{}`", problem.code))
                    .hint("write it without anchors, tags and empty values: `docker compose config` prints it so");
                let places = problem.labels.iter().map(|label| label.span.clone());
                reader.found.push(places.fold(refused, |refused, place| refused.at(place, "here")));
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
    /// The project's name, whose folder below `/var/lib` is its own.
    project: &'a str,
    places: &'a Places,
    stack: Stack,
    found: Vec<Diagnostic>,
}

/// Compose reads nothing in these.
fn is_extension(key: &str) -> bool {
    key.starts_with("x-")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Reader<'_> {
    fn error(&mut self, code: &str, message: impl Into<String>, path: &str) -> &mut Diagnostic {
        let problem = Diagnostic::error(code, message).at(self.places.span(path), format!("`{path}`"));
        self.found.push(problem);
        self.found.last_mut().expect("one was just pushed")
    }

    fn top(&mut self, top: &Map<String, Value>) {
        for key in top.keys() {
            if keys::TOP_FROM_ELSEWHERE.contains(&key.as_str()) {
                self.elsewhere(key, key);
            } else if !is_extension(key) && !keys::TOP.contains(&key.as_str()) {
                self.unknown(&format!("the Compose file has `{key}`"), key);
            }
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
                "build" | "develop" => "build the image elsewhere and name it by tag or digest",
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
        if let Some(volume) = volume.as_object() {
            for key in volume.keys().filter(|key| !is_extension(key) && !keys::VOLUME.contains(&key.as_str())) {
                self.error(
                    "compose-bind",
                    format!("volume `{name}` says with `{key}` where it is"),
                    &child(&path, key),
                )
                .hint = Some("leave it out: a volume is a folder that Docker makes".to_owned());
            }
        }
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
        if let Some(network) = network.as_object() {
            self.only(name, &path, network, &keys::NETWORK);
            if let Some(options) = network.get("driver_opts").and_then(Value::as_object) {
                self.only(name, &child(&path, "driver_opts"), options, &keys::NETWORK_OPTIONS);
            }
        }
        if driver != "bridge" || real == "host" {
            self.error("compose-privileged", format!("network `{name}` is not behind the server's firewall"), &path)
                .hint = Some("leave `driver` out: a network of Docker's own is enough".to_owned());
        }
        let _ = self.is_variable(&real, &path);
    }

    fn service(&mut self, name: &str, path: &str, service: &Map<String, Value>, volumes: &Map<String, Value>) {
        for key in service.keys() {
            let at = child(path, key);
            if keys::FROM_ELSEWHERE.contains(&key.as_str()) {
                self.elsewhere(key, &at);
            } else if keys::TO_THE_SERVER.contains(&key.as_str()) || keys::TO_THE_SERVER_TOO.contains(&key.as_str()) {
                self.error(
                    "compose-privileged",
                    format!("service `{name}` reaches with `{key}` out of its container"),
                    &at,
                )
                .hint = Some("take it out; services of one file reach each other by name".to_owned());
            } else if !is_extension(key) && !keys::SERVICE.contains(&key.as_str()) {
                self.unknown(&format!("service `{name}` has `{key}`"), &at);
            }
        }
        self.rights(name, path, service);
        self.surroundings(name, path, service);
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
            self.found.push(
                Diagnostic::warning("compose-restart", format!("service `{name}` would not come back after a reboot"))
                    .at(self.places.span(path), format!("`{path}`"))
                    .hint("write `restart: unless-stopped`, or `restart: \"no\"` where that is meant"),
            );
        }
        self.stack.services.insert(name.to_owned(), Service { image, ports });
    }

    /// What makes a container root on the server.
    fn rights(&mut self, name: &str, path: &str, service: &Map<String, Value>) {
        // Compose's own reader takes `yes` for true, so anything but `false` counts.
        if service.get("privileged").is_some_and(|value| *value != Value::Bool(false)) {
            self.error(
                "compose-privileged",
                format!("service `{name}` is privileged: it would be root on the server"),
                &child(path, "privileged"),
            )
            .hint = Some("take it out; `cap_add` gives a single right".to_owned());
        }
        let is_right = |right: &str| keys::RIGHTS.contains(&right.to_uppercase().trim_start_matches("CAP_"));
        self.each(name, &child(path, "cap_add"), service.get("cap_add"), is_right, "takes the right");
        let is_less = |option: &str| keys::SECURITY.contains(&option);
        self.each(
            name,
            &child(path, "security_opt"),
            service.get("security_opt"),
            is_less,
            "changes its confinement with",
        );
    }

    /// Each item of a list must be one of those that are known; a text that is no list counts as its only item.
    fn each(&mut self, name: &str, path: &str, items: Option<&Value>, known: impl Fn(&str) -> bool, verb: &str) {
        let items = match items {
            None => return,
            Some(Value::Array(items)) => items.as_slice(),
            Some(other) => std::slice::from_ref(other),
        };
        for (index, value) in items.iter().enumerate().filter(|(_, value)| !value.as_str().is_some_and(&known)) {
            self.error(
                "compose-privileged",
                format!("service `{name}` {verb} `{}`", text(value)),
                &item(path, index),
            )
            .hint = Some("take it out; a service beside a database needs no more than Docker gives it".to_owned());
        }
    }

    /// Whose network, memory and log a container has.
    fn surroundings(&mut self, name: &str, path: &str, service: &Map<String, Value>) {
        for (key, known) in [("network_mode", keys::NETWORK_MODES.as_slice()), ("ipc", keys::IPC.as_slice())] {
            let other = service.get(key).map(text).filter(|value| !known.contains(&value.as_str()));
            if let Some(value) = other {
                self.error(
                    "compose-privileged",
                    format!("service `{name}` has `{key}: {value}`, which is not its own"),
                    &child(path, key),
                )
                .hint = Some("take it out; services of one file reach each other by name".to_owned());
            }
        }
        let logging = service.get("logging");
        if let Some(driver) = logging.and_then(|logging| logging.get("driver")).map(text)
            && !keys::LOGGING.contains(&driver.as_str())
        {
            let at = child(&child(path, "logging"), "driver");
            self.error(
                "compose-privileged",
                format!("service `{name}` has Docker write its log with `{driver}`"),
                &at,
            )
            .hint = Some(format!("use one of {}", keys::LOGGING.join(", ")));
        }
        let Some(deploy) = service.get("deploy").and_then(Value::as_object) else { return };
        let at = child(path, "deploy");
        self.only(name, &at, deploy, &keys::DEPLOY);
        for (part, wanted) in deploy.get("resources").and_then(Value::as_object).into_iter().flatten() {
            if let Some(wanted) = wanted.as_object() {
                self.only(name, &child(&child(&at, "resources"), part), wanted, &keys::RESOURCES);
            }
        }
    }

    /// Every key of a mapping must be known.
    fn only(&mut self, name: &str, path: &str, mapping: &Map<String, Value>, known: &[&str]) {
        for key in mapping.keys().filter(|key| !is_extension(key) && !known.contains(&key.as_str())) {
            self.unknown(&format!("`{name}` has `{key}`"), &child(path, key));
        }
    }

    fn unknown(&mut self, what: &str, path: &str) {
        let message = format!("{what}, and Seawall does not know what that opens");
        self.error("compose-not-judged", message, path).hint =
            Some("take it out; only keys that are known to stay within a container are let through".to_owned());
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
        let number = |text: &str| whole(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        match rest.split_once(':').map(|(outer, inner)| (number(outer), number(inner))) {
            Some((Some(outer), Some(inner))) if ["tcp", "udp"].contains(&protocol) => {
                let host = host.trim_end_matches(':').trim_matches(['[', ']']);
                Some(format!("{host}:{outer}->{inner}/{protocol}"))
            }
            _ => refused(self, "a single port of the host and one of the container are needed"),
        }
    }
}
