//! What is known of a transaction while it is followed, and the sentence that its end becomes.

use serde::Deserialize;

use crate::base::redact::Redactor;
use crate::base::shell::{PUT_BACK, UNSAFE};
use crate::plan::host::Endpoint;
use crate::reach::ssh::event::Frame;
use crate::reach::ssh::lock::Holder;
use crate::reach::{Failure, HostEvent, Transaction};

/// What is known of a transaction so far.
pub(crate) struct Watch<'a> {
    pub(crate) at: &'a Endpoint,
    pub(crate) transaction: &'a Transaction,
    pub(crate) on_event: &'a (dyn Fn(HostEvent) + Sync),
    /// What a program says when it fails may quote the secret that it was given.
    redactor: &'a Redactor,
    /// How many steps have begun, and how many are done; steps are done in order.
    begun: usize,
    done: usize,
    failed: Option<Failure>,
    /// Bytes of events that were read.
    pub(crate) offset: u64,
    /// Whether the host said that it runs.
    pub(crate) confirmed: bool,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        at: &'a Endpoint,
        transaction: &'a Transaction,
        on_event: &'a (dyn Fn(HostEvent) + Sync),
        redactor: &'a Redactor,
    ) -> Self {
        Self { at, transaction, on_event, redactor, begun: 0, done: 0, failed: None, offset: 0, confirmed: false }
    }

    /// Takes one frame in; gives the outcome where it was the last.
    pub(crate) fn take(&mut self, frame: Frame) -> Option<Result<(), Failure>> {
        match frame {
            Frame::Started | Frame::Attached => {
                self.confirmed = true;
                None
            }
            Frame::Locked(holder) => {
                let holder =
                    Holder::read(&holder).map_or("somebody, this moment".to_owned(), |holder| holder.to_string());
                Some(Err(Failure {
                    what: format!("`{}` is locked by {holder}; nothing was changed", self.at.server),
                    position: None,
                    code: Some("host-locked".to_owned()),
                    hint: Some(
                        "wait until that transaction ends; `seawall unlock` takes a lock away that nobody needs"
                            .to_owned(),
                    ),
                }))
            }
            Frame::Refused(why) => {
                let why = self.redactor.tools(&why);
                let what =
                    format!("the transaction did not start on `{}`, where nothing was changed: {why}", self.at.server);
                Some(Err(failure(what, None)))
            }
            Frame::Armed(seconds) => {
                (self.on_event)(HostEvent::Armed { seconds });
                None
            }
            Frame::Begun(position) => {
                self.begun = position + 1;
                (self.on_event)(HostEvent::Begun { position });
                None
            }
            Frame::Done(position) => {
                self.done = position + 1;
                (self.on_event)(HostEvent::Done { position });
                None
            }
            Frame::Failed { position, status, output } => {
                self.fail(position, status, &output);
                None
            }
            Frame::End(verdict) => Some(self.ended(&verdict)),
            Frame::Journal(text) => self.read_journal(&text),
            Frame::Gone => {
                Some(Err(self.unseen_end("its unit is gone without a last word; the host may have been rebooted")))
            }
        }
    }

    fn ended(&mut self, verdict: &str) -> Result<(), Failure> {
        match (verdict, self.failed.take()) {
            ("ok", None) => Ok(()),
            (_, Some(failed)) => Err(failed),
            (verdict, None) => Err(self.unseen_end(&format!("it was ended from outside ({verdict})"))),
        }
    }

    fn fail(&mut self, position: usize, status: i32, output: &str) {
        let output = self.redactor.tools(output);
        let step = self.summary(position);
        let reason = output.trim_end().lines().last().unwrap_or("it printed nothing").to_owned();
        let failed = failure(
            format!(
                "step {} of {} on `{}` ({step}) ended with status {status}: {reason}; {} before it done, {} not started",
                position + 1,
                self.transaction.steps.len(),
                self.at.server,
                position,
                self.transaction.steps.len().saturating_sub(position + 1),
            ),
            Some(position),
        );
        let by_path = self.transaction.steps.get(position).is_some_and(|step| step.step.acts_by_path());
        self.failed = Some(match status {
            UNSAFE if by_path => failed.unsafe_folder(),
            PUT_BACK => failed.put_back(),
            _ => failed,
        });
        (self.on_event)(HostEvent::Failed { position, status, output });
    }

    /// The durable journal says what the lost events would have said, but for a failing step's output.
    fn read_journal(&mut self, text: &str) -> Option<Result<(), Failure>> {
        let mut verdict = None;
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            match (line.event.as_str(), line.position) {
                ("begun", Some(position)) if position >= self.begun => drop(self.take(Frame::Begun(position))),
                ("done", Some(position)) if position >= self.done => drop(self.take(Frame::Done(position))),
                ("failed", Some(position)) if self.failed.is_none() => {
                    self.fail(position, line.status.unwrap_or(-1), "its output is gone with the host's memory");
                }
                ("ended", _) => verdict = line.verdict,
                _ => {}
            }
        }
        verdict.map(|verdict| self.ended(&verdict))
    }

    /// The failure where the end could not be seen: says what is known done.
    pub(crate) fn unseen_end(&self, why: &str) -> Failure {
        let total = self.transaction.steps.len();
        let known = match (self.done, self.begun) {
            (done, begun) if begun > done => {
                format!(
                    "{done} of {total} steps are known done, and step {begun} ({}) had begun",
                    self.summary(begun - 1)
                )
            }
            (done, _) => format!("{done} of {total} steps are known done"),
        };
        Failure {
            what: format!("the end of the transaction on `{}` was not seen: {why}; {known}", self.at.server),
            position: (self.begun > self.done).then(|| self.begun - 1),
            code: Some("end-not-seen".to_owned()),
            hint: Some("plan again: what the host is now is what counts".to_owned()),
        }
    }

    fn summary(&self, position: usize) -> String {
        self.transaction.steps.get(position).map_or_else(String::new, |step| step.step.summary())
    }
}

