//! A drill: what is drawn and asked before it, and what everything that was seen comes to. Judging is pure.
//!
//! The disaster is the moment in which the drill begins: no segment of WAL is switched before it, so what was not archived
//! by then is lost, as it would be. Deliberately absent: belief in a drill that cannot fail. One that is broken on purpose
//! never passes, and one that does not notice is a finding.

pub mod fresh;

use jiff::Timestamp;

use crate::base::diag::{Diagnostic, Severity};
use crate::base::digest::Digest;
use crate::kinds::pgbackrest_repo::look::{size as size_of, size_query};
use crate::kinds::postgres::Cluster;
use crate::plan::backups::{Backups, Window};
use crate::plan::drills::{
    Broken, Cleanup, Drill, Evidence, HEARTBEAT_S, Lasted, Past, Projection, Rpo, Rto, Scenario, Throughput, projected,
};
use crate::plan::host::Endpoint;
use crate::plan::probe::{HostProbe, Probe};
use crate::plan::restores::{End, Fact, Goal, RestorePlan, Told};
use crate::reach::Ask;
use crate::reach::aws::objects::Listed;
use crate::recovery::drill::fresh::Fresh;
use crate::recovery::goal::{moment, moment_of, segments};
use crate::recovery::judge::prefix;
use crate::recovery::look::Target;
use crate::recovery::restore::{Check, PROGRAM};

/// A random moment keeps this many seconds away from the end of a window: a commit behind it must be in the archive, or
/// PostgreSQL cannot tell that it got there. Two heartbeats.
const MARGIN_S: i64 = 2 * HEARTBEAT_S;
/// By so many seconds the witnesses may differ beyond the heartbeat's own resolution: a commit takes its time under load.
const SLACK_S: i64 = 10;

/// NAME: what is on the server of a restore that was removed, a line each.
const LEFT: &str = r#"for path in "/var/lib/postgresql/seawall-restores/$1" "/etc/seawall/restores/$1.conf" "/run/seawall-restore/$1"; do
    [ ! -e "$path" ] || echo "$path"
done
! systemctl is-active -q "seawall-restore@$1.service" || echo "seawall-restore@$1.service"
pgrep -f "seawall-restore-$1( |:|$)" | sed 's/^/process /'
exit 0"#;

/// A moment within the windows, each as likely as any other; `below` draws a number below its argument. `None` where no
/// window is long enough.
pub fn draw(windows: &[Window], below: impl FnOnce(i64) -> i64) -> Option<i64> {
    let stretch = |window: &Window| (window.from, (window.to.unwrap_or(window.from) - MARGIN_S - window.from).max(0));
    let total: i64 = windows.iter().map(|window| stretch(window).1).sum();
    if total == 0 {
        return None;
    }
    let mut left = below(total);
    for (from, length) in windows.iter().map(stretch) {
        if left < length {
            return Some(from + left);
        }
        left -= length;
    }
    None
}

/// Marks one object of a backup as archived, as a lifecycle rule would; in this listing only.
pub fn freeze(objects: &mut [Listed], plan: &RestorePlan) {
    let below = format!("{}backup/{}/{}/", prefix(&plan.stanza), plan.stanza, plan.set);
    if let Some(object) = objects.iter_mut().find(|object| object.key.starts_with(&below)) {
        (object.class, object.is_restored) = ("DEEP_ARCHIVE".to_owned(), false);
    }
}

/// The newest backup, if it holds damaged pages: then an older one was restored, and the database itself is damaged.
pub fn damaged(known: &Backups) -> Option<Diagnostic> {
    let newest = known.backups.last().filter(|newest| newest.page_errors)?;
    Some(
        Diagnostic::error(
            "backup-with-errors",
            format!("the newest backup, `{}`, holds pages whose checksums are wrong", newest.label),
        )
        .note("an older one was restored instead; the damage is in the database itself")
        .hint("find it with pg_amcheck on the server, and keep the older backups until it is mended"),
    )
}

