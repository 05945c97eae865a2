//! Restores that stand on the server: copies take disk and memory, and one in place keeps everything from being archived.

use serde::{Deserialize, Serialize};

use crate::plan::remark::Remark;

/// Lines `NAME PURPOSE SECONDS`: the order's name, what it is for, and how long ago it was ordered. Of those in place, only
/// the newest that waits: the others are decided with it or before.
const ASK: &str = r#"cd /etc/seawall/restores 2>/dev/null || exit 0
now=$(date +%s) waiting=$(tail -n 1 in-place 2>/dev/null)
for order in *.conf; do
    [ -f "$order" ] || continue
    purpose=$(sed -n 's/^purpose=//p' "$order" | head -n 1)
    [ "$purpose" != in-place ] || [ "${order%.conf}" = "$waiting" ] || continue
    printf '%s %s %s\n' "${order%.conf}" "$purpose" "$((now - $(stat -c %Y "$order")))"
done"#;
/// Seconds from which an age is told in hours.
const HOURS_FROM: u64 = 2 * 3_600;

/// A restore that nobody has removed, accepted or undone yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub name: String,
    /// `beside`, `drill` or `in-place`.
    pub purpose: String,
    /// Seconds since it was ordered.
    pub age: u64,
}

/// The question about them, as a command.
pub(super) fn query() -> [&'static str; 3] {
    ["sh", "-c", ASK]
}

/// What was answered. Orders are root's files with names that Seawall gave; what has another form is none of them.
pub(super) fn read(stdout: &str) -> Vec<Standing> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let (name, purpose, age) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        plain.then(|| Standing { name: name.to_owned(), purpose: purpose.to_owned(), age })
    };
    stdout.lines().filter_map(line).collect()
}

impl Standing {
    pub(super) fn remark(&self) -> Remark {
        let Self { name, purpose, age } = self;
        let age = if *age < HOURS_FROM { format!("{} min", age / 60) } else { format!("{} h", age / 3_600) };
        match purpose.as_str() {
            "in-place" => Remark::broken(format!(
                "restore {name} in place waits for {age}, and nothing is archived meanwhile: `seawall restore accept {name}` or `undo {name}`"
            )),
            _ => format!(
                "restore {name} ({purpose}) stands on the server for {age}: `seawall restore drop {name}` removes it"
            )
            .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_is_told_with_its_age() {
        let found = read("rows beside 7199\nback in-place 7200\n../x beside 1\n* beside 5\nshort\nold beside soon\n");
        let remarks: Vec<Remark> = found.iter().map(Standing::remark).collect();
        assert_eq!(
            remarks,
            [
                "restore rows (beside) stands on the server for 119 min: `seawall restore drop rows` removes it".into(),
                Remark::broken(
                    "restore back in place waits for 2 h, and nothing is archived meanwhile: `seawall restore accept back` or `undo back`"
                ),
            ]
        );
    }
}
