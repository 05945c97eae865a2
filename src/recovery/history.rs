//! The drills of an environment, in what operators share: each report as an object of its own, and a short list.
//!
//! Deliberately absent: judging what is in it, which `policy` does.

use crate::engine::store::{Store, StoreFailure};
use crate::plan::drills::{Drill, Past};

/// Key of the list.
pub const LIST: &str = "drills.json";
/// Drills that the list has: two years of weekly ones. The reports of older ones stay.
const LISTED: usize = 100;

/// Key of a report.
pub fn report(id: &str) -> String {
    format!("drills/{id}.json")
}

/// Reads the list, oldest first. No list is one without drills; one that cannot be read is not.
///
/// # Errors
/// What is wrong with it.
pub fn read(bytes: Option<&[u8]>) -> Result<Vec<Past>, String> {
    let Some(bytes) = bytes else { return Ok(Vec::new()) };
    serde_json::from_slice(bytes).map_err(|why| format!("the list of drills ({LIST}) cannot be read: {why}"))
}

/// The list as it is now.
///
/// # Errors
/// Why it could not be had.
pub async fn of(store: &Store) -> Result<Vec<Past>, String> {
    let bytes = store.get(LIST).await.map_err(|failure| failure.to_string())?;
    read(bytes.as_deref())
}

/// Keeps a report and its line in the list. The environment's lock is held: two at once would lose a line. A list that
/// cannot be read begins anew, for the reports say the same.
///
/// # Errors
/// Why it was not kept.
pub async fn keep(store: &Store, drill: &Drill, document: &[u8]) -> Result<(), StoreFailure> {
    store.put(&report(&drill.id), document).await?;
    let mut list = read(store.get(LIST).await?.as_deref()).unwrap_or_default();
    list.push(Past::of(drill));
    let from = list.len().saturating_sub(LISTED);
    store.put(LIST, &serde_json::to_vec(&list[from..]).expect("plain data serialises")).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::drill::tests::drill;

    #[tokio::test]
    async fn the_newest_hundred_are_listed_and_every_report_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::Local(folder.path().join("state"));
        assert_eq!(of(&store).await, Ok(Vec::new()));
        for number in 0..=LISTED {
            let drill = Drill { id: format!("drill-{number}"), ..drill() };
            keep(&store, &drill, b"{}").await.expect("it is kept");
        }
        let list = of(&store).await.expect("a list");
        assert_eq!((list.len(), list[0].id.as_str()), (LISTED, "drill-1"));
        assert_eq!(store.get(&report("drill-0")).await.expect("it is there"), Some(b"{}".to_vec()));
        store.put(LIST, b"nonsense").await.expect("it is written");
        assert!(of(&store).await.is_err(), "unreadable is not empty");
    }
}
