//! All questions to a host as one read-only program, and its one framed answer.
//!
//! The answer is `seawall-answers 2 COUNT`, a line `SIZE TIME NAME` for each part, the parts' bytes, and `end`. Lengths, not
//! delimiters: any byte may stand in a part. What is cut, too large, too slow or changed while it was read is left out or
//! `Unknown`; it never becomes half an answer. Deliberately absent: Python, an agent, anything that stays on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::base::shell::{quote, quote_all, quote_glob};
use crate::plan::host::Endpoint;
use crate::plan::observed::Unseen;
use crate::plan::probe::{Answers, CommandState, FILE_CONTENT_LIMIT, HostProbe};
use crate::reach::ssh::error::{HostError, place};
use crate::reach::ssh::files::{read_files, read_made_up};
use crate::reach::ssh::frame::{Cost, Parts};
use crate::reach::ssh::limits::{COMMAND_LIMIT_S, OUTPUT_LIMIT, TIMED_OUT};
use crate::reach::ssh::session::{Limit, Ssh};
use crate::reach::ssh::sql;

/// The fixed part of the program.
const PRELUDE: &str = include_str!("ask.sh");
/// How much of a command's error output is kept, in bytes: the reason stands in its first lines.
pub const STDERR_LIMIT: usize = 16 * 1024;
/// Questions that are answered side by side: enough to overlap waiting, few enough for a server with one core and 1 GB.
const SIDE_BY_SIDE: usize = 6;
/// Longest time for the whole program. Commands that all run into their limit would fill it with 42 of them.
const PROGRAM_LIMIT: Duration = Duration::from_secs(70);
/// Largest whole answer, in bytes; 100 files and 100 commands at their limits stay under it.
const ANSWER_LIMIT: u64 = 64 * 1024 * 1024;
/// How long a host is asked again while a daemon is on its way up or down, and the pause between. A host that has just
/// booted, and PostgreSQL after a crash, are neither as wanted nor different from it.
const SETTLING: Duration = Duration::from_secs(20);
const SETTLING_PAUSE: Duration = Duration::from_millis(500);
/// How much of a question is shown in the log, in characters.
const SHOWN: usize = 160;

impl Ssh {
    /// Asks a host everything at once, and again as long as a daemon is starting or stopping, for [`SETTLING`] at most. What
    /// could not be seen is `Unknown` in the answers.
    pub async fn ask(&self, at: &Endpoint, probes: &[HostProbe]) -> Answers {
        if probes.is_empty() {
            return Answers::default();
        }
        let questions = Questions::new(probes);
        let begun = Instant::now();
        loop {
            let answers = self.ask_once(at, &questions).await;
            match unsettled(&answers) {
                Some(question) if begun.elapsed() < SETTLING => {
                    tracing::debug!(server = at.server, question, "on its way up or down: asked again");
                    tokio::time::sleep(SETTLING_PAUSE).await;
                }
                _ => return answers,
            }
        }
    }

    async fn ask_once(&self, at: &Endpoint, questions: &Questions) -> Answers {
        let limit = Limit { time: PROGRAM_LIMIT, bytes: ANSWER_LIMIT };
        let (program, begun) = (questions.program(), Instant::now());
        let printed = match self.run_again(at, &program, &[], limit).await {
            Ok(printed) => printed,
            Err(error) => return Answers::unseen(Unseen::from(&error)),
        };
        tracing::debug!(
            server = at.server,
            ms = begun.elapsed().as_millis(),
            programs = questions.tasks.len(),
            sent = program.len(),
            received = printed.stdout.len(),
            "asked a host everything at once"
        );
        questions.decode(&printed.stdout).unwrap_or_else(|why| {
            let said = printed.stderr.lines().next().unwrap_or_default();
            let why = format!("{why} (status {}) {said}", printed.status);
            Answers::unseen(Unseen::from(&HostError::Misread { at: place(at), why }))
        })
    }
}

