//! `host.jobs`: commands that run on a schedule, as systemd timers, judged by the units that systemd has loaded.
//!
//! A failure is recorded on the host, with how it ended and what was printed last; a run that did not happen is seen by
//! the timer's stamp. Deliberately absent: making users and programs (they are somebody's work, and named when they are
//! missing), and comparing the values of secrets, which a question must not bring back.

mod seen;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::base::secret::{SecretForm, SecretRef};
use crate::inventory::scalar::Name;
use crate::inventory::sections::Inventory;
use crate::inventory::sections::host;
use crate::inventory::words;
use crate::kinds::host::{self as shared, QUICK_S};
use crate::kinds::host_jobs::seen::{Found, Run, Runs, Unit};
use crate::kinds::host_jobs::units::{
    SECRETS, files, is_timer, secrets_path, service, stamp_path, timer, unit_path, wants_path,
};
use crate::kinds::parts::alert;
use crate::kinds::{Declared, Kind, Owned};
use crate::plan::change::{FieldChange, FileDiff};
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FileState, Probe, command};
use crate::plan::remark::Remark;
use crate::plan::step::{Content, HostStep};

const DAEMON_RELOAD: [&str; 2] = ["systemctl", "daemon-reload"];
/// Seconds that a run may be late before it counts as missed: a busy server starts things late.
const LATE_S: u64 = 900;
/// Characters of a failure's last line in a remark; the record on the host has more.
const SHOWN: usize = 160;

/// Checks one unit beside its place. That the program is not there is said elsewhere and is no fault of the unit.
const CHECK: &str = r#"folder=$(mktemp -d) && cp -- "$2" "$folder/$1" || exit 73
said=$(systemd-analyze verify --man=no "$folder/$1" 2>&1 | grep -F -e "$1" | grep -v ' is not executable: ')
rm -rf -- "$folder"
[ -z "$said" ] || { printf '%s\n' "$said"; exit 1; }"#;

/// A value must be one line without single quotes, or systemd would read something else than was meant. The values
/// themselves are not shown.
const CHECK_SECRETS: &str = r#"good=$(grep -c "^[A-Za-z_][A-Za-z0-9_]*='[^']*'\$" "$1")
[ "$good" = "$2" ] && [ "$(grep -vc '^#' "$1")" = "$2" ] && exit
echo "a secret of this job holds a single quote or a line break, which an environment file cannot carry"
exit 1"#;

pub struct HostJobs;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    pub address: Address,
    pub jobs: BTreeMap<String, Job>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Program and arguments.
    pub words: Vec<String>,
    /// As in systemd's `OnCalendar=`.
    pub when: String,
    /// Seconds from one run that is on time to the next, at most.
    pub longest_gap: u64,
    pub user: String,
    /// Seconds.
    pub timeout: u64,
    pub directory: Option<String>,
    pub environment: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, SecretRef>,
}

impl Job {
    fn of(job: &host::Job) -> Self {
        Self {
            // The check of the inventory refuses what cannot be split.
            words: words::split(&job.run).unwrap_or_default(),
            when: job.schedule.on_calendar(),
            longest_gap: job.schedule.longest_gap().seconds(),
            user: job.user.clone(),
            timeout: job.timeout.seconds(),
            directory: job.directory.clone(),
            environment: job.environment.clone(),
            secrets: job.secrets.clone(),
        }
    }

    fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The environment file, as it should be found.
    fn secrets_access(&self) -> String {
        seen::access("600", "root", "root", self.secrets.keys().map(String::as_str))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    /// Everything under our names, by path.
    pub found: BTreeMap<String, Found>,
    pub units: BTreeMap<String, Unit>,
    #[serde(skip)]
    pub runs: Runs,
}

impl Actual {
    fn file(&self, path: &str) -> Option<&FileState> {
        match self.found.get(path) {
            Some(Found::File(state)) => Some(state),
            Some(Found::Secrets(_) | Found::Other(_)) | None => None,
        }
    }

