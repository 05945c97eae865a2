//! YAML text to a plain JSON value and the place of everything in it; what YAML allows and an inventory does not is
//! refused here, with its place.
//!
//! Deliberately refused: aliases, tags, numbers that are not decimal, empty values, a second document. Each is a way in
//! which a file says something else than its reader sees. Hostile files are bounded in size, depth and count.

mod plain;

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as Mark, Tag};
use serde_json::{Map, Value};

use crate::base::diag::Diagnostic;
use crate::base::span::Span;
use crate::inventory::places::{Places, Position, child, item};
use crate::inventory::yaml::plain::{plain, two_meanings};

/// Mappings and lists within each other. An inventory needs 8.
const DEEPEST: usize = 64;
/// Values in one file: some 500 servers. Beyond it the file is generated nonsense.
const MOST_VALUES: usize = 50_000;
/// Bytes of a line in which the ends of quoted texts are searched; each search reads the line.
const LONGEST_MEASURED_LINE: usize = 4_096;
/// Characters of a key.
const LONGEST_KEY: usize = 128;

/// What the text says. `value` is there as far as the text could be read at all.
pub(super) struct Read {
    pub(super) value: Option<Value>,
    pub(super) places: Places,
    pub(super) problems: Vec<Diagnostic>,
}

/// Reads one document.
pub(super) fn read(file: &str, text: &str) -> Read {
    let mut reader = Reader {
        lines: text.split('\n').map(|line| line.trim_end_matches('\r')).collect(),
        places: Places::new(file),
        problems: Vec::new(),
        stack: Vec::new(),
        root: None,
        documents: 0,
        values: 0,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let outcome = match next {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, mark)) => reader.event(event, mark),
            Err(error) => Err(Box::new(reader.syntax(&error))),
        };
        if let Err(problem) = outcome {
            reader.problems.push(*problem);
            reader.root = None;
            break;
        }
    }
    if reader.documents == 0 && reader.problems.is_empty() {
        reader.problems.push(empty(&reader.places));
    }
    Read { value: reader.root, places: reader.places, problems: reader.problems }
}

fn empty(places: &Places) -> Diagnostic {
    Diagnostic::error("empty-file", format!("`{}` is empty", places.file()))
        .at(places.start(), "nothing but blanks and comments")
        .hint("start from the worked example, `inventories/chronos-prod.yaml`")
}

/// A mapping or list that has begun.
struct Frame {
    path: String,
    /// Key and its place, where this collection is the value of one.
    key: Option<Span>,
    start: Mark,
    inside: Inside,
}

enum Inside {
    List(Vec<Value>),
    Map {
        entries: Map<String, Value>,
        /// The key whose value comes next; `None` in its text where the key stood before and its value is dropped.
        pending: Option<(String, Span, bool)>,
    },
}

struct Reader<'text> {
    lines: Vec<&'text str>,
    places: Places,
    problems: Vec<Diagnostic>,
    stack: Vec<Frame>,
    root: Option<Value>,
    documents: usize,
    values: usize,
}