/// The question whose answer is that a daemon is on its way up or down. Only daemons are asked `is-active` or for the time of
/// their last change of state; a program that runs once is "activating" for as long as it runs, a backup for hours.
fn unsettled(answers: &Answers) -> Option<String> {
    const PASSING: [&str; 4] = ["activating", "deactivating", "reloading", "refreshing"];
    let passing = |line: &str| {
        let state = line.strip_prefix("ActiveState=").unwrap_or(line);
        PASSING.contains(&state)
    };
    let of_daemon = |argv: &[String], state: &CommandState| {
        argv.first().is_some_and(|program| program == "systemctl")
            && (argv.get(1).is_some_and(|verb| verb == "is-active") || state.stdout.contains("StateChangeTimestamp="))
    };
    let mut commands = answers.commands.iter();
    let passes = |state: &CommandState| state.stdout.lines().any(passing);
    commands.find(|(argv, state)| of_daemon(argv, state) && passes(state)).map(|(argv, _)| argv.join(" "))
}

/// What takes a program to answer.
#[derive(Debug)]
enum Task {
    Command(Vec<String>),
    /// The same properties of several units of systemd, each asked for by a command of its own: one program for all of them.
    Units {
        /// The command without its last word.
        question: Vec<String>,
        units: Vec<String>,
    },
    /// All statements to one database.
    Session {
        database: String,
        statements: Vec<String>,
    },
}

impl Task {
    /// The call of its function in the program.
    fn call(&self, number: usize) -> String {
        const NO_NUL: &str = "questions with NUL were left out";
        match self {
            Self::Command(argv) => format!("cmd {number} {}", quote_all(argv).expect(NO_NUL)),
            Self::Units { question, units } => {
                format!("cmd {number} {} {}", quote_all(question).expect(NO_NUL), quote_all(units).expect(NO_NUL))
            }
            Self::Session { database, statements } => {
                let words = quote_all(&[sql::session(database), sql::script(statements)]).expect(NO_NUL);
                format!("sql {number} {} {words}", statements.len())
            }
        }
    }

    /// For the log, on one line.
    fn shown(&self) -> String {
        let text = match self {
            Self::Command(argv) => argv.join(" "),
            Self::Units { question, units } => format!("{} {}", question.join(" "), units.join(" ")),
            Self::Session { database, statements } => format!("{} questions to database {database}", statements.len()),
        };
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        line.chars().take(SHOWN).collect()
    }
}

/// The questions of one round trip, each once, in order: an answer is found by its position.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    files: Vec<String>,
    /// Files below `/proc` and `/sys`, whose size is not known before they are read.
    made_up: Vec<String>,
    globs: Vec<String>,
    /// What takes a program each, in the order in which they are begun.
    tasks: Vec<Task>,
}

impl Questions {
    pub(crate) fn new(probes: &[HostProbe]) -> Self {
        let mut questions = Self::default();
        let mut sessions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut properties: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for probe in probes.iter().collect::<BTreeSet<_>>() {
            match probe {
                // Relative paths and NUL cannot be asked; they stay without an answer, which reads as Unknown.
                HostProbe::File { path } if !path.starts_with('/') || path.contains('\0') => {}
                HostProbe::File { path } if path.starts_with("/proc/") || path.starts_with("/sys/") => {
                    questions.made_up.push(path.clone());
                }
                HostProbe::File { path } => questions.files.push(path.clone()),
                HostProbe::Glob { pattern } if pattern.contains('\0') => {}
                HostProbe::Glob { pattern } => questions.globs.push(pattern.clone()),
                HostProbe::Command { argv } if argv.is_empty() || argv.iter().any(|word| word.contains('\0')) => {}
                HostProbe::Command { argv } => match unit_of(argv) {
                    Some((question, unit)) => properties.entry(question.to_vec()).or_default().push(unit.clone()),
                    None => questions.tasks.push(Task::Command(argv.clone())),
                },
                HostProbe::Sql { database, sql } if database.contains('\0') || sql.contains('\0') => {}
                HostProbe::Sql { database, sql } => {
                    sessions.entry(database.clone()).or_default().push(sql.clone());
                }
            }
        }
        let sessions = sessions.into_iter().map(|(database, statements)| Task::Session { database, statements });
        questions.tasks.extend(sessions);
        questions.tasks.extend(properties.into_iter().map(|(question, units)| Task::Units { question, units }));
        // The longest questions are begun first: what needs a script takes longer than what needs a word, and whatever is begun
        // last is waited for.
        questions.tasks.sort_by_key(|task| std::cmp::Reverse(task.call(0).len()));
        questions
    }

    /// The program that answers them.
    pub(crate) fn program(&self) -> String {
        self.program_within(COMMAND_LIMIT_S)
    }

