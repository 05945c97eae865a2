//! The structural check: an inventory as plain JSON against the schema, every departure as a message with its place.
//!
//! The schema is generated from the types, so what passes here deserialises, save for corners that only serde knows.

use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use crate::base::diag::Diagnostic;
use crate::inventory::names::{GroupName, SqlName, TableName};
use crate::inventory::places::{Places, child, item};
use crate::inventory::public_key::PublicKey;
use crate::inventory::scalar::{BadScalar, Cidr, HourOfDay, Money, Name, TimeSpan};
use crate::inventory::schedule::Schedule;
use crate::inventory::schema::schema;
use crate::inventory::similar::{choices, similar};

/// A scalar's parser, reduced to what is wrong.
type Complaint = fn(&str) -> Option<BadScalar>;

/// The formats of the schema and the parsers behind them. A test holds this in step with the schema.
const FORMATS: [(&str, Complaint); 10] = [
    ("seawall-name", |text| text.parse::<Name>().err()),
    ("seawall-duration", |text| text.parse::<TimeSpan>().err()),
    ("seawall-money", |text| text.parse::<Money>().err()),
    ("seawall-hour", |text| text.parse::<HourOfDay>().err()),
    ("seawall-cidr", |text| text.parse::<Cidr>().err()),
    ("seawall-public-key", |text| text.parse::<PublicKey>().err()),
    ("seawall-sql-name", |text| text.parse::<SqlName>().err()),
    ("seawall-sql-group", |text| text.parse::<GroupName>().err()),
    ("seawall-sql-table", |text| text.parse::<TableName>().err()),
    ("seawall-schedule", |text| text.parse::<Schedule>().err()),
];

struct Rules {
    schema: Value,
    validator: Validator,
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let schema = schema();
    let mut options = jsonschema::options().should_validate_formats(true);
    for (name, complaint) in FORMATS {
        options = options.with_format(name, move |text: &str| complaint(text).is_none());
    }
    let validator = options.build(&schema).expect("the generated schema is a valid one");
    Rules { schema, validator }
});

/// Every structural problem, in the file's order.
pub(super) fn problems(value: &Value, places: &Places) -> Vec<Diagnostic> {
    let context = Context { root: value, places };
    let mut found: Vec<Diagnostic> =
        RULES.validator.iter_errors(value).flat_map(|error| context.explain(&error)).collect();
    found.sort_by(|a, b| {
        let first = |d: &Diagnostic| d.labels.first().map(|label| (label.span.line, label.span.column));
        first(a).cmp(&first(b))
    });
    found
}

struct Context<'a> {
    root: &'a Value,
    places: &'a Places,
}

