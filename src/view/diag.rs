//! Draws diagnostics: the sentence, the line it is about, why, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::base::diag::{Diagnostic, Diagnostics, Label, Severity};
use crate::view::style::Style;
use crate::view::text::{clean, clean_line};

/// Columns that a drawing may take. Wider terminals do not make long lines easier to read.
const WIDTH: usize = 120;

/// Draws all of them, errors first, and counts them at the end when there is more than one.
pub fn render(diagnostics: &Diagnostics, sources: &BTreeMap<String, String>, style: Style) -> String {
    let sources: BTreeMap<&str, String> = sources.iter().map(|(file, text)| (file.as_str(), harmless(text))).collect();
    let mut sorted: Vec<&Diagnostic> = diagnostics.0.iter().collect();
    sorted.sort_by_key(|diagnostic| diagnostic.severity);
    let mut text = String::new();
    for diagnostic in &sorted {
        text.push_str(&one(diagnostic, &sources, style));
        text.push_str("\n\n");
    }
    let errors = sorted.iter().filter(|d| d.severity == Severity::Error).count();
    if sorted.len() > 1 {
        let others = sorted.len() - errors;
        let _ = writeln!(text, "{}", count(errors, others));
    } else if text.ends_with("\n\n") {
        text.pop();
    }
    text
}

fn count(errors: usize, others: usize) -> String {
    let plural = |n: usize, word: &str| if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") };
    match (errors, others) {
        (0, n) => plural(n, "warning"),
        (n, 0) => plural(n, "error"),
        (n, m) => format!("{}, {}", plural(n, "error"), plural(m, "warning")),
    }
}

fn one(diagnostic: &Diagnostic, sources: &BTreeMap<&str, String>, style: Style) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let title = level.primary_title(clean(&diagnostic.message)).id(diagnostic.code.clone());
    let mut group = Group::with_title(title);
    let mut files: Vec<&str> = Vec::new();
    for label in &diagnostic.labels {
        if !files.contains(&label.span.file.as_str()) {
            files.push(&label.span.file);
        }
    }
    for file in files {
        let labels: Vec<&Label> = diagnostic.labels.iter().filter(|label| label.span.file == file).collect();
        group = match sources.get(file) {
            Some(source) => group.element(snippet(file, source, &labels, &diagnostic.labels[0])),
            None => labels.into_iter().fold(group, without_source),
        };
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(clean(note)));
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.with_name("hint").message(clean(hint)));
    }
    let renderer = if style.coloured { Renderer::styled() } else { Renderer::plain() };
    renderer.term_width(WIDTH).render(&[group])
}

/// A label into a text that is not at hand: the place, and what it says there.
fn without_source<'a>(group: Group<'a>, label: &Label) -> Group<'a> {
    let place = Origin::path(clean_line(&label.span.file)).line(label.span.line).char_column(label.span.column);
    let group = group.element(place);
    if label.text.is_empty() { group } else { group.element(Level::NOTE.message(clean_line(&label.text))) }
}

fn snippet<'a>(
    file: &str,
    source: &'a str,
    labels: &[&'a Label],
    primary: &Label,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let mut snippet = Snippet::source(source).path(clean_line(file));
    for &label in labels {
        let kind = if label == primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        snippet = snippet.annotation(kind.span(bytes(source, label)).label(clean_line(&label.text)));
    }
    snippet
}

/// The bytes that a label covers. A place beyond the text (the file changed meanwhile) is its end.
fn bytes(source: &str, label: &Label) -> std::ops::Range<usize> {
    let mut start = 0;
    for (number, line) in source.split_inclusive('\n').enumerate() {
        if number + 1 == label.span.line {
            let body = line.trim_end_matches(['\n', '\r']);
            let offset = |column: usize| body.char_indices().nth(column).map_or(body.len(), |(at, _)| at);
            let from = offset(label.span.column.saturating_sub(1));
            let to = offset(label.span.column.saturating_sub(1) + label.span.length.max(1));
            return start + from..start + to.max(from);
        }
        start += line.len();
    }
    source.len()..source.len()
}

/// A file's text as it may be shown. As many characters as before, so that columns stay what they are; the line breaks
/// of other systems are no part of a line.
fn harmless(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| match line.strip_suffix("\r\n") {
        Some(line) => clean(line) + "\n",
        None => clean(line),
    });
    lines.collect()
}
