//! One file per command: wiring and exit codes. Start with [`run`]; `main.rs` is one call to it.

pub mod apply;
pub mod args;
pub mod backup;
pub mod clean;
pub mod drill;
pub mod exit;
pub mod explain;
pub mod from_dump;
pub mod housekeeping;
pub mod locked;
pub mod output;
pub mod plan;
pub mod policy;
pub mod rebuild;
pub mod rehearsal;
pub mod restore;
pub mod sandbox;
pub mod secrets;
pub mod session;
pub mod validate;
pub mod work;
pub mod world;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::base::redact::Redactor;
use crate::cli::args::{Cli, Command, DrillCommand};
use crate::cli::clean::{Clean, Kind};
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::Session;

/// Threads of the runtime. Most work waits for the network; two also keep a busy TLS handshake from stopping the rest.
const WORKER_THREADS: usize = 2;

/// Runs the program with its arguments and says how it ended.
pub fn run(args: Vec<OsString>) -> ExitCode {
    if let Some(code) = sandbox::hidden_entry(&args) {
        return code;
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way, too; they are no mistake.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    let mut session = Session::new(cli.global.clone());
    if cli.global.verbose > 1 {
        start_log(session.redactor.clone());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            session.say(format!("error: the program could not be started: {error}"));
            return Exit::Failed.into();
        }
    };
    let ended = runtime.block_on(dispatch(&mut session, cli.command));
    if let Some(ssh) = session.ssh.take() {
        runtime.block_on(ssh.close());
    }
    // What still runs in the background must not keep the operator waiting.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(Stop { exit, diagnostics }) => {
            session.show_diagnostics(&diagnostics);
            exit.into()
        }
    }
}

async fn dispatch(session: &mut Session, command: Command) -> Result<Exit, Stop> {
    match command {
        Command::Validate => validate::validate(session),
        Command::Plan(args) => plan::plan(session, &args).await,
        Command::Apply(args) => apply::apply(session, &args).await,
        Command::Drift(args) => plan::drift(session, &args).await,
        Command::Status => plan::status(session).await,
        Command::Destroy(args) => apply::destroy(session, &args).await,
        Command::Backup { command } => backup::backup(session, command).await,
        Command::Restore(args) if args.from_dump.is_some() => from_dump::from_dump(session, &args).await,
        Command::Restore(args) => restore::restore(session, *args).await,
        Command::Rebuild(args) if args.rehearse => rehearsal::rehearse(session, &args.of, "latest", args.yes).await,
        Command::Rebuild(args) => rebuild::rebuild(session, &args).await,
        Command::Drill(args) => match &args.command {
            Some(DrillCommand::List(server)) => drill::list(session, server).await,
            Some(DrillCommand::Gc(args)) => rehearsal::gc(session, args).await,
            None if args.fresh => rehearsal::rehearse(session, &args.of, &args.to, args.yes).await,
            None => drill::drill(session, &args).await,
        },
        Command::Show { plan: path } => plan::show(session, &path),
        Command::Explain { what } => explain::explain(session, what.as_deref()),
        Command::Schema { document } => housekeeping::schema(session, document),
        Command::Policy { whose } => policy::policy(session, whose),
        Command::Completions { shell } => housekeeping::completions(session, shell),
        Command::Unlock { reason } => housekeeping::unlock(session, &reason).await,
        Command::Sandbox { command } => sandbox::sandbox(session, command).await,
    }
}

/// The log of what happens underneath, on stderr. It never holds request bodies: they may hold secrets.
fn start_log(redactor: Redactor) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SEAWALL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("seawall=debug,aws_config=info"));
    let kind = Kind::Text { coloured: true };
    let writer = move || Clean::new(std::io::stderr(), kind, redactor.clone());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).finish();
    // Fails only if a log was started before, which nothing does.
    let _ = tracing::subscriber::set_global_default(log);
}