/// A line of the host's journal.
#[derive(Deserialize)]
struct Line {
    event: String,
    position: Option<usize>,
    status: Option<i32>,
    verdict: Option<String>,
}

/// A failure of ours, without a code of anybody else's.
pub(crate) fn failure(what: String, position: Option<usize>) -> Failure {
    Failure { what, position, code: None, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::ssh::tests::{endpoint, transaction};

    const SECRET: &str = "7Qhz-22-aXbw-9Kfe";

    #[test]
    fn a_failing_program_that_quotes_a_secret_shows_nothing_of_it() {
        let output = format!("reading\nERROR: missing '=' at line 3: {}", &SECRET[..12]);
        let failed = Frame::Failed { position: 0, status: 29, output };
        let (outcome, events) = watch(vec![Frame::Begun(0), failed, Frame::End("failed".to_owned())]);
        let told = format!("{:?} {events:?}", outcome.expect_err("failed"));
        assert!(told.contains("at line 3: [secret]") && !told.contains(&SECRET[..8]), "{told}");
    }

    /// The outcome that a row of frames leads to, and the events that were reported.
    fn watch(frames: Vec<Frame>) -> (Result<(), Failure>, Vec<HostEvent>) {
        let events = std::sync::Mutex::new(Vec::new());
        let note = |event| events.lock().expect("no panic").push(event);
        let (at, transaction) = (endpoint(), transaction(3));
        let redactor = Redactor::default();
        redactor.remember(SECRET);
        let mut watch = Watch::new(&at, &transaction, &note, &redactor);
        let outcome = frames.into_iter().find_map(|frame| watch.take(frame)).expect("a last frame");
        (outcome, events.into_inner().expect("no panic"))
    }

    #[test]
    fn a_failure_says_what_is_done_and_what_is_not_started() {
        let output = "first\nthe reason\n".to_owned();
        let failed = Frame::Failed { position: 1, status: 3, output };
        let (outcome, events) = watch(vec![
            Frame::Started,
            Frame::Begun(0),
            Frame::Done(0),
            Frame::Begun(1),
            failed,
            Frame::End("failed".to_owned()),
        ]);
        let failure = outcome.expect_err("failed");
        assert_eq!(
            failure.what,
            "step 2 of 3 on `db` (remove /1) ended with status 3: the reason; 1 before it done, 1 not started"
        );
        assert_eq!((failure.position, events.len()), (Some(1), 4));
    }

    #[test]
    fn a_journal_tells_the_rest_of_the_story() {
        let line =
            |event: &str, position: usize| format!("{{\"at\":\"x\",\"event\":\"{event}\",\"position\":{position}}}\n");
        let half = line("begun", 0) + &line("done", 0) + &line("begun", 1) + "{\"at\":";
        let (outcome, events) =
            watch(vec![Frame::Begun(0), Frame::Attached, Frame::Journal(half.clone()), Frame::Gone]);
        let failure = outcome.expect_err("not seen");
        assert!(failure.what.ends_with("1 of 3 steps are known done, and step 2 (remove /1) had begun"), "{failure}");
        assert_eq!(failure.position, Some(1));
        let begun = |position| HostEvent::Begun { position };
        assert_eq!(events, [begun(0), HostEvent::Done { position: 0 }, begun(1)]);
        let whole = "{\"at\":\"x\",\"event\":\"ended\",\"verdict\":\"ok\"}\n";
        assert_eq!(watch(vec![Frame::Journal(whole.to_owned())]).0, Ok(()));
        let stopped = whole.replace("ok", "stopped");
        let failure = watch(vec![Frame::Journal(half + "\n" + &stopped)]).0.expect_err("stopped");
        assert_eq!(failure.code.as_deref(), Some("end-not-seen"));
    }
}
