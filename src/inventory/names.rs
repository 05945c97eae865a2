//! Names with the rules of somebody else: PostgreSQL's roles and databases.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::inventory::scalar::{BadScalar, text_scalar};

/// PostgreSQL cuts longer identifiers silently (NAMEDATALEN is 64 bytes with the final NUL).
const LONGEST_SQL_NAME: usize = 63;

/// PostgreSQL keeps names that begin with this for the roles that it brings.
const PREDEFINED: &str = "pg_";

fn unnamed(text: &str) -> String {
    format!(
        "`{text}` is not a name for PostgreSQL: 1 to 63 lower-case letters, digits and underscores, not starting with a \
         digit"
    )
}

/// A role or database of PostgreSQL that needs no quotes: lower-case letters, digits and underscores.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SqlName(String);

text_scalar!(
    SqlName,
    "seawall-sql-name",
    "1 to 63 lower-case letters, digits and underscores, not starting with a digit or `pg_`"
);

impl SqlName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SqlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SqlName {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let good = (1..=LONGEST_SQL_NAME).contains(&text.len())
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !good {
            return Err(BadScalar(unnamed(text)));
        }
        if text.starts_with(PREDEFINED) {
            return Err(BadScalar(format!("`{text}` begins with `pg_`, which PostgreSQL keeps for itself")));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A role to belong to: one of this server's, or one that PostgreSQL brings (`pg_monitor`, `pg_read_all_data`, …).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupName(String);

text_scalar!(GroupName, "seawall-sql-group", "the name of a role of this server, or of one that PostgreSQL brings");

impl GroupName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether PostgreSQL brings it: nobody else may begin a name with `pg_`.
    pub fn is_predefined(&self) -> bool {
        self.0.starts_with(PREDEFINED)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GroupName {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let rest = text.strip_prefix(PREDEFINED).unwrap_or(text);
        rest.parse::<SqlName>().map_err(|_| BadScalar(unnamed(text)))?;
        Ok(Self(text.to_owned()))
    }
}

/// A table of a database with its schema, both without quotes: `public.orders`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName(String);

text_scalar!(TableName, "seawall-sql-table", "a schema and a table, for example `public.orders`");

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TableName {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let Some((schema, table)) = text.split_once('.') else {
            return Err(BadScalar(format!("`{text}` is not a table with its schema, for example `public.orders`")));
        };
        schema.parse::<SqlName>()?;
        table.parse::<SqlName>()?;
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_no_quotes() {
        for good in ["app", "chronos_db", "_x", "a1"] {
            assert!(good.parse::<SqlName>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "1a", "App", "a-b", "pg_monitor", "a b", &long] {
            assert!(bad.parse::<SqlName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_table_has_a_schema() {
        let table = |text: &str| text.parse::<TableName>().is_ok();
        assert!(table("public.orders") && table("_x.y1"));
        for bad in ["", "orders", "public.", ".orders", "a.b.c", "public.Orders", "public.'x'", "public.a b"] {
            assert!(!table(bad), "{bad}");
        }
    }

    #[test]
    fn groups_may_be_those_that_postgres_brings() {
        let group = |text: &str| text.parse::<GroupName>();
        assert!(group("pg_monitor").is_ok_and(|group| group.is_predefined()));
        assert!(group("owners").is_ok_and(|group| !group.is_predefined()));
        for bad in ["", "pg_", "pg_Monitor", "pg_pg_x", "1a"] {
            assert!(group(bad).is_err(), "{bad}");
        }
    }
}
