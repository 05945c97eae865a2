//! Whether two texts are one value of a setting: `1GB` is `1024MB`, `on` is `true`, `5min` is `300s`.
//!
//! Units are PostgreSQL's own ("Parameter Names and Values"); the unit of a bare number is the setting's.

/// Whether a wanted value is what a setting has. `unit` is the setting's, as `pg_settings` gives it.
pub(crate) fn same(wanted: &str, has: &str, unit: Option<&str>) -> bool {
    // A word of a list that PostgreSQL keeps: it gives them back in lower case. In a format, case and blanks count.
    let word = has.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
    if wanted == has || (word && wanted.trim().eq_ignore_ascii_case(has)) {
        return true;
    }
    let (wanted, has) = (wanted.trim(), has.trim());
    if let (Some(a), Some(b)) = (switch(wanted), switch(has)) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (amount(wanted, unit), amount(has, unit)) {
        // Whole units: PostgreSQL rounds what is between.
        return (a - b).abs() < 0.5 * amount("1", unit).unwrap_or(f64::MIN_POSITIVE).min(1.0);
    }
    let list = |text: &str| text.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
    wanted.contains(',') && list(wanted) == list(has)
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// A number with its unit, in bytes or microseconds; without any unit, the number itself.
fn amount(text: &str, unit: Option<&str>) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '+')).unwrap_or(text.len());
    let (number, own) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let own = own.trim();
    let unit = if own.is_empty() { unit.unwrap_or_default() } else { own };
    // `8kB` as a setting's unit: pages.
    let digits = unit.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    let (times, unit) = unit.split_at(digits);
    let times: f64 = if times.is_empty() { 1.0 } else { times.parse().ok()? };
    Some(number * times * factor(unit)?)
}

fn factor(unit: &str) -> Option<f64> {
    const KIB: f64 = 1_024.0;
    Some(match unit {
        "" | "B" | "us" => 1.0,
        "kB" => KIB,
        "MB" => KIB * KIB,
        "GB" => KIB * KIB * KIB,
        "TB" => KIB * KIB * KIB * KIB,
        "ms" => 1e3,
        "s" => 1e6,
        "min" => 60e6,
        "h" => 3_600e6,
        "d" => 86_400e6,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_written_in_two_ways() {
        for (wanted, has, unit) in [
            ("1024MB", "1GB", Some("8kB")),
            ("4096", "4MB", Some("kB")),
            ("65536", "512MB", Some("8kB")),
            ("5min", "300s", Some("s")),
            ("1s", "1000", Some("ms")),
            ("true", "on", None),
            ("1.10", "1.1", None),
            ("pg_stat_statements, timescaledb", "pg_stat_statements,timescaledb", None),
            ("SCRAM-SHA-256", "scram-sha-256", None),
        ] {
            assert!(same(wanted, has, unit), "{wanted} and {has}");
        }
    }

    #[test]
    fn two_values() {
        for (wanted, has, unit) in [
            ("4MB", "8MB", Some("kB")),
            ("100", "101", None),
            ("1.1", "4", None),
            ("on", "off", None),
            ("a,b", "b,a", None),
            ("5min", "5MB", Some("s")),
            ("%m [%p] ", "%m [%p] %q%u@%d ", None),
            ("%m %u ", "%m %U ", None),
            ("%m ", "%m", None),
        ] {
            assert!(!same(wanted, has, unit), "{wanted} and {has}");
        }
    }
}
