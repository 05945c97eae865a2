//! Steps as a reviewer reads them: everything that would run or be written, whatever a step has or will have.
//!
//! Each step is shown through its own JSON form, so that no part of one can be left out. A secret is a reference there.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::base::shell;
use crate::plan::change::{Change, FileDiff};
use crate::plan::step::{CloudStep, Content, HostStep, Steps};
use crate::view::text::escape_line;

/// Longest JSON value that stays on the line of its name, in characters.
const ONE_LINE: usize = 100;

/// One step: its line, and what it consists of.
pub(super) struct Shown {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
}

/// Everything that a change does, then what puts it back, then what must hold for it to stay.
pub(super) fn of(change: &Change) -> Vec<Shown> {
    let mut all: Vec<Shown> = match &change.steps {
        Steps::Cloud(steps) => steps.iter().map(|step| cloud("step", step)).collect(),
        Steps::Host(steps) => steps.iter().map(|step| host(step, &change.files)).collect(),
    };
    all.extend(change.undo.iter().map(|step| cloud("puts back", step)));
    let proofs = change.proofs.iter().map(|proof| Shown {
        title: format!("kept if: {}", escape_line(&as_json(proof).to_string())),
        lines: Vec::new(),
    });
    all.extend(proofs);
    all
}

fn as_json(part: &impl Serialize) -> Value {
    serde_json::to_value(part).expect("plain data of this program serialises")
}

fn shown(head: &str, summary: &str, members: &Map<String, Value>) -> Shown {
    let mut lines = Vec::new();
    object(&mut lines, 0, members);
    Shown { title: format!("{head}: {}", escape_line(summary)), lines }
}

fn cloud(head: &str, step: &CloudStep) -> Shown {
    shown(head, &step.summary(), &members(as_json(step)))
}

fn host(step: &HostStep, files: &[FileDiff]) -> Shown {
    let mut all = members(as_json(step));
    // The title says it.
    all.remove("what");
    if let HostStep::WriteFile { path, content: Content::Text(text), .. } = step
        && is_shown_whole(path, text, files)
    {
        all.insert("content".to_owned(), "as shown above".into());
    }
    shown("step", &step.summary(), &all)
}

/// A step's JSON is `{"name": {…}}`; what it consists of is inside.
fn members(step: Value) -> Map<String, Value> {
    match step {
        Value::Object(variant) => match variant.into_iter().next() {
            Some((_, Value::Object(members))) => members,
            Some((name, other)) => Map::from_iter([(name, other)]),
            None => Map::new(),
        },
        other => Map::from_iter([("step".to_owned(), other)]),
    }
}

/// Whether a file's diff above has each of its lines: only that of a new file has.
fn is_shown_whole(path: &str, text: &str, files: &[FileDiff]) -> bool {
    let same = |file: &&FileDiff| file.path == path && file.before.is_none() && file.after.as_deref() == Some(text);
    let plain = escape_line(&text.replace(['\n', '\t'], "")) == text.replace(['\n', '\t'], "");
    plain && files.iter().filter(|file| file.path == path).count() == 1 && files.iter().any(|file| same(&file))
}

fn object(lines: &mut Vec<String>, indent: usize, members: &Map<String, Value>) {
    for (name, value) in members {
        member(lines, indent, name, value);
    }
}

fn member(lines: &mut Vec<String>, indent: usize, name: &str, value: &Value) {
    let name = escape_line(name);
    let mut line = |text: String| lines.push(format!("{:indent$}{text}", ""));
    match value {
        Value::Null => {}
        Value::String(text) if text.contains('\n') => {
            line(format!("{name}:"));
            for part in text.split_inclusive('\n') {
                let whole = part.strip_suffix('\n');
                line(format!("  | {}", escape_line(whole.unwrap_or(part))));
                if whole.is_none() {
                    line("  \\ no line break at the end".to_owned());
                }
            }
        }
        Value::String(text) => line(format!("{name}: {}", scalar(text))),
        Value::Array(items) => match words(items) {
            Some(words) => line(format!("{name}: {words}")),
            None => json(lines, indent, &name, value),
        },
        Value::Object(inner) if is_nest(inner) => {
            line(format!("{name}:"));
            object(lines, indent + 2, inner);
        }
        Value::Object(inner) if inner.is_empty() => {}
        Value::Object(_) | Value::Bool(_) | Value::Number(_) => json(lines, indent, &name, value),
    }
}

/// Texts of several lines must be read as such, also where they are inside of something.
fn is_nest(members: &Map<String, Value>) -> bool {
    members.values().any(|value| match value {
        Value::String(text) => text.contains('\n'),
        Value::Object(inner) => is_nest(inner),
        _ => false,
    }) || members.contains_key("with_secrets")
        || members.contains_key("template")
}

/// Arguments, each as a shell would need it.
fn words(items: &[Value]) -> Option<String> {
    let word = |item: &Value| item.as_str().map(|text| escape_line(&shell::word(text)));
    Some(items.iter().map(word).collect::<Option<Vec<_>>>()?.join(" "))
}

/// Bare where it is what it looks like.
fn scalar(text: &str) -> String {
    let clear = !text.is_empty() && text.trim() == text && !text.starts_with('"') && escape_line(text) == text;
    if clear { text.to_owned() } else { format!("{text:?}") }
}

fn json(lines: &mut Vec<String>, indent: usize, name: &str, value: &Value) {
    let short = value.to_string();
    if short.chars().count() <= ONE_LINE {
        lines.push(format!("{:indent$}{name}: {}", "", escape_line(&short)));
        return;
    }
    lines.push(format!("{:indent$}{name}:", ""));
    lines.extend(format!("{value:#}").lines().map(|line| format!("{:indent$}  {}", "", escape_line(line))));
}
