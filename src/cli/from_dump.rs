//! `seawall restore --from-dump`: one database of a logical dump, into a new database beside it.
//!
//! The server's own program restores it as a role that may do nothing else (`programs/dump.sh`), and never into a database
//! that is there.

use std::collections::BTreeMap;

use crate::base::diag::Diagnostic;
use crate::cli::args::{DataArgs, OnlyArgs, RestoreArgs};
use crate::cli::backup::{declared, one};
use crate::cli::exit::{Exit, Stop};
use crate::cli::locked::{GIVE_YES, locked};
use crate::cli::restore::unseen;
use crate::cli::session::Session;
use crate::cli::work::{Stores, Work};
use crate::plan::restores::DumpPlan;
use crate::plan::step::HostStep;
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::recovery::dumps;
use crate::recovery::look::Target;
use crate::view::working::Working;

/// The program on the server.
const PROGRAM: &str = "/usr/local/lib/seawall/dump";
/// Seconds: a dump restores row by row and makes every index anew.
const LIMIT_S: u32 = 12 * 3600;
/// So many dumps are named where the one that is wanted is not there.
const NAMED: usize = 5;

/// `seawall restore --from-dump STAMP --database DATABASE`.
pub async fn from_dump(session: &mut Session, args: &RestoreArgs) -> Result<Exit, Stop> {
    let stamp = args.from_dump.as_deref().unwrap_or_default();
    // Neither is taken without the other.
    let database = args.database.as_deref().unwrap_or_default();
    let target = one(declared(session, &args.of.server)?)?;
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let (plan, key) = planned(&world, &target, stamp, database).await?;
    if args.plan {
        session.show_restored_dump(&work, &plan, false)?;
    }
    if let Some(problem) = frozen(&plan, &key) {
        return Err(Stop::new(Exit::Refused, problem));
    }
    if args.plan {
        return Ok(Exit::Done);
    }
    if !args.yes {
        session.say(session.dump_text(&plan, false));
        if !session.confirmed("Restore into the new database? Only `yes` goes on: ", GIVE_YES)? {
            return Ok(Exit::Failed);
        }
    }
    restored(session, &work, &world, &target, &plan).await?;
    session.show_restored_dump(&work, &plan, true)?;
    Ok(Exit::Done)
}

/// A dump that S3 does not give out before it has been asked for it.
fn frozen(plan: &DumpPlan, key: &str) -> Option<Diagnostic> {
    let hours = plan.thaw_s?.div_ceil(3600);
    let DumpPlan { database, stamp, bucket, class, .. } = plan;
    let problem =
        Diagnostic::error("dump-archived", format!("the dump {stamp} of `{database}` takes hours to be read"));
    Some(
        problem
            .note(format!("s3://{bucket}/{key} or its checksum is in an archive class ({class}): up to {hours} h by standard retrieval"))
            .note("nothing was restored")
            .hint(format!(
                "ask S3 for both, wait, and run this again: aws s3api restore-object --bucket {bucket} --key {key} --restore-request \
                 Days=7; the same for {key}.sha256"
            )),
    )
}

/// What will be restored, and its key. A dump counts when its checksum is beside it.
async fn planned(world: &World, target: &Target, stamp: &str, database: &str) -> Result<(DumpPlan, String), Stop> {
    let prefix = dumps::prefix(target.stanza());
    let objects = Look::of(world).objects(&target.bucket, &prefix, &mut |_| ()).await;
    let objects = objects.map_err(|why| unseen(format!("s3://{}/{prefix}: {why}", target.bucket)))?;
    let all = dumps::of(&objects.unwrap_or_default(), &prefix, database);
    if let Some(found) = all.iter().find(|dump| dump.stamp == stamp) {
        let plan = DumpPlan {
            server: target.server.clone(),
            bucket: target.bucket.clone(),
            database: database.to_owned(),
            stamp: stamp.to_owned(),
            at: found.at,
            bytes: found.bytes,
            class: found.class.clone(),
            thaw_s: found.thaw_s,
            into: dumps::restored_name(database, stamp),
        };
        return Ok((plan, found.key.clone()));
    }
    let problem =
        Diagnostic::error("restore-no-dump", format!("there is no good dump of `{database}` with the stamp `{stamp}`"))
            .note("nothing was restored");
    let newest: Vec<&str> = all.iter().rev().take(NAMED).map(|dump| dump.stamp.as_str()).collect();
    let hint = match newest.as_slice() {
        [] => {
            format!("s3://{}/{prefix} has none of this database; `seawall backup list` shows the others", target.bucket)
        }
        newest => format!("the newest are: {}", newest.join(", ")),
    };
    Err(Stop::new(Exit::Refused, problem.hint(hint)))
}

/// With the environment's lock: an apply would change roles and access under it.
async fn restored(
    session: &mut Session,
    work: &Work,
    world: &World,
    target: &Target,
    plan: &DumpPlan,
) -> Result<(), Stop> {
    let at = target.endpoint(world).await.map_err(unseen)?;
    let step = HostStep::Run {
        argv: [PROGRAM, "restore", &plan.database, &plan.stamp].map(str::to_owned).into(),
        env: BTreeMap::new(),
        stdin: None,
        timeout_s: LIMIT_S,
        revert: None,
        what: format!("restore {} of {}", plan.database, plan.stamp),
    };
    let interrupted = Diagnostic::error("interrupted", "this run was interrupted")
        .note(format!("the restore into `{}` goes on on `{}`", plan.into, target.server));
    let run = async |session: &mut Session, _: &Stores| {
        let working = Working::new(session.progress_mode());
        working.say(&format!("restores the dump into {}", plan.into));
        target.on_host(world, &at, "dump", vec![step]).await.map_err(|why| {
            Stop::failed(
                Diagnostic::error("restore-failed", format!("the dump was not restored on `{}`", target.server))
                    .note(why)
                    .note(format!("`{}` is as it was", plan.database)),
            )
        })
    };
    locked(session, work, world, "restore", interrupted, run).await
}