/// The server as the disaster finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Its clock, and this machine's at the same time.
    pub server_clock: i64,
    pub clock: i64,
    /// Size of its databases, where PostgreSQL answers.
    pub bytes: Option<u64>,
}

impl Target {
    /// What a drill is measured against.
    ///
    /// # Errors
    /// Why the server's clock could not be read.
    pub async fn before_drill(&self, ask: &impl Ask, at: &Endpoint) -> Result<Before, String> {
        let date = ["date", "+%s"];
        let size = size_query();
        let cluster = Cluster { version: self.version };
        let mut probes = vec![command(&date)];
        probes.extend([cluster.probe(), size.probe()].into_iter().filter_map(|probe| match probe {
            Probe::Host(probe) => Some(probe),
            Probe::Cloud(_) | Probe::OnServer { .. } | Probe::Secret(_) => None,
        }));
        let answers = ask.host(at, &probes).await;
        let clock = Timestamp::now().as_second();
        let said = answers.command(&date).map_err(|why| why.to_string())?;
        let server_clock = said.stdout.trim().parse().map_err(|_| format!("`date` says {}", said.stdout.trim()))?;
        let bytes = size_of(cluster, &self.server, &answers);
        Ok(Before { server_clock, clock, bytes })
    }

    /// What the server's program told of a restore, word for word.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn told_words(&self, ask: &impl Ask, at: &Endpoint, name: &str) -> Result<String, String> {
        let argv = [PROGRAM, "told", name];
        let answers = ask.host(at, &[command(&argv)]).await;
        Ok(answers.command(&argv).map_err(|why| why.to_string())?.stdout.clone())
    }

    /// What is on the server of a restore that was removed.
    pub async fn left_of(&self, ask: &impl Ask, at: &Endpoint, name: &str) -> Cleanup {
        let argv = ["sh", "-c", LEFT, "sh", name];
        let answers = ask.host(at, &[command(&argv)]).await;
        let left = match answers.command(&argv) {
            Ok(said) if said.ok() => said.stdout.lines().map(str::to_owned).collect::<Vec<_>>(),
            Ok(said) => return unknown(said.stderr.trim()),
            Err(why) => return unknown(&why.to_string()),
        };
        Cleanup { proven: left.is_empty(), left, unknown: None }
    }
}

fn unknown(why: &str) -> Cleanup {
    Cleanup { proven: false, left: Vec::new(), unknown: Some(why.to_owned()) }
}

fn command(argv: &[&str]) -> HostProbe {
    HostProbe::Command { argv: argv.iter().map(|&word| word.to_owned()).collect() }
}

/// Everything that was seen of a drill.
pub struct Run {
    pub id: String,
    pub environment: String,
    pub sandbox: bool,
    pub server: String,
    pub bundle: String,
    pub scenario: Scenario,
    pub asked: String,
    pub broken: Option<Broken>,
    pub inventory: Digest,
    pub by: String,
    /// By the server's clock.
    pub began: i64,
    pub ended: i64,
    pub clock_offset_s: i64,
    pub rpo_s: Option<u64>,
    pub rto_s: Option<u64>,
    pub plan: Option<RestorePlan>,
    /// Why nothing was restored, or why the restore failed.
    pub failure: Option<Diagnostic>,
    /// What was found in the repository and keeps an older backup from being restored no more than a drill from being well.
    pub found: Vec<Diagnostic>,
    pub told: String,
    pub checks: Vec<Check>,
    pub bytes_now: Option<u64>,
    pub cleanup: Cleanup,
    /// Where it ran on a fresh instance.
    pub fresh: Option<Fresh>,
    /// The last drill of this server that restored the newest moment.
    pub before: Option<Past>,
}

