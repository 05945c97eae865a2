//! Mounts of a service: volumes that stay, and folders of the server that may be a container's.

use serde_json::{Map, Value};

use crate::inventory::compose::keys;
use crate::inventory::compose::{Reader, text};
use crate::inventory::places::child;

/// What a mount says, in either form.
#[derive(Debug, Default)]
struct Mount {
    kind: String,
    source: String,
    read_only: bool,
}

impl Reader<'_> {
    pub(super) fn mount(&mut self, service: &str, path: &str, mount: &Value, volumes: &Map<String, Value>) {
        let read = match mount {
            Value::String(short) => self.short(service, path, short),
            Value::Object(long) => self.long(service, path, long),
            _ => {
                self.error("compose-not-judged", format!("service `{service}` has a mount that is not one"), path)
                    .hint = Some("write \"VOLUME:/PATH\" or \"/srv/FOLDER:/PATH\"".to_owned());
                None
            }
        };
        let Some(Mount { kind, source, read_only }) = read else { return };
        if self.is_variable(&source, path) {
            return;
        }
        match kind.as_str() {
            "volume" if source.is_empty() => {
                self.error(
                    "compose-volume",
                    format!("service `{service}` has a volume without a name, which any clean-up takes"),
                    path,
                )
                .hint = Some("give it a name, and declare that under `volumes` with `external: true`".to_owned());
            }
            "volume" if !volumes.contains_key(&source) => {
                self.error(
                    "compose-volume",
                    format!("service `{service}` uses volume `{source}`, which is not under `volumes`"),
                    path,
                )
                .hint = Some(format!("declare `{source}: {{ external: true }}` under `volumes`"));
            }
            "volume" | "tmpfs" => {}
            "bind" => self.bind(service, path, &source, read_only),
            other => {
                self.error("compose-not-judged", format!("service `{service}` has a mount of type `{other}`"), path)
                    .hint = Some("`bind`, `volume` and `tmpfs` are known".to_owned());
            }
        }
    }

    /// `SOURCE:TARGET:OPTIONS`, or a target alone.
    fn short(&mut self, service: &str, path: &str, text: &str) -> Option<Mount> {
        let mut parts = text.splitn(3, ':');
        let (first, target, options) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let options: Vec<&str> = options.map(|options| options.split(',').collect()).unwrap_or_default();
        if let Some(other) = options.iter().find(|option| !keys::MOUNT_OPTIONS.contains(option)) {
            self.error("compose-bind", format!("service `{service}` mounts with `{other}`"), path).hint =
                Some("`ro` and `rw` are enough; propagation would reach the server's own mounts".to_owned());
            return None;
        }
        let source = if target.is_some() { first } else { "" };
        let kind = if source.starts_with(['/', '.', '~', '$', '\\']) { "bind" } else { "volume" };
        Some(Mount { kind: kind.to_owned(), source: source.to_owned(), read_only: options.contains(&"ro") })
    }

    fn long(&mut self, service: &str, path: &str, mount: &Map<String, Value>) -> Option<Mount> {
        let before = self.found.len();
        self.only(service, path, mount, &keys::MOUNT);
        for (key, known) in
            [("bind", &keys::MOUNT_BIND), ("volume", &keys::MOUNT_VOLUME), ("tmpfs", &keys::MOUNT_TMPFS)]
        {
            if let Some(part) = mount.get(key).and_then(Value::as_object) {
                self.only(service, &child(path, key), part, known);
            }
        }
        let of = |key: &str| mount.get(key).map(text).unwrap_or_default();
        let read_only = mount.get("read_only") == Some(&Value::Bool(true));
        (self.found.len() == before).then(|| Mount { kind: of("type"), source: of("source"), read_only })
    }

    /// A folder of the server that is the container's. Docker follows links in it, as root, when the container starts: what
    /// is below these folders must not be writable for people who are not trusted with the server.
    fn bind(&mut self, service: &str, path: &str, source: &str, read_only: bool) {
        if !source.starts_with('/') || source.split('/').any(|part| part == "..") {
            self.error(
                "compose-not-judged",
                format!("service `{service}` mounts `{source}`, and nothing but this file goes to the server"),
                path,
            )
            .hint = Some("name a path of the server from its root, or use a volume".to_owned());
            return;
        }
        let real = normal(source);
        let readable = keys::READABLE.contains(&real.as_str());
        if readable && read_only {
            return;
        }
        let own = format!("/var/lib/{}", self.project);
        let kept_out = keys::KEPT_OUT.iter().any(|kept| is_at_or_below(&real, kept));
        let allowed = keys::FOLDERS.iter().any(|folder| is_below(&real, folder)) || is_at_or_below(&real, &own);
        if allowed && !kept_out {
            return;
        }
        let hint = if readable {
            "a container may read it: write `:ro` after it".to_owned()
        } else {
            format!("mount a folder below /srv, /opt or {own}; to reach the database, connect to it")
        };
        self.error(
            "compose-bind",
            format!("service `{service}` would have `{real}` of the server in its hands"),
            path,
        )
        .hint = Some(hint);
    }
}

/// A path as the kernel reads it, but for links: `//`, `/./` and a slash at its end say nothing.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    format!("/{}", parts.collect::<Vec<_>>().join("/"))
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    path == folder || is_below(path, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_the_kernel_reads() {
        for (path, real) in [("/", "/"), ("//srv/./a//b/", "/srv/a/b"), ("/srv/.", "/srv"), ("/srv/...", "/srv/...")] {
            assert_eq!(normal(path), real);
        }
        assert!(is_below("/srv/a", "/srv") && !is_below("/srv", "/srv") && !is_below("/srvx", "/srv"));
    }
}