impl Context<'_> {
    fn explain(&self, error: &ValidationError<'_>) -> Vec<Diagnostic> {
        let instance = error.instance().as_ref();
        let path = self.path(error.instance_path().as_str());
        // An empty value has been reported by the reader already.
        if instance.is_null() {
            return Vec::new();
        }
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = keys(error);
                unexpected.iter().map(|key| self.unknown_key(&path, key, &known)).collect()
            }
            ValidationErrorKind::Required { property } => {
                vec![self.missing_key(&path, property.as_str().unwrap_or_default(), error)]
            }
            ValidationErrorKind::Type { kind } => {
                // `15` where `15m` was meant: the scalar's own words help more than the type's.
                let format = beside(error, "format").and_then(Value::as_str);
                match (instance, format) {
                    (Value::Number(number), Some(format)) if complaint(format, &number.to_string()).is_some() => {
                        vec![self.bad_value(&path, &Value::from(number.to_string()), format)]
                    }
                    _ => vec![self.wrong_type(&path, instance, &wanted(kind))],
                }
            }
            ValidationErrorKind::Format { format } => vec![self.bad_value(&path, instance, format)],
            ValidationErrorKind::PropertyNames { error: inner } => vec![self.bad_key(&path, inner)],
            ValidationErrorKind::Enum { .. } => vec![self.wrong_word(&path, instance, &words(error.kind()))],
            ValidationErrorKind::OneOfNotValid { context } => {
                let words: Vec<String> = context.iter().flatten().flat_map(|e| words(e.kind())).collect();
                vec![self.wrong_word(&path, instance, &words)]
            }
            ValidationErrorKind::AnyOf { context } => self.alternatives(&path, instance, error, context),
            ValidationErrorKind::Minimum { limit } => {
                vec![self.out_of_range(&path, instance, &format!("{limit} or more"))]
            }
            ValidationErrorKind::Maximum { limit } => {
                vec![self.out_of_range(&path, instance, &format!("{limit} or less"))]
            }
            _ => vec![
                Diagnostic::error("bad-value", format!("{} is not as it must be", named(&path)))
                    .at(self.places.span(&path), error.to_string()),
            ],
        }
    }

    fn unknown_key(&self, path: &str, key: &str, known: &[String]) -> Diagnostic {
        let at = self.places.key(&child(path, key));
        let problem = Diagnostic::error("unknown-key", format!("{} has no key `{key}`", named(path)));
        match similar(key, known.iter().map(String::as_str)) {
            Some(near) => problem.at(at, format!("did you mean `{near}`?")),
            None => {
                problem.at(at, "not known here").hint(format!("it takes {}", choices(known.iter().map(String::as_str))))
            }
        }
    }

    fn missing_key(&self, path: &str, key: &str, error: &ValidationError<'_>) -> Diagnostic {
        let problem = Diagnostic::error("missing-key", format!("{} needs `{key}`", named(path)))
            .at(self.places.span(path), format!("`{key}` is missing"));
        let pointer = format!("properties/{key}/description");
        match beside(error, &pointer).and_then(Value::as_str) {
            Some(help) => problem.note(format!("`{key}`: {}", help.trim_end_matches('.'))),
            None => problem,
        }
    }

    fn wrong_type(&self, path: &str, instance: &Value, wanted: &[&str]) -> Diagnostic {
        let is = describe(instance);
        let problem = Diagnostic::error(
            "wrong-type",
            format!("{} must be {}, and this is {is}", named(path), wanted.join(" or ")),
        )
        .at(self.places.span(path), is);
        match (instance, wanted) {
            (Value::Number(number), ["a text"]) if !number.is_f64() => {
                problem.hint(format!("put it in quotes: `\"{number}\"`"))
            }
            (Value::Number(_) | Value::Bool(_), ["a text"]) => problem.hint("put it in quotes"),
            (Value::String(text), ["`true` or `false`"]) => match text.to_lowercase().as_str() {
                "yes" | "on" | "y" => problem.hint("YAML 1.2 reads this as text; write `true`"),
                "no" | "off" | "n" => problem.hint("YAML 1.2 reads this as text; write `false`"),
                _ => problem,
            },
            (Value::String(text), ["a whole number" | "a number"]) if text.parse::<i64>().is_ok() => problem
                .hint(if text.starts_with('0') { "leave the leading zero away" } else { "leave the quotes away" }),
            (Value::Object(_), ["a list"]) => problem.hint("begin each item with `- `"),
            (_, ["a list"]) => problem.hint("put it in brackets: `[…]`"),
            _ => problem,
        }
    }

    fn bad_value(&self, path: &str, instance: &Value, format: &str) -> Diagnostic {
        let text = instance.as_str().unwrap_or_default();
        let why = complaint(format, text).unwrap_or_else(|| format!("{} is not as it must be", named(path)));
        Diagnostic::error("bad-value", why).at(self.places.span(path), named(path))
    }

    fn bad_key(&self, path: &str, inner: &ValidationError<'_>) -> Diagnostic {
        let key = inner.instance().as_str().unwrap_or_default();
        let why = match inner.kind() {
            ValidationErrorKind::Format { format } => complaint(format, key),
            _ => None,
        };
        Diagnostic::error("bad-name", why.unwrap_or_else(|| format!("`{key}` cannot be a name here")))
            .at(self.places.key(&child(path, key)), format!("a name in {}", named(path)))
    }

    fn wrong_word(&self, path: &str, instance: &Value, words: &[String]) -> Diagnostic {
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.dedup();
        let takes = choices(words.iter().copied());
        let Some(word) = instance.as_str() else {
            let is = describe(instance);
            return Diagnostic::error("wrong-type", format!("{} takes {takes}, and this is {is}", named(path)))
                .at(self.places.span(path), is);
        };
        let problem = Diagnostic::error("unknown-word", format!("{} takes {takes}, not `{word}`", named(path)));
        let at = self.places.span(path);
        match similar(word, words) {
            Some(near) => problem.at(at, format!("did you mean `{near}`?")),
            None => problem.at(at, "not one of them"),
        }
    }

    fn out_of_range(&self, path: &str, instance: &Value, limit: &str) -> Diagnostic {
        Diagnostic::error("out-of-range", format!("{} must be {limit}, and this is {instance}", named(path)))
            .at(self.places.span(path), format!("must be {limit}"))
    }

    /// One of several shapes was wanted. If one of them is clearly meant, its own problems are told; else all are named.
    fn alternatives(
        &self,
        path: &str,
        instance: &Value,
        error: &ValidationError<'_>,
        context: &[Vec<ValidationError<'static>>],
    ) -> Vec<Diagnostic> {
        let same_type = |branch: &&Vec<ValidationError<'static>>| {
            !branch.iter().any(|e| {
                matches!(e.kind(), ValidationErrorKind::Type { .. }) && e.instance_path() == error.instance_path()
            })
        };
        let mut candidates: Vec<(usize, &Vec<ValidationError<'static>>)> =
            context.iter().filter(same_type).map(|branch| (distance(branch), branch)).collect();
        candidates.sort_by_key(|(distance, _)| *distance);
        let nothing_written = instance.as_object().is_some_and(serde_json::Map::is_empty);
        let meant = match candidates.as_slice() {
            [(_, only)] => Some(only),
            [(best, branch), (second, _), ..] if best < second && !nothing_written => Some(branch),
            _ => None,
        };
        let told: Vec<Diagnostic> =
            meant.map(|branch| branch.iter().flat_map(|inner| self.explain(inner)).collect()).unwrap_or_default();
        // A text that is not the one word: the other shapes are worth naming too.
        if !told.is_empty() && !instance.is_string() {
            return told;
        }
        let is = describe(instance);
        let takes = beside(error, "description").and_then(Value::as_str).map_or_else(String::new, lower_first);
        let mut problem = Diagnostic::error("wrong-shape", format!("{} takes {takes}, and this is {is}", named(path)))
            .at(self.places.span(path), is);
        if let Value::String(text) = instance {
            if let Some(inner) = told.first().and_then(|d| d.labels.first())
                && inner.text.starts_with("did you mean")
            {
                problem.labels[0].text.clone_from(&inner.text);
            } else if text.parse::<Cidr>().is_ok() {
                problem = problem.hint(format!("a list stands in brackets, also of one: `[{text}]`"));
            }
        }
        let keys: Vec<String> = shapes(error);
        if !keys.is_empty() {
            problem = problem.hint(format!("write {}", keys.join(", or ")));
        }
        vec![problem]
    }

    /// A JSON pointer as a dotted path.
    fn path(&self, pointer: &str) -> String {
        let mut path = String::new();
        let mut at = Some(self.root);
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            match at {
                Some(Value::Array(items)) => {
                    let index = part.parse().unwrap_or_default();
                    path = item(&path, index);
                    at = items.get(index);
                }
                other => {
                    at = other.and_then(|value| value.get(&part));
                    path = child(&path, &part);
                }
            }
        }
        path
    }
}

