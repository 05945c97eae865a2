//! A host's steps as one POSIX-sh program. Pure: secrets come in resolved, nothing is sent.
//!
//! The fixed text is `program.sh`; here are the functions with each step's data and the calls. All data is quoted by
//! [`quote`]; the program's text travels over standard input into a private folder and deletes itself when it starts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use crate::base::address::Address;
use crate::base::secret::Secret;
use crate::base::shell::{FOLDERS, HasNul, quote, quote_all};
use crate::plan::step::{Content, HostStep};
use crate::reach::Transaction;

const FIXED: &str = include_str!("program.sh");
pub(crate) const DEADMAN: &str = include_str!("deadman.sh");
const REVERT: &str = include_str!("revert.sh");
/// How much of a failing step's output is reported: the last bytes, where the reason stands.
pub const OUTPUT_TAIL: usize = 8 * 1024;
/// How much of a file in a user's own folder is kept as it was before, in bytes: keys of logins are a few kilobytes, and the
/// user could put anything there.
const KEPT_BYTES: usize = 1024 * 1024;
/// Longest time for a validation, in seconds: `nginx -t` with a dead resolver takes 30.
const VALIDATE_LIMIT_S: u32 = 60;
/// From the polite to the hard signal for a command that ran into its limit, in seconds.
const KILL_AFTER_S: u32 = 10;
/// Longest time for a command that makes a service take up what was put back, in seconds.
const AGAIN_LIMIT_S: u32 = 60;
/// Longest time for a step that is not a command, in seconds: a write waits for a slow disk, no longer.
const STEP_LIMIT_S: u32 = 120;

/// Where Seawall keeps its things on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Running transactions; in memory, because programs hold secrets.
    pub run: String,
    /// Journals, pre-images, manifest, lock.
    pub state: String,
}

impl Default for Layout {
    fn default() -> Self {
        Self { run: "/run/seawall".to_owned(), state: "/var/lib/seawall".to_owned() }
    }
}

/// The values of one step's secrets, by their name in the template.
pub type Secrets = BTreeMap<String, Secret<String>>;

/// Why steps could not become a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStep {
    #[error(transparent)]
    Nul(#[from] HasNul),
    #[error("`{0}` is not an absolute path")]
    Path(String),
    #[error("`{0}` is not an octal mode")]
    Mode(String),
    #[error("`{0}` is not the name of an environment variable")]
    Variable(String),
    #[error("a command without a program")]
    NoProgram,
    #[error("a limit of 0 s would mean none")]
    NoLimit,
    #[error("`{{{{{0}}}}}` has no secret of that name")]
    NoSecret(String),
}

/// The whole program, and the longest time that it may take in seconds. `secrets` has an entry for each step.
pub fn compile(
    transaction: &Transaction,
    secrets: &[Secrets],
    layout: &Layout,
) -> Result<(Secret<String>, u64), (usize, BadStep)> {
    let none = Secrets::new();
    let mut functions = String::new();
    let mut calls = String::new();
    let mut seconds = u64::from(STEP_LIMIT_S);
    for (n, step) in transaction.steps.iter().enumerate() {
        let about = json!({ "address": step.address, "index": step.index, "what": step.step.summary() }).to_string();
        let about = about.trim_start_matches('{').trim_end_matches('}');
        let built = StepText::build(n, &step.step, secrets.get(n).unwrap_or(&none))
            .and_then(|built| Ok((built, quote(about)?)));
        let (built, about) = built.map_err(|why| (n, why))?;
        functions.push_str(&built.functions);
        writeln!(calls, "step {n} {about} {}", built.call).expect("writing to a String does not fail");
        seconds += u64::from(built.seconds);
    }
    let (guard, arm) = match transaction.guard_s {
        None => (String::new(), String::new()),
        Some(limit) => (guard(transaction, layout).map_err(|why| (0, why))?, format!("arm {limit}\n")),
    };
    let words = quote_all(&[&transaction.id, &layout.run, &layout.state]).map_err(|nul| (0, nul.into()))?;
    // Braces: the shell reads to the end before it runs anything, so the file can be deleted first.
    let program = format!(
        "set -- {words}\n{{\nid=$1 run=$2 state=$3 tail_bytes={OUTPUT_TAIL} kept_bytes={KEPT_BYTES}\n{FOLDERS}{FIXED}{guard}{functions}{arm}{calls}finish ok\n}}\n"
    );
    Ok((Secret::new(program), seconds))
}

/// The functions of a guarded change: its timer, and the program that puts everything back, as a text to be stored.
fn guard(transaction: &Transaction, layout: &Layout) -> Result<String, BadStep> {
    let mut revert =
        format!("id={} state={}\n{DEADMAN}{FOLDERS}{REVERT}", quote(&transaction.id)?, quote(&layout.state)?);
    for step in &transaction.steps {
        if let HostStep::Run { revert: Some(argv), .. } = &step.step {
            writeln!(revert, "again {AGAIN_LIMIT_S} {}", quote_all(argv)?).expect("writing to a String does not fail");
        }
    }
    revert.push_str("finished\n");
    Ok(format!("{DEADMAN}revert_text() {{ printf '%s' {}; }}\n", quote(&revert)?))
}

