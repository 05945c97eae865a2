//! `seawall backup list`, `verify`, `now` and `dump`: what there is, whether it is whole, and one more.

use crate::base::diag::{Diagnostic, Diagnostics, Severity};
use crate::cli::args::{BackupCommand, BackupType, DataArgs, OnlyArgs, RepositoryArgs, ServerArgs};
use crate::cli::exit::{Exit, Stop};
use crate::cli::locked::locked;
use crate::cli::session::Session;
use crate::cli::work::{Stores, Work};
use crate::engine::nonce::Nonce;
use crate::inventory::scalar::Name;
use crate::plan::backups::{Backups, Made, Verified};
use crate::reach::world::World;
use crate::recovery::look::{Target, targets};
use crate::recovery::now::Type;
use crate::view::working::Working;

/// `seawall backup …`.
pub async fn backup(session: &mut Session, command: BackupCommand) -> Result<Exit, Stop> {
    match command {
        BackupCommand::List(of) => list(session, &of).await,
        BackupCommand::Verify(of) => verify(session, &of).await,
        BackupCommand::Now { of, kind, follow } => {
            let kind = match kind {
                BackupType::Full => Type::Full,
                BackupType::Diff => Type::Differential,
            };
            now(session, &of, kind, follow).await
        }
        BackupCommand::Dump { server, before } => dump(session, &server, &before).await,
    }
}

async fn list(session: &mut Session, of: &RepositoryArgs) -> Result<Exit, Stop> {
    let targets = meant(session, of)?;
    let (work, look) = Work::to_look(session, &OnlyArgs::default(), &DataArgs::default()).await?;
    let mut all: Vec<Backups> = Vec::new();
    for target in &targets {
        let seen = target.look(&look, &mut |_| ()).await;
        all.push(target.judged(&seen));
    }
    session.show_backups(&work, &all)?;
    Ok(if all.iter().any(|known| !known.unseen.is_empty()) {
        Exit::Failed
    } else if all.iter().any(|known| !known.findings.is_empty()) {
        Exit::Differences
    } else {
        Exit::Done
    })
}

async fn verify(session: &mut Session, of: &RepositoryArgs) -> Result<Exit, Stop> {
    let (work, world, targets) = begin(session, of).await?;
    let mut all: Vec<Verified> = Vec::new();
    for target in &targets {
        let working = Working::new(session.progress_mode());
        all.push(target.prove(&world, &|what| working.say(what)).await);
    }
    session.show_verified(&work, &all)?;
    let is_error = |finding: &Diagnostic| finding.severity == Severity::Error;
    Ok(if all.iter().any(|proof| proof.backups.findings.iter().any(is_error)) {
        Exit::Refused
    } else if all.iter().any(|proof| !proof.backups.unseen.is_empty()) {
        Exit::Failed
    } else if all.iter().any(|proof| !proof.backups.findings.is_empty()) {
        Exit::Differences
    } else {
        Exit::Done
    })
}

async fn now(session: &mut Session, of: &RepositoryArgs, kind: Type, follow: bool) -> Result<Exit, Stop> {
    let (work, world, targets) = begin(session, of).await?;
    let target = one(targets)?;
    let backup = if follow {
        followed(session, &world, &target).await?
    } else {
        let id = format!("backup-{}", Nonce::random());
        let job = async |say: Say<'_>| target.backup_now(&world, kind, &id, say).await;
        Some(made(session, &work, &world, "backup now", left(&target), job).await?)
    };
    match backup {
        Some(backup) => session.show_made(&work, target.server.as_str(), &backup)?,
        None => session.say(format!("no backup runs on `{}`", target.server)),
    }
    Ok(Exit::Done)
}

async fn followed(session: &mut Session, world: &World, target: &Target) -> Result<Option<Made>, Stop> {
    let working = Working::new(session.progress_mode());
    let say = |what: &str| working.say(what);
    let made = tokio::select! {
        made = target.follow(world, &say) => made,
        _ = tokio::signal::ctrl_c() => Err(left(target)),
    };
    made.map_err(stopped)
}

