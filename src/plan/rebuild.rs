//! A rebuild as data: its steps on one clock, what was restored, and what that came to against the objectives.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::diag::Diagnostic;
use crate::plan::restores::{Repository, RestorePlan, Told};

/// A part of the work, with the second in which it began, since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub name: String,
    pub began: i64,
}

/// How far a rebuild is, for whoever runs it again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// Names the restore on the new server, too.
    pub id: String,
    /// When the clock began, in seconds since 1970.
    pub begun: i64,
    pub by: String,
    /// Which repository is read.
    #[serde(default)]
    pub repository: Repository,
    pub fenced: bool,
    /// Instances of the old server that are stopped and kept.
    #[serde(default)]
    pub kept: Vec<String>,
    /// What was restored, and what it told.
    pub restored: Option<(RestorePlan, Told)>,
    pub accepted: bool,
    pub finished: bool,
    pub steps: Vec<Step>,
}

/// A rebuild that came to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rebuilt {
    pub id: String,
    /// When the clock began: with the command, also where a run that was killed was run again.
    pub begun: i64,
    pub ended: i64,
    pub steps: Vec<Step>,
    pub plan: RestorePlan,
    pub told: Told,
    /// Seconds from the beginning to the end, and what was wanted.
    pub took_s: i64,
    pub wanted_s: Option<u64>,
    /// Seconds that lie between the newest commit that came back and the beginning of the rebuild. The loss is smaller by as much as
    /// time went by between the loss of the server and the command.
    pub behind_s: Option<i64>,
    pub rpo_wanted_s: Option<u64>,
    /// Instances of the old server that are stopped and kept.
    pub kept: Vec<String>,
    pub misses: Vec<Diagnostic>,
}

impl Rebuilt {
    /// Puts it together and judges it. `objectives` are the seconds for the rebuild and the RPO.
    pub fn new(
        ledger: &Ledger,
        ended: i64,
        plan: RestorePlan,
        told: Told,
        objectives: (Option<u64>, Option<u64>),
    ) -> Self {
        let Ledger { id, begun, steps, kept, .. } = ledger.clone();
        let took_s = ended - begun;
        let newest = told.newest_commit();
        let mut report = Self {
            id,
            begun,
            ended,
            steps,
            plan,
            told,
            took_s,
            wanted_s: objectives.0,
            behind_s: newest.map(|second| begun - second),
            rpo_wanted_s: objectives.1,
            kept,
            misses: Vec::new(),
        };
        let seconds = u64::try_from(took_s).unwrap_or(0);
        if let Some(wanted) = objectives.0.filter(|wanted| seconds > *wanted) {
            report.misses.push(Diagnostic::error(
                "rebuild-too-slow",
                format!("the rebuild took {seconds} s, and {wanted} s are the objective"),
            ));
        }
        report
    }

    /// Each step with its seconds.
    pub fn durations(&self) -> Vec<(&str, i64)> {
        let ends = self.steps.iter().skip(1).map(|step| step.began).chain([self.ended]);
        self.steps.iter().zip(ends).map(|(step, end)| (step.name.as_str(), end - step.began)).collect()
    }
}