/// What a parser says about a text.
fn complaint(format: &str, text: &str) -> Option<String> {
    let (_, complain) = FORMATS.iter().find(|(name, _)| *name == format)?;
    complain(text).map(|why| why.0)
}

/// How far an alternative is from what was written: every key too many and every other problem counts one.
fn distance(branch: &[ValidationError<'static>]) -> usize {
    branch
        .iter()
        .map(|error| match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => unexpected.len(),
            _ => 1,
        })
        .sum()
}

/// What stands in the schema beside the keyword that failed.
fn beside(error: &ValidationError<'_>, relative: &str) -> Option<&'static Value> {
    let pointer = error.schema_path().as_str();
    let (parent, _) = pointer.rsplit_once('/')?;
    RULES.schema.pointer(&format!("{parent}/{relative}"))
}

/// The keys that a mapping may have.
fn keys(error: &ValidationError<'_>) -> Vec<String> {
    beside(error, "properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().cloned().collect())
        .unwrap_or_default()
}

/// The shapes of alternatives that are mappings: "`{ server, file }`".
fn shapes(error: &ValidationError<'_>) -> Vec<String> {
    let alternatives = beside(error, "anyOf").and_then(Value::as_array);
    let required = |schema: &Value| -> Option<String> {
        let keys: Vec<&str> = schema["required"].as_array()?.iter().filter_map(Value::as_str).collect();
        Some(format!("`{{ {}: … }}`", keys.join(": …, ")))
    };
    alternatives.map(|all| all.iter().filter_map(required).collect()).unwrap_or_default()
}

/// The words that an enumeration offers.
fn words(kind: &ValidationErrorKind) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match kind {
        ValidationErrorKind::Enum { options } => {
            options.as_array().map(|all| all.iter().filter_map(text).collect()).unwrap_or_default()
        }
        ValidationErrorKind::Constant { expected_value } => text(expected_value).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn wanted(kind: &TypeKind) -> Vec<&'static str> {
    let names: Vec<String> = match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(set) => set.iter().map(|one| one.to_string()).collect(),
    };
    names
        .iter()
        .map(|name| match name.as_str() {
            "string" => "a text",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "`true` or `false`",
            "array" => "a list",
            "object" => "a mapping of keys to values",
            _ => "nothing",
        })
        .collect()
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(true) => "`true`",
        Value::Bool(false) => "`false`",
        Value::Number(number) if number.is_f64() => "a number with a point",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// A path for a sentence.
fn named(path: &str) -> String {
    if path.is_empty() { "the inventory".to_owned() } else { format!("`{path}`") }
}

/// The first sentence of a description, to go on a sentence with.
fn lower_first(text: &str) -> String {
    let sentence = text.split(". ").next().unwrap_or_default().trim_end_matches('.');
    let mut chars = sentence.chars();
    let lower: String = chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default();
    match lower.strip_prefix("where ") {
        Some(rest) => format!("a reference to where {rest}"),
        None => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats(schema: &Value, found: &mut std::collections::BTreeSet<String>) {
        match schema {
            Value::Array(items) => items.iter().for_each(|inner| formats(inner, found)),
            Value::Object(fields) => {
                if let Some(Value::String(format)) = fields.get("format") {
                    found.insert(format.clone());
                }
                fields.values().for_each(|inner| formats(inner, found));
            }
            _ => {}
        }
    }

    #[test]
    fn every_scalar_of_the_schema_has_its_parser() {
        let mut found = std::collections::BTreeSet::new();
        formats(&schema(), &mut found);
        found.retain(|format| format.starts_with("seawall-"));
        let ours: std::collections::BTreeSet<String> = FORMATS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, ours);
    }
}
