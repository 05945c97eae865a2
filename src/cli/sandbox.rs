//! `seawall sandbox …`, and what `--sandbox` does before any other command.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::json;

use crate::base::diag::Diagnostic;
use crate::base::read;
use crate::base::release::Release;
use crate::base::secret::Secret;
use crate::cli::args::SandboxCommand;
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::{LOCAL_FOLDER, Loaded, Session};
use crate::inventory::sections::{Inventory, Sources};
use crate::kinds::instance_name;
use crate::reach::aws::Connection;
use crate::sandbox::acme;
use crate::sandbox::control;
use crate::sandbox::daemon;
use crate::sandbox::lab::{self, Lab, LabError, Options, Status};
use crate::sandbox::lightsail::state::Delays;
use crate::sandbox::machines::{self, MachineError};
use crate::sandbox::template::{Places, TemplateError};

/// What operators share about rehearsed environments, in the local folder.
const SHARED: &str = "sandbox-state";

/// Runs one of the sandbox's own processes if the arguments ask for one.
pub fn hidden_entry(args: &[OsString]) -> Option<ExitCode> {
    machines::hidden_entry(args).or_else(|| daemon::hidden_entry(args.iter().skip(1).cloned()))
}

fn folder() -> PathBuf {
    Path::new(LOCAL_FOLDER).join("sandbox")
}

fn cache() -> PathBuf {
    Path::new(LOCAL_FOLDER).join("cache")
}

fn stop(code: &str, what: &str, error: &impl std::fmt::Display) -> Stop {
    Stop::failed(
        Diagnostic { code: code.to_owned(), ..Diagnostic::error("sandbox-failed", what) }.note(error.to_string()),
    )
}

fn failed(error: &LabError) -> Stop {
    if let LabError::None(_) = error {
        let mut problem = Diagnostic::error("no-sandbox", "no sandbox runs here").hint("start it: seawall sandbox up");
        for template in places().list() {
            problem = problem.hint(format!("or from a template: seawall sandbox up --from {}", template.name));
        }
        return Stop::failed(problem);
    }
    if let LabError::Other { .. } = error {
        return Stop::failed(
            Diagnostic::error("other-sandbox", "this sandbox is another account's or region's than the inventory's")
                .note(error.to_string())
                .note("nothing was asked or changed")
                .hint("correct `aws` in the inventory, or begin anew: seawall sandbox down --wipe"),
        );
    }
    stop("sandbox-failed", "the sandbox could not do it", error)
}

fn places() -> Places {
    let local = Path::new(LOCAL_FOLDER);
    Places {
        templates: local.join("templates"),
        lab: folder(),
        shared: local.join(SHARED),
        images: cache().join("image"),
    }
}

