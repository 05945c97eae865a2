//! Rules of the inventory itself, which the types cannot say and which need no kind: references, names, limits.
//!
//! Everything here would be refused or misunderstood by AWS or the host later. What is allowed and unwise is `policy`'s.

mod access;
mod certificate;
mod cloud;
mod cluster;
mod compose;
mod drills;
mod hooks;
mod host;
mod jobs;
mod roles;
pub mod text;

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::Value;

use crate::base::diag::{Diagnostic, Diagnostics};
use crate::base::secret::SecretRef;
use crate::inventory::load::FORMAT;
use crate::inventory::places::{Places, child};
use crate::inventory::scalar::Name;
use crate::inventory::sections::Inventory;
use crate::inventory::similar::{choices, similar};

/// Whether something is done about a section today. A section that is `false` is refused, so that nothing in a file is
/// silently ignored; the work that makes its kind flips it. `*` is any name.
pub const SECTIONS: [(&str, bool); 26] = [
    ("seawall", true),
    ("environment", true),
    ("aws", true),
    ("objectives", true),
    ("alerts", true),
    ("state", true),
    ("buckets", true),
    ("identities", true),
    ("alarms", true),
    ("servers.*.instance", true),
    ("servers.*.login", true),
    ("servers.*.firewall", true),
    ("servers.*.packages", true),
    ("servers.*.updates", true),
    ("servers.*.sysctl", true),
    ("servers.*.time", true),
    ("servers.*.swap", true),
    ("servers.*.sshd", true),
    ("servers.*.fail2ban", true),
    ("servers.*.certificate", true),
    ("servers.*.postgres", true),
    ("servers.*.pgbouncer", true),
    ("servers.*.backup", true),
    ("servers.*.metrics", false),
    ("servers.*.compose", true),
    ("servers.*.jobs", true),
];

/// Every problem of an inventory that its types allow, in the file's order.
pub fn check(inventory: &Inventory, places: &Places) -> Diagnostics {
    let mut report = Report { inventory, places, found: Vec::new() };
    report.format();
    report.sections();
    report.account();
    report.state();
    cloud::check(&mut report);
    host::check(&mut report);
    access::check(&mut report);
    jobs::check(&mut report);
    compose::check(&mut report);
    report.places_of_secrets();
    let mut found = report.found;
    found.sort_by_key(|d| d.labels.first().map(|label| (label.span.line, label.span.column)));
    Diagnostics(found)
}

/// Every reference to a secret with its path, for whoever resolves them before anything is changed.
pub fn secrets(inventory: &Inventory) -> Vec<(String, SecretRef)> {
    let mut found = Vec::new();
    for (name, server) in &inventory.servers {
        let base = format!("servers.{name}");
        for (role, secret) in server
            .postgres
            .iter()
            .flat_map(|postgres| postgres.roles.iter().filter_map(|(name, role)| Some((name, role.password.clone()?))))
        {
            found.push((format!("{base}.postgres.roles.{role}.password"), secret));
        }
        if let Some(secret) = server.certificate.as_ref().and_then(|section| section.copy_pass.clone()) {
            found.push((format!("{base}.certificate.copy_pass"), secret));
        }
        if let Some(backup) = &server.backup {
            found.push((format!("{base}.backup.cipher_pass"), backup.cipher_pass.secret()));
            for (index, copy) in backup.copies.iter().enumerate() {
                found.push((format!("{base}.backup.copies[{index}].cipher_pass"), copy.cipher_pass.secret()));
            }
        }
        for (variable, secret) in server.compose.iter().flat_map(|compose| &compose.secrets) {
            found.push((format!("{base}.compose.secrets.{variable}"), secret.clone()));
        }
        for (job, variable, secret) in server
            .jobs
            .iter()
            .flat_map(|(name, job)| job.secrets.iter().map(move |(variable, secret)| (name, variable, secret)))
        {
            found.push((format!("{base}.jobs.{job}.secrets.{variable}"), secret.clone()));
        }
    }
    found
}

/// What a check works with.
struct Report<'a> {
    inventory: &'a Inventory,
    places: &'a Places,
    found: Vec<Diagnostic>,
}

