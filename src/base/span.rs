//! Places in the files that a person wrote.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stretch of one line of a file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// The file, as the person named it.
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// Length in characters; 0 where only a point is known.
    pub length: usize,
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