impl Reader<'_> {
    /// Takes one event in. `Err` where reading on makes no sense.
    fn event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Box<Diagnostic>> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Box::new(
                        Diagnostic::error(
                            "several-documents",
                            format!("`{}` holds more than one YAML document", self.places.file()),
                        )
                        .at(self.span(mark), "the second one begins here")
                        .hint("an inventory is one document: move the second one to a file of its own"),
                    ));
                }
                Ok(())
            }
            Event::Scalar(text, style, _, tag) => self.scalar(&text, style, tag.as_ref(), mark),
            Event::MappingStart(_, tag) => {
                self.open(tag.as_ref(), mark, Inside::Map { entries: Map::new(), pending: None })
            }
            Event::SequenceStart(_, tag) => self.open(tag.as_ref(), mark, Inside::List(Vec::new())),
            Event::MappingEnd | Event::SequenceEnd => {
                self.close(mark);
                Ok(())
            }
            Event::Alias(_) => Err(Box::new(
                Diagnostic::error(
                    "yaml-alias",
                    "an inventory has no aliases: a reader must see every value where it counts",
                )
                .at(self.span(mark), "this stands for something written elsewhere")
                .hint("write the value out here"),
            )),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Cow<'_, Tag>>,
        mark: Mark,
    ) -> Result<(), Box<Diagnostic>> {
        let mut span = self.span(mark);
        if let Some(quote) = quote_of(style)
            && self.line(span.line).len() <= LONGEST_MEASURED_LINE
        {
            span.length = quoted_length(self.line(span.line), span.column - 1, quote);
        }
        if let Some(Frame { path, inside: Inside::Map { entries, pending }, .. }) = self.stack.last_mut()
            && pending.is_none()
        {
            if text.chars().count() > LONGEST_KEY {
                return Err(Box::new(
                    Diagnostic::error("yaml-key", "this key is too long to be one")
                        .at(span, format!("more than {LONGEST_KEY} characters")),
                ));
            }
            if style == ScalarStyle::Plain
                && let Some(why) = two_meanings(text)
            {
                self.problems.push(ambiguous(text, why, span.clone()));
            }
            let again = entries.contains_key(text);
            if again {
                let first = self.places.key(&child(path, text));
                let within = if path.is_empty() { "the inventory".to_owned() } else { format!("`{path}`") };
                self.problems.push(
                    Diagnostic::error("duplicate-key", format!("`{text}` stands twice in {within}"))
                        .at(span.clone(), "again here")
                        .at(first, "first here")
                        .hint("give one of them another name, or merge the two"),
                );
            }
            *pending = Some((text.to_owned(), span, again));
            return Ok(());
        }
        untagged(tag, &span)?;
        let unclear = two_meanings(text).filter(|_| style == ScalarStyle::Plain);
        let value = if let Some(why) = unclear {
            self.problems.push(ambiguous(text, why, span.clone()));
            // As an empty one, which nobody complains about a second time.
            Value::Null
        } else if style == ScalarStyle::Plain {
            plain(text).unwrap_or_else(|why| {
                self.problems.push(
                    Diagnostic::error("yaml-number", format!("`{text}` {why}"))
                        .at(span.clone(), "not a decimal number")
                        .hint("write decimal digits, or put a text in quotes"),
                );
                Value::from(1)
            })
        } else {
            Value::from(text)
        };
        let (path, key) = self.next_path();
        if value.is_null() && unclear.is_none() {
            let at = key.clone().unwrap_or_else(|| span.clone());
            self.problems.push(no_value(&path, at));
        }
        self.place(value, &path, key, span, false)
    }

    fn open(&mut self, tag: Option<&Cow<'_, Tag>>, mark: Mark, inside: Inside) -> Result<(), Box<Diagnostic>> {
        let span = self.span(mark);
        untagged(tag, &span)?;
        if let Some(Frame { inside: Inside::Map { pending: None, .. }, .. }) = self.stack.last() {
            return Err(Box::new(
                Diagnostic::error("yaml-key", "a key must be a word, not a list or a mapping")
                    .at(span, "used as a key")
                    .hint("values such as `{{ name }}` must be in quotes"),
            ));
        }
        if self.stack.len() >= DEEPEST {
            return Err(Box::new(
                Diagnostic::error("too-deep", format!("`{}` nests deeper than {DEEPEST} levels", self.places.file()))
                    .at(span, "too deep from here on"),
            ));
        }
        let (path, key) = self.next_path();
        self.stack.push(Frame { path, key, start: mark, inside });
        Ok(())
    }

    fn close(&mut self, mark: Mark) {
        let frame = self.stack.pop().expect("the parser closes only what it opened");
        let value = match frame.inside {
            Inside::List(items) => Value::Array(items),
            Inside::Map { entries, .. } => Value::Object(entries),
        };
        let mut span = self.span(frame.start);
        if mark.end.line() == frame.start.start.line() {
            span.length = mark.end.col().saturating_sub(frame.start.start.col());
        }
        // A full count of values was checked when its items were placed; the collection itself cannot be the last straw.
        let _ = self.place(value, &frame.path, frame.key, span, true);
    }

    /// The path of the value that comes next, and the place of its key.
    fn next_path(&self) -> (String, Option<Span>) {
        match self.stack.last() {
            None => (String::new(), None),
            Some(Frame { path, inside, .. }) => match inside {
                Inside::List(items) => (item(path, items.len()), None),
                Inside::Map { pending, .. } => {
                    let (key, span, _) = pending.as_ref().expect("a value follows its key");
                    (child(path, key), Some(span.clone()))
                }
            },
        }
    }

    /// Puts a finished value where it belongs. Of a key that stands twice the first value counts.
    fn place(
        &mut self,
        value: Value,
        path: &str,
        key: Option<Span>,
        span: Span,
        collection: bool,
    ) -> Result<(), Box<Diagnostic>> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(Box::new(
                Diagnostic::error(
                    "too-many-values",
                    format!("`{}` holds more than {MOST_VALUES} values", self.places.file()),
                )
                .at(span, "too many from here on"),
            ));
        }
        let mut again = false;
        match self.stack.last_mut().map(|frame| &mut frame.inside) {
            None => self.root = Some(value),
            Some(Inside::List(items)) => items.push(value),
            Some(Inside::Map { entries, pending }) => {
                let (name, _, twice) = pending.take().expect("a value follows its key");
                again = twice;
                if !twice {
                    entries.insert(name, value);
                }
            }
        }
        if !again {
            self.places.insert(path, Position { key, value: span, collection });
        }
        Ok(())
    }

    /// A span of one line; what goes on in further lines ends with its first.
    fn span(&self, mark: Mark) -> Span {
        let (line, column) = (mark.start.line(), mark.start.col());
        let end = if mark.end.line() == line { mark.end.col() } else { self.line(line).chars().count() };
        Span { file: self.places.file().to_owned(), line, column: column + 1, length: end.saturating_sub(column) }
    }

    /// A line, counted from 1, without its end.
    fn line(&self, number: usize) -> &str {
        self.lines.get(number.saturating_sub(1)).copied().unwrap_or("")
    }

    fn syntax(&self, error: &saphyr_parser::ScanError) -> Diagnostic {
        let marker = error.marker();
        let line = self.line(marker.line());
        let at = Span { file: self.places.file().to_owned(), line: marker.line(), column: marker.col() + 1, length: 0 };
        let problem = Diagnostic::error("yaml-syntax", "this is not YAML").at(at, error.info());
        let indent: &str = &line[..line.len() - line.trim_start().len()];
        if indent.contains('\t') {
            problem.hint("YAML is indented with blanks; replace the tab")
        } else {
            problem.hint("the mistake may stand a line earlier: look for a missing colon, quote, bracket or blank")
        }
    }
}

