//! The lab's one process: the front, the Lightsail service, and the emulator as its child.
//!
//! It is this program again with a hidden argument, detached. It ends on SIGTERM, and its emulator with it.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::base::read;
use crate::base::secret::Secret;
use crate::sandbox::emulator::{Emulator, Launch};
use crate::sandbox::faults::Faults;
use crate::sandbox::files::{DAEMON, EMULATOR_FOLDER, GAPS_FILE, LIGHTSAIL_FILE};
use crate::sandbox::front::{Door, Front};
use crate::sandbox::gaps::Gaps;
use crate::sandbox::joined::{self, RealMachines};
use crate::sandbox::lab::{OPERATOR_KEY_FILE, Running, SECRET_FILE, SETTINGS_FILE, STATE_FILE, Settings};
use crate::sandbox::lightsail::api::{Lightsail, Setup};
use crate::sandbox::lightsail::machine::{Machines, NoMachines};
use crate::sandbox::process::{Process, write_private};
use crate::sandbox::tls;

/// Runs the daemon if the arguments (without the program's name) say so; to be asked before anything else.
pub fn hidden_entry(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter();
    if args.next()? != DAEMON {
        return None;
    }
    let folder = PathBuf::from(args.next()?);
    // A session of its own: the terminal's interrupt is not for the lab. It fails only for a group leader.
    if let Err(error) = nix::unistd::setsid() {
        tracing::debug!(%error, "no session of its own");
    }
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.and_then(|runtime| runtime.block_on(serve(&folder)));
    match result {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            tracing::error!(%error, "the lab's daemon gives up");
            Some(ExitCode::FAILURE)
        }
    }
}

/// The real machines of a lab, where its settings ask for them.
async fn real_machines(folder: &Path, settings: &Settings) -> io::Result<Option<Arc<RealMachines>>> {
    let Some(cache) = &settings.machines else { return Ok(None) };
    let key = read::our_text(&folder.join(format!("{OPERATOR_KEY_FILE}.pub")), read::OURS)?;
    let lab = joined::Lab {
        folder,
        cache,
        region: &settings.region,
        operator: settings.operator_address.parse().ok(),
        operator_key: key.trim().to_owned(),
        ca_pem: read::our_text(&folder.join(tls::CA_FILE), read::OURS)?,
    };
    RealMachines::open(lab).await.map(|machines| Some(Arc::new(machines))).map_err(io::Error::other)
}

async fn serve(folder: &Path) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let settings: Settings =
        serde_json::from_slice(&read::ours(&folder.join(SETTINGS_FILE), read::OURS)?).map_err(io::Error::other)?;
    let secret = Secret::new(read::our_text(&folder.join(SECRET_FILE), read::OURS)?.trim().to_owned());
    let acceptor = tls::acceptor(folder, &settings.server_names)?;
    let real = real_machines(folder, &settings).await?;
    let behind: Arc<dyn Machines> = match &real {
        Some(real) => Arc::clone(real) as Arc<dyn Machines>,
        None => Arc::new(NoMachines::default()),
    };
    let setup = Setup {
        account: settings.account.clone(),
        access_key: settings.account.clone(),
        delays: settings.delays,
        file: Some(folder.join(LIGHTSAIL_FILE)),
        user_ca: None,
    };
    // Bound before the servers of before boot: what they ask meanwhile waits, and is not refused.
    let gateway = real.as_ref().map(|real| real.listener().map_err(io::Error::other)).transpose()?;
    let lightsail = Lightsail::open(setup, behind, Arc::new(Faults::default()))?;
    let mut emulator = match &settings.emulator {
        None => None,
        Some(venv) => Some(start_emulator(folder, venv, &settings, &secret).await?),
    };
    let gaps = Gaps::open(folder.join(GAPS_FILE))?;
    let acme = real.as_ref().map(|real| real.acme(folder));
    let front = Front::new(lightsail, gaps, &settings.account, emulator.as_ref().map(|e| e.address), acme);
    // The port of before, where it is free: what was configured against it still works after a restart.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, settings.port))
        .or_else(|_| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let port = listener.local_addr()?.port();
    let doors = gateway.map(|listener| (listener, Door::Gateway)).into_iter().chain([(listener, Door::Loopback)]);
    for (listener, door) in doors {
        tokio::spawn(Arc::clone(&front).serve(listener, Some(acceptor.clone()), door));
    }
    // Ready means that the servers of before answer, too.
    front.lightsail.adopted().await;
    let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let process = Process::of(pid).ok_or_else(|| io::Error::other("this process is not in /proc"))?;
    let running = Running { version: 1, process, port };
    write_private(&folder.join(STATE_FILE), &serde_json::to_vec_pretty(&running).map_err(io::Error::other)?)?;
    let died = async {
        match &mut emulator {
            Some(emulator) => emulator.ended().await,
            None => std::future::pending().await,
        }
    };
    let failed = tokio::select! {
        _ = terminate.recv() => false,
        () = died => true,
    };
    if let Some(emulator) = &mut emulator {
        emulator.stop().await;
    }
    if let Some(acme) = &front.acme {
        acme.stop().await;
    }
    if let Some(real) = &real {
        real.shutdown().await.map_err(io::Error::other)?;
    }
    if failed { Err(io::Error::other("the emulator ended by itself; see emulator/emulator.log")) } else { Ok(()) }
}

async fn start_emulator(
    folder: &Path,
    venv: &Path,
    settings: &Settings,
    secret: &Secret<String>,
) -> io::Result<Emulator> {
    let folder = folder.join(EMULATOR_FOLDER);
    let launch =
        Launch { venv, folder: &folder, region: &settings.region, access_key: &settings.account, secret_key: secret };
    Emulator::start(&launch).await.map_err(io::Error::other)
}
