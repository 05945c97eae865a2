//! `seawall schema`, `seawall completions`, `seawall unlock`.

use clap::CommandFactory as _;

use jiff::Timestamp;

use crate::base::diag::Diagnostic;
use crate::cli::args::{Cli, DataArgs, Document, OnlyArgs};
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::Session;
use crate::cli::work::{Work, store_failed, store_failed_after, who};
use crate::engine::file::PlanFile;
use crate::engine::lock::break_lock;
use crate::engine::nonce::Nonce;
use crate::engine::refresh::endpoint;
use crate::inventory;
use crate::plan::observed::Unseen;
use crate::plan::probe::CloudProbe;
use crate::reach::Ask as _;
use crate::reach::world::World;
use crate::view::json;
use crate::view::json_backup;
use crate::view::json_drill;
use crate::view::json_restore;

/// Shortest reason that says something.
const REASON_LENGTH: usize = 8;

/// Prints the JSON Schema of a document.
pub fn schema(session: &mut Session, document: Document) -> Result<Exit, Stop> {
    writeln!(session.out, "{:#}", schema_of(document))?;
    Ok(Exit::Done)
}

/// The schema of a document, as it is published in `docs/`.
pub fn schema_of(document: Document) -> serde_json::Value {
    match document {
        Document::Inventory => inventory::schema::schema(),
        Document::Plan => json::schema_of::<PlanFile>(),
        Document::PlanView => json::schema_of::<json::PlanView<'_>>(),
        Document::Drift => json::schema_of::<json::DriftView<'_>>(),
        Document::Applied => json::schema_of::<json::AppliedView<'_>>(),
        Document::Backups => json::schema_of::<json_backup::BackupsView<'_>>(),
        Document::BackupsVerified => json::schema_of::<json_backup::VerifiedView<'_>>(),
        Document::DumpsMade => json::schema_of::<json_backup::DumpsMadeView<'_>>(),
        Document::BackupMade => json::schema_of::<json_backup::MadeView<'_>>(),
        Document::Restore => json::schema_of::<json_restore::RestoreView<'_>>(),
        Document::Restores => json::schema_of::<json_restore::RestoresView<'_>>(),
        Document::RestoredDump => json::schema_of::<json_restore::RestoredDumpView<'_>>(),
        Document::Rebuilt => json::schema_of::<json_restore::RebuiltView<'_>>(),
        Document::Drill => json::schema_of::<json_drill::DrillView<'_>>(),
        Document::Drills => json::schema_of::<json_drill::DrillsView<'_>>(),
        Document::Problems => json::schema_of::<json::ProblemsView<'_>>(),
    }
}

/// Prints a shell's completion script.
pub fn completions(session: &mut Session, shell: clap_complete::Shell) -> Result<Exit, Stop> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "seawall", &mut script);
    session.out.write_all(&script)?;
    Ok(Exit::Done)
}

/// Removes the locks of an environment and of its hosts, and records who did and why.
pub async fn unlock(session: &mut Session, reason: &str) -> Result<Exit, Stop> {
    if reason.trim().chars().count() < REASON_LENGTH {
        let problem = Diagnostic::error("reason-missing", format!("`{reason}` is too short to be a reason"))
            .hint("say in a few words why that run is certainly dead, for whoever reads the record later");
        return Err(Stop::new(Exit::Usage, problem));
    }
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let stores = work.stores(&world).await.map_err(|failure| store_failed(&failure))?;
    for store in stores.all() {
        let place = store.describe();
        let Some(held) = break_lock(store).await.map_err(|failure| store_failed(&failure))? else {
            session.say(format!("nobody holds the lock in {place}"));
            continue;
        };
        let line = serde_json::json!({ "at": Timestamp::now(), "by": who(), "reason": reason, "held": held });
        let key = format!("unlocked/{}-{}.json", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), Nonce::random());
        store
            .put(&key, line.to_string().as_bytes())
            .await
            .map_err(|failure| store_failed_after(&failure, "the lock was removed, and the reason is not recorded"))?;
        session.say(format!("removed the lock in {place} that was held by {held}"));
    }
    unlock_hosts(session, &work, &world).await
}

/// A host has a lock of its own while a transaction runs on it; it outlives whoever started that.
async fn unlock_hosts(session: &mut Session, work: &Work, world: &World) -> Result<Exit, Stop> {
    let mut exit = Exit::Done;
    for (name, server) in &work.resolved.servers {
        let answer = world.cloud(&CloudProbe::Instance { name: server.instance.clone() }).await;
        let unlocked = match endpoint(name, server, &answer) {
            Ok(at) => world.ssh.unlock(&at).await.map_err(|failure| failure.to_string()),
            Err(Unseen::NotYetCreated(_)) => continue,
            Err(why) => Err(why.to_string()),
        };
        match unlocked {
            Ok(None) => session.say(format!("nobody holds the lock on host `{name}`")),
            Ok(Some(held)) => session.say(format!("removed the lock on host `{name}` that was held by {held}")),
            Err(why) => {
                session.say(format!("warning: the lock on host `{name}` was not looked at or stays: {why}"));
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}
