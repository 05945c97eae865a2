//! What is kept of an instance before it goes. The answers are scripted from AWS's service model.

use seawall::plan::cloud::{TAG_ENVIRONMENT, TAG_KEEP};
use seawall::plan::step::CloudStep;
use serde_json::{Value, json};

use crate::aws::lightsail::{act, error, instance, lab, ok};
use crate::support::front::{Answer, Asked};

fn keep() -> CloudStep {
    CloudStep::KeepSnapshot { instance: "db".to_owned() }
}

fn automatic() -> Value {
    let one = |date: &str, at: i64, status: &str| json!({ "date": date, "createdAt": at, "status": status });
    json!({ "resourceName": "db", "resourceType": "Instance", "autoSnapshots": [
        one("2026-11-25", 1_764_050_400, "Success"), one("2026-11-26", 1_764_136_800, "Success"),
        one("2026-11-24", 1_763_964_000, "Success"), one("2026-11-27", 1_764_223_200, "InProgress"),
    ] })
}

/// The copy of the newest one that is whole.
const KEPT: &str = "db-kept-20251126T060000Z";

fn snapshot(of: &str, state: &str) -> Value {
    json!({ "instanceSnapshot": { "name": KEPT, "fromInstanceName": of, "state": state, "progress": "40 %" } })
}

/// What every script has in common.
fn common(asked: &Asked) -> Answer {
    match asked.what.as_str() {
        "GetAutoSnapshots" => ok(&automatic()),
        "GetInstance" => ok(&instance("stopped")),
        "CopySnapshot" | "TagResource" => ok(&json!({ "operations": [] })),
        _ => None,
    }
}

#[tokio::test]
async fn the_newest_whole_one_is_copied_waited_for_and_tagged_as_ours() {
    let (front, aws) = lab(|asked, before| match (asked.what.as_str(), before) {
        ("GetInstanceSnapshot", 0 | 1) => error("NotFoundException", "not listed yet"),
        ("GetInstanceSnapshot", 2) => ok(&snapshot("db", "pending")),
        ("GetInstanceSnapshot", _) => ok(&snapshot("db", "available")),
        _ => common(asked),
    })
    .await;
    act(&aws, keep()).await.expect("it is kept");
    let asked = front.asked();
    let one = |what: &str| asked.iter().find(|asked| asked.what == what).map(|asked| asked.body.clone());
    let copy: Value = serde_json::from_str(&one("CopySnapshot").expect("it was copied")).expect("JSON");
    assert_eq!(
        copy,
        json!({ "sourceResourceName": "db", "restoreDate": "2026-11-26", "sourceRegion": "ca-central-1", "targetSnapshotName": KEPT })
    );
    let tags: Value = serde_json::from_str(&one("TagResource").expect("it was tagged")).expect("JSON");
    let tag = |key: &str, value: &str| json!({ "key": key, "value": value });
    let expected = json!([tag(TAG_ENVIRONMENT, "chronos"), tag(TAG_KEEP, "protected")]);
    assert_eq!(tags, json!({ "resourceName": KEPT, "tags": expected }));
    assert_eq!(front.count("GetInstanceSnapshot"), 4, "it ends when the copy is whole");
    assert_eq!(asked.last().map(|asked| asked.what.as_str()), Some("TagResource"));
}

#[tokio::test]
async fn what_an_earlier_run_copied_is_not_copied_again() {
    let (front, aws) = lab(|asked, _| match asked.what.as_str() {
        "GetInstanceSnapshot" => ok(&snapshot("db", "available")),
        _ => common(asked),
    })
    .await;
    act(&aws, keep()).await.expect("it is kept already");
    assert_eq!((front.count("CopySnapshot"), front.count("TagResource")), (0, 1));
}

#[tokio::test]
async fn nothing_is_copied_where_there_is_nothing() {
    for answer in [
        ok(&json!({ "resourceName": "db", "autoSnapshots": [] })),
        ok(&json!({ "resourceName": "db", "autoSnapshots": [{ "date": "2026-11-26", "status": "Failed" }] })),
        error("NotFoundException", "the instance is gone"),
    ] {
        let (front, aws) = lab(move |_, _| answer.clone()).await;
        act(&aws, keep()).await.expect("there is nothing to keep");
        assert_eq!(front.asked().len(), 1);
    }
}

#[tokio::test]
async fn what_is_not_certainly_kept_is_a_failure() {
    type Script = fn(&Asked) -> Answer;
    let scripts: [(Script, &str); 5] = [
        (
            |asked| if asked.what == "GetAutoSnapshots" { error("AccessDeniedException", "no") } else { None },
            "GetAutoSnapshots",
        ),
        (
            |asked| match asked.what.as_str() {
                "GetInstanceSnapshot" => ok(&snapshot("web", "available")),
                _ => common(asked),
            },
            "is a snapshot of `web`",
        ),
        (
            |asked| match asked.what.as_str() {
                "GetInstanceSnapshot" => ok(&snapshot("db", "error")),
                _ => common(asked),
            },
            "the copy `db-kept-20251126T060000Z` failed",
        ),
        (
            |asked| match asked.what.as_str() {
                "GetInstanceSnapshot" => error("NotFoundException", "none"),
                "CopySnapshot" => error("ServiceException", "not now"),
                _ => common(asked),
            },
            "CopySnapshot",
        ),
        (
            |asked| match asked.what.as_str() {
                "GetInstanceSnapshot" => ok(&snapshot("db", "available")),
                "TagResource" => error("AccessDeniedException", "no"),
                _ => common(asked),
            },
            "TagResource",
        ),
    ];
    for (script, says) in scripts {
        let (_front, aws) = lab(move |asked, _| script(asked)).await;
        let failure = act(&aws, keep()).await.expect_err(says);
        assert!(failure.what.contains(says), "{says}: {failure:?}");
    }
}
