//! A job's files: its two units, and what records a failure; with the words quoted as systemd reads them.

use serde_json::{Value, json};

use crate::kinds::host::Wanted;
use crate::kinds::host_jobs::{Desired, Job};
use crate::kinds::parts::alert;
use crate::render::render;

/// Where units are that no package brought.
pub(super) const UNITS: &str = "/etc/systemd/system";
/// Environment files with secrets, one a job.
pub(super) const SECRETS: &str = "/etc/seawall/jobs";
pub(super) fn service(job: &str) -> String {
    format!("seawall-job-{job}.service")
}

pub(super) fn timer(job: &str) -> String {
    format!("seawall-job-{job}.timer")
}

pub(super) fn unit_path(unit: &str) -> String {
    format!("{UNITS}/{unit}")
}

/// Whether a unit, or what names one, is a timer.
pub(super) fn is_timer(unit: &str) -> bool {
    unit.strip_suffix(".timer").is_some()
}

/// The link that starts a timer at boot.
pub(super) fn wants_path(unit: &str) -> String {
    format!("{UNITS}/timers.target.wants/{unit}")
}

/// The file whose time is that of the timer's last run. One that stays behind would make a job of the same name run at
/// once, because it looks as if it had been missed.
pub(super) fn stamp_path(unit: &str) -> String {
    format!("/var/lib/systemd/timers/stamp-{unit}")
}

pub(super) fn secrets_path(job: &str) -> String {
    format!("{SECRETS}/{job}.env")
}

/// A word in systemd's quotes. `%` begins a specifier everywhere in a unit; `$` is taken care of by the colon of
/// `ExecStart=`, and means nothing in `Environment=` (systemd.unit(5), systemd.service(5)).
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@+=:,./-%".contains(c);
    let doubled = text.replace('%', "%%");
    if !text.is_empty() && text.chars().all(plain) {
        return doubled;
    }
    format!("\"{}\"", doubled.replace('\\', r"\\").replace('"', "\\\""))
}

/// A file that this kind writes, with a path of its own.
pub(super) struct File {
    pub(super) path: String,
    pub(super) mode: &'static str,
    pub(super) text: String,
}

impl File {
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { mode: self.mode, ..Wanted::public(&self.path, self.text.clone()) }
    }
}

fn text(template: &str, desired: &Desired, more: &Value) -> String {
    let mut context = json!({ "address": desired.address });
    let own = more.as_object().cloned().unwrap_or_default();
    context.as_object_mut().expect("it was made as an object").extend(own);
    render(template, &context).expect("the templates and their contexts are tested together")
}

/// Everything but the secrets, in the order in which it is written: what a unit names is there before it.
pub(super) fn files(desired: &Desired) -> Vec<File> {
    let shared = alert::files().into_iter();
    let mut files: Vec<File> = shared.map(|file| File { path: file.path, mode: file.mode, text: file.text }).collect();
    for (name, job) in &desired.jobs {
        files.push(File {
            path: unit_path(&service(name)),
            mode: "0644",
            text: text("job.service", desired, &service_context(name, job)),
        });
        files.push(File {
            path: unit_path(&timer(name)),
            mode: "0644",
            text: text("job.timer", desired, &json!({ "name": name, "when": job.when })),
        });
    }
    files
}

fn service_context(name: &str, job: &Job) -> Value {
    let command: Vec<String> = job.words.iter().map(|text| word(text)).collect();
    let environment: Vec<String> =
        job.environment.iter().map(|(name, value)| word(&format!("{name}={value}"))).collect();
    let secrets: Vec<String> = if job.secrets.is_empty() { Vec::new() } else { vec![secrets_path(name)] };
    json!({
        "name": name,
        "user": job.user,
        // With a dash: a user without a home can run a job, too.
        "directory": job.directory.as_deref().unwrap_or("-~"),
        "command": format!(":{}", command.join(" ")),
        "timeout": job.timeout,
        "environment": environment,
        "secrets": secrets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        for (text, quoted) in [
            ("/opt/ingest", "/opt/ingest"),
            ("--rate=50%", "--rate=50%%"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            (";", "\";\""),
            (r#"say "\n" 100% $HOME"#, r#""say \"\\n\" 100%% $HOME""#),
        ] {
            assert_eq!(word(text), quoted);
        }
    }
}
