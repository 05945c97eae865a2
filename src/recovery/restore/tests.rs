//! The order of a restore, and the list of those that stand on a server.

use super::*;
use crate::plan::needs::{Needs, Number, Room};
use crate::plan::restores::{Goal, Repository};

fn plan(purpose: Purpose, goal: Goal) -> RestorePlan {
    RestorePlan {
        name: "r1".to_owned(),
        server: "db".to_owned(),
        stanza: "chronos".to_owned(),
        bucket: "b".to_owned(),
        repository: Repository::First,
        purpose,
        goal,
        set: "20261126-234813F".to_owned(),
        chain: Vec::new(),
        set_finished: 1,
        timeline: 3,
        window_to: None,
        first_segment: "000000010000000000000002".to_owned(),
        last_segment: "000000010000000000000004".to_owned(),
        bytes: Some(1000),
        ttl_s: Some(60),
        hooks: Vec::new(),
        needs: Needs { room: Room { wal_bytes: 2000, ..Room::default() }, ..Needs::default() },
        findings: Vec::new(),
    }
}

#[test]
fn an_order_names_set_timeline_and_target() {
    let text = order(&plan(Purpose::Beside, Goal::Time("2026-11-26 23:48:30.000000+00".to_owned())), &[], None);
    assert!(text.ends_with(
        "\npurpose=beside\nset=20261126-234813F\ntimeline=3\ntype=time\ntarget=2026-11-26 23:48:30.000000+00\nbytes=1000\nwal=2000\nttl=60\n"
    ));
}

#[test]
fn an_order_names_the_second_repository() {
    let of_copy = RestorePlan { repository: Repository::Copy, ..plan(Purpose::Beside, Goal::Latest) };
    assert!(order(&of_copy, &[], None).contains("\nrepository=copy\n"));
    assert!(!order(&plan(Purpose::Beside, Goal::Latest), &[], None).contains("repository"));
}

#[test]
fn an_order_has_the_numbers_that_recovery_needs() {
    let mut plan = plan(Purpose::Beside, Goal::Latest);
    let number = |name: &str, copy| Number { name: name.to_owned(), original: None, copy };
    plan.needs.numbers = vec![number("max_connections", Some(200)), number("max_wal_senders", None)];
    let text = order(&plan, &[], None);
    assert!(text.contains("\nmax_connections=200\n"), "{text}");
    assert!(!text.contains("max_wal_senders"), "what is not known is the backup's own: {text}");
}

#[test]
fn a_line_break_is_no_second_order() {
    let check = Check { database: "app".to_owned(), sql: "select 1\npurpose=in-place".to_owned(), expect: None };
    let text = order(&plan(Purpose::Drill, Goal::Latest), &[check], Some(Broken::Segment));
    assert_eq!(text.matches("\npurpose=").count(), 1, "{text}");
    assert!(text.contains("\nbreak=segment\nhide=000000010000000000000002\n"));
    assert!(order(&plan(Purpose::Drill, Goal::Latest), &[], Some(Broken::Timeline)).contains("\ntimeline=1003\n"));
}

#[test]
fn a_hook_is_ordered_word_by_word() {
    let hook = Hook {
        run: ["alembic", "a b'c", "", "x\nhook-2-user=root"].map(str::to_owned).into(),
        promoted: false,
        database: "app".to_owned(),
        user: "postgres".to_owned(),
        limit_s: 300,
    };
    let ordered = RestorePlan { hooks: vec![hook], ..plan(Purpose::Beside, Goal::Latest) };
    let text = order(&ordered, &[], None);
    assert!(
        text.ends_with(
            "\nhook-1-user=postgres\nhook-1-database=app\nhook-1-limit=300\nhook-1-words=4\nhook-1-word-1=alembic\n\
         hook-1-word-2=a b'c\nhook-1-word-3=\nhook-1-word-4=x hook-2-user=root\n"
        ),
        "{text}"
    );
}

#[test]
fn a_list_is_read_and_names_of_others_are_not() {
    let found =
        standing("r1|beside|1795736970|active|23351296|1795736973 ready\n../x|beside|1|active|1|1 ready\nshort|line\n");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].name.as_str(), found[0].is_running, found[0].last.as_str()), ("r1", true, "ready"));
    for name in ["", "-a", "a/b", "A", "a b", &"x".repeat(41)] {
        assert!(!is_name(name), "{name}");
    }
}