    /// The program, with another limit for each command.
    pub(crate) fn program_within(&self, command_limit_s: u32) -> String {
        let mut text = format!(
            "command_limit={command_limit_s} session_limit={} stderr_bytes={STDERR_LIMIT} output_bytes={} file_bytes={}\n{PRELUDE}question() {{\ncase $1 in\n",
            sql::SESSION_LIMIT_S,
            OUTPUT_LIMIT + 1,
            FILE_CONTENT_LIMIT + 1,
        );
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        for (number, task) in self.tasks.iter().enumerate() {
            line(format!("{number}) {} ;;", task.call(number)));
        }
        line("esac\n}".to_owned());
        for worker in 0..SIDE_BY_SIDE.min(self.tasks.len()) {
            line(format!("worker {worker} {} &", self.tasks.len()));
        }
        // Files are read meanwhile.
        self.file_lines(&mut line);
        line("wait\nanswer".to_owned());
        text
    }

    fn file_lines(&self, line: &mut impl FnMut(String)) {
        const NO_NUL: &str = "questions with NUL were left out";
        if !self.files.is_empty() {
            line(format!("files {}", quote_all(&self.files).expect(NO_NUL)));
        }
        for (number, path) in self.made_up.iter().enumerate() {
            line(format!("made_up v{number:05} {}", quote(path).expect(NO_NUL)));
        }
        for (number, pattern) in self.globs.iter().enumerate() {
            line(format!("glob g{number:05} {}", quote_glob(pattern).expect(NO_NUL)));
        }
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// What is wrong with its frame; nothing of such an answer is used.
    pub(crate) fn decode(&self, stream: &[u8]) -> Result<Answers, String> {
        let parts = Parts::read(stream)?;
        for (task, Cost { wall_ms, cpu_ms }) in self.tasks.iter().zip(parts.costs(self.tasks.len())) {
            tracing::debug!(ms = wall_ms, cpu_ms, question = task.shown(), "asked a host");
        }
        let mut answers = Answers { files: read_files(&self.files, &parts), ..Answers::default() };
        for (number, path) in self.made_up.iter().enumerate() {
            answers.files.insert(path.clone(), read_made_up(&parts, &format!("v{number:05}"), path));
        }
        for (number, pattern) in self.globs.iter().enumerate() {
            let name = format!("g{number:05}");
            let odd = parts.get(&name, "odd").is_some() || parts.get(&name, "ok").is_none();
            let text = parts.get(&name, "out").and_then(|bytes| std::str::from_utf8(bytes).ok());
            let Some(text) = text.filter(|_| !odd) else {
                tracing::warn!(pattern, "a name that matches holds a newline or is not text");
                continue;
            };
            let state = CommandState { status: 0, stdout: text.to_owned(), stderr: String::new() };
            answers.globs.insert(pattern.clone(), state);
        }
        for (number, task) in self.tasks.iter().enumerate() {
            let part = number.to_string();
            match task {
                Task::Command(argv) => match read_command(&parts, &part) {
                    Ok(state) => drop(answers.commands.insert(argv.clone(), state)),
                    Err(why) => tracing::warn!(command = task.shown(), why, "a command gave no answer"),
                },
                Task::Units { question, units } => match read_command(&parts, &part)
                    .and_then(|all| by_unit(&all, units))
                {
                    Ok(states) => {
                        for (unit, state) in units.iter().zip(states) {
                            answers.commands.insert([question.as_slice(), std::slice::from_ref(unit)].concat(), state);
                        }
                    }
                    Err(why) => tracing::warn!(command = task.shown(), why, "a command gave no answer"),
                },
                Task::Session { database, statements } => {
                    let stdout = parts.get(&part, "out").unwrap_or_default();
                    let read = sql::read(statements.len(), parts.status(&part), stdout, &parts.words(&part, "err"));
                    for (index, (statement, answer)) in statements.iter().zip(read.answers).enumerate() {
                        let took = read.took.get(&index).map_or("-", String::as_str);
                        tracing::debug!(database, took, statement = first_words(statement), "asked a database");
                        match answer {
                            Ok(answer) => drop(answers.sql.insert((database.clone(), statement.clone()), answer)),
                            Err(why) => tracing::warn!(
                                database,
                                statement = first_words(statement),
                                why,
                                "a database gave no answer"
                            ),
                        }
                    }
                }
            }
        }
        Ok(answers)
    }
}

fn read_command(parts: &Parts<'_>, name: &str) -> Result<CommandState, String> {
    let status = parts.status(name).ok_or("it did not end")?;
    let stdout = parts.get(name, "out").unwrap_or_default();
    if TIMED_OUT.contains(&status) {
        return Err(format!("it took longer than {COMMAND_LIMIT_S} s"));
    }
    if stdout.len() > OUTPUT_LIMIT {
        return Err(format!("it printed more than {OUTPUT_LIMIT} bytes"));
    }
    let stderr = parts.get(name, "err").unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr[..stderr.len().min(STDERR_LIMIT)]).into_owned();
    Ok(CommandState { status, stdout: String::from_utf8_lossy(stdout).into_owned(), stderr })
}

