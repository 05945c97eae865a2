//! Storage classes: which objects of a repository can be read at once, and which cannot.
//!
//! pgBackRest does not look at them. Its `info` and backups stay fine while a restore fails half-way with 403
//! InvalidObjectState, after it has begun to overwrite the target.

use std::collections::BTreeMap;

use crate::inventory::sections::storage::StorageClass;
use crate::plan::backups::ClassCount;
use crate::reach::aws::objects::Listed;

/// How an object of a class is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// With the next request.
    AtOnce,
    /// At once, as long as the optional archive tiers of S3 Intelligent-Tiering are off. A listing does not tell.
    UnlessArchived,
    /// After hours, when somebody has asked for it.
    Hours,
    /// A class that this version does not know.
    NotKnown,
}

/// How objects of a storage class are read.
pub fn reading(class: &str) -> Reading {
    match class {
        "STANDARD" | "STANDARD_IA" | "ONEZONE_IA" | "GLACIER_IR" | "REDUCED_REDUNDANCY" | "EXPRESS_ONEZONE" => {
            Reading::AtOnce
        }
        "INTELLIGENT_TIERING" => Reading::UnlessArchived,
        "GLACIER" | "DEEP_ARCHIVE" => Reading::Hours,
        _ => Reading::NotKnown,
    }
}

/// Seconds until an object can be read, once S3 is asked for it; `None` for one that is read at once.
pub fn thaw_s(object: &Listed) -> Option<u64> {
    let class =
        [StorageClass::Glacier, StorageClass::DeepArchive].into_iter().find(|class| class.api() == object.class)?;
    (!object.is_restored).then(|| class.thaw_s())
}

/// The objects that cannot be read at once.
pub fn frozen(objects: &[Listed]) -> Vec<&Listed> {
    objects.iter().filter(|object| reading(&object.class) == Reading::Hours && !object.is_restored).collect()
}

/// How many objects there are of each class.
pub fn classes(objects: &[Listed]) -> Vec<ClassCount> {
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for object in objects {
        let count = counts.entry(&object.class).or_default();
        *count = (count.0 + 1, count.1 + object.bytes);
    }
    let count = |(class, (objects, bytes)): (&str, (u64, u64))| ClassCount { class: class.to_owned(), objects, bytes };
    counts.into_iter().map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: &str, is_restored: bool) -> Listed {
        Listed { key: class.to_owned(), bytes: 10, modified: None, class: class.to_owned(), is_restored }
    }

    #[test]
    fn only_what_takes_hours_is_frozen() {
        let all = ["STANDARD", "STANDARD_IA", "GLACIER_IR", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE", "NEW"];
        let mut objects: Vec<Listed> = all.iter().map(|class| object(class, false)).collect();
        objects.push(object("GLACIER", true));
        let frozen: Vec<&str> = frozen(&objects).iter().map(|object| object.class.as_str()).collect();
        assert_eq!(frozen, ["GLACIER", "DEEP_ARCHIVE"], "a restored copy can be read");
        assert_eq!(reading("NEW"), Reading::NotKnown);
        // What takes hours has a number of them, and nothing else has.
        for class in all {
            assert_eq!(thaw_s(&object(class, false)).is_some(), reading(class) == Reading::Hours, "{class}");
        }
        assert_eq!(thaw_s(&object("DEEP_ARCHIVE", false)), Some(12 * 3600));
        assert_eq!(thaw_s(&object("DEEP_ARCHIVE", true)), None);
        let glacier = classes(&objects).into_iter().find(|count| count.class == "GLACIER");
        assert_eq!(glacier, Some(ClassCount { class: "GLACIER".to_owned(), objects: 2, bytes: 20 }));
    }
}