/// What it comes to.
pub fn judged(run: Run) -> Drill {
    let told = Told::read(&run.told);
    let finished = told.end == Some(End::Finished);
    let mut misses: Vec<Diagnostic> = run.failure.iter().cloned().collect();
    let found = run.plan.iter().flat_map(|plan| &plan.findings);
    misses.extend(found.filter(|finding| finding.severity == Severity::Error).cloned());
    misses.extend(run.found.iter().cloned());
    let rpo = loss(&run, &told);
    let rto = times(&run, &told);
    if finished {
        misses.extend(lost(&run, &rpo));
        misses.extend(slow(&rto).filter(|_| run.failure.is_none() || rto.serve_s.is_some()));
        misses.extend(run.fresh.as_ref().and_then(|fresh| fresh.too_slow(rto.serve_s)));
    }
    let mut remarks = told.remarks.clone();
    remarks.extend(run.fresh.iter().flat_map(|fresh| fresh.remarks.clone()));
    let late =
        rto.objective_s.zip(rto.trust_s).filter(|(wanted, trust)| i64::try_from(*wanted).is_ok_and(|w| *trust > w));
    if let Some((wanted, trust)) = late.filter(|_| finished) {
        remarks
            .push(format!("with the verification it took {trust} s, which is longer than the objective of {wanted} s"));
    }
    let clean = unremoved(&run);
    if let Some(broken) = run.broken {
        misses = wanted_red(broken, &misses).into_iter().chain(misses).collect();
    }
    misses.extend(clean);
    Drill {
        passed: misses.is_empty() && finished && rto.trust_s.is_some() && run.broken.is_none(),
        phases: phases(&run, &told),
        throughput: throughput(&run, &told),
        verification: verification(&run, &told),
        rpo,
        rto,
        remarks,
        evidence: Evidence::of(&run.told),
        misses,
        id: run.id,
        environment: run.environment,
        sandbox: run.sandbox,
        server: run.server,
        bundle: run.bundle,
        scenario: run.scenario,
        cost_millicents: run.fresh.as_ref().and_then(|fresh| fresh.cost_millicents(run.ended - run.began)),
        asked: run.asked,
        broken: run.broken,
        inventory: run.inventory,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        by: run.by,
        began: run.began,
        ended: run.ended,
        clock_offset_s: run.clock_offset_s,
        plan: run.plan,
        cleanup: run.cleanup,
    }
}

/// Whether a drill that was broken on purpose came out red, and for that reason.
fn wanted_red(broken: Broken, misses: &[Diagnostic]) -> Option<Diagnostic> {
    let word = broken.word();
    if misses.is_empty() {
        let problem = Diagnostic::error("drill-cannot-fail", format!("the drill did not notice a broken {word}"));
        return Some(problem.note("drills of this server that passed before prove nothing").hint(
            "keep the report, and look on the server at what it did with `seawall restore --to latest` and the same target",
        ));
    }
    let seen = misses.iter().any(|miss| broken.expected().contains(&miss.code.as_str()));
    (!seen).then(|| {
        Diagnostic::error("drill-inconclusive", format!("the drill failed for another reason than the broken {word}"))
            .note(format!("expected was {}", broken.expected().join(" or ")))
            .hint("mend what failed, then break it again")
    })
}

fn second(told: &Told, fact: &str) -> Option<i64> {
    moment(told.fact(fact)?).ok().map(Timestamp::as_second)
}

fn loss(run: &Run, told: &Told) -> Rpo {
    let goal = run.plan.as_ref().map(|plan| &plan.goal);
    let (measured_to, counts) = match goal {
        Some(Goal::Latest) => (Some(run.began), true),
        Some(Goal::Time(at)) => (moment(at).ok().map(Timestamp::as_second), false),
        Some(Goal::Backup(_) | Goal::Point(_)) | None => (None, false),
    };
    let (heartbeat, last_commit) = (second(told, "heartbeat"), second(told, "last-commit"));
    let oldest = [heartbeat, last_commit].into_iter().flatten().min();
    Rpo {
        objective_s: run.rpo_s,
        measured_to,
        counts,
        heartbeat,
        last_commit,
        lost_s: measured_to.zip(oldest).map(|(to, oldest)| to - oldest),
        resolution_s: HEARTBEAT_S,
    }
}