    /// Drop-ins that others put over all units, or all of a family.
    fn overrides(&self) -> BTreeSet<&str> {
        let all = self.units.values().flat_map(|unit| unit.drop_ins.iter().map(String::as_str));
        all.filter(|path| !self.found.contains_key(*path)).collect()
    }
}

fn look(desired: &Desired, answers: &Answers) -> Result<Option<Actual>, Unseen> {
    let found = seen::files(&shared::command(answers, &seen::ask_files(), &[0])?.stdout)?;
    let argv = seen::ask_units(desired);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let units = seen::units(&shared::command(answers, &argv, &[0])?.stdout, desired)?;
    let argv = seen::ask_runs(desired);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let runs = seen::runs(&shared::command(answers, &argv, &[0])?.stdout)?;
    Ok((!found.is_empty()).then_some(Actual { found, units, runs }))
}

/// Whether a path is one of those that are there when all is as wanted.
fn expected(desired: &Desired, path: &str) -> bool {
    let of_job = |(name, job): (&String, &Job)| {
        [unit_path(&service(name)), unit_path(&timer(name)), wants_path(&timer(name))].iter().any(|own| own == path)
            || (!job.secrets.is_empty() && secrets_path(name) == path)
    };
    [alert::SCRIPT, alert::UNIT_PATH].contains(&path) || desired.jobs.iter().any(of_job)
}

/// Whether a difference is closed by making systemd read its files again.
fn needs_reload(field: &FieldChange) -> bool {
    let unit = |path: &str| path.contains("/systemd/");
    field.limit.is_none()
        && (unit(&field.path)
            || [".loaded", ".run", ".user", ".timeout", ".on_failure", ".secrets", ".when", ".starts", ".catches_up"]
                .iter()
                .any(|end| field.path.ends_with(end)))
}

/// The name of a field about a job's unit.
fn field_of(job: &str, unit: &str, what: &str) -> String {
    match what {
        "loaded" if is_timer(unit) => format!("{job}.timer.loaded"),
        _ => format!("{job}.{what}"),
    }
}

impl Kind for HostJobs {
    const NAME: &'static str = "host.jobs";
    const SUMMARY: &'static str = "commands that run on a schedule, with a record of those that failed";
    const EXPLAIN: &'static str = "\
Manages: for each job a service and a timer of systemd (`seawall-job-NAME`), started at boot and judged by what systemd has
loaded: command, user, limit of time, schedule. A run that was missed while the server was off is made up for. No shell
reads the command: put single quotes around what a shell would change. The output is in the journal
(`journalctl -u seawall-job-NAME`). A job cannot gain rights, has a /tmp of its own, and cannot write to /usr, /boot and /etc.

A run that fails is recorded in /var/lib/seawall/alerts, with how it ended and what it printed last; `plan` and `status`
show the newest failure until a run succeeds, and a job that should have run and did not. Nothing is sent to anybody.

Secrets become environment variables by way of a file that only root reads. A value must be one line without single quotes.
Which variables are set is compared, their values are not: to give a job a new value, remove /etc/seawall/jobs/NAME.env and
apply.

Does not manage: users and programs. Those that are missing are named. Units called `seawall-job-…` that the inventory does not
declare, and what was put over a declared one, are removed. The record of failures stays.

    servers:
      db:
        jobs:
          ingest:
            run: /opt/chronos/ingest --status Active
            schedule: daily 06:00
            user: chronos
            timeout: 30m
            environment: { MODE: full }
            secrets:
              API_KEY: { env: CHRONOS_API_KEY }
";

    type Step = HostStep;
    type Desired = Desired;
    type Actual = Actual;

    fn declare(inventory: &Inventory) -> Vec<Declared<Desired>> {
        let servers = inventory.servers.iter().filter(|(_, server)| !server.jobs.is_empty());
        servers
            .map(|(name, server)| {
                let address = Address::new(Self::NAME, name.as_str());
                let jobs = server.jobs.iter().map(|(name, job)| (name.to_string(), Job::of(job))).collect();
                let desired = Desired { address: address.clone(), jobs };
                shared::declared(address, name, &[], "jobs", desired)
            })
            .collect()
    }

    fn probes(desired: &Desired) -> Vec<Probe> {
        let (units, runs) = (seen::ask_units(desired), seen::ask_runs(desired));
        let words = |argv: &[String]| command(&argv.iter().map(String::as_str).collect::<Vec<_>>());
        vec![command(&seen::ask_files()), words(&units), words(&runs)]
    }

