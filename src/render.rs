//! Templates to text: embedded Tera templates, strict; a missing variable is an error with its name.
//!
//! One template per rendered file, listed in [`TEMPLATES`]. Each begins with a line that says who manages the file, and
//! says why beside what is not obvious. Deliberately absent: escaping for HTML (these are configuration files), reading
//! templates from disk (a plan must not depend on what lies beside the binary), and secrets.

use std::error::Error;
use std::sync::LazyLock;

use serde::Serialize;
use tera::{Context, Tera};

/// Every template: its name, which is also its file name under `templates/`, and its text.
pub static TEMPLATES: &[(&str, &str)] = &[
    ("first-boot.sh", include_str!("../templates/first-boot.sh")),
    ("alert.service", include_str!("../templates/alert.service")),
    ("alert.sh", include_str!("../templates/alert.sh")),
    ("authorized_keys", include_str!("../templates/authorized_keys")),
    ("createcluster.conf", include_str!("../templates/createcluster.conf")),
    ("postgresql.conf", include_str!("../templates/postgresql.conf")),
    ("archive.conf", include_str!("../templates/archive.conf")),
    ("backup.service", include_str!("../templates/backup.service")),
    ("backup.sh", include_str!("../templates/backup.sh")),
    ("copy-wal.path", include_str!("../templates/copy-wal.path")),
    ("copy-wal.service", include_str!("../templates/copy-wal.service")),
    ("drill.service", include_str!("../templates/drill.service")),
    ("dump.service", include_str!("../templates/dump.service")),
    ("heartbeat.service", include_str!("../templates/heartbeat.service")),
    ("pgbackrest.conf", include_str!("../templates/pgbackrest.conf")),
    ("program.conf", include_str!("../templates/program.conf")),
    ("repository-key.path", include_str!("../templates/repository-key.path")),
    ("repository-key.service", include_str!("../templates/repository-key.service")),
    ("repository-key.sh", include_str!("../templates/repository-key.sh")),
    ("restore.service", include_str!("../templates/restore.service")),
    ("timer", include_str!("../templates/timer")),
    ("pg_hba.conf", include_str!("../templates/pg_hba.conf")),
    ("pg_ident.conf", include_str!("../templates/pg_ident.conf")),
    ("pgbouncer-hba.conf", include_str!("../templates/pgbouncer-hba.conf")),
    ("pgbouncer.ini", include_str!("../templates/pgbouncer.ini")),
    ("sshd.conf", include_str!("../templates/sshd.conf")),
    ("certificate.path", include_str!("../templates/certificate.path")),
    ("certificate.service", include_str!("../templates/certificate.service")),
    ("certificate.timer", include_str!("../templates/certificate.timer")),
    ("fail2ban-jails.conf", include_str!("../templates/fail2ban-jails.conf")),
    ("fail2ban-postgresql.conf", include_str!("../templates/fail2ban-postgresql.conf")),
    ("fail2ban-server.conf", include_str!("../templates/fail2ban-server.conf")),
    ("job.service", include_str!("../templates/job.service")),
    ("job.timer", include_str!("../templates/job.timer")),
    ("never-ban.sh", include_str!("../templates/never-ban.sh")),
    ("sudoers", include_str!("../templates/sudoers")),
    ("sysctl.conf", include_str!("../templates/sysctl.conf")),
    ("timesyncd.conf", include_str!("../templates/timesyncd.conf")),
    ("ufw.conf", include_str!("../templates/ufw.conf")),
    ("ufw.rules", include_str!("../templates/ufw.rules")),
    ("upgrades.conf", include_str!("../templates/upgrades.conf")),
];

static TERA: LazyLock<Tera> = LazyLock::new(|| {
    let mut tera = Tera::default();
    // `&` in a comment of a key must stay `&`.
    tera.autoescape_on(Vec::new());
    tera.add_raw_templates(TEMPLATES.iter().copied()).expect("the embedded templates parse; a test parses all of them");
    tera
});

/// Why a template could not become text. Always a fault of this program: template and context are both its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("there is no template `{0}`")]
    NoTemplate(String),
    #[error("template `{template}` uses `{variable}`, which its context does not have")]
    MissingVariable { template: String, variable: String },
    #[error("template `{template}`: {why}")]
    Failed { template: String, why: String },
}

/// Renders a template with the fields of a struct or map as its variables.
pub fn render(template: &str, context: &impl Serialize) -> Result<String, RenderError> {
    if !TEMPLATES.iter().any(|(name, _)| *name == template) {
        return Err(RenderError::NoTemplate(template.to_owned()));
    }
    let context = Context::from_serialize(context).map_err(|error| failure(template, &error))?;
    TERA.render(template, &context).map_err(|error| failure(template, &error))
}

