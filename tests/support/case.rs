//! The cases of `tests/kinds/`, read and judged: one file per kind, each a list of cases.
//!
//! A case holds what is wanted, what a place would answer, and what must come of it. Answers that are not listed are
//! "no answer", which a kind must take for unknown. YAML anchors and merge keys keep repeated documents short.

use std::path::{Path, PathBuf};

use seawall::base::address::Address;
use seawall::base::digest::Digest;
use seawall::base::secret::SecretUse;
use seawall::kinds::table::{Entry, Judged, Wanted};
use seawall::kinds::{KINDS, Owned, Owner, programs};
use seawall::plan::Place;
use seawall::plan::change::FieldChange;
use seawall::plan::cloud::{TAG_ADDRESS, TAG_ENVIRONMENT};
use seawall::plan::observed::{Observed, Unseen};
use seawall::plan::probe::{Answers, CloudProbe, CommandState, FileState, HostProbe, Probe, SqlAnswer};
use seawall::plan::remark::Remark;
use seawall::plan::step::Steps;
use serde::Deserialize;
use serde_json::Value;

/// Environment of a case whose desired state does not name one.
const ENVIRONMENT: &str = "test";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    #[serde(rename = "case")]
    pub(crate) name: String,
    pub(crate) desired: Value,
    #[serde(default)]
    cloud: Vec<CloudAnswer>,
    #[serde(default)]
    files: Vec<FileAnswer>,
    #[serde(default)]
    commands: Vec<CommandAnswer>,
    #[serde(default)]
    globs: Vec<GlobAnswer>,
    #[serde(default)]
    secrets: Vec<SecretAnswer>,
    /// Why nothing at all could be asked.
    #[serde(default)]
    pub(crate) unseen: Option<String>,
    #[serde(default)]
    pub(crate) expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloudAnswer {
    probe: CloudProbe,
    answer: Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Absent,
    Unknown(String),
    Present(Value),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAnswer {
    path: String,
    mode: Option<String>,
    owner: Option<String>,
    group: Option<String>,
    text: Option<String>,
    /// In the place of a text, the program of that name, which is the same on every server.
    program: Option<String>,
    #[serde(default)]
    absent: bool,
    unknown: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandAnswer {
    /// The server that a cloud resource asks about.
    server: Option<String>,
    #[serde(default)]
    argv: Vec<String>,
    /// Instead of a command: a question to a database. Its status is psql's, 2 where there was no session.
    sql: Option<Sql>,
    #[serde(default)]
    status: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sql {
    database: String,
    sql: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GlobAnswer {
    pattern: String,
    paths: Vec<String>,
}

/// A secret of the operator's; without a fingerprint it is not to be had here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretAnswer {
    secret: SecretUse,
    fingerprint: Option<String>,
}

/// What must come of a case.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// `no-op`, `create`, `update`, `replace`, `unknown` or `foreign`.
    pub(crate) action: String,
    /// One line per field: `path: before → after`.
    #[serde(default)]
    pub(crate) fields: Vec<String>,
    /// Summaries of the steps.
    #[serde(default)]
    pub(crate) steps: Vec<String>,
    /// What is broken begins with `broken: `.
    #[serde(default)]
    pub(crate) remarks: Vec<String>,
    /// Codes of the reasons for which the change is refused.
    #[serde(default)]
    pub(crate) refusals: Vec<String>,
    /// The steps as JSON, where a case is about their details.
    #[serde(default)]
    pub(crate) detail: Option<Vec<Value>>,
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kinds")
}

pub(crate) fn path(kind: &Entry) -> PathBuf {
    folder().join(format!("{}.yaml", kind.name))
}

/// The cases of one file. `name` is for the message when the text is none.
pub(crate) fn parse(name: &str, text: &str) -> Vec<Case> {
    let mut value: serde_yaml::Value = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    value.apply_merge().unwrap_or_else(|error| panic!("{name}: {error}"));
    // By way of JSON, because probes and state documents have the form of this program's JSON.
    let json = serde_json::to_value(value).unwrap_or_else(|error| panic!("{name}: {error}"));
    let Value::Array(cases) = json else { panic!("{name}: not a list of cases") };
    let read = |case: Value| {
        let title = case["case"].as_str().unwrap_or("a case without a name").to_owned();
        serde_json::from_value(case).unwrap_or_else(|error| panic!("{name}: {title}: {error}"))
    };
    cases.into_iter().map(read).collect()
}

/// Every kind with its cases.
pub(crate) fn all() -> impl Iterator<Item = (&'static Entry, Vec<Case>)> {
    KINDS.iter().map(|kind| {
        let path = path(kind);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (kind, parse(&path.display().to_string(), &text))
    })
}

impl Case {
    pub(crate) fn answers(&self) -> Answers {
        let mut answers = Answers { unseen: self.unseen.clone().map(Unseen::Unreachable), ..Answers::default() };
        for CloudAnswer { probe, answer } in &self.cloud {
            let answer = match answer {
                Answer::Absent => Observed::Absent,
                Answer::Unknown(why) => Observed::Unknown(Unseen::Refused(why.clone())),
                Answer::Present(state) => Observed::Present(state.clone()),
            };
            answers.cloud.insert(probe.clone(), answer);
        }
        for file in &self.files {
            answers.files.insert(file.path.clone(), file.state());
        }
        for command in &self.commands {
            let CommandAnswer { server, argv, sql, status, stdout, stderr } = command;
            if let Some(Sql { database, sql }) = sql.clone() {
                let answer = match status {
                    0 => SqlAnswer::Said(stdout.clone()),
                    1 => SqlAnswer::Failed(stderr.clone()),
                    _ => SqlAnswer::NoSession(stderr.clone()),
                };
                answers.sql.insert((database, sql), answer);
                continue;
            }
            let state = CommandState { status: *status, stdout: stdout.clone(), stderr: stderr.clone() };
            match server {
                Some(server) => drop(answers.on_servers.insert((server.clone(), argv.clone()), Ok(state))),
                None => drop(answers.commands.insert(argv.clone(), state)),
            }
        }
        for GlobAnswer { pattern, paths } in &self.globs {
            let stdout = paths.iter().flat_map(|path| [path.as_str(), "\n"]).collect();
            let state = CommandState { status: 0, stdout, stderr: String::new() };
            answers.globs.insert(pattern.clone(), state);
        }
        for SecretAnswer { secret, fingerprint } in &self.secrets {
            let answer = fingerprint.clone().ok_or_else(|| "it is not set".to_owned());
            answers.secrets.insert(secret.clone(), answer);
        }
        answers
    }

    /// The environment that the desired state names in its tags.
    pub(crate) fn environment(&self) -> &str {
        self.desired["tags"][TAG_ENVIRONMENT].as_str().unwrap_or(ENVIRONMENT)
    }

    pub(crate) fn wanted(&self, kind: &'static Entry) -> Wanted {
        let named = self.desired["address"].as_str().or(self.desired["tags"][TAG_ADDRESS].as_str());
        let address = named.map_or_else(
            || Address::new(kind.name, "db"),
            |text| text.parse().unwrap_or_else(|error| panic!("{}: {error}", self.name)),
        );
        let cloud = ["lightsail.", "s3.", "iam.", "sns.", "cloudwatch."].iter().any(|room| kind.name.starts_with(room));
        let place = if cloud { Place::Cloud } else { Place::Host("db".to_owned()) };
        Wanted { kind, address, place, after: Vec::new(), path: String::new(), desired: self.desired.clone() }
    }

    pub(crate) fn judge(&self, kind: &'static Entry, answers: &Answers) -> Judged {
        (kind.judge)(&self.wanted(kind), self.environment(), answers)
    }

    /// Questions of the kind that this case leaves open.
    pub(crate) fn unanswered(&self, kind: &Entry) -> Vec<Probe> {
        let answers = self.answers();
        let open = |probe: &Probe| match probe {
            Probe::Cloud(probe) => !answers.cloud.contains_key(probe),
            Probe::OnServer { server, argv } => answers.on_server(server, argv).is_err(),
            Probe::Secret(secret) => !answers.secrets.contains_key(secret),
            Probe::Host(HostProbe::File { path }) => !answers.files.contains_key(path),
            Probe::Host(HostProbe::Glob { pattern }) => !answers.globs.contains_key(pattern),
            Probe::Host(HostProbe::Command { argv }) => !answers.commands.contains_key(argv),
            Probe::Host(HostProbe::Sql { database, sql }) => answers.sql(database, sql).is_err(),
        };
        (kind.probes)(&self.desired).into_iter().filter(open).collect()
    }

    /// Answers to questions about the cloud that the kind does not ask: they would say nothing and look as if they did.
    pub(crate) fn unasked(&self, kind: &Entry) -> Vec<CloudProbe> {
        let asked = (kind.probes)(&self.desired);
        let probes = self.cloud.iter().map(|answer| &answer.probe);
        probes.filter(|probe| !asked.contains(&Probe::Cloud((*probe).clone()))).cloned().collect()
    }

    /// What comes of the case, by the engine's reading: absence means create, a field that replaces means replace,
    /// and a difference that cannot be closed here is no change.
    pub(crate) fn outcome(&self, kind: &'static Entry) -> (Expect, Steps) {
        let judged = self.judge(kind, &self.answers());
        let wanted = self.wanted(kind);
        let (action, fields, steps, remarks) = match (&judged.observed, &judged.owner) {
            (Observed::Unknown(_), _) => ("unknown", judged.fields, judged.steps, judged.remarks),
            (Observed::Absent, _) => {
                let creation = (kind.create)(&self.desired);
                ("create", creation.fields, creation.steps, judged.remarks)
            }
            (Observed::Present(_), Owner::Foreign(why)) => {
                ("foreign", Vec::new(), Steps::Cloud(Vec::new()), vec![why.clone().into()])
            }
            (Observed::Present(state), Owner::Ours) if judged.fields.iter().any(|field| field.replaces) => {
                let steps = (kind.replace)(&owned(&wanted, state), &self.desired);
                ("replace", judged.fields, steps, judged.remarks)
            }
            (Observed::Present(_), Owner::Ours) => {
                let open = judged.fields.iter().any(|field| field.limit.is_none());
                let action = if open { "update" } else { "no-op" };
                (action, judged.fields, judged.steps, judged.remarks)
            }
        };
        let expect = Expect {
            action: action.to_owned(),
            fields: fields.iter().map(line).collect(),
            steps: steps.summaries(),
            remarks: remarks.iter().map(words).collect(),
            refusals: judged.refusals.iter().map(|refusal| refusal.code.clone()).collect(),
            detail: self.expect.detail.is_some().then(|| each(&steps)),
        };
        (expect, steps)
    }
}

/// A remark in one line.
fn words(remark: &Remark) -> String {
    if remark.is_broken() { format!("broken: {}", remark.text) } else { remark.text.clone() }
}

impl FileAnswer {
    fn state(&self) -> Observed<FileState> {
        if let Some(why) = &self.unknown {
            return Observed::Unknown(Unseen::Refused(why.clone()));
        }
        if self.absent {
            return Observed::Absent;
        }
        let given = |part: &Option<String>, what: &str| {
            part.clone().unwrap_or_else(|| panic!("{}: a file that is there has {what}", self.path))
        };
        let program = self.program.as_deref().map(|name| match name {
            "certificate" => programs::CERTIFICATE,
            "copy" => programs::COPY,
            "dump" => programs::DUMP,
            "restore" => programs::RESTORE,
            other => panic!("there is no program `{other}`"),
        });
        let known = self.text.as_deref().or(program);
        let text = known.unwrap_or_default();
        Observed::Present(FileState {
            owner: given(&self.owner, "an owner"),
            group: given(&self.group, "a group"),
            mode: given(&self.mode, "a mode"),
            size: text.len() as u64,
            text: known.map(str::to_owned),
            digest: Digest::of_bytes(text.as_bytes()).to_string(),
        })
    }
}

/// A thing that is there, in the form in which kinds remove things.
pub(crate) fn owned(wanted: &Wanted, state: &Value) -> Owned {
    let text = |key: &str| state.get(key).and_then(Value::as_str).map(str::to_owned);
    Owned {
        address: wanted.address.clone(),
        place: wanted.place.clone(),
        name: text("name").unwrap_or_else(|| wanted.address.name().to_owned()),
        arn: text("arn"),
        attached_to: text("attached_to"),
        auto_snapshots: text("auto_snapshot").is_some(),
        record: Some(wanted.desired.clone()),
        protected: false,
    }
}

/// Each step as JSON.
fn each(steps: &Steps) -> Vec<Value> {
    let json = match steps {
        Steps::Cloud(steps) => serde_json::to_value(steps),
        Steps::Host(steps) => serde_json::to_value(steps),
    };
    match json.expect("steps serialise") {
        Value::Array(each) => each,
        other => panic!("{other} is no list"),
    }
}

/// A field as one line.
pub(crate) fn line(field: &FieldChange) -> String {
    let side = |value: &Option<Value>| value.as_ref().map_or_else(|| "(absent)".to_owned(), ToString::to_string);
    let mut line = format!("{}: {} → {}", field.path, side(&field.before), side(&field.after));
    if field.replaces {
        line.push_str(" (replaces)");
    }
    if let Some(limit) = &field.limit {
        line.extend([" (limit: ", limit, ")"]);
    }
    line
}
