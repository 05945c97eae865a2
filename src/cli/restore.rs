//! `seawall restore …`: planned, shown, confirmed, carried out, and what stands on a server afterwards.

use jiff::Timestamp;

use crate::base::diag::{Diagnostic, Severity};
use crate::cli::args::{DataArgs, OnlyArgs, RestoreArgs, RestoreCommand, ServerArgs};
use crate::cli::backup::{declared, meant, one};
use crate::cli::exit::{Exit, Stop};
use crate::cli::locked::{GIVE_YES, locked};
use crate::cli::session::Session;
use crate::cli::work::{Stores, Work};
use crate::plan::host::Endpoint;
use crate::plan::restores::{End, Purpose, RestorePlan, Standing, Told};
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::recovery::goal::{self, Wish};
use crate::recovery::look::Target;
use crate::recovery::restore::is_name;
use crate::view::working::Working;

/// Hours that a copy beside the database is kept unless the operator says otherwise.
const TTL_H: u64 = 24;

/// `seawall restore …`.
pub async fn restore(session: &mut Session, args: RestoreArgs) -> Result<Exit, Stop> {
    match args.command.clone() {
        None => begin(session, &args).await,
        Some(RestoreCommand::List(server)) => list(session, &server).await,
        Some(RestoreCommand::Drop { name, server }) => command(session, "drop", &name, &server, false).await,
        Some(RestoreCommand::Undo { name, server, yes }) => command(session, "undo", &name, &server, !yes).await,
        Some(RestoreCommand::Accept { name, server }) => command(session, "accept", &name, &server, false).await,
        Some(RestoreCommand::Psql { name, server, arguments }) => psql(session, &name, &server, &arguments).await,
        Some(RestoreCommand::CopyTable { name, database, table, into, server }) => {
            copy_table(session, &name, &database, &table, into.as_deref(), &server).await
        }
    }
}

async fn begin(session: &mut Session, args: &RestoreArgs) -> Result<Exit, Stop> {
    let usage = |why: String| Stop::new(Exit::Usage, Diagnostic::error("restore-target", why));
    let to = args.to.as_deref().ok_or_else(|| {
        usage(
            "say where to: --to latest, --to \"2026-11-21 02:21:10+00\", --to backup:LABEL or --to name:RESTORE_POINT"
                .to_owned(),
        )
    })?;
    let goal = goal::goal(to).map_err(usage)?;
    let purpose = if args.in_place { Purpose::InPlace } else { Purpose::Beside };
    let name = args.name.clone().unwrap_or_else(|| Timestamp::now().strftime("r%Y%m%d-%H%M%S").to_string());
    named(&name)?;
    let target = one(meant(session, &args.of)?)?;
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let wish = Wish { set: args.set.clone(), timeline: args.timeline };
    let working = Working::new(session.progress_mode());
    working.say("looking at the repository");
    let plan = target.planned(&Look::of(&world), goal, purpose, &wish, &name).await;
    drop(working);
    let mut plan = plan.map_err(|problem| Stop::new(Exit::Refused, problem.note("nothing was restored")))?;
    plan.ttl_s = (purpose == Purpose::Beside).then_some(args.keep_hours.unwrap_or(TTL_H) * 3600);
    let refused = plan.findings.iter().any(|finding| finding.severity == Severity::Error);
    if args.plan || refused {
        session.show_restore(&work, &plan, None)?;
        return Ok(if refused { Exit::Refused } else { Exit::Done });
    }
    if !args.yes {
        session.say(session.restore_text(&plan));
        let question = match purpose {
            Purpose::InPlace => "This stops the database. Restore in place? Only `yes` goes on: ",
            Purpose::Beside | Purpose::Drill | Purpose::Rehearsal => {
                "Restore beside the database? Only `yes` goes on: "
            }
        };
        if !session.confirmed(question, GIVE_YES)? {
            return Ok(Exit::Failed);
        }
    }
    // An apply would change the configuration under it.
    let interrupted = Diagnostic::error("interrupted", "this run was interrupted")
        .note(format!("the restore `{name}` goes on on `{}`", target.server))
        .hint("`seawall restore list` shows how far it is");
    let run = async |session: &mut Session, _: &Stores| {
        let working = Working::new(session.progress_mode());
        let say = |what: &str| working.say(what);
        target.restore(&world, &plan, &[], None, &say).await.map_err(Stop::failed)
    };
    let told = locked(session, &work, &world, "restore", interrupted, run).await?;
    session.show_restore(&work, &plan, Some(&told))?;
    ended(&plan, &told)
}

