//! All questions to a host as one read-only program, and its one framed answer.
//!
//! The answer is `seawall-answers 2 COUNT`, a line `SIZE TIME NAME` for each part, the parts' bytes, and `end`. Lengths, not
//! delimiters: any byte may stand in a part. What is cut, too large, too slow or changed while it was read is left out or
//! `Unknown`; it never becomes half an answer. Deliberately absent: Python, an agent, anything that stays on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::base::digest::Digest;
use crate::base::shell::{quote, quote_all, quote_glob};
use crate::plan::host::Endpoint;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, CommandState, FILE_CONTENT_LIMIT, FileState, HostProbe};
use crate::reach::ssh::error::{HostError, place};
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
/// How much of a question is shown in the log, in characters.
const SHOWN: usize = 160;

impl Ssh {
    /// Asks a host everything at once. What could not be seen is `Unknown` in the answers.
    pub async fn ask(&self, at: &Endpoint, probes: &[HostProbe]) -> Answers {
        if probes.is_empty() {
            return Answers::default();
        }
        let questions = Questions::new(probes);
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
        let mut answers = Answers { files: self.read_files(&parts), ..Answers::default() };
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

    fn read_files(&self, parts: &Parts<'_>) -> BTreeMap<String, Observed<FileState>> {
        let facts = facts(parts.whole("files.stat"));
        let sums = sums(parts.whole("files.sums"));
        let unread = String::from_utf8_lossy(parts.whole("files.unread"));
        let mut missing = String::from_utf8_lossy(parts.whole("files.err")).into_owned();
        if missing.lines().count() != self.files.iter().filter(|path| !facts.contains_key(path.as_bytes())).count() {
            missing = String::new();
        }
        let mut missing = missing.lines();
        let mut text = parts.whole("files.text");
        let mut found = BTreeMap::new();
        for path in &self.files {
            let observed = match facts.get(path.as_bytes()) {
                None => absent(path, missing.next()),
                Some(fact) => match (fact.kind(), sums.get(path.as_bytes())) {
                    (Some(kind), _) => {
                        Observed::Unknown(Unseen::Misread(format!("`{path}` is {kind}: {}", fact.shown)))
                    }
                    (None, None) => {
                        let why =
                            unread.lines().find(|line| line.contains(path.as_str())).unwrap_or("no digest in time");
                        Observed::Unknown(Unseen::Refused(format!("`{path}` could not be read: {why}")))
                    }
                    (None, Some(sum)) => {
                        let length = usize::try_from(fact.size).unwrap_or(usize::MAX).min(FILE_CONTENT_LIMIT + 1);
                        let (content, rest) = text.split_at(length.min(text.len()));
                        text = rest;
                        fact.state(path, sum, content)
                    }
                },
            };
            found.insert(path.clone(), observed);
        }
        found
    }
}

/// What `stat` says about one path.
struct Fact {
    mode: u32,
    bits: String,
    owner: String,
    group: String,
    size: u64,
    /// The quoted name, with the target of a symbolic link.
    shown: String,
}

impl Fact {
    /// What it is, if not a regular file (`st_mode`'s type bits).
    fn kind(&self) -> Option<&'static str> {
        Some(match self.mode & 0o170_000 {
            0o100_000 => return None,
            0o040_000 => "a directory",
            0o120_000 => "a symbolic link",
            0o010_000 => "a pipe",
            0o140_000 => "a socket",
            _ => "a device",
        })
    }

    fn state(&self, path: &str, sum: &str, content: &[u8]) -> Observed<FileState> {
        let small = self.size <= FILE_CONTENT_LIMIT as u64;
        let digest = if small { Digest::of_bytes(content).as_str().to_owned() } else { format!("sha256:{sum}") };
        if digest != format!("sha256:{sum}") {
            return Observed::Unknown(Unseen::Misread(format!(
                "`{path}` (or a file before it) changed while it was read"
            )));
        }
        Observed::Present(FileState {
            owner: self.owner.clone(),
            group: self.group.clone(),
            mode: self.bits.clone(),
            size: self.size,
            text: text(content).filter(|_| small),
            digest,
        })
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| text.to_owned())
}

