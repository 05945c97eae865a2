//! Values as a person would write them, on one line.

use serde_json::{Map, Number, Value};

use crate::view::text::{is_dangerous, without_long_keys};

/// Longest value that is printed on a line, in characters; the rest is counted. Documents that are longer have a
/// block of their own with `-v`.
pub const LONGEST: usize = 160;

/// Characters of what two long texts have in common that are shown before their first difference.
const BEFORE_DIFFERENCE: usize = 24;

/// Largest whole number that a float holds exactly: 2 to the power of 53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value or its absence.
pub fn side(value: Option<&Value>) -> String {
    value.map_or_else(|| "(absent)".to_owned(), one_line)
}

/// A value before and after. Where the sides are too long to be shown whole, what they have in common at their
/// beginning is left out, so that the difference is among what is shown.
pub fn sides(before: Option<&Value>, after: Option<&Value>) -> String {
    let text = |value: Option<&Value>| value.map_or_else(|| "(absent)".to_owned(), whole);
    let (old, new) = (text(before), text(after));
    let common = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
    let too_long = old.chars().count().max(new.chars().count()) > LONGEST;
    if old != new && too_long && common > BEFORE_DIFFERENCE {
        let cut =
            |text: &str| shortened(&format!("…{}", text.chars().skip(common - BEFORE_DIFFERENCE).collect::<String>()));
        return format!("{} → {}", cut(&old), cut(&new));
    }
    format!("{} → {}", shortened(&old), shortened(&new))
}

/// A value on one line, shortened.
pub fn one_line(value: &Value) -> String {
    shortened(&whole(value))
}

/// A value on one line. Members of an object that are off, empty or not set are left out.
pub fn whole(value: &Value) -> String {
    match value {
        Value::Object(fields) => members(fields),
        other => plain(other),
    }
}

fn members(fields: &Map<String, Value>) -> String {
    let said: Vec<String> = fields
        .iter()
        .filter(|(_, value)| !says_nothing(value))
        .map(|(key, value)| format!("{} {}", string(key), plain(value)))
        .collect();
    if said.is_empty() { "(nothing set)".to_owned() } else { said.join(", ") }
}

/// Whether a member of an object is as good as not there.
pub fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(says_nothing),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= LONGEST {
        return text.to_owned();
    }
    let head: String = text.chars().take(LONGEST).collect();
    format!("{head}… ({} more characters)", count - LONGEST)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => numeral(number),
        Value::String(text) => without_long_keys(&string(text)),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => format!("{{ {} }}", members(fields)),
    }
}

/// Whole numbers without a fraction, whatever type carried them.
fn numeral(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => format!("{float:.0}"),
        _ => number.to_string(),
    }
}

/// Unquoted where nobody could take it for something else. Control characters are escaped: a value from a host must
/// not be able to write to the operator's terminal.
fn string(text: &str) -> String {
    let clear = !text.is_empty()
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && text.chars().all(|c| !is_dangerous(c) && !matches!(c, '"' | ',' | '{' | '}' | '[' | ']'));
    if clear { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_read_like_prose() {
        let cases = [
            (json!("small_3_0"), "small_3_0"),
            (json!(true), "yes"),
            (json!(["22", "80"]), "[22, 80]"),
            (json!({ "a": 1, "b": "x y" }), "a 1, b x y"),
            (json!({ "a": 1, "b": null, "c": false, "d": "", "e": [], "f": { "g": null } }), "a 1"),
            (json!({ "a": { "b": [{ "c": true }] } }), "a { b [{ c yes }] }"),
            (json!({ "a": null }), "(nothing set)"),
            (json!(""), "\"\""),
            (json!(42_949_672_960.0), "42949672960"),
            (json!(0.5), "0.5"),
            (json!(1e300), "1e+300"),
            (json!(-3), "-3"),
            (json!("a\u{1b}[2J"), "\"a\\u{1b}[2J\""),
            (json!("a\u{202e}b"), "\"a\\u{202e}b\""),
        ];
        for (value, expected) in cases {
            assert_eq!(one_line(&value), expected);
        }
        assert_eq!(side(None), "(absent)");
        assert!(one_line(&json!("x".repeat(500))).ends_with("… (340 more characters)"));
    }

    #[test]
    fn the_difference_of_long_values_is_shown() {
        let (old, new) = (json!(format!("{}old", "x".repeat(300))), json!(format!("{}new", "x".repeat(300))));
        let xs = "x".repeat(24);
        assert_eq!(sides(Some(&old), Some(&new)), format!("…{xs}old → …{xs}new"));
        assert_eq!(sides(None, Some(&json!(1))), "(absent) → 1");
    }
}
