//! One change as text: sign, address, reason, fields, files; steps with `-v`.
//!
//! Nothing is said twice: a file's owner and mode stand beside its diff, and of two objects only the members that
//! differ are shown.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::plan::change::{Action, Change, FieldChange, FileDiff, Reason, Risk};
use crate::plan::step::CloudStep;
use crate::policy::price::kept_snapshot;
use crate::view::context::PlanContext;
use crate::view::diff;
use crate::view::steps;
use crate::view::style::{Role, Style};
use crate::view::text::{clean_line, without_long_keys, wrap};
use crate::view::value::{LONGEST, one_line, sides, whole};

/// Lines of one file's diff that are shown without `-v`.
const DIFF_LINES: usize = 40;

/// Widest column of field names. A longer name pushes its own line only.
const NAME_WIDTH: usize = 48;

/// Columns before a field.
const INDENT: usize = 6;

/// A field on its line, and what belongs below it.
struct Row {
    name: String,
    text: String,
    block: Vec<String>,
}

/// Changes, with an empty line after each that is more than a line, and after the last.
pub fn render_all<'a>(changes: impl IntoIterator<Item = &'a Change>, context: &PlanContext) -> String {
    let mut text = String::new();
    let mut short_before = true;
    for change in changes {
        let rendered = render(change, context);
        let short = rendered.lines().count() == 1;
        if !(text.is_empty() || short && short_before) {
            text.push('\n');
        }
        text.push_str(&rendered);
        short_before = short;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// One change.
fn render(change: &Change, context: &PlanContext) -> String {
    let style = context.style;
    let mut text = heading(change, style);
    let rows: Vec<Row> = change.fields.iter().flat_map(|field| rows(field, change, context)).collect();
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).min(NAME_WIDTH);
    for row in rows {
        let line = format!("{:INDENT$}{:width$}  {}", "", row.name, row.text);
        let _ = writeln!(text, "{}", wrap(line.trim_end(), INDENT + width + 2, context.width));
        block(&mut text, &row.block);
    }
    for file in &change.files {
        text.push_str(&file_diff(file, change, context));
    }
    let goes = matches!(change.action, Action::Destroy | Action::Replace);
    if goes && change.address.kind() == "lightsail.instance" {
        let _ = writeln!(text, "{:INDENT$}everything on it goes with it", "");
        for step in change.steps.cloud() {
            if let CloudStep::KeepSnapshot { instance } = step {
                let line = format!("{:INDENT$}{}", "", kept_snapshot(&clean_line(instance)));
                let _ = writeln!(text, "{}", wrap(&line, INDENT, context.width));
            }
        }
    }
    if context.verbose {
        for step in steps::of(change) {
            let _ = writeln!(text, "{:INDENT$}{}", "", style.paint(Role::Faint, &step.title));
            if context.whole_steps {
                block(&mut text, &step.lines);
            }
        }
    }
    text
}

fn heading(change: &Change, style: Style) -> String {
    let role = match change.action {
        Action::Create => Role::Added,
        Action::Update | Action::NoOp => Role::Changed,
        Action::Replace | Action::Destroy => Role::Removed,
    };
    let sign = style.paint(role, format!("{:>3}", change.action.sign()));
    let mut text = format!("{sign} {}  {}", change.address, style.paint(Role::Faint, reason(&change.reason)));
    if let Some(label) = danger(change.risk) {
        let _ = write!(text, "  {}", style.paint(Role::Danger, label));
    }
    text.push('\n');
    text
}

fn reason(reason: &Reason) -> String {
    match reason {
        Reason::NotThere => "not there".to_owned(),
        Reason::Differs => "differs".to_owned(),
        Reason::CannotUpdateInPlace(fields) => format!("cannot be changed in place: {}", fields.join(", ")),
        Reason::ServerReplaced => "looked at again when its server is new".to_owned(),
        Reason::NoLongerDeclared => "no longer in the inventory".to_owned(),
        Reason::Requested => "as asked for".to_owned(),
    }
}

fn danger(risk: Risk) -> Option<&'static str> {
    match risk {
        Risk::Plain => None,
        Risk::Restarts => Some("RESTARTS"),
        Risk::MayLockOut => Some("MAY LOCK OUT"),
        Risk::LosesData => Some("LOSES DATA"),
    }
}

/// The lines of one field. None for a file whose diff follows; one per member that differs for two objects.
fn rows(field: &FieldChange, change: &Change, context: &PlanContext) -> Vec<Row> {
    if change.files.iter().any(|file| file.path == field.path) {
        return Vec::new();
    }
    let (before, after) = (field.before.as_ref(), field.after.as_ref());
    let rows = match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) if !is_document(before) && !is_document(after) => {
            members(&field.path, old, new)
        }
        (Some(old), Some(new)) if is_document(before) || is_document(after) => {
            let block = diff::lines(&pretty(old), &pretty(new), context.style);
            vec![Row { name: field.path.clone(), text: "differs".to_owned(), block: limited(block, context.verbose) }]
        }
        (None, Some(value)) if change.action == Action::Create => vec![one_sided(&field.path, "", value, "", context)],
        (None, Some(value)) => vec![one_sided(&field.path, "(absent) → ", value, "", context)],
        (Some(value), None) => vec![one_sided(&field.path, "", value, " → (absent)", context)],
        _ => vec![Row { name: field.path.clone(), text: changed(before, after), block: Vec::new() }],
    };
    let Reason::CannotUpdateInPlace(named) = &change.reason else {
        return rows.into_iter().map(named_once).collect();
    };
    let mark = field.replaces && !named.contains(&field.path);
    let marked = |mut row: Row| {
        if mark {
            row.text.push_str("  (cannot be changed in place)");
        }
        named_once(row)
    };
    rows.into_iter().map(marked).collect()
}

