//! `host.compose`: containers beside the database, from one Compose file, judged by what Docker runs.
//!
//! Compose's `up` makes them, and Docker itself keeps them: it starts at boot and follows each service's restart policy. A
//! unit of systemd for the stack is deliberately absent, because two supervisors would disagree about a container that was
//! stopped. Volumes are made here and never removed by anybody but a person.

mod seen;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::base::secret::{SecretForm, SecretRef};
use crate::inventory::compose;
use crate::inventory::scalar::Name;
use crate::inventory::sections::Inventory;
use crate::kinds::host::{self, QUICK_S, Wanted};
use crate::kinds::host_compose::seen::{Docker, LABEL};
use crate::kinds::parts::{apt, unit};
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff, Risk};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command, file};
use crate::plan::remark::Remark;
use crate::plan::step::{Content, HostStep};

/// Debian's own: security updates come with the others, and no archive of somebody else's is needed. Without `apparmor`
/// containers would not be confined on a kernel that can.
pub const PACKAGES: [&str; 3] = ["docker.io", "docker-compose", "apparmor"];

const UNIT: &str = "docker.service";
const SETTINGS: &str = "/etc/docker/daemon.json";
const STACKS: &str = "/etc/seawall/compose";
/// Where a port is bound that names no address, on Docker's own network.
const LOOPBACK: &str = "127.0.0.1";
/// Seconds for a restart of Docker: it waits for containers that do not end by themselves.
const RESTART_S: u32 = 180;
/// Seconds to fetch images and start containers: some gigabytes over a small instance's line.
const UP_S: u32 = 1_800;
/// Seconds to stop containers; each has ten, and some stop one after the other.
const DOWN_S: u32 = 300;

/// A value must be one line without what Compose would read differently: a single quote, a backslash, `${`.
const CHECK_SECRETS: &str = r#"good=$(grep -v '[$][{]' "$1" | grep -c "^[A-Za-z_][A-Za-z0-9_]*='[^'\\\\]*'\$")
[ "$good" = "$2" ] && [ "$(grep -vc '^#' "$1")" = "$2" ] && exit
echo "a secret of this stack holds a single quote, a backslash, \${ or a line break, which Compose would read differently"
exit 1"#;

/// Stops and removes containers and networks of a project; never `-v`. Nothing to do where Docker or the file is gone.
const DOWN: &str = r#"[ -f "$2/compose.yaml" ] && command -v docker-compose >/dev/null || exit 0
exec docker-compose --project-directory "$2" -p "$1" -f "$2/compose.yaml" down --remove-orphans"#;

pub struct HostCompose;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub project: String,
    pub contents: String,
    pub services: BTreeMap<String, Service>,
    pub volumes: BTreeSet<String>,
    pub secrets: BTreeMap<String, SecretRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub image: String,
    pub ports: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    pub settings: Option<FileState>,
    pub file: Option<FileState>,
    /// Access to the environment file, and the names of its variables.
    pub secrets: Option<String>,
    /// For example `enabled, active`.
    pub unit: String,
    pub live_restore: Option<bool>,
    pub binds: Option<String>,
    pub services: BTreeMap<String, String>,
    pub ports: BTreeMap<String, BTreeSet<String>>,
    /// Of the wanted ones, those that are there.
    pub volumes: BTreeSet<String>,
    #[serde(skip)]
    pub left: BTreeSet<String>,
    #[serde(skip)]
    pub holes: BTreeMap<String, BTreeSet<String>>,
    #[serde(skip)]
    pub anonymous: BTreeMap<String, BTreeSet<String>>,
}

fn folder(desired: &Desired) -> String {
    format!("{STACKS}/{}", desired.project)
}

fn file_path(desired: &Desired) -> String {
    format!("{}/compose.yaml", folder(desired))
}

fn secrets_path(desired: &Desired) -> String {
    format!("{}/.env", folder(desired))
}

