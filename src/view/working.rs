//! One long piece of work: a live line on a terminal, a line now and then elsewhere.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::view::progress::Mode;
use crate::view::text::clean_line;

/// How often the live line is drawn.
const TICK: Duration = Duration::from_millis(120);
/// Between two plain lines: a log stays readable, and nobody thinks that it hangs.
const PLAIN_EVERY: Duration = Duration::from_secs(30);

/// Tells what is being done, with the time since it began.
pub struct Working {
    begun: Instant,
    line: Mutex<Line>,
}

enum Line {
    Live(ProgressBar),
    Plain { to: Box<dyn std::io::Write + Send>, last: Option<Instant> },
}

impl Working {
    pub fn new(mode: Mode) -> Self {
        let line = match mode {
            Mode::Live => {
                let bar = ProgressBar::new_spinner();
                let style = ProgressStyle::with_template("  {spinner} {elapsed:>4}  {wide_msg}");
                bar.set_style(style.expect("the template is a constant that indicatif knows"));
                bar.enable_steady_tick(TICK);
                Line::Live(bar)
            }
            Mode::Plain(to) => Line::Plain { to, last: None },
        };
        Self { begun: Instant::now(), line: Mutex::new(line) }
    }

    /// Says what is being done now.
    pub fn say(&self, what: &str) {
        let what = clean_line(what);
        match &mut *self.line.lock().expect("no thread panics while it writes a line") {
            Line::Live(bar) => bar.set_message(what),
            Line::Plain { to, last } => {
                if last.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
                    *last = Some(Instant::now());
                    // A closed stderr must not stop work that is under way.
                    let _ = writeln!(to, "  {} s  {what}", self.begun.elapsed().as_secs());
                }
            }
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Ok(Line::Live(bar)) = self.line.get_mut().map(|line| &*line) {
            bar.finish_and_clear();
        }
    }
}
