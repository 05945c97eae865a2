//! Checks of `after_restore`: what can be run without a shell, by whom, against which database.

use crate::inventory::check::{Report, text};
use crate::inventory::names::SqlName;
use crate::inventory::scalar::Name;
use crate::inventory::sections::database::{Hook, HookWhen};
use crate::inventory::similar::{choices, similar};

/// Seconds. `timeout` takes 0 for "never"; a restore that waits a day for a hook has missed any objective.
const LIMIT_S: (u64, u64) = (1, 86_400);
/// Characters of one word.
const LONGEST_WORD: usize = 2_000;
/// The one user that the unit of a copy runs as.
const POSTGRES: &str = "postgres";
/// Users that must not run one: root would obey what the restored data says, and files of nobody's are everybody's.
const NEVER: [&str; 2] = ["root", "nobody"];

pub(super) fn check(report: &mut Report<'_>, server: &Name, hooks: &[Hook]) {
    for (index, hook) in hooks.iter().enumerate() {
        let base = format!("servers.{server}.backup.after_restore[{index}]");
        report.text("bad-hook", &format!("{base}.run"), program(&hook.run));
        for (word, value) in hook.run.iter().enumerate().skip(1).filter(|(_, value)| !value.is_empty()) {
            report.text("bad-hook", &format!("{base}.run[{word}]"), text::line(value, LONGEST_WORD));
        }
        user(report, &base, hook);
        let seconds = hook.limit.seconds();
        let (least, most) = LIMIT_S;
        if !(least..=most).contains(&seconds) {
            let path = format!("{base}.limit");
            let message = format!("`{path}` must be {least} to {most} s, and this is {seconds} s");
            report.error("out-of-range", message, &path, "not within");
        }
        if let Some(database) = &hook.database {
            declared(report, server, &format!("{base}.database"), database);
        }
    }
}

fn program(words: &[String]) -> Result<(), String> {
    let Some(program) = words.first() else { return Err("this names no program".to_owned()) };
    if program.starts_with('/') {
        return text::server_path(program);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    if program.is_empty() || program.starts_with('-') || !program.chars().all(plain) {
        return Err(format!(
            "`{}` is neither a full path nor the name of a program; no shell reads it, and each argument is an item of the list",
            program.replace(char::is_control, " ")
        ));
    }
    Ok(())
}

fn user(report: &mut Report<'_>, base: &str, hook: &Hook) {
    let path = format!("{base}.user");
    let never = NEVER.contains(&hook.user.as_str());
    let why = || format!("`{}` runs no hook; name a user of the application, or postgres", hook.user);
    let may = if never { Err(why()) } else { text::account(&hook.user) };
    let good = may.is_ok();
    report.text("bad-account-name", &path, may);
    if good && hook.user != POSTGRES && hook.when == HookWhen::Always {
        let message = format!(
            "`{base}` runs after every restore, and a copy beside the database is reached by postgres alone, not by `{}`",
            hook.user
        );
        report.error("hook-user", message, &path, "not in a copy").hint =
            Some("add `when: promoted`, or leave `user` out".to_owned());
    }
}

fn declared(report: &mut Report<'_>, server: &Name, path: &str, database: &SqlName) {
    let section = report.inventory.servers.get(server).and_then(|server| server.postgres.as_ref());
    let Some(postgres) = section.filter(|postgres| !postgres.databases.is_empty()) else { return };
    if database.as_str() == POSTGRES || postgres.databases.contains(database) {
        return;
    }
    let all = || postgres.databases.iter().map(SqlName::as_str);
    let hint = match similar(database.as_str(), all()) {
        Some(near) => format!("a similar name: `{near}`"),
        None => format!("declared are {}", choices(all())),
    };
    let message = format!("`{path}` names `{database}`, which is not in `servers.{server}.postgres.databases`");
    report.error("dangling-reference", message, path, "not declared").hint = Some(hint);
}
