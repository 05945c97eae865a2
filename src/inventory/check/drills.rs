//! Checks of drills: questions that a restored copy can be asked without doing anything else.

use crate::inventory::check::{Report, text};
use crate::inventory::names::SqlName;
use crate::inventory::sections::database::Drills;
use crate::inventory::similar::{choices, similar};

/// Characters of a question or an answer; more is a report, not a check.
const LONGEST: usize = 1_000;
/// So many questions at most: each keeps the copy for as long as it takes.
const MOST: usize = 50;
/// A query begins with one of these.
const QUERIES: [&str; 4] = ["select", "with", "table", "values"];

/// `databases` are those that the server declares, and `postgres`, which is always there.
pub(super) fn check(report: &mut Report<'_>, base: &str, section: &Drills, databases: &[SqlName]) {
    if section.checks.len() > MOST {
        let path = format!("{base}.checks");
        report.error("out-of-range", format!("`{path}` has more than {MOST} questions"), &path, "too many");
    }
    for (index, check) in section.checks.iter().enumerate() {
        let base = format!("{base}.checks[{index}]");
        report.text("bad-drill-check", &format!("{base}.sql"), query(&check.sql));
        if let Some(expect) = &check.expect {
            report.text("bad-drill-check", &format!("{base}.expect"), text::line(expect, LONGEST));
        }
        let names = || databases.iter().map(SqlName::as_str).chain(["postgres"]);
        if !names().any(|name| name == check.database.as_str()) {
            let path = format!("{base}.database");
            let message = format!("`{path}` names `{}`, which is not declared", check.database);
            let hint = match similar(check.database.as_str(), names()) {
                Some(near) => format!("a similar name: `{near}`"),
                None => format!("declared are {}", choices(names())),
            };
            report.error("dangling-reference", message, &path, "not declared").hint = Some(hint);
        }
    }
}

/// One query. psql reads it, so a backslash would be a command of its own, and a semicolon a second statement.
fn query(sql: &str) -> Result<(), String> {
    text::line(sql, LONGEST)?;
    let first = sql.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_lowercase();
    if !QUERIES.contains(&first.as_str()) {
        Err(format!("`{sql}` is no query; it begins with `select`, `with`, `table` or `values`"))
    } else if sql.contains(['\\', ';']) {
        Err(format!("`{sql}` has a backslash or a semicolon; it must be one query and nothing else"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_query_and_nothing_else() {
        for good in ["select count(*) from orders", "WITH x AS (select 1) table x", "table orders", "values (1)"] {
            assert_eq!(query(good), Ok(()), "{good}");
        }
        for bad in
            ["", " select 1", "drop table x", "select 1; drop table x", "select 1 \\! id", "select\n1", "selected"]
        {
            assert!(query(bad).is_err(), "{bad}");
        }
    }
}
