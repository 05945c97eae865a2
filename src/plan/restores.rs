//! A restore as data: where to, from which backup along which timeline, and what was told on the way.
//!
//! Times are seconds since 1970-01-01 UTC; sizes are bytes. Deliberately absent: a target, set or timeline that is left to
//! pgBackRest or PostgreSQL. By default both follow the newest timeline and end well at the first segment that is missing.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::diag::Diagnostic;
use crate::plan::needs::Needs;

/// Where a restore ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The end of what is archived.
    Latest,
    /// A moment; transactions that committed exactly then are in.
    Time(String),
    /// The end of a backup, by its label.
    Backup(String),
    /// A named restore point (`pg_create_restore_point`); the first of that name after the backup.
    Point(String),
}

/// Which of a server's repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Repository {
    /// The one that every server with backups has.
    #[default]
    First,
    /// The second one, in another bucket.
    Copy,
}

impl Repository {
    /// Options that lead pgBackRest to it, as who may write there.
    pub const fn options(self) -> &'static [&'static str] {
        match self {
            Self::First => &[],
            Self::Copy => &["--config=/etc/pgbackrest/copy.conf", "--config-include-path=/etc/pgbackrest/copy.conf.d"],
        }
    }

    /// What a command of Seawall's has in its words to mean it.
    pub fn option(self) -> &'static str {
        match self {
            Self::First => "",
            Self::Copy => " --copy",
        }
    }

    /// Whether it is the first one, which documents do not name.
    pub fn is_first(&self) -> bool {
        *self == Self::First
    }
}

/// What a restored cluster is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A copy beside the database, to look at and to copy from.
    Beside,
    /// A copy that is verified and removed.
    Drill,
    /// Instead of the server's own data, which is kept aside.
    InPlace,
    /// In the place of the empty data of a throw-away server, which acts on nothing outside of it.
    Rehearsal,
}

impl Purpose {
    /// The word that an order has for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Beside => "beside",
            Self::Drill => "drill",
            Self::InPlace => "in-place",
            Self::Rehearsal => "rehearsal",
        }
    }
}

/// What was decided about a restore before it begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestorePlan {
    /// Names the restore on its server.
    pub name: String,
    pub server: String,
    pub stanza: String,
    pub bucket: String,
    #[serde(default, skip_serializing_if = "Repository::is_first")]
    pub repository: Repository,
    pub purpose: Purpose,
    pub goal: Goal,
    /// Label of the backup that is restored, and those that it needs.
    pub set: String,
    pub chain: Vec<String>,
    /// When that backup ended; nothing earlier can be reached from it.
    pub set_finished: i64,
    /// The timeline that recovery follows.
    pub timeline: u32,
    /// Until when moments along it can be restored; `None` where it is not known.
    pub window_to: Option<i64>,
    /// First segment of WAL that is replayed, and the last that is archived.
    pub first_segment: String,
    pub last_segment: String,
    /// Size of the cluster at the time of the backup.
    pub bytes: Option<u64>,
    /// Seconds that a copy beside the database is kept.
    pub ttl_s: Option<u64>,
    /// What is run once the target is reached.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// What it needs of its server, beside what is there.
    #[serde(default)]
    pub needs: Needs,
    /// What keeps it from being carried out, and what should be known.
    pub findings: Vec<Diagnostic>,
}

/// What was decided about a restore from a logical dump before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DumpPlan {
    pub server: String,
    pub bucket: String,
    pub database: String,
    /// Names the dump, for example `20261121T033000Z`.
    pub stamp: String,
    /// When it was begun: the one moment that it holds.
    pub at: i64,
    /// Its size in the bucket, compressed.
    pub bytes: u64,
    /// Its storage class at S3.
    #[serde(default)]
    pub class: String,
    /// Seconds until it can be read, once S3 is asked for it; `None` where it is read at once.
    #[serde(default)]
    pub thaw_s: Option<u64>,
    /// The new database.
    pub into: String,
}

/// A program that is run against what was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Program and arguments.
    pub run: Vec<String>,
    /// Only where the restored data takes the place of the server's own.
    pub promoted: bool,
    pub database: String,
    /// User of the server, and role of the database.
    pub user: String,
    /// Seconds after which it is ended.
    pub limit_s: u64,
}

/// What a restore has told so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Each part of the work with the second in which it began.
    pub phases: Vec<Phase>,
    /// What was measured or read, in the order in which it was told.
    pub facts: Vec<Fact>,
    /// What must be known and keeps nothing from being used.
    pub remarks: Vec<String>,
    pub end: Option<End>,
    /// When the end was told.
    pub ended: Option<i64>,
}