fn template_failed(error: &TemplateError) -> Stop {
    let said = error.to_string();
    let problem = match error {
        TemplateError::Lab(error) => return failed(error),
        TemplateError::Name(_) => Diagnostic::error("bad-template-name", said),
        TemplateError::Unknown { known, .. } if known.is_empty() => {
            Diagnostic::error("no-such-template", said).hint("make one of a running sandbox: seawall sandbox save NAME")
        }
        TemplateError::Unknown { known, .. } => {
            Diagnostic::error("no-such-template", said).hint(format!("those that exist: {}", known.join(", ")))
        }
        TemplateError::Exists(name) => Diagnostic::error("template-exists", said)
            .hint(format!("take another name, or remove it: seawall sandbox forget {name}")),
        TemplateError::Other { .. } => Diagnostic::error("other-template", said)
            .note("nothing was started")
            .hint("correct `aws` in the inventory, or save a sandbox of this account and region"),
        TemplateError::Image { name, .. } => Diagnostic::error("other-template", said)
            .note("nothing was started")
            .hint(format!("it cannot be used any more: seawall sandbox forget {name}, and save one anew")),
        TemplateError::Begun(_) => Diagnostic::error("sandbox-exists", said)
            .note("nothing was started or removed")
            .hint("remove it with all of its state: seawall sandbox down --wipe"),
        TemplateError::InUse(_) => Diagnostic::error("template-in-use", said)
            .note("nothing was removed")
            .hint("remove the sandbox first, with all of its state: seawall sandbox down --wipe"),
        TemplateError::Rest(_) | TemplateError::Machines(_) | TemplateError::Io(_) => {
            return stop("sandbox-failed", "the sandbox could not do it", error);
        }
    };
    Stop::failed(problem)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// Keeps the sandbox that runs here as a template, which ends it.
async fn save(session: &mut Session, name: &str) -> Result<Exit, Stop> {
    let places = places();
    places.free(name).map_err(|error| template_failed(&error))?;
    let lab = Lab::find(&folder()).map_err(|error| failed(&error))?;
    let lab = lab.ok_or_else(|| failed(&LabError::None(folder())))?;
    session.say("stopping the servers");
    let template = places.save(&lab, name).await.map_err(|error| template_failed(&error))?;
    session.say(format!(
        "saved as `{name}`, {} in `{}`; the sandbox here is down, and its state stays",
        megabytes(template.size),
        places.templates.join(name).display()
    ));
    session.say(format!("  begin from it: seawall sandbox up --from {name}"));
    Ok(Exit::Done)
}

/// An address that the inventory's own firewall lets in on SSH: the operator's traffic comes from there.
fn operator(inventory: &Inventory) -> Option<IpAddr> {
    let servers = inventory.servers.values();
    let rules = servers.flat_map(|server| server.firewall.iter().filter(|rule| rule.port == server.ssh_port()));
    let networks = rules.flat_map(|rule| match &rule.from {
        Sources::Networks(networks) => networks.as_slice(),
        Sources::Anywhere(_) => &[],
    });
    networks
        .filter(|network| network.is_v4())
        .find_map(|network| network.net().hosts().nth(9).or_else(|| network.net().hosts().next()))
}

/// Brings the sandbox up, and tells it the names of certificates: in the sandbox they lead to their servers.
async fn up(session: &mut Session, inventory: &Inventory) -> Result<Lab, Stop> {
    let lab = start(session, inventory).await?;
    if lab.settings.machines.is_some() {
        images(session, inventory).await?;
    }
    let mut names = BTreeMap::new();
    for (server, section) in &inventory.servers {
        let instance = instance_name(inventory.environment.as_str(), server.as_str(), section);
        let certificate = section.certificate.iter().filter(|certificate| certificate.issuer.is_public());
        let all = certificate.flat_map(|certificate| [&certificate.name].into_iter().chain(&certificate.also));
        names.extend(all.map(|name| (name.clone(), instance.clone())));
    }
    if !names.is_empty() {
        if lab.settings.machines.is_some() && !acme::installed() {
            let package = acme::PEBBLE;
            session
                .say(format!("note: no certificate can be ordered in this sandbox: this computer has no `{package}`"));
            session.say(format!("  missing: `{package}` (Debian package {package})"));
        }
        tell(&folder(), "/_sandbox/names", &json!(names)).await?;
    }
    Ok(lab)
}

/// Builds the images of the inventory's servers that are not there yet, and says so. The daemon would build them when
/// the server is made, but where nobody sees why that takes a minute.
async fn images(session: &mut Session, inventory: &Inventory) -> Result<(), Stop> {
    let cached = cache().join("image");
    let blueprints = inventory.servers.values().map(|server| Release::of_blueprint(&server.instance.blueprint));
    for release in blueprints.collect::<BTreeSet<_>>() {
        let mut told = false;
        let image = machines::ensure_image(&cached, release, |_| {
            if !told {
                told = true;
                session.say(format!("building the image of {}, once (a minute or two)", release.name()));
            }
        });
        image.await.map_err(|error| stop("sandbox-image", "the Debian image could not be built", &error))?;
    }
    Ok(())
}

/// Starts the sandbox if it does not run.
async fn start(session: &mut Session, inventory: &Inventory) -> Result<Lab, Stop> {
    if let Some(lab) = Lab::find(&folder()).map_err(|error| failed(&error))? {
        return lab.is_for(&inventory.aws.account, &inventory.aws.region).map_err(|error| failed(&error));
    }
    std::fs::create_dir_all(cache()).map_err(|e| stop("sandbox-failed", "the cache could not be made", &e))?;
    session.say("starting the sandbox");
    let with_machines = match machines::doctor(None, &cache()).await {
        Ok(()) => true,
        Err(MachineError::CannotRun { missing }) => {
            session.say("note: this computer cannot run the sandbox's servers; the cloud half works without them");
            for thing in missing {
                session.say(format!("  missing: {thing}"));
            }
            false
        }
        Err(error) => return Err(stop("sandbox-failed", "the sandbox could not look at this computer", &error)),
    };
    let options = Options {
        folder: folder(),
        cache: cache(),
        program: std::env::current_exe()?,
        account: inventory.aws.account.clone(),
        region: inventory.aws.region.clone(),
        operator_address: operator(inventory).map(|address| address.to_string()).unwrap_or_default(),
        server_names: Vec::new(),
        delays: Delays::default(),
        with_emulator: true,
        with_machines,
    };
    lab::up(&options).await.map_err(|error| failed(&error))
}

/// Points a connection at the sandbox, and lets its operator's key log in. Returns the private key.
pub async fn rehearse(
    session: &mut Session,
    loaded: &mut Loaded,
    connection: &mut Connection,
) -> Result<PathBuf, Stop> {
    let lab = up(session, &loaded.inventory).await?;
    let status = lab.status().map_err(|error| failed(&error))?;
    let secret = read::our_text(&status.credentials.secret_access_key_file, read::OURS)?;
    connection.endpoint = Some(status.endpoint.clone());
    connection.ca_file = Some(status.ca_file.clone());
    connection.credentials = Some((status.credentials.access_key_id.clone(), Secret::new(secret.trim().to_owned())));
    let key = lab.folder.join(lab::OPERATOR_KEY_FILE);
    let public = read::our_text(&key.with_extension("pub"), read::OURS)?;
    let public =
        public.trim().parse().map_err(|error| stop("sandbox-failed", "the operator's key is damaged", &error))?;
    for server in loaded.inventory.servers.values_mut() {
        if !server.login.keys.contains(&public) {
            server.login.keys.push(public.clone());
        }
    }
    Ok(key)
}

/// The sandbox's own commands.
pub async fn sandbox(session: &mut Session, command: SandboxCommand) -> Result<Exit, Stop> {
    match command {
        SandboxCommand::Up { from } => {
            let loaded = session.load()?;
            if let Some(name) = from {
                let aws = &loaded.inventory.aws;
                places().begin(&name, &aws.account, &aws.region).await.map_err(|error| template_failed(&error))?;
            }
            let lab = up(session, &loaded.inventory).await?;
            let mut status = lab.status().map_err(|error| failed(&error))?;
            log_in(&mut status, &loaded.inventory);
            show(session, &status)
        }
        SandboxCommand::Status => {
            let mut status = lab::status(&folder()).map_err(|error| failed(&error))?;
            // Without an inventory that can be read the lab is what it is, and its users are the image's.
            if let Ok(loaded) = session.load() {
                log_in(&mut status, &loaded.inventory);
            }
            show(session, &status)
        }
        SandboxCommand::Ssh { server, port, command } => ssh(session, &server, port, &command),
        SandboxCommand::Exec { from, command } => exec(from, command),
        SandboxCommand::Confirm { address } => {
            let said = tell(&folder(), "/_sandbox/confirm", &json!({ "endpoint": address })).await?;
            if said["confirmed"].as_u64() == Some(0) || said["confirmed"] == json!(false) {
                let problem =
                    Diagnostic::error("nothing-to-confirm", format!("`{address}` was not asked to confirm anything"));
                return Err(Stop::failed(problem));
            }
            session.say(format!("{address} has confirmed"));
            Ok(Exit::Done)
        }
        SandboxCommand::Snapshot => {
            let said = tell(&folder(), "/_sandbox/snapshots", &json!({})).await?;
            session.say(format!("automatic snapshots were taken of {} servers", said["taken"]));
            Ok(Exit::Done)
        }
        SandboxCommand::Fault { service, operation, kind, times } => {
            let fault = json!({ "service": service, "operation": operation, "kind": kind, "times": times });
            tell(&folder(), "/_sandbox/faults", &fault).await?;
            session.say(format!("{service} {operation} goes wrong, next calls: {times}, as {kind}"));
            Ok(Exit::Done)
        }
        SandboxCommand::Save { name } => save(session, &name).await,
        SandboxCommand::Forget { name } => {
            let size = places().forget(&name).map_err(|error| template_failed(&error))?;
            session.say(format!("template `{name}` is gone, and {} with it", megabytes(size)));
            Ok(Exit::Done)
        }
        SandboxCommand::Down { wipe } => down(session, wipe).await,
    }
}

async fn tell(folder: &Path, path: &str, body: &serde_json::Value) -> Result<serde_json::Value, Stop> {
    let lab = Lab::find(folder).map_err(|error| failed(&error))?;
    let lab = lab.ok_or_else(|| failed(&LabError::None(folder.to_owned())))?;
    let (status, text) = control::post(&lab, path, &body.to_string())
        .await
        .map_err(|e| stop("sandbox-failed", "the sandbox did not answer", &e))?;
    if status != 200 {
        return Err(stop("sandbox-failed", "the sandbox refused it", &text));
    }
    serde_json::from_str(&text)
        .map_err(|error| stop("sandbox-failed", "the sandbox's answer was not understood", &error))
}

/// Servers of the inventory are logged in to as it says; the API knows its image's user only.
fn log_in(status: &mut Status, inventory: &Inventory) {
    for (name, server) in &inventory.servers {
        let name = instance_name(inventory.environment.as_str(), name.as_str(), server);
        for host in status.hosts.iter_mut().filter(|host| host.name == name) {
            host.log_in_as(&server.login.user);
        }
    }
}

/// A server of the inventory as a host of the sandbox.
fn ssh(session: &mut Session, server: &str, port: Option<u16>, command: &[String]) -> Result<Exit, Stop> {
    let loaded = session.load()?;
    let mut status = lab::status(&folder()).map_err(|error| failed(&error))?;
    log_in(&mut status, &loaded.inventory);
    let declared = loaded.inventory.servers.iter().find(|(name, _)| name.as_str() == server);
    let environment = loaded.inventory.environment.as_str();
    let name = declared.map_or_else(|| server.to_owned(), |(_, section)| instance_name(environment, server, section));
    let host = status.hosts.iter().find(|host| host.name == name);
    let Some(host) = host else {
        let problem = Diagnostic::error("no-such-server", format!("the sandbox has no server `{server}`"))
            .hint("`seawall sandbox status` lists the servers that exist; `seawall --sandbox apply` makes them");
        return Err(Stop::new(Exit::Usage, problem));
    };
    let port = port.or_else(|| declared.map(|(_, section)| section.ssh_port()));
    let mut ssh = Command::new("ssh");
    // Of two ports ssh takes the first.
    ssh.args(port.map(|port| format!("-p{port}"))).args(host.ssh_arguments()).args(command);
    run(&mut ssh)
}

fn exec(from: Option<IpAddr>, command: Vec<String>) -> Result<Exit, Stop> {
    let lab = Lab::find(&folder()).map_err(|error| failed(&error))?;
    let lab = lab.ok_or_else(|| failed(&LabError::None(folder())))?;
    let argv: Vec<OsString> = command.into_iter().map(OsString::from).collect();
    let from = from.or_else(|| lab.settings.operator_address.parse().ok()).unwrap_or(IpAddr::from([10, 99, 0, 1]));
    let mut command = machines::exec_from(&lab.folder.join("machines"), None, from, &argv)
        .map_err(|error| stop("sandbox-failed", "the lab's network could not be entered", &error))?;
    run(&mut command)
}

/// Runs a program to its end and passes on how it ended, as far as our own exit codes can say it.
fn run(command: &mut Command) -> Result<Exit, Stop> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status =
        command.status().map_err(|error| stop("sandbox-failed", &format!("`{program}` could not be run"), &error))?;
    Ok(if status.success() { Exit::Done } else { Exit::Failed })
}