/// What a restore came to, as an exit code with its reason.
fn ended(plan: &RestorePlan, told: &Told) -> Result<Exit, Stop> {
    let problem = match &told.end {
        Some(End::Ready | End::Finished) => return Ok(Exit::Done),
        Some(End::Failed { code, why }) => failed(plan, code, why),
        Some(End::Interrupted) => Diagnostic::error("restore-failed", "the restore was ended by somebody"),
        Some(End::Over) | None => Diagnostic::error("restore-failed", "the restore ended without a word"),
    };
    let name = &plan.name;
    let problem = match plan.purpose {
        Purpose::InPlace if problem.code == "restore-hook" => problem
            .note("PostgreSQL runs with what was restored; PgBouncer is stopped, and nothing is archived")
            .hint(format!("go back: seawall restore undo {name}; or keep it all the same: seawall restore accept {name}")),
        Purpose::Beside if problem.code == "restore-hook" => problem
            .note("the database beside it was not touched")
            .note("the copy runs at its target")
            .hint(format!("look at it: seawall restore psql {name} -- -d DATABASE; remove it: seawall restore drop {name}")),
        Purpose::InPlace => problem
            .note("PostgreSQL is stopped, and the data of before is kept aside")
            .hint(format!("go back: seawall restore undo {}; or try another target: seawall restore --in-place --to …", plan.name)),
        Purpose::Rehearsal => problem.note("it goes with the fresh instance"),
        Purpose::Beside | Purpose::Drill => problem.note("the database beside it was not touched").note(format!(
            "what was restored and PostgreSQL's log stay in /var/lib/postgresql/seawall-restores/{} until: seawall restore drop {}",
            plan.name, plan.name
        )),
    };
    Err(Stop::failed(problem))
}

/// A failure that the server's program told.
pub fn failed(plan: &RestorePlan, told: &str, why: &str) -> Diagnostic {
    let code = code(told);
    let what = match code {
        "restore-hook" => format!("`{}` reached its target, and what runs after a restore failed: {why}", plan.name),
        _ => format!("`{}` did not get to its target: {why}", plan.name),
    };
    Diagnostic { code: code.to_owned(), ..Diagnostic::error("restore-failed", what) }
}

/// Its words for what went wrong; those of a newer program are not known here.
fn code(told: &str) -> &'static str {
    match told {
        "check" | "verify" => "restore-not-verified",
        "damaged" => "restore-damaged",
        "fetch" | "version" => "restore-fetch",
        "hook" => "restore-hook",
        "no-archive" => "restore-no-archive",
        "no-library" | "no-postgres" | "settings" => "restore-cannot-run",
        "no-room" => "restore-no-room",
        "repository-lost" => "restore-repository-lost",
        "repository-stopped" => "restore-repository-stopped",
        "tablespace" => "restore-tablespace",
        "target-before-backup" => "restore-target-before-backup",
        "target-not-reached" | "too-slow" | "no-write" => "restore-target-not-reached",
        "timeline-not-reached" => "restore-timeline",
        "wal-missing" => "restore-wal-missing",
        _ => "restore-failed",
    }
}

async fn list(session: &mut Session, server: &ServerArgs) -> Result<Exit, Stop> {
    let targets = declared(session, server)?;
    let (work, look) = Work::to_look(session, &OnlyArgs::default(), &DataArgs::default()).await?;
    let mut all: Vec<(String, Vec<Standing>)> = Vec::new();
    for target in &targets {
        let at = target.endpoint(&look).await.map_err(unseen)?;
        all.push((target.server.clone(), target.standing(&look, &at).await.map_err(unseen)?));
    }
    session.show_restores(&work, &all)?;
    Ok(Exit::Done)
}

pub fn unseen(why: String) -> Stop {
    Stop::failed(Diagnostic::error("restore-unseen", "the restores could not be looked at").note(why))
}