/// Reads records of seven fields that end in NUL.
fn facts(stat: &[u8]) -> BTreeMap<&[u8], Fact> {
    let fields: Vec<&[u8]> = stat.split(|&byte| byte == 0).collect();
    let word = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    fields
        .chunks_exact(7)
        .filter_map(|record| {
            let fact = Fact {
                mode: u32::from_str_radix(std::str::from_utf8(record[1]).ok()?, 16).ok()?,
                bits: word(record[2]),
                owner: word(record[3]),
                group: word(record[4]),
                size: std::str::from_utf8(record[5]).ok()?.parse().ok()?,
                shown: word(record[6]),
            };
            Some((record[0], fact))
        })
        .collect()
}

/// Reads `HEX  NAME` records that end in NUL.
fn sums(sums: &[u8]) -> BTreeMap<&[u8], &str> {
    sums.split(|&byte| byte == 0)
        .filter_map(|record| {
            let (sum, name) = record.split_at_checked(66)?;
            Some((name, std::str::from_utf8(&sum[..64]).ok()?))
        })
        .collect()
}

/// A path that `stat` did not print, with the line that it wrote about it.
fn absent(path: &str, line: Option<&str>) -> Observed<FileState> {
    match line {
        Some(line) if line.ends_with(": No such file or directory") => Observed::Absent,
        Some(line) if line.ends_with(": Not a directory") => {
            Observed::Unknown(Unseen::Misread(format!("a part of `{path}` before its name is not a directory")))
        }
        Some(line) => Observed::Unknown(Unseen::Refused(line.to_owned())),
        None => Observed::Unknown(Unseen::Misread(format!("`{path}` came or went while it was looked at"))),
    }
}

fn read_made_up(parts: &Parts<'_>, name: &str, path: &str) -> Observed<FileState> {
    let content = parts.get(name, "out").unwrap_or_default();
    if parts.get(name, "ok").is_none() {
        let line = String::from_utf8_lossy(parts.get(name, "err").unwrap_or_default()).into_owned();
        return absent(path, line.lines().next());
    }
    let small = content.len() <= FILE_CONTENT_LIMIT;
    if !small {
        return Observed::Unknown(Unseen::Misread(format!("`{path}` is larger than {FILE_CONTENT_LIMIT} bytes")));
    }
    // Ownership of what the kernel makes up is not configuration; it is root's and says nothing.
    Observed::Present(FileState {
        owner: "root".to_owned(),
        group: "root".to_owned(),
        mode: "444".to_owned(),
        size: content.len() as u64,
        text: text(content),
        digest: Digest::of_bytes(content).as_str().to_owned(),
    })
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
    (show && one).then_some((question, unit))
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

/// What a question took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cost {
    wall_ms: u64,
    cpu_ms: u64,
}

/// Processor time of the programs that a shell waited for, in milliseconds: the second line that `times` prints, such as
/// `0m0.120000s 0m0.030000s`.
fn children_ms(times: &str) -> Option<u64> {
    let ms = |word: &str| {
        let (minutes, seconds) = word.strip_suffix('s')?.split_once('m')?;
        let seconds = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
        Some(minutes.parse::<u64>().ok()? * 60_000 + u64::try_from(seconds.as_millis()).ok()?)
    };
    times.lines().nth(1)?.split_whitespace().map(ms).sum()
}

/// The parts of an answer by name.
struct Parts<'a> {
    bytes: BTreeMap<&'a str, &'a [u8]>,
    /// When each was last written, in nanoseconds.
    times: BTreeMap<&'a str, u64>,
}

impl<'a> Parts<'a> {
    fn read(stream: &'a [u8]) -> Result<Self, String> {
        let (header, mut rest) = line(stream).ok_or("no answer came")?;
        let count: usize =
            header.strip_prefix("seawall-answers 2 ").and_then(|count| count.parse().ok()).ok_or_else(|| {
                format!("something else is printed first, perhaps by a login shell: `{}`", header.escape_debug())
            })?;
        let (mut sizes, mut times) = (Vec::new(), BTreeMap::new());
        for _ in 0..count {
            let (entry, after) = line(rest).ok_or("the answer is cut")?;
            let mut words = entry.splitn(3, ' ');
            let (Some(size), Some(time), Some(name)) = (words.next(), words.next(), words.next()) else {
                return Err("a part has no name".to_owned());
            };
            // Seconds with nine places. A time is for the log only: one that cannot be read is no reason to refuse.
            times.extend(time.replace('.', "").parse::<u64>().ok().map(|time| (name, time)));
            sizes.push((name, size.parse::<usize>().map_err(|error| error.to_string())?));
            rest = after;
        }
        let mut parts = BTreeMap::new();
        for (name, size) in sizes {
            let (part, after) = rest.split_at_checked(size).ok_or("the answer is cut")?;
            parts.insert(name, part);
            rest = after;
        }
        if rest == b"end\n" {
            Ok(Self { bytes: parts, times })
        } else {
            Err("the answer does not end where it should".to_owned())
        }
    }