fn times(run: &Run, told: &Told) -> Rto {
    let serves = match &run.fresh {
        Some(fresh) => fresh.served,
        None => told.phases.iter().find(|phase| phase.name == "look").map(|phase| phase.began),
    };
    let serves = serves.map(|at| at - run.began);
    // On a fresh instance, the restore itself ends before it is verified.
    let is_whole = told.end == Some(End::Finished) && (run.fresh.is_none() || told.fact("amcheck").is_some());
    let trusted = is_whole.then(|| told.ended.map(|at| at - run.began)).flatten();
    Rto { objective_s: run.rto_s, serve_s: serves, trust_s: trusted, projection: projection(run, told, serves) }
}

fn projection(run: &Run, told: &Told, serve_s: Option<i64>) -> Option<Projection> {
    let durations = told.durations();
    let fetch = durations.iter().find(|(name, _)| *name == "fetch").map(|(_, seconds)| *seconds)?;
    let (bytes_now, bytes_restored) = (run.bytes_now?, number(told, "bytes")?);
    let serve_s = projected(serve_s?, fetch, bytes_restored, bytes_now)?;
    let replayed = replayed(run.plan.as_ref());
    let conditions = vec![
        format!("bundle {}, with the share of its processors that it had", run.bundle),
        "PostgreSQL and pgBackRest are installed: a copy beside the database needs no new server".to_owned(),
        format!("at most {replayed} segments of WAL to replay; more of them take longer"),
    ];
    Some(Projection { bytes_now, bytes_restored, serve_s, conditions })
}

fn replayed(plan: Option<&RestorePlan>) -> u64 {
    plan.map_or(0, |plan| segments(&plan.first_segment, &plan.last_segment))
}

fn number(told: &Told, fact: &str) -> Option<u64> {
    told.fact(fact)?.parse().ok()
}