/// Only what differs of two objects: each member on a line of its own.
fn members(path: &str, old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<Row> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).filter(|key| old.get(*key) != new.get(*key)).collect();
    let row = |key: &String| Row {
        name: format!("{path}.{key}"),
        text: sides(old.get(key), new.get(key)),
        block: Vec::new(),
    };
    keys.into_iter().map(row).collect()
}

fn one_sided(path: &str, head: &str, value: &Value, tail: &str, context: &PlanContext) -> Row {
    let document = is_document(Some(value));
    let block: Vec<String> =
        if document && context.verbose { pretty(value).lines().map(clean_line).collect() } else { Vec::new() };
    let text = match statements(value) {
        Some(short) => short,
        None if document && context.verbose => "as follows".to_owned(),
        None => one_line(value),
    };
    let more = if document && !context.verbose { "  (-v shows it whole)" } else { "" };
    Row { name: path.to_owned(), text: format!("{head}{text}{tail}{more}"), block }
}

/// Whether a value is a text of its own rather than a setting.
fn is_document(value: Option<&Value>) -> bool {
    value.is_some_and(|value| match value {
        Value::Object(fields) => fields.contains_key("Statement") || whole(value).chars().count() > LONGEST,
        Value::Array(_) => whole(value).chars().count() > LONGEST,
        _ => false,
    })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A policy in a few words: what each statement allows or denies.
fn statements(value: &Value) -> Option<String> {
    let statements = value.get("Statement")?.as_array()?;
    let words: Vec<String> = statements
        .iter()
        .map(|statement| {
            let effect = statement.get("Effect").and_then(Value::as_str).unwrap_or("?").to_lowercase();
            let actions = match (statement.get("Action"), statement.get("NotAction")) {
                (Some(Value::Array(actions)), _) => actions.iter().map(one_line).collect::<Vec<_>>().join(", "),
                (Some(action), _) => one_line(action),
                (None, Some(but)) => format!("all but {}", one_line(but)),
                (None, None) => "?".to_owned(),
            };
            format!("{effect} {actions}")
        })
        .collect();
    Some(one_line(&Value::from(words.join("; "))).trim_matches('"').to_owned())
}

/// Before and after. Of a file that differs in its owner or mode only, its unchanged content is not mentioned.
fn changed(before: Option<&Value>, after: Option<&Value>) -> String {
    match (before.and_then(access), after.and_then(access)) {
        (Some((old, before)), Some((new, after))) if before == after => format!("{old} → {new}"),
        _ => sides(before, after),
    }
}

/// Mode and owner apart from the content's digest, where a value has the form of a file: `644 root:root 6d3f3a01df6d`.
fn access(value: &Value) -> Option<(&str, &str)> {
    let (access, digest) = value.as_str()?.rsplit_once(' ')?;
    let (mode, owner) = access.split_once(' ')?;
    let is_file = mode.chars().all(|c| c.is_digit(8))
        && owner.contains(':')
        && digest.len() == 12
        && digest.chars().all(|c| c.is_ascii_hexdigit());
    is_file.then_some((access, digest))
}

/// A list's members are named by what they are (`keys.ssh-ed25519 AAAA…`): what the value says again, the name leaves.
fn named_once(mut row: Row) -> Row {
    row.name = clean_line(&without_long_keys(&row.name));
    if let Some((list, member)) = row.name.split_once('.')
        && member.contains(' ')
        && row.text.contains(member)
    {
        row.name = list.to_owned();
    }
    row
}

fn file_diff(file: &FileDiff, change: &Change, context: &PlanContext) -> String {
    let (before, after) = (file.before.as_deref().unwrap_or(""), file.after.as_deref().unwrap_or(""));
    let mut text = format!("{:INDENT$}{}{}\n", "", clean_line(&file.path), beside(file, change));
    block(&mut text, &limited(diff::lines(before, after, context.style), context.verbose));
    text
}

/// What stands beside a file's name: that it is new or goes, and its mode and owner where they are new.
fn beside(file: &FileDiff, change: &Change) -> String {
    let field = change.fields.iter().find(|field| field.path == file.path);
    let access_of = |side: fn(&FieldChange) -> Option<&Value>| field.and_then(side).and_then(access).map(|(a, _)| a);
    let (old, new) = (access_of(|field| field.before.as_ref()), access_of(|field| field.after.as_ref()));
    match (&file.before, &file.after, old, new) {
        (_, None, _, _) => " (removed)".to_owned(),
        (None, Some(_), None, Some(new)) => format!(" (new, {new})"),
        (None, Some(_), None, None) => " (new)".to_owned(),
        (None, Some(_), Some(_), _) => " (what it holds now is not shown)".to_owned(),
        (Some(_), Some(_), Some(old), Some(new)) if old != new => format!(" ({old} → {new})"),
        (Some(_), Some(_), _, _) => String::new(),
    }
}

/// At most so many lines as a person reads, unless they asked for all.
fn limited(mut lines: Vec<String>, verbose: bool) -> Vec<String> {
    let hidden = if verbose { 0 } else { lines.len().saturating_sub(DIFF_LINES) };
    if hidden > 0 {
        lines.truncate(DIFF_LINES);
        let plural = if hidden == 1 { "line" } else { "lines" };
        lines.push(format!("… {hidden} more {plural}; -v shows them"));
    }
    lines
}

fn block(text: &mut String, lines: &[String]) {
    for line in lines {
        let _ =
            if line.is_empty() { writeln!(text) } else { writeln!(text, "{:width$}{line}", "", width = INDENT + 2) };
    }
}