    fn read(desired: &Desired, answers: &Answers) -> Observed<Actual> {
        shared::observed(look(desired, answers))
    }

    fn diff(desired: &Desired, actual: &Actual) -> Vec<FieldChange> {
        let Desired { address: _, jobs } = desired;
        let Actual { found, units, runs: _ } = actual;
        let mut fields: Vec<FieldChange> =
            files(desired).iter().filter_map(|file| file.wanted().change(actual.file(&file.path))).collect();
        for (name, job) in jobs.iter().filter(|(_, job)| !job.secrets.is_empty()) {
            let before = match found.get(&secrets_path(name)) {
                Some(Found::Secrets(access)) => Some(access.as_str()),
                Some(Found::File(_) | Found::Other(_)) => Some("no regular file"),
                None => None,
            };
            fields.extend(FieldChange::between(&secrets_path(name), &before, &Some(job.secrets_access())));
        }
        let foreign = found.keys().filter(|path| !expected(desired, path));
        fields.extend(foreign.map(|path| FieldChange::new(path, Some(Value::from("not declared")), None)));
        for (name, job) in jobs {
            for (unit, wanted) in seen::wanted(name, job) {
                let Unit { effect, drop_ins: _, stale, .. } = units.get(&unit).cloned().unwrap_or_default();
                for (what, value) in wanted {
                    let mut before = effect.get(&what).cloned().filter(|text| !text.is_empty());
                    if what == "loaded" && stale {
                        before = before.map(|text| format!("{text}, older than its files"));
                    }
                    let after = Some(value).filter(|text| !text.is_empty());
                    fields.extend(FieldChange::between(&field_of(name, &unit, &what), &before, &after));
                }
            }
        }
        fields
    }

    fn steps(desired: &Desired, actual: Option<&Actual>, fields: &[FieldChange]) -> Vec<HostStep> {
        let mut steps = Vec::new();
        if let Some(actual) = actual {
            steps.extend(clear_away(desired, actual));
        }
        let wanted = files(desired);
        let written: Vec<_> = wanted.iter().filter(|file| shared::differs(fields, &file.path)).collect();
        if written.iter().any(|file| file.path == alert::SCRIPT) {
            steps.push(shared::directory("/usr/local/lib/seawall", "root", "root", "0755"));
        }
        steps.extend(write_secrets(desired, fields));
        for file in written {
            let unit = file.path.rsplit('/').next().unwrap_or_default();
            steps.push(if file.path == alert::SCRIPT {
                file.wanted().step(Some(&["sh", "-n", "{}"]))
            } else {
                file.wanted().step(Some(&["sh", "-c", CHECK, "sh", unit, "{}"]))
            });
        }
        if fields.iter().any(needs_reload) {
            steps.push(shared::run(&DAEMON_RELOAD, QUICK_S, "make systemd read its units again"));
        }
        steps.extend(start(desired, fields));
        steps
    }

    fn doubts(recorded: &Desired) -> Option<String> {
        let odd = recorded.jobs.keys().find(|name| name.parse::<Name>().is_err());
        odd.map(|name| format!("it has a job `{name}`, which is no name of one"))
    }

    fn remove(owned: &Owned) -> Vec<HostStep> {
        let desired = owned.record.clone().and_then(|record| serde_json::from_value::<Desired>(record).ok());
        let names = desired.map(|desired| desired.jobs.into_keys()).into_iter().flatten();
        // As a pattern it may match nothing, which is no error. A run that is under way ends by itself.
        let mut steps =
            vec![shared::run(&["systemctl", "stop", "seawall-job-*.timer"], QUICK_S, "stop the timers of all jobs")];
        for name in names {
            let paths = [
                wants_path(&timer(&name)),
                unit_path(&timer(&name)),
                stamp_path(&timer(&name)),
                unit_path(&service(&name)),
                secrets_path(&name),
            ];
            steps.extend(paths.iter().map(|path| shared::remove_file(path)));
        }
        steps.push(shared::run(&DAEMON_RELOAD, QUICK_S, "make systemd read its units again"));
        steps
    }