    fn get(&self, name: &str, part: &str) -> Option<&'a [u8]> {
        self.bytes.get(format!("{name}.{part}").as_str()).copied()
    }

    /// What each question took, by number. A worker's processor time counts all its questions until then.
    fn costs(&self, count: usize) -> Vec<Cost> {
        let at = |number: usize, part: &str| self.times.get(format!("{number}.{part}").as_str()).copied();
        let mut ended: Vec<(u64, usize)> = (0..count).filter_map(|number| Some((at(number, "cpu")?, number))).collect();
        ended.sort_unstable();
        let mut costs = vec![Cost::default(); count];
        let mut until: BTreeMap<String, u64> = BTreeMap::new();
        for (end, number) in ended {
            let text = self.words(&number.to_string(), "cpu");
            let Some((worker, times)) = text.split_once('\n') else { continue };
            let Some(cpu) = children_ms(times) else { continue };
            let before = until.insert(worker.to_owned(), cpu).unwrap_or_default();
            let wall_ms = end.saturating_sub(at(number, "t").unwrap_or(end)) / 1_000_000;
            costs[number] = Cost { wall_ms, cpu_ms: cpu.saturating_sub(before) };
        }
        costs
    }

    fn words(&self, name: &str, part: &str) -> String {
        String::from_utf8_lossy(self.get(name, part).unwrap_or_default()).into_owned()
    }

    /// How a question's program ended, where it did.
    fn status(&self, name: &str) -> Option<i32> {
        self.words(name, "st").trim().parse().ok()
    }

    fn whole(&self, name: &str) -> &'a [u8] {
        self.bytes.get(name).copied().unwrap_or_default()
    }
}

/// The first line as text, and what follows it.
fn line(stream: &[u8]) -> Option<(&str, &[u8])> {
    let end = stream.iter().position(|&byte| byte == b'\n')?;
    Some((std::str::from_utf8(&stream[..end]).ok()?, &stream[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_as_shells_print_it() {
        // dash, and bash as sh.
        assert_eq!(children_ms("0m0.000000s 0m0.000000s\n0m0.120000s 0m0.030000s\n"), Some(150));
        assert_eq!(children_ms("0m0.001s 0m0.002s\n1m2.500s 0m0.001s\n"), Some(62_501));
        assert_eq!(children_ms("0m0.1s\n"), None);
    }

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
        ];
        let questions = Questions::new(&probes);
        assert_eq!(questions.tasks.len(), 4, "{questions:?}");
        let all = |stdout: &str| CommandState { status: 0, stdout: stdout.to_owned(), stderr: String::new() };
        let units = words("one.service two@x.timer");
        let states = by_unit(&all("A=1\nB=\n\nA=\nB=2\n"), &units).expect("two answers");
        assert_eq!((states[0].stdout.as_str(), states[1].stdout.as_str()), ("A=1\nB=\n", "A=\nB=2\n"));
        assert!(by_unit(&all("A=1\nB=\n"), &units).is_err());
    }

    #[test]
    fn a_worker_counts_on() {
        let cpu = |worker: &str, ms: u32| format!("{worker}\n0m0s 0m0s\n0m0.{ms:03}s 0m0s\n");
        let (first, second, other) = (cpu("0", 20), cpu("0", 50), cpu("1", 5));
        let bytes = [("0.cpu", &first), ("1.cpu", &second), ("2.cpu", &other)];
        let times = [("0.t", 1), ("0.cpu", 31), ("1.t", 31), ("1.cpu", 80), ("2.t", 1), ("2.cpu", 7)];
        let parts = Parts {
            bytes: bytes.iter().map(|(name, text)| (*name, text.as_bytes())).collect(),
            times: times.iter().map(|(name, ms)| (*name, ms * 1_000_000)).collect(),
        };
        let cost = |wall_ms, cpu_ms| Cost { wall_ms, cpu_ms };
        assert_eq!(parts.costs(4), [cost(30, 20), cost(49, 30), cost(6, 5), Cost::default()]);
    }
}
