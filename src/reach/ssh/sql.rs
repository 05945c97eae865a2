//! All questions to one database as one script for psql, and what it prints.
//!
//! Every answer is `NUMBER ROW NUL`, or `NUMBER !MESSAGE NUL` where the statement failed; after each comes a line with its
//! time. PostgreSQL's texts cannot hold NUL and JSON begins with neither a digit and a space nor `!`, so what a database
//! holds cannot pass for a frame. Statements stand on their own: one that fails changes nothing for those after it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::plan::probe::SqlAnswer;
use crate::plan::session::options;
use crate::reach::ssh::limits::{COMMAND_LIMIT_S, OUTPUT_LIMIT, TIMED_OUT};

/// Where Debian's cluster has its socket, and the port in the socket's name.
const SOCKET: &str = "host=/var/run/postgresql port=5432";
/// Longest time for all questions to one database, in seconds: room for three that run into their own limit. What comes
/// after is not answered.
pub(crate) const SESSION_LIMIT_S: u32 = 3 * COMMAND_LIMIT_S;

/// What a session that only asks fixes besides: it cannot write, and waits for nothing for long.
const ASKING: [&str; 3] = ["default_transaction_read_only=on", "statement_timeout=8s", "lock_timeout=2s"];

/// Settings that older versions refuse at the start of a session, by the version that brought them. Where already the first
/// statement fails, every statement would, and there is no session: an extension's library may be gone.
const NEWER: &str = "\
\\set ON_ERROR_STOP on
select :SERVER_VERSION_NUM >= 140000 as has_14, :SERVER_VERSION_NUM >= 170000 as has_17 \\gset
\\set ON_ERROR_STOP off
\\if :has_14
set idle_session_timeout = 0;
\\endif
\\if :has_17
set transaction_timeout = 0;
\\endif
\\timing on
";

/// How psql connects. It ends with the options, to which the host adds what its server's version has.
pub(crate) fn session(database: &str) -> String {
    let name = database.replace('\\', "\\\\").replace('\'', "\\'");
    let options = options(None, &ASKING);
    format!("{SOCKET} user=postgres dbname='{name}' connect_timeout=5 application_name=seawall options='{options}'")
}

/// What psql reads.
pub(crate) fn script(statements: &[String]) -> String {
    let mut text = NEWER.to_owned();
    for (number, statement) in statements.iter().enumerate() {
        write!(
            text,
            "\\echo -n '{number} '\n{statement}\n;\n\\if :ERROR\n\\echo -n !\nselect :'LAST_ERROR_MESSAGE';\n\\endif\n"
        )
        .expect("writing to a String does not fail");
    }
    text
}

/// What came of a session.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answered {
    /// Statement to answer, or why there is none.
    pub(crate) answers: Vec<Result<SqlAnswer, String>>,
    /// Statement to its time as psql says it, for example `1.461 ms`.
    pub(crate) took: BTreeMap<usize, String>,
}

/// Reads what psql printed about `count` statements.
pub(crate) fn read(count: usize, status: Option<i32>, stdout: &[u8], stderr: &str) -> Answered {
    let (found, took) = match frames(&String::from_utf8_lossy(stdout)) {
        Ok(read) => read,
        Err(why) => return Answered { answers: vec![Err(why); count], took: BTreeMap::new() },
    };
    let none = found.is_empty();
    let missing = || match status {
        None => Err("the session did not end".to_owned()),
        Some(status) if TIMED_OUT.contains(&status) => {
            Err(format!("all questions to its database took longer than {SESSION_LIMIT_S} s"))
        }
        Some(0) => Err("it gave no row".to_owned()),
        Some(_) if none => Ok(SqlAnswer::NoSession(stderr.to_owned())),
        Some(_) => Err(format!("the session was lost: {}", stderr.lines().last().unwrap_or_default())),
    };
    let mut found = found.into_iter();
    let answers = (0..count).map(|_| match found.next() {
        Some(SqlAnswer::Said(row)) if row.len() > OUTPUT_LIMIT => {
            Err(format!("it printed more than {OUTPUT_LIMIT} bytes"))
        }
        Some(answer) => Ok(answer),
        None => missing(),
    });
    Answered { answers: answers.collect(), took }
}