fn secrets_access(desired: &Desired) -> Option<String> {
    let names = desired.secrets.keys().map(String::as_str);
    let words = ["600 root:root"].into_iter().chain(names).collect::<Vec<_>>();
    (words.len() > 1).then(|| words.join(" "))
}

fn stack_file<'a>(desired: &Desired, path: &'a str) -> Wanted<'a> {
    let first = format!("# managed by Seawall ({}); changes here are undone by the next apply\n", desired.address);
    Wanted::public(path, first + &desired.contents)
}

/// What Seawall sets for Docker.
fn settings() -> Map<String, Value> {
    let wanted = json!({
        "ip": LOOPBACK,
        "live-restore": true,
        "log-driver": "json-file",
        "log-opts": { "max-size": "10m", "max-file": "3" },
    });
    wanted.as_object().cloned().expect("it was made as an object")
}

/// Docker's settings with ours among them. `Err` says what of the file stands against it.
fn merged(before: Option<&FileState>) -> Result<String, String> {
    let Some(before) = before else { return Ok(printed(settings())) };
    let text = before.text.as_deref().unwrap_or_default();
    let parsed = if text.trim().is_empty() { Ok(Value::Object(Map::new())) } else { serde_json::from_str(text) };
    let Ok(Value::Object(mut all)) = parsed else { return Err("it is not a JSON object".to_owned()) };
    let mut complete = true;
    for (key, value) in settings() {
        match all.get(&key) {
            Some(found) if *found == value => {}
            Some(found) => return Err(format!("it sets `{key}` to `{found}`, and `{value}` is needed")),
            None => {
                complete = false;
                all.insert(key, value);
            }
        }
    }
    // As somebody wrote it, where nothing is missing.
    Ok(if complete { text.to_owned() } else { printed(all) })
}

fn printed(settings: Map<String, Value>) -> String {
    format!("{:#}\n", Value::Object(settings))
}

fn settings_file(actual: Option<&Actual>) -> Option<Wanted<'static>> {
    merged(actual.and_then(|actual| actual.settings.as_ref())).ok().map(|text| Wanted::public(SETTINGS, text))
}

fn ask_unit(verb: &'static str) -> [&'static str; 3] {
    ["systemctl", verb, UNIT]
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let settings = host::file(answers, SETTINGS)?;
    let file = host::file(answers, &file_path(desired))?;
    let secrets = host::command(answers, &seen::ask_secrets(&secrets_path(desired)), &[0])?;
    let secrets = secrets.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let argv = seen::ask(desired);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let docker = seen::read(desired, &host::command(answers, &argv, &[0])?.stdout)?;
    let state = |verb| answers.command(&ask_unit(verb)).map(|said| said.stdout.trim().to_owned());
    let unit = format!("{}, {}", state("is-enabled")?, state("is-active")?);
    let Docker { installed: _, running: _, live_restore, binds, services, ports, volumes, labelled, holes, anonymous } =
        docker;
    // With settings of somebody else's this is never "absent": they must be kept.
    let absent = settings.is_none() && file.is_none() && secrets.is_empty() && services.is_empty();
    Ok((!absent).then(|| Actual {
        settings,
        file,
        secrets: (!secrets.is_empty()).then_some(secrets),
        unit,
        live_restore,
        binds,
        services,
        ports,
        left: labelled.difference(&desired.volumes).cloned().collect(),
        volumes: volumes.intersection(&desired.volumes).cloned().collect(),
        holes,
        anonymous,
    }))
}

fn in_folder(desired: &Desired, words: &[&str]) -> Vec<String> {
    let (folder, file) = (folder(desired), file_path(desired));
    let first = ["docker-compose", "--project-directory", &folder, "-p", &desired.project, "-f", &file];
    first.into_iter().chain(words.iter().copied()).map(str::to_owned).collect()
}

fn run_in_folder(desired: &Desired, words: &[&str], what: &str) -> HostStep {
    let argv = in_folder(desired, words);
    host::run(&argv.iter().map(String::as_str).collect::<Vec<_>>(), UP_S, what)
}

fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

impl Kind for HostCompose {
    const NAME: &'static str = "host.compose";
    const SUMMARY: &'static str = "containers beside the database, bound to this server only";
    const EXPLAIN: &'static str = "\
Manages: Docker and Compose of Debian, one project from one Compose file (its path is relative to the inventory), and the
external volumes that the file names. Judged by what Docker runs: each service's container runs, was made from the image
and the configuration that the file says, and publishes exactly the ports of the file on 127.0.0.1 or [::1]. Containers of
the project that are not in the file go. Docker's settings get a loopback address for ports that name none on its own
network, a limit for logs, and `live-restore`, so that containers run on while Docker is updated.

Refused offline, with the place in the Compose file: ports for others (Docker publishes past the host's firewall), volumes
that `docker compose down -v` would remove, directories of the database, privileged containers, images without a version, and
whatever is known on the server only. Secrets are variables of the file (`${NAME}` under `environment`); a value must be one
line without single quotes, backslashes and `${`. Which variables there are is compared, their values are not: to give a
stack a new value, remove /etc/seawall/compose/PROJECT/.env and apply.

Does not manage: building images, and other containers; those that publish past the firewall are named. Settings of Docker
that say something else are not overwritten: the change is refused. When the section goes, containers and networks go;
volumes stay and have to be removed by hand, Docker and its settings stay.

    servers:
      db:
        compose:
          project: web
          file: compose.yaml
          secrets:
            API_KEY: { env: WEB_API_KEY }
";
    const RISK: Risk = Risk::Restarts;

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter();
        servers
            .filter_map(|(name, server)| {
                let section = server.compose.as_ref()?;
                let contents = section.contents.clone().unwrap_or_default();
                // The check of the inventory refuses what has problems.
                let (stack, _) = compose::read(section.project.as_str(), &section.file, &contents);
                let services = stack.services.into_iter();
                let address = Address::new(Self::NAME, name.as_str());
                let desired = Desired {
                    address: address.clone(),
                    project: section.project.to_string(),
                    contents,
                    services: services
                        .map(|(name, service)| (name, Service { image: service.image, ports: service.ports }))
                        .collect(),
                    volumes: stack.volumes,
                    secrets: section.secrets.clone(),
                };
                Some(host::declared(address, name, &[apt::KIND], "compose", desired))
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let stack = seen::ask(desired);
        let mut probes =
            vec![file(SETTINGS), file(&file_path(desired)), command(&seen::ask_secrets(&secrets_path(desired)))];
        probes.push(command(&stack.iter().map(String::as_str).collect::<Vec<_>>()));
        probes.extend(["is-enabled", "is-active"].map(|verb| command(&ask_unit(verb))));
        probes
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        host::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, project: _, contents: _, services: wanted, volumes: wanted_volumes, secrets: _ } =
            desired;
        let Actual {
            settings,
            file,
            secrets,
            unit,
            live_restore,
            binds,
            services,
            ports,
            volumes,
            left: _,
            holes: _,
            anonymous: _,
        } = actual;
        let path = file_path(desired);
        let mut fields = Vec::new();
        match settings_file(Some(actual)) {
            Some(wanted) => fields.extend(wanted.change(settings.as_ref())),
            None => fields.push(FieldChange::new(
                SETTINGS,
                Some(Value::from("other settings")),
                Some(Value::from("ours among them")),
            )),
        }
        fields.extend(stack_file(desired, &path).change(file.as_ref()));
        fields.extend(FieldChange::between(&secrets_path(desired), secrets, &secrets_access(desired)));
        fields.extend(FieldChange::between("docker.service", unit, &"enabled, active"));
        fields.extend(FieldChange::between("docker.binds", binds, &Some(LOOPBACK)));
        fields.extend(FieldChange::between("docker.live_restore", live_restore, &Some(true)));
        let missing = wanted_volumes.difference(volumes);
        fields
            .extend(missing.map(|name| FieldChange::new(format!("volumes.{name}"), None, Some(Value::from("there")))));
        for name in wanted.keys().chain(services.keys().filter(|name| !wanted.contains_key(*name))) {
            let after = wanted.contains_key(name).then_some("running");
            fields.extend(FieldChange::between(&format!("services.{name}"), &services.get(name), &after));
        }
        for (name, service) in wanted {
            // A container that is stopped has no ports; that it is stopped is said already.
            if let Some(bound) =
                ports.get(name).filter(|_| services.get(name).is_some_and(|state| state.starts_with("running")))
            {
                fields.extend(FieldChange::between(&format!("ports.{name}"), &listed(bound), &listed(&service.ports)));
            }
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let differs = |path: &str| host::differs(fields, path);
        let mut steps = Vec::new();
        let restart =
            [SETTINGS, "docker.binds", "docker.live_restore", "docker.service"].iter().any(|field| differs(field));
        if let Some(wanted) = settings_file(actual).filter(|_| differs(SETTINGS)) {
            steps.push(host::directory("/etc/docker", "root", "root", "0755"));
            steps.push(wanted.step(None));
        }
        if restart {
            steps.extend(restarted(actual));
        }
        let (path, secrets) = (file_path(desired), secrets_path(desired));
        if differs(&path) || differs(&secrets) {
            for made in ["/etc/seawall", STACKS, &folder(desired)] {
                steps.push(host::directory(made, "root", "root", "0755"));
            }
        }
        if differs(&secrets) {
            steps.push(write_secrets(desired, &secrets));
        }
        if differs(&path) {
            let check = in_folder(desired, &["config", "--quiet"]);
            let check: Vec<&str> = check.iter().map(|word| if *word == path { "{}" } else { word }).collect();
            steps.push(stack_file(desired, &path).step(Some(&check)));
        }
        let missing: Vec<&String> = desired.volumes.iter().filter(|name| differs(&format!("volumes.{name}"))).collect();
        for name in missing {
            let label = format!("{LABEL}={}", desired.project);
            let argv = ["docker", "volume", "create", "--label", &label, "--", name];
            steps.push(host::run(&argv, QUICK_S, format!("make volume {name}")));
        }
        let stack =
            |field: &FieldChange| ["services.", "volumes.", "ports."].iter().any(|part| field.path.starts_with(part));
        if differs(&path) || differs(&secrets) || fields.iter().any(stack) {
            let up = ["up", "--detach", "--remove-orphans"];
            steps.push(run_in_folder(desired, &up, &format!("start {}", desired.project)));
        }
        let bound: Vec<&str> = fields.iter().filter_map(|field| field.path.strip_prefix("ports.")).collect();
        if actual.is_some() && !bound.is_empty() {
            let again = ["up", "--detach", "--force-recreate", "--no-deps", "--"];
            let argv: Vec<&str> = again.into_iter().chain(bound.iter().copied()).collect();
            steps.push(run_in_folder(desired, &argv, &format!("make {} anew", bound.join(", "))));
        }
        steps
    }

    fn doubts(recorded: &Desired) -> Option<String> {
        let project = &recorded.project;
        project.parse::<Name>().is_err().then(|| format!("it has a stack `{project}`, which is no name of one"))
    }

    fn remove(owned: &Owned) -> Vec<HostStep> {
        let desired = owned.record.clone().and_then(|record| serde_json::from_value::<Desired>(record).ok());
        let Some(desired) = desired else { return Vec::new() };
        let kept = listed(&desired.volumes);
        let kept = if kept.is_empty() { String::new() } else { format!("; volumes stay: {kept}") };
        let argv = ["sh", "-c", DOWN, "sh", &desired.project, &folder(&desired)];
        vec![
            host::run(&argv, DOWN_S, format!("stop {}{kept}", desired.project)),
            host::remove_file(&file_path(&desired)),
            host::remove_file(&secrets_path(&desired)),
        ]
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let new = |path: String, value: Value| FieldChange::new(path, None, Some(value));
        let path = file_path(desired);
        let mut fields: Vec<FieldChange> =
            settings_file(None).and_then(|wanted| wanted.change(None)).into_iter().collect();
        fields.extend(stack_file(desired, &path).change(None));
        fields.extend(secrets_access(desired).map(|access| new(secrets_path(desired), Value::from(access))));
        fields.push(new("docker.service".to_owned(), Value::from("enabled, active")));
        fields.push(new("docker.binds".to_owned(), Value::from(LOOPBACK)));
        fields.push(new("docker.live_restore".to_owned(), Value::from(true)));
        fields.extend(desired.volumes.iter().map(|name| new(format!("volumes.{name}"), Value::from("there"))));
        for (name, service) in &desired.services {
            fields.push(new(format!("services.{name}"), Value::from("running")));
            if !service.ports.is_empty() {
                fields.push(new(format!("ports.{name}"), Value::from(listed(&service.ports))));
            }
        }
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let path = file_path(desired);
        let settings =
            settings_file(actual).map(|wanted| wanted.diff(actual.and_then(|actual| actual.settings.as_ref())));
        let stack = stack_file(desired, &path).diff(actual.and_then(|actual| actual.file.as_ref()));
        settings.into_iter().chain([stack]).collect()
    }

    fn refusals(_desired: &Desired, actual: &Actual, _fields: &[FieldChange]) -> Vec<Diagnostic> {
        let conflict = merged(actual.settings.as_ref()).err();
        let refusal = |why: String| {
            Diagnostic::error("docker-settings", format!("`{SETTINGS}` cannot take what Seawall sets: {why}"))
                .note("with it, a port that names no address would be open to the world, or logs would fill the disk")
                .hint("take that key out of the file; Seawall keeps the others")
        };
        conflict.map(refusal).into_iter().collect()
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let holes = actual
            .holes
            .iter()
            .map(|(name, ports)| format!("container `{name}` publishes {} past the host's firewall", listed(ports)));
        let nameless = actual.anonymous.iter().map(|(name, targets)| {
            format!("service `{name}` keeps {} in a volume without a name, which any clean-up takes", listed(targets))
        });
        let left = actual.left.iter().map(|name| {
            format!(
                "volume `{name}` was made for project `{}`, which does not name it any more; it stays",
                desired.project
            )
        });
        holes.chain(nameless).chain(left).map(Remark::from).collect()
    }
}

/// Takes up Docker's settings. Containers stop with Docker, once: from then on they live on without it.
fn restarted(actual: Option<&Actual>) -> Vec<HostStep> {
    let unmasked = actual.and_then(|actual| unit::unmask(&actual.unit, &[UNIT], "unmask Docker"));
    let mut steps: Vec<HostStep> = unmasked.into_iter().collect();
    if actual.is_none_or(|actual| !actual.unit.starts_with("enabled")) {
        steps.push(host::run(&["systemctl", "enable", UNIT], QUICK_S, "start Docker at boot"));
    }
    steps.push(host::run(&["systemctl", "restart", UNIT], RESTART_S, "restart Docker"));
    steps
}

fn write_secrets(desired: &Desired, path: &str) -> HostStep {
    if desired.secrets.is_empty() {
        return host::remove_file(path);
    }
    let mut template =
        format!("# managed by Seawall ({}); changes here are undone by the next apply\n", desired.address);
    for name in desired.secrets.keys() {
        template.extend([name, "='{{", name, "}}'\n"]);
    }
    let check = ["sh", "-c", CHECK_SECRETS, "sh", "{}", &desired.secrets.len().to_string()].map(str::to_owned);
    HostStep::WriteFile {
        path: path.to_owned(),
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: "0600".to_owned(),
        content: Content::WithSecrets { template, secrets: host::uses(&desired.secrets, &SecretForm::InComposeQuotes) },
        validate: Some(check.to_vec()),
    }
}