fn named(name: &str) -> Result<(), Stop> {
    if is_name(name) {
        return Ok(());
    }
    let problem = Diagnostic::error("restore-name", format!("`{name}` is no name of a restore"))
        .hint("lower-case letters, digits and dashes, at most 40");
    Err(Stop::new(Exit::Usage, problem))
}

/// Connects to the server that a restore is on.
async fn to(session: &mut Session, name: &str, server: &ServerArgs) -> Result<(Work, World, Target, Endpoint), Stop> {
    named(name)?;
    let target = one(declared(session, server)?)?;
    let (work, world) = Work::to_act(session, &OnlyArgs::default(), &DataArgs::default(), false).await?;
    let at = target.endpoint(&world).await.map_err(unseen)?;
    Ok((work, world, target, at))
}

async fn command(session: &mut Session, verb: &str, name: &str, server: &ServerArgs, asks: bool) -> Result<Exit, Stop> {
    let (work, world, target, at) = to(session, name, server).await?;
    if asks {
        session.say(format!(
            "PostgreSQL on {} is stopped, what was restored is moved aside, and the data of before the restore comes back.\n\
             What clients have written since the restore is not in it.",
            target.server
        ));
        if !session.confirmed("Go back? Only `yes` goes on: ", GIVE_YES)? {
            return Ok(Exit::Failed);
        }
    }
    let interrupted = Diagnostic::error("interrupted", "this run was interrupted")
        .note(format!("`restore {verb} {name}` goes on on `{}`", target.server));
    let run = async |session: &mut Session, _: &Stores| {
        let working = Working::new(session.progress_mode());
        working.say(&format!("{verb} {name}"));
        target.command_restore(&world, &at, verb, name).await.map_err(Stop::failed)
    };
    locked(session, &work, &world, &format!("restore {verb}"), interrupted, run).await?;
    session.say(match verb {
        "drop" => format!("{name} was removed from {}", target.server),
        "undo" => format!("the data of before {name} is back; what was restored is kept in main.undone-{name}"),
        _ => format!("{name} is accepted: WAL is archived again, and a full backup was made"),
    });
    Ok(Exit::Done)
}

async fn psql(session: &mut Session, name: &str, server: &ServerArgs, arguments: &[String]) -> Result<Exit, Stop> {
    let (_, world, _, at) = to(session, name, server).await?;
    let socket = format!("/run/seawall-restore/{name}");
    let mut argv =
        vec!["runuser", "-u", "postgres", "--", "psql", "-h", socket.as_str(), "-p", "5432", "-U", "postgres"];
    argv.extend(arguments.iter().map(String::as_str));
    let status = world.ssh.interactive(&at, &argv).await.map_err(|error| unseen(error.to_string()))?;
    Ok(if status == 0 { Exit::Done } else { Exit::Failed })
}

/// From the copy into the database beside it, under a name that is not there yet.
async fn copy_table(
    session: &mut Session,
    name: &str,
    database: &str,
    table: &str,
    into: Option<&str>,
    server: &ServerArgs,
) -> Result<Exit, Stop> {
    let (_, world, target, at) = to(session, name, server).await?;
    let into = into.map_or_else(|| format!("{}_restored", table.rsplit('.').next().unwrap_or(table)), str::to_owned);
    let argv = [crate::recovery::restore::PROGRAM, "copy-table", name, database, table, &into];
    let mut said = Vec::new();
    let mut take = |line: &[u8]| said.push(String::from_utf8_lossy(line).into_owned());
    let end = world.ssh.command(&at, &argv, crate::reach::look::with_margin(COPY_S), &mut take).await;
    let end = end.map_err(|error| unseen(error.to_string()))?;
    if end.status != 0 {
        let why = end.stderr.lines().last().unwrap_or_default().to_owned();
        return Err(Stop::failed(
            Diagnostic::error("restore-copy", format!("`{table}` of `{name}` was not copied"))
                .note(why)
                .note("nothing in the database was changed"),
        ));
    }
    session.say(format!("{} {into} of {database} on {}", said.join(" "), target.server));
    Ok(Exit::Done)
}

/// For a table of some ten gigabytes.
const COPY_S: u32 = 3600;