/// The name of a resource's record in the manifest. Names are distinct for distinct addresses: what is not plain is
/// written as `%` and two hexadecimal digits.
pub fn record_name(address: &Address) -> String {
    let plain = |text: &str| {
        text.bytes().fold(String::new(), |mut name, byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
                name.push(char::from(byte));
            } else {
                write!(name, "%{byte:02x}").expect("writing to a String does not fail");
            }
            name
        })
    };
    format!("{}--{}.json", plain(address.kind()), plain(address.name()))
}

/// Fills `{{name}}` in a template.
fn fill(content: &Content, secrets: &Secrets) -> Result<String, BadStep> {
    let (template, names) = match content {
        Content::Text(text) => return Ok(text.clone()),
        Content::WithSecrets { template, secrets } => (template, secrets),
    };
    let mut text = String::new();
    let mut rest = template.as_str();
    // One pass: braces within a secret are its own.
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, tail)) = after.split_once("}}").filter(|(name, _)| names.contains_key(*name)) else {
            text.push_str(before);
            text.push_str("{{");
            rest = after;
            continue;
        };
        let secret = secrets.get(name).ok_or_else(|| BadStep::NoSecret(name.to_owned()))?;
        text.push_str(before);
        text.push_str(secret.reveal());
        rest = tail;
    }
    text.push_str(rest);
    Ok(text)
}

/// One step's functions and its call.
struct StepText {
    functions: String,
    call: String,
    seconds: u32,
}

impl StepText {
    fn build(n: usize, step: &HostStep, secrets: &Secrets) -> Result<Self, BadStep> {
        let mut functions = String::new();
        let mut seconds = STEP_LIMIT_S;
        let call = match step {
            HostStep::WriteFile { path, owner, group, mode, content, validate } => {
                let text = fill(content, secrets)?;
                functions = format!(
                    "content_{n}() {{ printf '%s' {}; }}\nvalidate_{n}() {{ {}; }}\n",
                    quote(&text)?,
                    validation(validate.as_deref())?
                );
                let mode = self::mode(mode)?;
                format!("file {} {}", quote_all(&[absolute(path)?, owner, group, &mode])?, text.len())
            }
            HostStep::RemoveFile { path } => format!("remove {}", quote(absolute(path)?)?),
            HostStep::MakeDirectory { path, owner, group, mode } => {
                format!("directory {}", quote_all(&[absolute(path)?, owner, group, &self::mode(mode)?])?)
            }
            HostStep::Run { argv, env, stdin, timeout_s, revert: _, what: _ } => {
                if *timeout_s == 0 {
                    return Err(BadStep::NoLimit);
                }
                seconds = timeout_s + KILL_AFTER_S;
                let stdin = stdin.as_ref().map(|content| fill(content, secrets)).transpose()?;
                functions = command(n, argv, env, stdin.as_deref(), *timeout_s)?;
                format!("command_step {timeout_s}")
            }
            HostStep::Record { address, desired: None } => format!("forget {}", quote(&record_name(address))?),
            HostStep::Record { address, desired: Some(desired) } => {
                let text = json!({ "address": address, "desired": desired }).to_string();
                functions = format!("content_{n}() {{ printf '%s\\n' {}; }}\n", quote(&text)?);
                format!("record {}", quote(&record_name(address))?)
            }
        };
        Ok(Self { functions, call, seconds })
    }
}

fn command(
    n: usize,
    argv: &[String],
    env: &BTreeMap<String, String>,
    stdin: Option<&str>,
    limit: u32,
) -> Result<String, BadStep> {
    if argv.is_empty() {
        return Err(BadStep::NoProgram);
    }
    let mut text = match stdin {
        Some(stdin) => format!("input_{n}() {{ printf '%s' {}; }}\n", quote(stdin)?),
        None => format!("input_{n}() {{ :; }}\n"),
    };
    write!(text, "run_{n}() ( ").expect("writing to a String does not fail");
    for (name, value) in env {
        let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(BadStep::Variable(name.clone()));
        }
        write!(text, "export {name}={}; ", quote(value)?).expect("writing to a String does not fail");
    }
    writeln!(text, "exec timeout -k {KILL_AFTER_S} {limit} {} )", quote_all(argv)?)
        .expect("writing to a String does not fail");
    Ok(text)
}

/// The validation as a shell command with `$1` for the candidate.
fn validation(argv: Option<&[String]>) -> Result<String, BadStep> {
    let Some(argv) = argv else {
        return Ok(":".to_owned());
    };
    if argv.is_empty() {
        return Err(BadStep::NoProgram);
    }
    let mut words = Vec::new();
    for word in argv {
        let parts: Result<Vec<String>, HasNul> = word.split("{}").map(quote).collect();
        words.push(parts?.join("\"$1\""));
    }
    Ok(format!("( cd / && exec timeout -k {KILL_AFTER_S} {VALIDATE_LIMIT_S} {} )", words.join(" ")))
}

fn absolute(path: &str) -> Result<&str, BadStep> {
    if path.starts_with('/') && !path.ends_with('/') { Ok(path) } else { Err(BadStep::Path(path.to_owned())) }
}

/// Octal permission bits as `stat` prints them.
fn mode(mode: &str) -> Result<String, BadStep> {
    match u32::from_str_radix(mode, 8) {
        Ok(bits) if bits <= 0o7777 && !mode.starts_with('+') => Ok(format!("{bits:o}")),
        _ => Err(BadStep::Mode(mode.to_owned())),
    }
}