fn untagged(tag: Option<&Cow<'_, Tag>>, span: &Span) -> Result<(), Box<Diagnostic>> {
    match tag {
        None => Ok(()),
        Some(tag) => Err(Box::new(
            Diagnostic::error("yaml-tag", format!("an inventory has no tags such as `{tag}`"))
                .at(span.clone(), "tagged here")
                .hint("leave the tag away; put quotes around what must be text"),
        )),
    }
}

fn quote_of(style: ScalarStyle) -> Option<char> {
    match style {
        ScalarStyle::SingleQuoted => Some('\''),
        ScalarStyle::DoubleQuoted => Some('"'),
        ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => None,
    }
}

/// Characters of a quoted scalar with its quotes, or to the end of its first line. The parser's own end mark stands
/// behind the blanks and the comment that follow.
fn quoted_length(line: &str, start: usize, quote: char) -> usize {
    let rest: Vec<char> = line.chars().skip(start).collect();
    let mut at = 1;
    while at < rest.len() {
        if rest[at] == '\\' && quote == '"' {
            at += 2;
        } else if rest[at] != quote {
            at += 1;
        } else if quote == '\'' && rest.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    rest.len()
}

fn no_value(path: &str, at: Span) -> Diagnostic {
    if path.is_empty() {
        return Diagnostic::error("empty-file", format!("`{}` is empty", at.file))
            .at(at, "no value")
            .hint("start from the worked example, `inventories/chronos-prod.yaml`");
    }
    let problem = Diagnostic::error("empty-value", format!("`{path}` has no value")).at(at, "nothing follows");
    // `{port:22}` is a key without a value.
    if path.contains(':') {
        return problem.hint("put a blank after the colon: `key: value`");
    }
    problem.hint("write `{}` for a section with its defaults, `\"\"` for an empty text, or remove the line")
}

fn ambiguous(text: &str, why: &str, at: Span) -> Diagnostic {
    Diagnostic::error("ambiguous-yaml", format!("`{text}` can be read in more than one way: {why}"))
        .at(at, "without quotes")
        .hint("put quotes around a text; write a number with decimal digits alone, and `true` or `false`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decision 9: what readers of YAML 1.1 and 1.2 understand differently is refused, as a value and as a key.
    #[test]
    fn what_has_two_meanings_is_refused() {
        for text in [
            "no",
            "No",
            "NO",
            "n",
            "N",
            "off",
            "Off",
            "yes",
            "YES",
            "y",
            "on",
            "ON",
            "012",
            "012345670123",
            "+012",
            "00",
            "0_0",
            "08",
            "1_000",
            "+22",
            "1:30",
            "22:22",
            "190:20:30",
            "12:30:45.5",
            "2001-01-01",
            "2001-1-1T10:00:00Z",
            "=",
            "<<",
        ] {
            assert!(two_meanings(text).is_some(), "{text}");
            for file in [format!("key: {text}\n"), format!("key: [{text}]\n"), format!("{text}: value\n")] {
                let codes: Vec<String> = read("f", &file).problems.into_iter().map(|problem| problem.code).collect();
                assert!(codes.contains(&"ambiguous-yaml".to_owned()), "{file}: {codes:?}");
            }
            let quoted = read("f", &format!("key: \"{text}\"\nother: '{text}'\n"));
            assert!(quoted.problems.is_empty(), "{text}: {:?}", quoted.problems);
        }
    }

    #[test]
    fn places_are_exact() {
        let read = read("f.yaml", "\u{e9}: 1\naws:\n  region: \"c\\\"a\"   # here\n  list: [ab, {c: d}]\n");
        assert!(read.problems.is_empty());
        let at = |path: &str| {
            let span = read.places.span(path);
            (span.line, span.column, span.length)
        };
        assert_eq!(at("\u{e9}"), (1, 4, 1));
        assert_eq!(at("aws"), (2, 1, 3));
        assert_eq!(at("aws.region"), (3, 11, 6));
        assert_eq!(at("aws.list"), (4, 3, 4));
        assert_eq!(at("aws.list[0]"), (4, 10, 2));
        assert_eq!(at("aws.list[1]"), (4, 14, 6));
        assert_eq!(at("aws.list[1].c"), (4, 18, 1));
    }
}