fn throughput(run: &Run, told: &Told) -> Throughput {
    let fetched_bytes = number(told, "fetched-bytes");
    let fetch_s = told.durations().into_iter().find(|(name, _)| *name == "fetch");
    let fetch_s = fetch_s.and_then(|(_, seconds)| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    Throughput {
        database_bytes: number(told, "bytes"),
        fetched_bytes,
        fetch_bytes_per_s: fetched_bytes.zip(fetch_s).map(|(bytes, seconds)| bytes / seconds),
        segments: replayed(run.plan.as_ref()),
    }
}

/// Those of the server, with what came before and after them.
fn phases(run: &Run, told: &Told) -> Vec<Lasted> {
    if let Some(fresh) = &run.fresh {
        return fresh.phases(run.began, run.ended, told);
    }
    let lasted = |name: &str, seconds: i64| Lasted { name: name.to_owned(), seconds };
    let mut all = Vec::new();
    let first = told.phases.first().map_or(run.ended, |phase| phase.began);
    all.push(lasted("plan", first - run.began));
    all.extend(told.durations().into_iter().map(|(name, seconds)| lasted(name, seconds)));
    if let Some(ended) = told.ended {
        all.push(lasted("remove", run.ended - ended));
    }
    all
}

fn verification(run: &Run, told: &Told) -> Vec<Fact> {
    let known = ["stopped", "replay-end", "archive-end", "timeline", "system-id", "amcheck", "checksums", "leftover"];
    let fact = |fact: &Fact| {
        let number = fact.name.strip_prefix("check-").and_then(|number| number.parse::<usize>().ok());
        match number.and_then(|number| run.checks.get(number.checked_sub(1)?)) {
            Some(check) => Some(Fact { name: format!("{}: {}", check.database, check.sql), value: fact.value.clone() }),
            None => known.contains(&fact.name.as_str()).then(|| fact.clone()),
        }
    };
    told.facts.iter().filter_map(fact).collect()
}

/// What is wrong with the loss that was measured.
fn lost(run: &Run, rpo: &Rpo) -> Vec<Diagnostic> {
    let mut misses = Vec::new();
    let Some(goal) = run.plan.as_ref().map(|plan| &plan.goal) else { return misses };
    if let (Goal::Time(at), Some(to), Some(heartbeat)) = (goal, rpo.measured_to, rpo.heartbeat)
        && heartbeat > to
    {
        let problem = Diagnostic::error("drill-wrong-moment", format!("the copy holds more than `{at}`"));
        misses.push(problem.note(format!("its heartbeat is of {}", moment_of(heartbeat))));
    }
    if !rpo.counts {
        return misses;
    }
    match (rpo.heartbeat, rpo.last_commit) {
        (Some(heartbeat), Some(commit)) if (commit - heartbeat).abs() > HEARTBEAT_S + SLACK_S => misses.push(
            Diagnostic::error("drill-witnesses-disagree", "heartbeat and last transaction do not tell the same loss")
                .note(format!("the heartbeat of the copy is of {}", moment_of(heartbeat)))
                .note(format!("the last transaction that PostgreSQL replayed is of {}", moment_of(commit)))
                .hint("look whether the heartbeat is written every minute: systemctl status seawall-heartbeat.timer"),
        ),
        (Some(_), Some(_)) => {}
        (heartbeat, _) => {
            let what =
                if heartbeat.is_none() { "the copy has no heartbeat row" } else { "no transaction was replayed" };
            misses.push(
                Diagnostic::error("drill-not-measured", format!("the loss was not measured by two witnesses: {what}"))
                    .hint("`seawall plan` shows whether the heartbeat is set up"),
            );
        }
    }
    if let (Some(wanted), Some(lost)) = (rpo.objective_s, rpo.lost_s)
        && i64::try_from(wanted).is_ok_and(|wanted| lost > wanted)
    {
        misses.push(
            Diagnostic::error("drill-rpo", format!("{lost} s would be lost, and the objective is {wanted} s"))
                .hint("`seawall backup list` shows whether WAL arrives, and how late"),
        );
    }
    if let (Some(before), Some(heartbeat)) = (&run.before, rpo.heartbeat)
        && before.heartbeat.is_some_and(|seen| heartbeat <= seen)
    {
        misses.push(
            Diagnostic::error("drill-not-fresh", format!("the copy is no newer than that of `{}`", before.id))
                .note(format!("its heartbeat is of {}", moment_of(heartbeat)))
                .note("the same old data was restored again, or nothing was archived since")
                .hint("`seawall backup list` shows what arrived since"),
        );
    }
    misses
}

fn slow(rto: &Rto) -> Option<Diagnostic> {
    let Some(serve) = rto.serve_s else {
        return Some(
            Diagnostic::error("drill-not-measured", "the server did not tell when the copy was open")
                .hint("`seawall apply` brings the server's programs to this version"),
        );
    };
    let wanted = rto.objective_s.filter(|wanted| i64::try_from(*wanted).is_ok_and(|wanted| serve > wanted))?;
    Some(
        Diagnostic::error("drill-rto", format!("the copy was open after {serve} s, and the objective is {wanted} s"))
            .hint("the phases show what took the time: more frequent backups shorten the replay, a larger bundle the rest"),
    )
}

fn unremoved(run: &Run) -> Option<Diagnostic> {
    if run.cleanup.proven {
        return None;
    }
    let what = if run.fresh.is_some() { "fresh instance" } else { "copy" };
    let problem = Diagnostic::error("drill-not-removed", format!("the {what} of `{}` may still be there", run.id));
    let problem = run.cleanup.left.iter().fold(problem, |problem, left| problem.note(format!("there is {left}")));
    let problem = run.cleanup.unknown.iter().fold(problem, |problem, why| problem.note(why.clone()));
    Some(problem.hint(match run.fresh {
        Some(_) => "what it is costs money until it is gone: seawall drill gc --all".to_owned(),
        None => format!("seawall restore drop {}", run.id),
    }))
}

#[cfg(test)]
pub(crate) mod tests;