    fn describe(desired: &Desired) -> Vec<FieldChange> {
        let mut fields: Vec<FieldChange> =
            files(desired).iter().filter_map(|file| file.wanted().change(None)).collect();
        let new = |path: String, value: String| FieldChange::new(path, None, Some(Value::from(value)));
        for (name, job) in &desired.jobs {
            if !job.secrets.is_empty() {
                fields.push(new(secrets_path(name), job.secrets_access()));
            }
            for (unit, wanted) in seen::wanted(name, job) {
                let effect = wanted.into_iter().filter(|(_, value)| !value.is_empty());
                fields.extend(effect.map(|(what, value)| new(field_of(name, &unit, &what), value)));
            }
        }
        fields
    }

    fn files(desired: &Desired, actual: Option<&Actual>) -> Vec<FileDiff> {
        let before = |path: &str| actual.and_then(|actual| actual.file(path));
        let mut diffs: Vec<FileDiff> =
            files(desired).iter().map(|file| file.wanted().diff(before(&file.path))).collect();
        for (path, found) in actual.iter().flat_map(|actual| &actual.found) {
            if let (Found::File(state), false) = (found, expected(desired, path)) {
                diffs.push(FileDiff { path: path.clone(), before: state.text.clone(), after: None });
            }
        }
        diffs
    }

    fn refusals(_desired: &Desired, actual: &Actual, fields: &[FieldChange]) -> Vec<Diagnostic> {
        // Our own files are as they should be and were read, and yet something else is in effect.
        let of_ours = |field: &FieldChange| field.path.starts_with('/') || is_timer(&field.path);
        let stale = actual.units.values().any(|unit| unit.stale);
        if stale || fields.iter().any(of_ours) {
            return Vec::new();
        }
        let refusal = |path: &str| {
            Diagnostic::error("job-overruled", format!("`{path}` overrules what Seawall sets for a job"))
                .note("systemd reads it after the job's own unit; writing the unit again would change nothing")
                .hint("take out of that file what the fields above differ in, or remove it")
        };
        actual.overrides().into_iter().map(refusal).collect()
    }