/// A command that asks systemd for properties of one unit, as question and unit. `systemctl show` says the same about a unit
/// whether or not others are asked about beside it; its other verbs have one status for all of them.
fn unit_of(argv: &[String]) -> Option<(&[String], &String)> {
    let (unit, question) = argv.split_last()?;
    let show = question.len() > 2 && question[..2] == ["systemctl", "show"];
    // A pattern would match units of others, and a template has no state: asking about it fails, for its neighbours too.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | ':' | '\\');
    let one = unit.contains('.') && !unit.contains("@.") && !unit.starts_with('-') && unit.chars().all(plain);
    // A question about several units already is one question of its kind, with one answer.
    let before = |index: usize| question.get(index + 1).map(String::as_str);
    let options = question.iter().skip(2).enumerate().all(|(i, word)| word.starts_with('-') || before(i) == Some("-p"));
    (show && one && options).then_some((question, unit))
}

/// The answer about several units as one about each: systemd puts an empty line between them.
fn by_unit(all: &CommandState, units: &[String]) -> Result<Vec<CommandState>, String> {
    if !all.ok() {
        return Ok(vec![all.clone(); units.len()]);
    }
    let texts: Vec<&str> = all.stdout.trim_end_matches('\n').split("\n\n").collect();
    if texts.len() != units.len() {
        return Err(format!("it told of {} units, asked about {}", texts.len(), units.len()));
    }
    let state = |text: &&str| CommandState { status: 0, stdout: format!("{text}\n"), stderr: all.stderr.clone() };
    Ok(texts.iter().map(state).collect())
}

/// The beginning of a statement, for the log.
fn first_words(statement: &str) -> String {
    statement.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn units_share_a_program_and_keep_their_answers() {
        let ask = |text: &str| HostProbe::Command { argv: words(text) };
        let probes = [
            ask("systemctl show -p A,B one.service"),
            ask("systemctl show -p A,B two@x.timer"),
            ask("systemctl show -p A *.service"),
            ask("systemctl show -p A,B three@.service"),
            ask("systemctl is-active one.service"),
            ask("systemctl show -p A,B -- one.service two.service"),
        ];
        let questions = Questions::new(&probes);
        assert_eq!(questions.tasks.len(), 5, "{questions:?}");
        let all = |stdout: &str| CommandState { status: 0, stdout: stdout.to_owned(), stderr: String::new() };
        let units = words("one.service two@x.timer");
        let states = by_unit(&all("A=1\nB=\n\nA=\nB=2\n"), &units).expect("two answers");
        assert_eq!((states[0].stdout.as_str(), states[1].stdout.as_str()), ("A=1\nB=\n", "A=\nB=2\n"));
        assert!(by_unit(&all("A=1\nB=\n"), &units).is_err());
    }
    #[test]
    fn a_daemon_on_its_way_up_is_asked_again_and_a_backup_that_runs_is_not() {
        let after = |argv: &str, stdout: &str| {
            let mut answers = Answers::default();
            let state = CommandState { status: 3, stdout: stdout.to_owned(), stderr: String::new() };
            answers.commands.insert(words(argv), state);
            unsettled(&answers).is_some()
        };
        assert!(after("systemctl is-active postgresql@15-main.service", "activating\n"));
        assert!(after("systemctl show -p A ssh.service", "ActiveState=reloading\nStateChangeTimestamp=@1\n"));
        for settled in ["active\n", "failed\n", "inactive\n", ""] {
            assert!(!after("systemctl is-active postgresql@15-main.service", settled));
        }
        assert!(!after(
            "systemctl show -p A seawall-backup@full.service",
            "LoadState=loaded\nActiveState=activating\n"
        ));
        assert!(!after("echo activating", "activating\n"));
    }
}