async fn down(session: &mut Session, wipe: bool) -> Result<Exit, Stop> {
    lab::down(&folder()).map_err(|error| failed(&error))?;
    let machines_folder = folder().join("machines");
    if machines_folder.exists() && nix::unistd::geteuid().is_root() {
        // What a killed daemon left running; files stay unless they are to go.
        if wipe {
            machines::prune(&machines_folder, None)
                .await
                .map_err(|e| stop("sandbox-failed", "its servers could not be ended", &e))?;
        }
    }
    if wipe {
        for gone in [folder(), Path::new(LOCAL_FOLDER).join(SHARED)] {
            match fs_err::remove_dir_all(&gone) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    }
    session.say(if wipe {
        "the sandbox is down, and its state is gone"
    } else {
        "the sandbox is down; its state stays"
    });
    Ok(Exit::Done)
}

fn show(session: &mut Session, status: &Status) -> Result<Exit, Stop> {
    if session.is_json() {
        writeln!(session.out, "{:#}", serde_json::to_value(status).map_err(std::io::Error::from)?)?;
        return Ok(Exit::Done);
    }
    writeln!(session.out, "endpoint     {}", status.endpoint)?;
    writeln!(session.out, "account      {} in {}", status.account, status.region)?;
    writeln!(session.out, "CA file      {}", status.ca_file.display())?;
    writeln!(
        session.out,
        "credentials  access key {}, secret in {}",
        status.credentials.access_key_id,
        status.credentials.secret_access_key_file.display()
    )?;
    if status.hosts.is_empty() {
        writeln!(session.out, "servers      none yet; `seawall --sandbox apply` makes them")?;
    }
    for host in &status.hosts {
        let address = host.address.as_deref().unwrap_or("no address");
        writeln!(session.out, "server       {}  {}  {address}  user {}", host.name, host.state, host.user)?;
    }
    for template in places().list() {
        let (size, at) = (megabytes(template.size), template.saved_at.strftime("%Y-%m-%d %H:%M UTC"));
        writeln!(session.out, "template     {}  {size}  saved {at}", template.name)?;
    }
    Ok(Exit::Done)
}
