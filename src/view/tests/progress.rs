//! Progress and how an apply ended, as lines.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::plan::event::{ApplyVerdict, JournalEvent};
use crate::view::progress::{Ended, Mode, Progress, Reason, summary};
use crate::view::sample::address;
use crate::view::tests::same;

/// A writer whose text can be read while it is in use.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    /// The text, with elapsed times made equal: they are the only thing that differs from run to run.
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8(bytes).expect("progress is text");
        text.replace("  0.0 s\n", "\n")
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn shown(records: &[JournalEvent]) -> String {
    let page = Page::default();
    let mut progress = Progress::new(Mode::Plain(Box::new(page.clone())));
    for record in records {
        progress.record(record);
    }
    page.text()
}

#[test]
fn an_apply_that_fails_in_the_middle() {
    let begun = |of: &str| JournalEvent::ChangeBegun { address: address(of) };
    let step = |of: &str, what: &str| JournalEvent::StepBegun { address: address(of), step: 0, what: what.to_owned() };
    let output = (1..=14).map(|n| format!("E: line {n}\u{1b}[2J")).collect::<Vec<_>>().join("\n");
    let text = shown(&[
        JournalEvent::Begun { changes: 4, plan: "sha256:0".to_owned(), environment: "chronos-prod".to_owned() },
        begun("sns.topic/alerts"),
        step("sns.topic/alerts", "set the policy of arn:aws:sns:ca-central-1:123456789012:chronos-prod-alerts"),
        JournalEvent::StepDone { address: address("sns.topic/alerts"), step: 0 },
        JournalEvent::Verified { address: address("sns.topic/alerts") },
        JournalEvent::AlreadyDone { address: address("host.swap/db") },
        begun("host.packages/db"),
        step("host.packages/db", "install jq"),
        JournalEvent::Reattached { server: "db".to_owned(), after_ms: 1260 },
        JournalEvent::Output { address: address("host.packages/db"), text: output },
        JournalEvent::Failed {
            address: address("host.packages/db"),
            why: "`apt-get` ended with 100\nsee \u{9b}above".to_owned(),
        },
        JournalEvent::NotStarted { address: address("host.users/db") },
        JournalEvent::Finished { verdict: ApplyVerdict::Failed },
    ]);
    same(
        &text,
        r"

  sns.topic/alerts  set the policy of chronos-prod-alerts
  sns.topic/alerts  done
  host.swap/db  was as wanted already
  host.packages/db  install jq
  server db  connection lost and found again after 1.3 s
    | … 2 earlier lines are in the journal
    | E: line 3�[2J
    | E: line 4�[2J
    | E: line 5�[2J
    | E: line 6�[2J
    | E: line 7�[2J
    | E: line 8�[2J
    | E: line 9�[2J
    | E: line 10�[2J
    | E: line 11�[2J
    | E: line 12�[2J
    | E: line 13�[2J
    | E: line 14�[2J
  host.packages/db  FAILED
    `apt-get` ended with 100
    see �above
  host.users/db  not started
",
    );
}

#[test]
fn a_failure_of_what_had_not_begun_is_told_all_the_same() {
    let text = shown(&[JournalEvent::Failed { address: address("host.users/db"), why: "no route".to_owned() }]);
    same(
        &text,
        r"
  host.users/db  FAILED
    no route
",
    );
}

#[test]
fn how_an_apply_ended() {
    let (a, b, c) = (address("sns.topic/alerts"), address("host.packages/db"), address("host.users/db"));
    let done = vec![a.clone()];
    same(&summary(&Ended::default()), "Nothing to do: everything is as wanted\n");
    same(&summary(&Ended { done: done.clone(), ..Ended::default() }), "Done: 1 changed and read back as wanted\n");
    same(
        &summary(&Ended { done: done.clone(), already: vec![b.clone()], ..Ended::default() }),
        "Done: 1 changed and read back as wanted, 1 was so already\n",
    );
    let why = "`apt-get` ended\u{1b}[2J with 100".to_owned();
    let failed = vec![Reason { address: b, why, hint: Some("look at the mirror".to_owned()) }];
    same(
        &summary(&Ended { done, failed, not_started: vec![c], ..Ended::default() }),
        r"
Failed: 1 done, 1 failed, 1 not started
  failed       host.packages/db  `apt-get` ended�[2J with 100
               hint: look at the mirror
  not started  host.users/db
hint: what is done stays done; a new plan shows what remains
",
    );
}

#[test]
fn what_was_put_back_is_told_once() {
    let reason = |of: &str| Reason {
        address: address(of),
        why: "`db` (203.0.113.7:22) did not answer within 10 s".to_owned(),
        hint: None,
    };
    let unchanged_after_revert =
        vec![("db".to_owned(), vec!["/etc/ufw/user.rules is as it was".to_owned(), "ran `ufw reload`".to_owned()])];
    let put_back = vec![reason("host.sshd/db"), reason("host.ufw/db")];
    same(
        &summary(&Ended { done: vec![address("host.time/db")], put_back, unchanged_after_revert, ..Ended::default() }),
        r"
Rolled back: 1 done, 2 put back, 0 failed, 0 not started
  put back     host.sshd/db
  put back     host.ufw/db  `db` (203.0.113.7:22) did not answer within 10 s
  on server db:
               /etc/ufw/user.rules is as it was
               ran `ufw reload`
hint: the way in is the one from before; find out why the new one does not work, then plan again
",
    );
}