impl Report<'_> {
    /// Where secrets are kept: a variable, a file and a command that can be there.
    fn places_of_secrets(&mut self) {
        for (path, secret) in secrets(self.inventory) {
            match secret {
                SecretRef::Env { env } => {
                    let good = env.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                        && env.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                    let why = || format!("`{}` is not a name of an environment variable", env.escape_default());
                    self.text("bad-secret-place", &path, if good { Ok(()) } else { Err(why()) });
                }
                SecretRef::File { file } => {
                    self.text("bad-secret-place", &path, text::operator_path(&file.to_string_lossy()));
                }
                SecretRef::Command { command } => {
                    let named = command.first().is_some_and(|program| !program.trim().is_empty());
                    let verdict = if !named {
                        Err("the command of a secret names no program".to_owned())
                    } else if command.iter().any(|word| word.chars().any(char::is_control)) {
                        Err("the command of a secret has control characters".to_owned())
                    } else {
                        Ok(())
                    };
                    self.text("bad-secret-place", &path, verdict);
                }
            }
        }
    }

    /// An error at a path.
    fn error(&mut self, code: &str, message: impl Into<String>, path: &str, label: &str) -> &mut Diagnostic {
        let diagnostic = Diagnostic::error(code, message).at(self.places.span(path), label);
        self.found.push(diagnostic);
        self.found.last_mut().expect("one was just pushed")
    }

    /// An error, if a text is not as its rule wants it.
    fn text(&mut self, code: &str, path: &str, verdict: Result<(), String>) {
        if let Err(why) = verdict {
            self.error(code, why, path, &format!("`{path}`"));
        }
    }

    /// An error for every item of a list that stood there before.
    fn repeats<T: Ord + Display>(&mut self, code: &str, path: &str, items: &[T]) {
        let mut seen: BTreeMap<&T, usize> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let first = *seen.entry(item).or_insert(index);
            if first != index {
                let problem = Diagnostic::error(code, format!("`{path}` has `{item}` twice"))
                    .at(self.places.span(&format!("{path}[{index}]")), "again here")
                    .at(self.places.span(&format!("{path}[{first}]")), "first here");
                self.found.push(problem);
            }
        }
    }

    /// An error, if a name is not declared. `section` is where it would be.
    fn reference<'n>(&mut self, path: &str, name: &Name, section: &str, declared: impl Iterator<Item = &'n Name>) {
        let names: Vec<&str> = declared.map(Name::as_str).collect();
        if names.contains(&name.as_str()) {
            return;
        }
        let mut problem =
            Diagnostic::error("dangling-reference", format!("`{path}` names `{name}`, which is not in `{section}`"))
                .at(self.places.span(path), "not declared");
        problem = match similar(name.as_str(), names.iter().copied()) {
            Some(near) => problem.at(self.places.key(&child(section, near)), format!("a similar name: `{near}`")),
            None if names.is_empty() => problem.hint(format!("declare it under `{section}`")),
            None => problem.hint(format!("`{section}` declares {}", choices(names))),
        };
        self.found.push(problem);
    }

    fn bucket(&mut self, path: &str, name: &Name) {
        self.reference(path, name, "buckets", self.inventory.buckets.keys());
    }

    fn server(&mut self, path: &str, name: &Name) {
        self.reference(path, name, "servers", self.inventory.servers.keys());
    }

    fn format(&mut self) {
        if u64::from(self.inventory.seawall) != FORMAT {
            let message = format!("this file is format {}, this program knows {FORMAT}", self.inventory.seawall);
            self.error("unsupported-format", message, "seawall", "the format of this file");
        }
    }

    /// Refuses the sections that nothing would be done about.
    fn sections(&mut self) {
        let value = serde_json::to_value(self.inventory).expect("an inventory serialises");
        for (pattern, supported) in &SECTIONS {
            if *supported {
                continue;
            }
            for path in present(&value, pattern) {
                self.error(
                    "unsupported-section",
                    format!("`{path}` is not supported by this version of Seawall yet; nothing would be done about it"),
                    &path,
                    "nothing would be done about this",
                )
                .hint = Some("take the section out until a version supports it".to_owned());
            }
        }
    }

    fn account(&mut self) {
        let aws = &self.inventory.aws;
        if aws.account.len() != 12 || !aws.account.bytes().all(|b| b.is_ascii_digit()) {
            let message = format!("`{}` is not an account id: it has 12 digits", aws.account);
            self.error("bad-account", message, "aws.account", "12 digits in quotes").hint =
                Some("`aws sts get-caller-identity` shows yours".to_owned());
        }
        self.text("bad-region", "aws.region", text::region(&aws.region));
        if let Some(alerts) = &self.inventory.alerts {
            if alerts.email.is_empty() {
                self.error("no-recipient", "`alerts.email` names nobody", "alerts.email", "an empty list");
            }
            for (index, address) in alerts.email.iter().enumerate() {
                self.text("bad-email", &format!("alerts.email[{index}]"), text::email(address));
            }
            self.repeats("duplicate-email", "alerts.email", &alerts.email);
        }
    }

    fn state(&mut self) {
        if let Some(state) = &self.inventory.state {
            self.bucket("state.bucket", &state.bucket);
            self.text("bad-prefix", "state.prefix", text::prefix(&state.prefix));
        }
    }
}

