//! An apply as it happens: a live line per running change on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::base::address::Address;
use crate::plan::event::JournalEvent;
use crate::view::text::{clean_line, without_arns};

/// How often the live lines are drawn. Fast enough to look alive, slow enough for a slow connection.
const TICK: Duration = Duration::from_millis(120);

/// Lines of a failing command's output that are shown; the journal has all that was kept.
const OUTPUT_LINES: usize = 12;

/// Where progress goes.
pub enum Mode {
    /// A terminal that can be drawn on.
    Live,
    /// Lines to a writer.
    Plain(Box<dyn Write + Send>),
}

/// Shows records. Times come from [`Instant`], which only ever words a line.
pub struct Progress {
    mode: Mode,
    live: Option<MultiProgress>,
    running: BTreeMap<Address, RunningChange>,
}

struct RunningChange {
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(mode: Mode) -> Self {
        let live = matches!(mode, Mode::Live).then(MultiProgress::new);
        Self { mode, live, running: BTreeMap::new() }
    }

    /// Shows one record.
    pub fn record(&mut self, record: &JournalEvent) {
        match record {
            JournalEvent::ChangeBegun { address } => {
                let bar = self.live.as_ref().map(|live| {
                    let bar = live.add(ProgressBar::new_spinner());
                    // The elapsed time first: its column stays, and `wide_msg` cuts what would break the line.
                    let style = ProgressStyle::with_template("  {spinner} {elapsed:>4}  {prefix}  {wide_msg}");
                    bar.set_style(style.expect("the template is a constant that indicatif knows"));
                    bar.set_prefix(address.to_string());
                    bar.enable_steady_tick(TICK);
                    bar
                });
                let running = RunningChange { since: Instant::now(), bar };
                self.running.insert(address.clone(), running);
            }
            JournalEvent::StepBegun { address, what, .. } => self.step(address, &clean_line(&without_arns(what))),
            JournalEvent::Verified { address } => self.end(address, "done"),
            JournalEvent::AlreadyDone { address } => self.line(&format!("  {address}  was as wanted already")),
            JournalEvent::Failed { address, why } => {
                self.end(address, "FAILED");
                for line in why.lines() {
                    self.line(&format!("    {}", clean_line(line)));
                }
            }
            JournalEvent::NotStarted { address } => self.line(&format!("  {address}  not started")),
            JournalEvent::Output { text, .. } => {
                let lines: Vec<&str> = text.lines().collect();
                let left_out = lines.len().saturating_sub(OUTPUT_LINES);
                if left_out > 0 {
                    self.line(&format!("    | … {left_out} earlier lines are in the journal"));
                }
                for line in &lines[left_out..] {
                    self.line(&format!("    | {}", clean_line(line)));
                }
            }
            JournalEvent::Reattached { server, after_ms } => {
                let seconds = tenths(Duration::from_millis(*after_ms));
                self.line(&format!("  server {server}  connection lost and found again after {seconds}"));
            }
            JournalEvent::Armed { server, seconds } => self.line(&format!(
                "  server {server}  puts everything of this change back in {seconds} s, unless a new login proves it"
            )),
            JournalEvent::Kept { server } => {
                self.line(&format!("  server {server}  a new login works: the change stays"));
            }
            JournalEvent::PutBack { server, what } => {
                self.line(&format!("  server {server}  PUT BACK: no new login proved the change"));
                for line in what {
                    self.line(&format!("    {}", clean_line(line)));
                }
            }
            // An empty line after the plan, which a person has on the screen above.
            JournalEvent::Begun { .. } => self.line(""),
            JournalEvent::StepDone { .. } | JournalEvent::Finished { .. } => {}
        }
    }

    fn step(&mut self, address: &Address, what: &str) {
        match self.running.get(address).and_then(|running| running.bar.as_ref()) {
            Some(bar) => bar.set_message(what.to_owned()),
            None if self.live.is_none() => self.line(&format!("  {address}  {what}")),
            None => {}
        }
    }

    fn end(&mut self, address: &Address, how: &str) {
        let Some(running) = self.running.remove(address) else {
            self.line(&format!("  {address}  {how}"));
            return;
        };
        if let Some(bar) = &running.bar {
            bar.finish_and_clear();
        }
        self.line(&format!("  {address}  {how}  {}", tenths(running.since.elapsed())));
    }

    fn line(&mut self, line: &str) {
        // If the output is closed, the work goes on without it.
        let _ = match (&mut self.mode, &self.live) {
            (Mode::Plain(out), _) => writeln!(out, "{line}"),
            (Mode::Live, Some(bars)) => bars.println(line),
            (Mode::Live, None) => Ok(()),
        };
    }
}

fn tenths(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// How an apply ended, by resource.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    pub done: Vec<Address>,
    pub already: Vec<Address>,
    pub failed: Vec<Reason>,
    pub not_started: Vec<Address>,
    /// Put back, because nothing proved that they do not lock out.
    pub put_back: Vec<Reason>,
    /// By server, what is unchanged because it was put back.
    pub unchanged_after_revert: Vec<(String, Vec<String>)>,
}

/// Why a resource is not as wanted, and something to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub address: Address,
    pub why: String,
    pub hint: Option<String>,
}

/// How an apply ended, as a few lines.
pub fn summary(ended: &Ended) -> String {
    let Ended { done, already, failed, not_started, put_back, unchanged_after_revert } = ended;
    let mut text = String::new();
    if failed.is_empty() && not_started.is_empty() && put_back.is_empty() {
        let count = done.len();
        let _ = match (count, already.len()) {
            (0, _) => writeln!(text, "Nothing to do: everything is as wanted"),
            (_, 0) => writeln!(text, "Done: {count} changed and read back as wanted"),
            (_, 1) => writeln!(text, "Done: {count} changed and read back as wanted, 1 was so already"),
            (_, n) => writeln!(text, "Done: {count} changed and read back as wanted, {n} were so already"),
        };
        return text;
    }
    let verdict = if put_back.is_empty() { "Failed" } else { "Rolled back" };
    let _ = write!(text, "{verdict}: {} done", done.len() + already.len());
    if !put_back.is_empty() {
        let _ = write!(text, ", {} put back", put_back.len());
    }
    let _ = writeln!(text, ", {} failed, {} not started", failed.len(), not_started.len());
    reasons(&mut text, "put back", put_back);
    for (server, lines) in unchanged_after_revert {
        let _ = writeln!(text, "  on server {server}:");
        for line in lines {
            let _ = writeln!(text, "               {}", clean_line(line));
        }
    }
    reasons(&mut text, "failed", failed);
    for address in not_started {
        let _ = writeln!(text, "  not started  {address}");
    }
    // A service that was put back says by itself what to do.
    let hint = if put_back.iter().all(|reason| reason.hint.is_some()) {
        "what is done stays done; a new plan shows what remains"
    } else {
        "the way in is the one from before; find out why the new one does not work, then plan again"
    };
    let _ = writeln!(text, "hint: {hint}");
    text
}

/// Resources with their reasons. What ended together for one reason is told it once.
fn reasons(text: &mut String, how: &str, all: &[Reason]) {
    for (index, reason) in all.iter().enumerate() {
        let next = all.get(index + 1);
        if next.is_some_and(|next| (&next.why, &next.hint) == (&reason.why, &reason.hint)) {
            let _ = writeln!(text, "  {how:<11}  {}", reason.address);
            continue;
        }
        let _ = writeln!(text, "  {how:<11}  {}  {}", reason.address, clean_line(&reason.why));
        if let Some(hint) = &reason.hint {
            let _ = writeln!(text, "               hint: {}", clean_line(hint));
        }
    }
}
