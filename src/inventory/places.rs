//! Where each value of an inventory stands in its file, by dotted path: `servers.db.firewall[0].from`.
//!
//! A path that is not in the file (a default, a missing section) is answered with its nearest parent, so that every
//! message can point somewhere.

use std::collections::BTreeMap;

use crate::base::span::Span;

/// Longer paths are not remembered; they fall back to their parents. Bounds the memory that a hostile file can take.
const LONGEST_PATH: usize = 1_024;

/// Where one value stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its key; list items have none.
    pub key: Option<Span>,
    /// The value; of a block of several lines, where it begins.
    pub value: Span,
    /// Whether the value is a mapping or a list.
    pub collection: bool,
}

/// The places of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    file: String,
    entries: BTreeMap<String, Position>,
}

impl Places {
    /// No places yet.
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), entries: BTreeMap::new() }
    }

    /// The file, as the person named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Remembers a place.
    pub fn insert(&mut self, path: &str, place: Position) {
        if path.len() <= LONGEST_PATH {
            self.entries.insert(path.to_owned(), place);
        }
    }

    /// The place of exactly this path.
    pub fn get(&self, path: &str) -> Option<&Position> {
        self.entries.get(path)
    }

    /// The best place to point at for a path: a scalar itself, the key of a mapping or list, else the nearest parent.
    pub fn span(&self, path: &str) -> Span {
        self.nearest(path).map_or_else(
            || self.start(),
            |(_, place)| match &place.key {
                Some(key) if place.collection => key.clone(),
                _ => place.value.clone(),
            },
        )
    }

    /// The key of a path, or its nearest parent's.
    pub fn key(&self, path: &str) -> Span {
        match self.nearest(path) {
            Some((true, place)) => place.key.clone().unwrap_or_else(|| place.value.clone()),
            _ => self.span(path),
        }
    }

    /// The first character of the file.
    pub fn start(&self) -> Span {
        Span { file: self.file.clone(), line: 1, column: 1, length: 0 }
    }

    /// The place of the path or of its nearest parent, and whether it is the path's own.
    fn nearest(&self, path: &str) -> Option<(bool, &Position)> {
        let mut rest = path;
        loop {
            if let Some(place) = self.entries.get(rest) {
                return Some((rest.len() == path.len(), place));
            }
            if rest.is_empty() {
                return None;
            }
            rest = &rest[..rest.rfind(['.', '[']).unwrap_or(0)];
        }
    }
}

/// The path of a key below a path; the root's path is empty.
pub fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The path of a list's item, counted from 0.
pub fn item(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize) -> Span {
        Span { file: "f".to_owned(), line, column: 1, length: 2 }
    }

    #[test]
    fn what_is_not_there_is_its_parent() {
        let mut places = Places::new("f");
        assert_eq!(places.span("servers.db"), places.start());
        places.insert("servers", Position { key: Some(at(3)), value: at(4), collection: true });
        places.insert("servers.ports[0]", Position { key: None, value: at(9), collection: false });
        assert_eq!(places.span("servers"), at(3));
        assert_eq!(places.span("servers.db.swap.size_mib"), at(3));
        assert_eq!(places.span("servers.ports[0].from[1]"), at(9));
        assert_eq!(places.key("servers.ports[0]"), at(9));
        assert_eq!(places.span("other"), places.start());
    }
}