/// A part of the work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub name: String,
    pub began: i64,
}

/// For example `last-commit`, `2026-11-26 23:48:16.397738+00`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    pub name: String,
    pub value: String,
}

/// How far a restore got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// At its target, proven, and running.
    Ready,
    /// At its target, proven, and ended as it should.
    Finished,
    /// Not at its target.
    Failed { code: String, why: String },
    /// Somebody ended it.
    Interrupted,
    /// Its time was over.
    Over,
}

/// A restore that is on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    pub name: String,
    pub purpose: String,
    pub ordered: i64,
    /// Whether its PostgreSQL runs.
    pub is_running: bool,
    pub bytes: u64,
    /// What it told last, in words.
    pub last: String,
}

impl Told {
    /// Reads the lines of `restore told`: `SECONDS WORD…`. What is not known is passed over: a newer program on the host may say more.
    pub fn read(text: &str) -> Self {
        let mut told = Self::default();
        for line in text.lines() {
            let Some((time, rest)) = line.split_once(' ') else { continue };
            let Ok(time) = time.parse::<i64>() else { continue };
            let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
            let end = match word {
                "ready" => Some(End::Ready),
                "finished" => Some(End::Finished),
                "failed" => Some(End::Failed { code: first.to_owned(), why: more.to_owned() }),
                // What was told to end after it failed has failed.
                "interrupted" if !matches!(told.end, Some(End::Failed { .. })) => Some(End::Interrupted),
                "over" => Some(End::Over),
                _ => None,
            };
            if end.is_some() {
                (told.end, told.ended) = (end, Some(time));
            }
            match word {
                "phase" => told.phases.push(Phase { name: first.to_owned(), began: time }),
                "fact" => told.facts.push(Fact { name: first.to_owned(), value: more.to_owned() }),
                "remark" => told.remarks.push(more.to_owned()),
                _ => {}
            }
        }
        told
    }

    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|fact| fact.name == name).map(|fact| fact.value.as_str())
    }

    /// When the newest transaction that came back was committed, by the heartbeat or by PostgreSQL's own word, whichever is later.
    pub fn newest_commit(&self) -> Option<i64> {
        let second = |name: &str| {
            let text = self.fact(name)?;
            // PostgreSQL writes `+00` for what others write as `+00:00`.
            format!("{text}:00").parse::<Timestamp>().ok().map(Timestamp::as_second)
        };
        second("heartbeat").max(second("last-commit"))
    }

    /// Each phase with its seconds; the last one lasts until the end that was told.
    pub fn durations(&self) -> Vec<(&str, i64)> {
        let ends = self.phases.iter().skip(1).map(|phase| phase.began).chain(self.ended);
        self.phases.iter().zip(ends).map(|(phase, end)| (phase.name.as_str(), end - phase.began)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_unknown_ones_passed_over() {
        let told = Told::read(
            "100 order beside 20261126-234813F 1 latest \n100 phase check\n101 fact archive-end 000000010000000000000004\n\
             105 phase replay\n106 remark collation database app was sorted\n107 news of a newer program\nnonsense\n109 ready\n",
        );
        assert_eq!(told.durations(), [("check", 5), ("replay", 4)]);
        assert_eq!(told.fact("archive-end"), Some("000000010000000000000004"));
        assert_eq!(told.remarks, ["database app was sorted"]);
        assert_eq!(told.newest_commit(), None);
        let told = Told::read(
            "1 fact last-commit 2026-11-26 23:48:16.397738+00\n2 fact heartbeat 2026-11-26 23:48:10.927418+00\n",
        );
        assert_eq!(told.newest_commit(), Some(1_795_736_896));
        let told = Told::read("100 phase check\n105 phase replay\n109 ready\n");
        assert_eq!((told.end, told.ended), (Some(End::Ready), Some(109)));
    }

    #[test]
    fn a_failure_stays_one() {
        let told = Told::read("1 phase check\n2 failed no-room the restore needs 9 MB\n3 interrupted\n");
        assert_eq!(
            told.end,
            Some(End::Failed { code: "no-room".to_owned(), why: "the restore needs 9 MB".to_owned() })
        );
        assert_eq!(Told::read("1 phase fetch\n2 interrupted\n").end, Some(End::Interrupted));
        assert_eq!(Told::read("").end, None, "nothing was told: nothing is known");
    }
}