/// Tera says what is missing only in the text of the innermost error: ``Variable `x` not found in context …`` in an
/// expression, ``… on an array `x` that is not found`` style texts elsewhere.
fn failure(template: &str, error: &tera::Error) -> RenderError {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        why = inner.to_string();
        source = inner.source();
    }
    let template = template.to_owned();
    match why.strip_prefix("Variable `").and_then(|rest| rest.split_once('`')) {
        Some((variable, rest)) if rest.contains("not found") => {
            RenderError::MissingVariable { template, variable: variable.to_owned() }
        }
        _ => RenderError::Failed { template, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A context for every template; a template without one fails the test.
    fn context(name: &str) -> Value {
        let own = match name {
            "alert.service" => json!({ "script": "/alert" }),
            "alert.sh" => json!({ "folder": "/f", "keep": 3, "lines": 2, "width": 9 }),
            "job.service" => json!({
                "name": "a", "user": "b", "directory": "-~", "command": ":/c", "timeout": 1, "environment": ["D=e"],
                "secrets": ["/f"],
            }),
            "job.timer" => json!({ "name": "a", "when": "*-*-* *:00:00 UTC" }),
            "authorized_keys" => json!({ "keys": ["ssh-ed25519 AAAA a&b"] }),
            "certificate.path" => json!({ "name": "a", "credentials": "/c", "pass": "/p" }),
            "certificate.service" | "certificate.timer" => json!({ "name": "a" }),
            "program.conf" => json!({ "program": "/p", "settings": [{ "key": "a", "value": "b" }] }),
            "archive.conf" => json!({ "command": "a %p", "timeout": 60 }),
            "backup.service" => json!({ "stanza": "a", "version": 15, "limit": 1, "program": "/p", "writes": " /s" }),
            "backup.sh" => json!({ "stanza": "a", "wait": 1 }),
            "copy-wal.path" => json!({ "spool": "/s", "unit": "a.service" }),
            "copy-wal.service" => json!({ "stanza": "a", "program": "/p", "spool": "/s" }),
            "restore.service" => json!({ "stanza": "main", "memory": "384M" }),
            "heartbeat.service" => json!({ "version": 15, "port": 1, "sql": "select 1" }),
            "pgbackrest.conf" => json!({
                "folder": "/f", "path": "/p", "bucket": "b", "region": "r", "endpoint": "e", "retention": ["x=1"], "archiving": ["y=1"],
                "processes": 2, "locks": "/l", "extra": ["[a]"], "stanza": "s", "data": "/d", "port": 1,
            }),
            "postgresql.conf" => json!({ "memory_mib": 1, "settings": [{ "name": "a", "why": "b", "quoted": "c" }] }),
            "repository-key.path" => json!({ "files": ["/a"], "unit": "a.service" }),
            "repository-key.service" => json!({ "pairs": [{ "credentials": "/a", "target": "/b" }] }),
            "timer" => json!({ "what": "a", "calendar": "daily", "persistent": true, "unit": "a.service" }),
            "drill.service" => json!({ "stanza": "main", "version": 15 }),
            "dump.service" => json!({ "version": 15, "limit": 1 }),
            "first-boot.sh" => json!({ "user": "admin", "keys": ["ssh-ed25519 AAAA a&b"] }),
            "sshd.conf" => json!({
                "ports": [22], "users": "admin", "max_auth_tries": 3, "login_grace": 30, "alive_interval": 300,
                "disable_forwarding": "yes", "tcp_forwarding": "no", "trusted_ca": "none", "weak_kex": "a*", "weak_host_keys": "b*",
                "weak_ciphers": "c*", "weak_macs": "d*",
            }),
            "fail2ban-jails.conf" => json!({
                "ignore": "::1/128", "never_ban": "/never-ban", "longest_ban": 2,
                "jails": [{ "name": "a", "why": ["b"], "own": [["c", "d"]], "retries": 1, "within": 1, "ban": 1 }],
            }),
            "createcluster.conf" | "fail2ban-postgresql.conf" | "repository-key.sh" | "ufw.conf" => json!({}),
            "fail2ban-server.conf" => json!({ "log": "/log", "history": 1 }),
            "never-ban.sh" => json!({ "days": 7 }),
            "pg_hba.conf" => json!({ "blocks": [{ "why": "a", "lines": ["b"] }], "restorers": ["c"] }),
            "pg_ident.conf" => json!({ "restorers": ["c"] }),
            "pgbouncer-hba.conf" => json!({ "lines": ["a"] }),
            "pgbouncer.ini" => json!({
                "databases": ["a"], "postgres": 1, "roles": [{ "name": "b", "connections": 1 }], "listen": "*", "port": 2,
                "userlist": "/u", "hba": "/h", "certificate": "/c", "key": "/k", "mode": "m", "clients": 3, "pool": 4,
            }),
            "sudoers" => json!({ "user": "admin" }),
            "sysctl.conf" => json!({ "groups": [{ "why": "because", "settings": { "vm.swappiness": "10" } }] }),
            "timesyncd.conf" => json!({ "servers": "192.0.2.1" }),
            "ufw.rules" => json!({ "prefix": "ufw6", "rules": [["### tuple ### a b", "-A c -j ACCEPT"]] }),
            "upgrades.conf" => json!({ "unattended": "1" }),
            other => panic!("no context for template `{other}`"),
        };
        let mut all = json!({ "address": "host.kind/db" });
        let map = all.as_object_mut().expect("an object");
        map.extend(own.as_object().expect("an object").clone());
        all
    }

    #[test]
    fn every_template_renders_and_says_who_manages_the_file() {
        for (name, _) in TEMPLATES {
            let text = render(name, &context(name)).expect(name);
            let first = text.lines().find(|line| !line.starts_with("#!")).expect("a line");
            assert!(first.contains("managed by Seawall (host.kind/db)"), "{name}: {first}");
            assert!(text.ends_with('\n') && !text.contains("{{") && !text.contains("{%"), "{name}:\n{text}");
            assert!(!text.contains("&amp;"), "{name} is escaped for HTML");
        }
    }

    #[test]
    fn every_variable_is_needed() {
        for (name, _) in TEMPLATES {
            let full = context(name);
            for variable in full.as_object().expect("an object").keys() {
                let mut without = full.clone();
                without.as_object_mut().expect("an object").remove(variable);
                assert_eq!(
                    render(name, &without),
                    Err(RenderError::MissingVariable { template: (*name).to_owned(), variable: variable.clone() })
                );
            }
        }
    }

    #[test]
    fn an_unknown_template_is_named() {
        assert_eq!(render("no.conf", &json!({})), Err(RenderError::NoTemplate("no.conf".to_owned())));
    }
}