async fn dump(session: &mut Session, server: &ServerArgs, before: &Name) -> Result<Exit, Stop> {
    let of = RepositoryArgs { server: server.clone(), copy: false };
    let (work, world, targets) = begin(session, &of).await?;
    let target = one(targets)?;
    let id = format!("dump-{}", Nonce::random());
    let interrupted = Diagnostic::error("interrupted", "this run was interrupted")
        .note(format!("dumps that were begun go on on `{}`", target.server))
        .hint("see what there is with: seawall backup list");
    let job = async |say: Say<'_>| target.dump_before(&world, before, &id, say).await;
    let dumps = made(session, &work, &world, "backup dump", interrupted, job).await?;
    session.show_dumped(&work, &target.server, &dumps)?;
    Ok(Exit::Done)
}

/// The one server that is meant.
pub fn one(mut targets: Vec<Target>) -> Result<Target, Stop> {
    match (targets.pop(), targets.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            let names: Vec<String> = targets.into_iter().chain(last).map(|target| target.server).collect();
            let names = format!("{} servers have backups: {}", names.len(), names.join(", "));
            Err(Stop::new(Exit::Usage, Diagnostic::error("which-server", names).hint("name one: --server NAME")))
        }
    }
}

/// Says on the way what a run is at.
type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// An apply that restarted PostgreSQL would end what is made, so the lock is held to the end.
async fn made<T>(
    session: &mut Session,
    work: &Work,
    world: &World,
    what: &str,
    interrupted: Diagnostic,
    run: impl AsyncFnOnce(Say<'_>) -> Result<T, Diagnostic>,
) -> Result<T, Stop> {
    let run = async |session: &mut Session, _: &Stores| {
        let working = Working::new(session.progress_mode());
        run(&|what: &str| working.say(what)).await.map_err(Stop::failed)
    };
    locked(session, work, world, what, interrupted, run).await
}

fn left(target: &Target) -> Diagnostic {
    Diagnostic::error("interrupted", "this run was interrupted")
        .note(format!("a backup that was started goes on on `{}`", target.server))
        .hint(target.hinted("follow it with: seawall backup now --follow"))
}

fn stopped(problem: Diagnostic) -> Stop {
    let exit = if problem.code == "interrupted" { Exit::Interrupted } else { Exit::Failed };
    Stop::new(exit, problem)
}

/// Connects, and finds the servers with backups.
async fn begin(session: &mut Session, of: &RepositoryArgs) -> Result<(Work, World, Vec<Target>), Stop> {
    let all = meant(session, of)?;
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    Ok((work, world, all))
}

/// The servers with backups that were asked for. Before anything is connected, so that a mistake is told at once.
pub fn declared(session: &mut Session, args: &ServerArgs) -> Result<Vec<Target>, Stop> {
    let (loaded, resolved) = session.resolve()?;
    chosen(targets(&loaded.inventory, &resolved.servers), args)
}

/// The same, with the repository that is meant.
pub fn meant(session: &mut Session, of: &RepositoryArgs) -> Result<Vec<Target>, Stop> {
    let all = declared(session, &of.server)?;
    if !of.copy {
        return Ok(all);
    }
    let copies: Vec<Target> = all.into_iter().filter_map(Target::of_copy).collect();
    if copies.is_empty() {
        let problem = Diagnostic::error("no-copy-declared", "there is no second repository")
            .hint("`seawall explain pgbackrest.copy` shows how one is declared under `backup.copies`");
        return Err(Stop::new(Exit::Usage, Diagnostics::from(problem)));
    }
    Ok(copies)
}

fn chosen(mut all: Vec<Target>, args: &ServerArgs) -> Result<Vec<Target>, Stop> {
    let names: Vec<String> = all.iter().map(|target| target.server.clone()).collect();
    if let Some(name) = &args.server {
        all.retain(|target| target.server == *name);
    }
    if !all.is_empty() {
        return Ok(all);
    }
    let problem = match &args.server {
        Some(name) if !names.is_empty() => {
            Diagnostic::error("no-backups-declared", format!("`{name}` is no server with a `backup` section"))
                .hint(format!("these have one: {}", names.join(", ")))
        }
        _ => Diagnostic::error("no-backups-declared", "no server of the inventory has a `backup` section")
            .hint("`seawall explain pgbackrest.repo` shows one"),
    };
    Err(Stop::new(Exit::Usage, Diagnostics::from(problem)))
}