/// The paths of a pattern at which something is declared: neither null nor an empty map.
fn present(value: &Value, pattern: &str) -> Vec<String> {
    let mut at = vec![(String::new(), value)];
    for part in pattern.split('.') {
        at = at
            .into_iter()
            .flat_map(|(path, value)| -> Vec<(String, &Value)> {
                let Some(fields) = value.as_object() else {
                    return Vec::new();
                };
                fields
                    .iter()
                    .filter(|(key, _)| part == "*" || part == *key)
                    .map(|(key, value)| (child(&path, key), value))
                    .collect()
            })
            .collect();
    }
    // `jobs: {}` asks for nothing; `sshd: {}` has been filled with its defaults by now.
    let asks = |value: &Value| !value.is_null() && value.as_object().is_none_or(|fields| !fields.is_empty());
    at.into_iter().filter(|(_, value)| asks(value)).map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::inventory::load::parse;
    use crate::inventory::schema::schema;

    #[test]
    fn the_table_names_every_section_and_no_other() {
        let schema = schema();
        let keys = |pointer: &str| -> Vec<String> {
            let map = schema.pointer(pointer).and_then(Value::as_object).expect(pointer);
            map.keys().cloned().collect()
        };
        let mut sections: BTreeSet<String> = keys("/properties").into_iter().filter(|key| key != "servers").collect();
        sections.extend(keys("/$defs/Server/properties").iter().map(|key| format!("servers.*.{key}")));
        let table: BTreeSet<String> = SECTIONS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(table, sections);
    }

    #[test]
    fn secrets_are_found_wherever_they_may_stand() {
        let text = "
seawall: 1
environment: test
aws: { account: \"123456789012\", region: ca-central-1 }
buckets: { backups: { name: some-backups } }
servers:
  db:
    instance: { bundle: small_3_0, blueprint: debian_12, zone: ca-central-1a }
    login: { keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops] }
    postgres: { roles: { app: { password: { env: APP } }, group: {} } }
    backup:
      bucket: backups
      stanza: main
      cipher_pass: { file: secrets/cipher, escrow: confirmed }
      copies: [{ bucket: backups, cipher_pass: { env: COPY } }]
    compose: { project: web, file: compose.yaml, secrets: { TOKEN: { command: [pass, token] } } }
    jobs: { ingest: { run: /opt/ingest, schedule: daily 06:00, user: app, secrets: { KEY: { env: INGEST } } } }
";
        let loaded = parse("test.yaml", text);
        assert_eq!(loaded.diagnostics, Diagnostics::default());
        let inventory = loaded.inventory.expect("a sound file");
        let found: Vec<String> = secrets(&inventory).iter().map(|(path, at)| format!("{path} = {at}")).collect();
        assert_eq!(
            found,
            [
                "servers.db.postgres.roles.app.password = environment variable `APP`",
                "servers.db.backup.cipher_pass = file `secrets/cipher`",
                "servers.db.backup.copies[0].cipher_pass = environment variable `COPY`",
                "servers.db.compose.secrets.TOKEN = command `pass`",
                "servers.db.jobs.ingest.secrets.KEY = environment variable `INGEST`",
            ]
        );
        let codes: Vec<String> = check(&inventory, &loaded.places).into_iter().map(|d| d.message).collect();
        let used = ["postgres", "backup", "compose", "jobs"].map(|section| format!("servers.*.{section}"));
        let refused =
            SECTIONS.iter().filter(|(path, supported)| !supported && used.contains(&(*path).to_owned())).count();
        assert_eq!(codes.iter().filter(|message| message.contains("not supported")).count(), refused, "{codes:#?}");
    }
}