/// The answers in the order of the statements, and their times.
fn frames(text: &str) -> Result<(Vec<SqlAnswer>, BTreeMap<usize, String>), String> {
    let (mut answers, mut took) = (Vec::new(), BTreeMap::new());
    let (mut rest, mut open) = (text, false);
    while !rest.is_empty() {
        if let Some(line) = rest.strip_prefix("Time: ") {
            let Some((time, after)) = line.split_once('\n') else { break };
            let number = if open { answers.len() } else { answers.len().saturating_sub(1) };
            took.entry(number).or_insert_with(|| time.to_owned());
            rest = after;
        } else if open {
            // What ends without NUL was cut by the session's end.
            let Some((record, after)) = rest.split_once('\0') else { break };
            answers.push(match record.strip_prefix('!') {
                Some(message) => SqlAnswer::Failed(message.to_owned()),
                None => SqlAnswer::Said(record.to_owned()),
            });
            (rest, open) = (after, false);
        } else {
            let number = rest.split_once(' ').filter(|(number, _)| number.parse() == Ok(answers.len()));
            let (_, after) = number.ok_or("psql printed something that is no answer")?;
            (rest, open) = (after, true);
        }
    }
    Ok((answers, took))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::session::NEWER as NEWER_SETTINGS;

    fn said(text: &str) -> SqlAnswer {
        SqlAnswer::Said(text.to_owned())
    }

    #[test]
    fn one_that_fails_is_told_from_those_around_it() {
        // As psql 15 prints it.
        let stdout = "0 {\"n\" : \"a\\nb\"}\0Time: 1.461 ms\n1 Time: 0.157 ms\n!division by zero\0Time: 0.052 ms\n2 7\0Time: 3.2 ms\n";
        let read = read(3, Some(0), stdout.as_bytes(), "psql:<stdin>:14: ERROR:  division by zero\n");
        let failed = Ok(SqlAnswer::Failed("division by zero".to_owned()));
        assert_eq!(read.answers, [Ok(said("{\"n\" : \"a\\nb\"}")), failed, Ok(said("7"))]);
        let took: Vec<&str> = read.took.values().map(String::as_str).collect();
        assert_eq!(took, ["1.461 ms", "0.157 ms", "3.2 ms"]);
    }

    #[test]
    fn a_database_that_cannot_be_logged_in_to_is_no_answer_of_it() {
        let why = "psql: error: FATAL:  database \"x\" does not exist\n";
        assert_eq!(read(2, Some(2), b"", why).answers, vec![Ok(SqlAnswer::NoSession(why.to_owned())); 2]);
    }

    #[test]
    fn what_was_answered_before_a_session_ended_holds() {
        for (status, word) in
            [(Some(124), "longer than"), (Some(2), "was lost"), (None, "did not end"), (Some(0), "no row")]
        {
            let read = read(3, status, b"0 1\0Time: 1 ms\n1 {\"cut", "FATAL:  terminating connection\n");
            assert_eq!(read.answers[0], Ok(said("1")));
            for answer in &read.answers[1..] {
                assert!(matches!(answer, Err(why) if why.contains(word)), "{answer:?}");
            }
        }
    }

    #[test]
    fn a_stream_that_is_out_of_step_is_refused_whole() {
        for stdout in ["1 x\0", "0 a\0b\0", "Welcome\0", "0 1\x002 3\0"] {
            let read = read(2, Some(0), stdout.as_bytes(), "");
            assert!(read.answers.iter().all(Result::is_err), "{stdout:?}: {read:?}");
        }
    }

    #[test]
    fn the_host_adds_what_newer_versions_have() {
        for program in [include_str!("ask.sh"), include_str!("../../../programs/dump.sh")] {
            let lines = |setting: &str| program.lines().filter(|line| line.contains(&format!("-c {setting}"))).count();
            // Those of 14 to 16, and those of 17 and later.
            assert_eq!(NEWER_SETTINGS.map(|(since, setting)| (since, lines(setting))), [(14, 2), (17, 1)]);
        }
        assert!(session("postgres").ends_with('\''), "the host adds before the last quote");
    }

    #[test]
    fn names_of_databases_stay_names() {
        let session = session(r"it's\ user=eve");
        assert!(session.contains(r"dbname='it\'s\\ user=eve' "), "{session}");
    }
}
