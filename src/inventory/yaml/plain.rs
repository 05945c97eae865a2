//! What a plain scalar, one without quotes, means.

use serde_json::Value;

/// What a reader of YAML 1.1 takes a plain scalar for, where 1.2 has a text, or another number. Most tools read 1.1.
pub(super) fn two_meanings(text: &str) -> Option<&'static str> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_digit()) && part.bytes().all(|b| b.is_ascii_digit() || b == b'_')
    };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "on" => return Some("YAML 1.1 reads it as true"),
        "n" | "no" | "off" => return Some("YAML 1.1 reads it as false"),
        "=" | "<<" => return Some("it has a meaning of its own in YAML 1.1"),
        _ => {}
    }
    if number(unsigned) && unsigned.len() > 1 && unsigned.starts_with('0') {
        return Some("YAML 1.1 reads a number that begins with 0 as octal");
    }
    if number(unsigned) && unsigned.contains('_') {
        return Some("YAML 1.1 leaves the underscores out of a number");
    }
    if text.starts_with('+') && number(unsigned) {
        return Some("some readers take it for a number and some for a text");
    }
    if let Some((first, rest)) = unsigned.split_once(':') {
        let sixty = |part: &str| digits(part) && part.len() <= 2 && (part.len() == 1 || part.as_bytes()[0] <= b'5');
        let (whole, fraction) = rest.split_once('.').unwrap_or((rest, "0"));
        if number(first)
            && !first.starts_with('0')
            && whole.split(':').all(sixty)
            && (fraction.is_empty() || number(fraction))
        {
            return Some("YAML 1.1 reads it as a number to the base of sixty");
        }
    }
    let mut date = text.splitn(3, '-');
    if let (Some(year), Some(month), Some(rest)) = (date.next(), date.next(), date.next()) {
        let day: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let after = rest[day.len()..].chars().next();
        if digits(year)
            && year.len() == 4
            && digits(month)
            && month.len() <= 2
            && (1..=2).contains(&day.len())
            && after.is_none_or(|c| matches!(c, 't' | 'T' | ' '))
        {
            return Some("YAML 1.1 reads it as a date");
        }
    }
    None
}

/// A plain scalar by YAML 1.2's core schema. `Err` says what is wrong with a number that nobody should write.
pub(super) fn plain(text: &str) -> Result<Value, &'static str> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    match digits.to_ascii_lowercase().as_str() {
        ".inf" | ".nan" => return Err("cannot be compared with anything"),
        lower if radix(lower) => return Err("is a number in another base than ten"),
        _ => {}
    }
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    // `0123` was octal in YAML 1.1: `two_meanings` has refused it.
    let leading_zero = digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit()) && digits.starts_with('0');
    if !numeric || leading_zero {
        return Ok(Value::from(text));
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    if let Ok(number) = unsigned.parse::<u64>() {
        return Ok(Value::from(number));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(Value::from(number));
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Value::from(number)),
        _ => Ok(Value::from(text)),
    }
}

fn radix(lower: &str) -> bool {
    [("0x", 16), ("0o", 8), ("0b", 2)].iter().any(|(prefix, base)| {
        lower.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(*base)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars() {
        for (text, value) in [
            ("22", Value::from(22)),
            ("-1", Value::from(-1)),
            ("1.5", Value::from(1.5)),
            ("yes", Value::from("yes")),
            ("on", Value::from("on")),
            ("022", Value::from("022")),
            ("1_000", Value::from("1_000")),
            ("203.0.113.7", Value::from("203.0.113.7")),
            ("22:22", Value::from("22:22")),
            ("True", Value::Bool(true)),
            ("~", Value::Null),
        ] {
            assert_eq!(plain(text), Ok(value), "{text}");
        }
        for bad in ["0x16", "0o26", "0b1", ".inf", "-.INF", ".nan"] {
            assert!(plain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_means_one_thing_everywhere_is_taken() {
        let plain =
            ["0", "1", "22", "-1", "-0", "1.5", "none", "one", "note", "8080:80", "02:00", "203.0.113.7", "a:b", "10m"];
        for text in plain {
            assert_eq!(two_meanings(text), None, "{text}");
        }
    }
}
