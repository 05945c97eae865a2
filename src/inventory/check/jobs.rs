//! Checks of scheduled commands: words that systemd can take, names of variables, limits.

use std::collections::BTreeMap;

use crate::base::diag::Diagnostic;
use crate::base::secret::SecretRef;
use crate::inventory::check::{Report, text};
use crate::inventory::sections::host::Job;
use crate::inventory::words;

/// Seconds. systemd takes 0 for "never"; after a week a run has missed any schedule worth the name.
const TIMEOUT_S: (u64, u64) = (1, 604_800);
/// Characters of a command or of a variable's value. The kernel takes more, a person who reads a plan does not.
const LONGEST_COMMAND: usize = 2_000;

pub(super) fn check(report: &mut Report<'_>) {
    for (server, section) in &report.inventory.servers {
        for (name, job) in &section.jobs {
            one(report, &format!("servers.{server}.jobs.{name}"), job);
        }
    }
}

fn one(report: &mut Report<'_>, base: &str, job: &Job) {
    report.text("bad-job-command", &format!("{base}.run"), command(&job.run));
    // systemd refuses to give this user a service's files and runtime: whatever has nobody's files would be the job's.
    let somebody = |()| {
        if job.user == "nobody" {
            Err("`nobody` runs no job: files without an owner would be the job's; make a user for it".to_owned())
        } else {
            Ok(())
        }
    };
    report.text("bad-account-name", &format!("{base}.user"), text::account(&job.user).and_then(somebody));
    let seconds = job.timeout.seconds();
    let (least, most) = TIMEOUT_S;
    if !(least..=most).contains(&seconds) {
        let path = format!("{base}.timeout");
        let message = format!("`{path}` must be {least} to {most} s, and this is {seconds} s");
        report.error("out-of-range", message, &path, "not within");
    }
    if let Some(directory) = job.directory.as_deref().filter(|directory| *directory != "/") {
        report.text("bad-path", &format!("{base}.directory"), text::server_path(directory));
    }
    for (variable, value) in &job.environment {
        let path = format!("{base}.environment.{variable}");
        if !value.is_empty() {
            report.text("bad-text", &path, text::line(value, LONGEST_COMMAND));
        }
    }
    let names = job.environment.keys().map(|name| ("environment", name));
    for (section, variable) in names.chain(job.secrets.keys().map(|name| ("secrets", name))) {
        variable_name(report, &format!("{base}.{section}.{variable}"), variable);
    }
    twice(report, base, &job.environment, &job.secrets);
}

/// What a command must be to run without a shell.
fn command(line: &str) -> Result<(), String> {
    let wrong = |why: String| format!("`{}` cannot be run: {why}", line.replace(char::is_control, " "));
    text::line(line, LONGEST_COMMAND).map_err(|why| wrong(why.replace("this", "it")))?;
    let words = words::split(line).map_err(wrong)?;
    let program = words.first().map(String::as_str).unwrap_or_default();
    if !program.starts_with('/') {
        return Err(wrong("it does not begin with the full path of a program".to_owned()));
    }
    text::server_path(program)
}

/// A name that a shell and a program can ask for.
pub(super) fn variable_name(report: &mut Report<'_>, path: &str, name: &str) {
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !good {
        let problem =
            Diagnostic::error("bad-variable-name", format!("`{name}` is not a name of an environment variable"))
                .at(report.places.key(path), "letters, digits and `_`, no digit first");
        report.found.push(problem);
    }
}

/// A variable with two values has one of them by accident.
fn twice(report: &mut Report<'_>, base: &str, plain: &BTreeMap<String, String>, secrets: &BTreeMap<String, SecretRef>) {
    for name in plain.keys().filter(|name| secrets.contains_key(*name)) {
        let problem = Diagnostic::error("duplicate-variable", format!("`{base}` sets `{name}` twice"))
            .at(report.places.key(&format!("{base}.secrets.{name}")), "as a secret here")
            .at(report.places.key(&format!("{base}.environment.{name}")), "as plain text here")
            .hint("keep the secret");
        report.found.push(problem);
    }
}