    fn remarks(desired: &Desired, actual: &Actual) -> Vec<Remark> {
        let mut remarks = Vec::new();
        for (name, job) in &desired.jobs {
            let run = actual.runs.jobs.get(name).cloned().unwrap_or_default();
            remarks.extend(missing(name, job, &run).into_iter().map(Remark::broken));
            let now = actual.runs.now;
            // A later run, by the timer or by hand, has not failed: its failure would be the newest one.
            let ended_well = actual.units.get(&service(name)).filter(|unit| unit.succeeded).and_then(|unit| unit.ended);
            let since = run.stamp.max(ended_well).unwrap_or(0);
            if let Some(failure) = run.failed.as_ref().filter(|failure| failure.at == 0 || failure.at >= since) {
                remarks.push(Remark::broken(failed(name, failure, now)));
            }
            let missed = run.stamp.filter(|last| now.saturating_sub(*last) > job.longest_gap + job.timeout + LATE_S);
            remarks.extend(missed.map(|last| {
                let (ago, gap) = (words_of(now - last), words_of(job.longest_gap));
                Remark::broken(format!("job `{name}` has not run for {ago}, and should run every {gap} at least"))
            }));
        }
        let overrides = actual.overrides();
        remarks.extend(
            overrides.iter().map(|path| format!("`{path}` changes the units of jobs, too, and is not ours").into()),
        );
        remarks
    }
}

/// What a job needs and does not find.
fn missing(name: &str, job: &Job, run: &Run) -> Vec<String> {
    let program = job.program();
    let mut said = Vec::new();
    if !run.user {
        said.push(format!("job `{name}` runs as `{}`, and there is no such user on this server", job.user));
    }
    match (run.program, run.executable) {
        (false, _) => said.push(format!("job `{name}` runs `{program}`, which is not there")),
        (true, false) => said.push(format!("job `{name}` runs `{program}`, which is not executable")),
        (true, true) => {}
    }
    said
}

fn failed(name: &str, failure: &seen::Failure, now: u64) -> String {
    let how = match failure.result.as_str() {
        "exit-code" => format!("status {}", failure.status),
        "signal" | "core-dump" => format!("ended by signal {}", failure.status),
        "timeout" => "it took longer than its timeout".to_owned(),
        other => other.to_owned(),
    };
    let ago =
        if failure.at == 0 { String::new() } else { format!(" {} ago", words_of(now.saturating_sub(failure.at))) };
    let last: String = failure.lines.last().map_or("it printed nothing", String::as_str).chars().take(SHOWN).collect();
    format!("job `{name}` failed{ago}, {how}: {last}")
}

/// A time for people: its largest unit, rounded down.
fn words_of(seconds: u64) -> String {
    match seconds {
        s if s >= 172_800 => format!("{} d", s / 86_400),
        s if s >= 3_600 => format!("{} h", s / 3_600),
        s if s >= 60 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// Takes away what stands under our names and is not wanted there: undeclared jobs, masks, drop-ins.
fn clear_away(desired: &Desired, actual: &Actual) -> Vec<HostStep> {
    let mut steps = Vec::new();
    for (path, found) in &actual.found {
        let in_the_way = matches!(found, Found::Other(_)) && !path.contains(".wants/");
        if expected(desired, path) && !in_the_way {
            continue;
        }
        let undeclared = path.strip_prefix("/etc/systemd/system/").filter(|unit| is_timer(unit) && !unit.contains('/'));
        if let Some(unit) = undeclared.filter(|_| !expected(desired, path)) {
            // A pattern that matches this name only may match nothing, which is no error: it need not be loaded.
            let pattern = format!("{}[r]", unit.trim_end_matches('r'));
            steps.push(shared::run(&["systemctl", "stop", &pattern], QUICK_S, format!("stop {unit}")));
            steps.push(shared::remove_file(&stamp_path(unit)));
        }
        steps.push(shared::remove_file(path));
    }
    steps
}

fn write_secrets(desired: &Desired, fields: &[FieldChange]) -> Vec<HostStep> {
    let changed = |name: &str| shared::differs(fields, &secrets_path(name));
    let jobs: Vec<_> = desired.jobs.iter().filter(|(name, job)| !job.secrets.is_empty() && changed(name)).collect();
    if jobs.is_empty() {
        return Vec::new();
    }
    let mut steps = vec![
        shared::directory("/etc/seawall", "root", "root", "0755"),
        shared::directory(SECRETS, "root", "root", "0700"),
    ];
    for (name, job) in jobs {
        let mut template =
            format!("# managed by Seawall ({}); changes here are undone by the next apply\n", desired.address);
        for variable in job.secrets.keys() {
            template.extend([variable, "='{{", variable, "}}'\n"]);
        }
        let check = ["sh", "-c", CHECK_SECRETS, "sh", "{}", &job.secrets.len().to_string()].map(str::to_owned);
        steps.push(HostStep::WriteFile {
            path: secrets_path(name),
            owner: "root".to_owned(),
            group: "root".to_owned(),
            mode: "0600".to_owned(),
            content: Content::WithSecrets { template, secrets: shared::uses(&job.secrets, &SecretForm::InQuotes) },
            validate: Some(check.to_vec()),
        });
    }
    steps
}

/// Starts timers, now and at boot. A timer that runs with an old schedule starts again; a job that is running goes on.
fn start(desired: &Desired, fields: &[FieldChange]) -> Vec<HostStep> {
    let of = |name: &str, what: &str| shared::differs(fields, &format!("{name}.{what}"));
    let timers: Vec<String> = desired
        .jobs
        .keys()
        .filter(|name| {
            let effects = ["timer", "timer.loaded", "when", "starts", "catches_up"];
            shared::differs(fields, &unit_path(&timer(name))) || effects.iter().any(|what| of(name, what))
        })
        .map(|name| timer(name))
        .collect();
    if timers.is_empty() {
        return Vec::new();
    }
    let call = |verb: &'static str, what: String| {
        let mut argv = vec!["systemctl", verb, "--"];
        argv.extend(timers.iter().map(String::as_str));
        shared::run(&argv, QUICK_S, what)
    };
    let names = timers.join(", ");
    vec![call("enable", format!("start {names} at boot")), call("restart", format!("start {names}"))]
}
