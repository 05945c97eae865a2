//! From what commands have to what `view` formats.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

use jiff::Timestamp;

use crate::base::address::Address;
use crate::base::diag::{Diagnostic, Diagnostics};
use crate::base::shell;
use crate::cli::args::Color;
use crate::cli::exit::Stop;
use crate::cli::session::{Loaded, Session, refuses};
use crate::cli::work::Work;
use crate::engine::Planned;
use crate::engine::apply::Applied;
use crate::engine::drift::Drift;
use crate::engine::file::{Header, PlanFile};
use crate::engine::resolve::Resolved;
use crate::inventory::scalar::Money;
use crate::plan::Plan;
use crate::plan::backups::{Backups, DumpsMade, Made, Verified};
use crate::plan::drills::{Drill, Past};
use crate::plan::rebuild::Rebuilt;
use crate::plan::restores::{DumpPlan, RestorePlan, Standing, Told};
use crate::reach::Failure;
use crate::recovery::goal;
use crate::view::backup;
use crate::view::context::PlanContext;
use crate::view::diag;
use crate::view::drift;
use crate::view::drill;
use crate::view::json;
use crate::view::json_backup;
use crate::view::json_drill;
use crate::view::json_restore;
use crate::view::plan;
use crate::view::progress::{self, Mode};
use crate::view::restore;
use crate::view::status;
use crate::view::style::Style;
use crate::view::text::clean_line;

impl Session {
    fn style_for(&self, terminal: bool) -> Style {
        let coloured = match self.global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Style { coloured }
    }

    /// Style of the product, on stdout.
    pub fn style(&self) -> Style {
        self.style_for(std::io::stdout().is_terminal())
    }

    /// Where progress goes: drawn on a terminal, lines elsewhere.
    pub fn progress_mode(&self) -> Mode {
        if std::io::stderr().is_terminal() { Mode::Live } else { Mode::Plain(self.stderr()) }
    }

    /// Messages: on stderr as text, on stdout where the product is JSON.
    pub fn show_diagnostics(&mut self, diagnostics: &Diagnostics) {
        if diagnostics.is_empty() {
            return;
        }
        // If stderr is closed there is nobody left to tell.
        let _ = if self.is_json() {
            let document = json::problems(&diagnostics.0);
            writeln!(self.out, "{document:#}")
        } else {
            let style = self.style_for(std::io::stderr().is_terminal());
            let text = diag::render(diagnostics, &self.sources, style);
            write!(self.err, "{text}")
        };
    }

    fn context(&self, work: &Work, planned: &Planned) -> PlanContext {
        PlanContext {
            environment: work.resolved.environment.clone(),
            account: work.resolved.account.clone(),
            region: work.resolved.region.clone(),
            sandbox: work.sandbox,
            inventory_file: work.loaded.file.clone(),
            verbose: self.global.verbose > 0,
            whole_steps: self.global.verbose > 0,
            remarks: planned.remarks.clone(),
            budget_cents: work.loaded.inventory.objectives.monthly_budget.map(Money::cents),
            sources: self.sources.clone(),
            style: self.style(),
            destroy: work.intent.destroy,
            next: String::new(),
            width: terminal_width(),
        }
    }

    /// A plan that this command applies, or that another message tells how to apply.
    pub fn show_plan(&mut self, work: &Work, planned: &Planned) -> Result<(), Stop> {
        let context = self.context(work, planned);
        self.show_plan_in(planned, &context)
    }

    /// A plan that was only asked for: it ends with the command that applies it.
    pub fn show_plan_and_next(&mut self, work: &Work, planned: &Planned) -> Result<(), Stop> {
        let context = PlanContext { next: self.apply_command(work), ..self.context(work, planned) };
        self.show_plan_in(planned, &context)
    }

    fn show_plan_in(&mut self, planned: &Planned, context: &PlanContext) -> Result<(), Stop> {
        self.product(&plan::render(&planned.plan, context), || json::plan(&planned.plan, context))
    }

    /// The command that makes and applies what this one showed.
    fn apply_command(&self, work: &Work) -> String {
        let mut words = self.apply_words(self.global.sandbox);
        let data: Vec<_> = work.intent.lose_data.iter().cloned().collect();
        for (flag, addresses) in [("--only", &work.only), ("--lose-data", &data)] {
            if !addresses.is_empty() {
                words.push(flag.to_owned());
                words.extend(addresses.iter().map(|address| shell::word(&address.to_string())));
            }
        }
        words.join(" ")
    }

    /// The command that applies a saved plan.
    pub fn apply_saved(&self, sandbox: bool, path: &Path) -> String {
        let mut words = self.apply_words(sandbox);
        words.push(shell::word(&path.display().to_string()));
        words.join(" ")
    }

    fn apply_words(&self, sandbox: bool) -> Vec<String> {
        let mut words = vec!["seawall".to_owned()];
        if let Some(inventory) = &self.global.inventory {
            words.extend(["-i".to_owned(), shell::word(&inventory.display().to_string())]);
        }
        words.extend(sandbox.then(|| "--sandbox".to_owned()));
        words.push("apply".to_owned());
        words
    }

    pub fn show_drift(&mut self, work: &Work, planned: &Planned, split: &Drift) -> Result<(), Stop> {
        // Drift is about what was found. What would be done about it is what a plan shows.
        let context = PlanContext { next: self.apply_command(work), whole_steps: false, ..self.context(work, planned) };
        let (behind, later) = (&split.behind_us, &split.not_applied);
        self.product(&drift::render(behind, later, &planned.plan, &context), || {
            json::drift(behind, later, &planned.plan, &context)
        })
    }

    /// The state of an environment, and what is not well with its backups.
    pub fn show_status(&mut self, work: &Work, planned: &Planned, backups: &[Diagnostic]) -> Result<(), Stop> {
        let context = self.context(work, planned);
        let text = status::render(&planned.plan, &self.findings(backups), &context);
        self.product(&text, || {
            let mut plan = Plan::clone(&planned.plan);
            plan.findings.extend_from_slice(backups);
            json::plan(&plan, &context)
        })
    }

    /// A saved plan, as it was made.
    pub fn show_saved(&mut self, file: &PlanFile, path: &Path) -> Result<(), Stop> {
        let header = &file.header;
        let context = PlanContext {
            environment: header.environment.clone(),
            account: header.account.clone(),
            region: header.region.clone(),
            sandbox: header.sandbox,
            inventory_file: "the inventory it was made from".to_owned(),
            verbose: self.global.verbose > 0,
            whole_steps: self.global.verbose > 0,
            style: self.style(),
            destroy: header.destroy,
            next: self.apply_saved(header.sandbox, path),
            width: terminal_width(),
            ..PlanContext::default()
        };
        let made = header.made_at.strftime("%Y-%m-%d %H:%M:%S UTC");
        let title = format!(
            "saved plan {}, made {made} by {} with seawall {}\n{}",
            file.digest.short(),
            clean_line(&header.made_by),
            clean_line(&header.version),
            asked_for(header)
        );
        let text = title + &plan::render(&file.plan, &context);
        self.product(&text, || json::plan(&file.plan, &context))
    }

    pub fn show_applied(&mut self, applied: &Applied) -> Result<(), Stop> {
        let ended = ended(applied);
        let text = progress::summary(&ended);
        self.product(&text, || json::applied(&ended))
    }

    pub fn show_validated(
        &mut self,
        loaded: &Loaded,
        resolved: &Resolved,
        findings: &[Diagnostic],
    ) -> Result<(), Stop> {
        if self.is_json() {
            let document = json::problems(findings);
            return Ok(writeln!(self.out, "{document:#}")?);
        }
        self.show_diagnostics(&Diagnostics(findings.to_vec()));
        let servers = resolved.servers.len();
        let servers = if servers == 1 { "1 server".to_owned() } else { format!("{servers} servers") };
        // What can be read and breaks a rule cannot be applied: "valid" would be half of the truth.
        let verdict = if refuses(findings) { "is refused by a rule" } else { "is valid" };
        let resources = match resolved.wanted.len() {
            1 => "1 resource".to_owned(),
            many => format!("{many} resources"),
        };
        Ok(writeln!(
            self.out,
            "{} {verdict}: environment {}, {servers}, {resources}",
            loaded.file, resolved.environment,
        )?)
    }

    pub fn show_backups(&mut self, work: &Work, all: &[Backups]) -> Result<(), Stop> {
        let style = self.style();
        let text: Vec<String> = all
            .iter()
            .map(|known| backup::list(known, style, terminal_width()) + &self.findings(&known.findings))
            .collect();
        self.product(&text.join("\n"), || json_backup::backups(&work.resolved.environment, work.sandbox, all))
    }

    pub fn show_verified(&mut self, work: &Work, all: &[Verified]) -> Result<(), Stop> {
        let style = self.style();
        let text: Vec<String> =
            all.iter().map(|proof| backup::verified(proof, style) + &self.findings(&proof.backups.findings)).collect();
        self.product(&text.join("\n"), || json_backup::verified(&work.resolved.environment, work.sandbox, all))
    }

    pub fn show_made(&mut self, work: &Work, server: &str, made: &Made) -> Result<(), Stop> {
        let text = backup::made(made, self.style());
        self.product(&text, || json_backup::made(&work.resolved.environment, work.sandbox, server, made))
    }

    /// A restore as it is planned, as text.
    pub fn restore_text(&self, plan: &RestorePlan) -> String {
        let segments = goal::segments(&plan.first_segment, &plan.last_segment);
        restore::plan(plan, segments, self.style()) + &self.findings(&plan.findings)
    }

    pub fn show_restore(&mut self, work: &Work, plan: &RestorePlan, told: Option<&Told>) -> Result<(), Stop> {
        let mut text = self.restore_text(plan);
        if let Some(told) = told {
            text.push_str(&restore::told(plan, told, self.style()));
        }
        self.product(&text, || json_restore::restore(&work.resolved.environment, work.sandbox, plan, told))
    }

    pub fn show_restores(&mut self, work: &Work, all: &[(String, Vec<Standing>)]) -> Result<(), Stop> {
        let style = self.style();
        let text = all.iter().map(|(server, all)| restore::standing(server, all, style, terminal_width()));
        self.product(&text.collect::<String>(), || {
            json_restore::restores(&work.resolved.environment, work.sandbox, all)
        })
    }

    /// A restore from a dump, as text; `restored` says whether it was carried out.
    pub fn dump_text(&self, plan: &DumpPlan, restored: bool) -> String {
        restore::dump(plan, restored, self.style())
    }

    pub fn show_restored_dump(&mut self, work: &Work, plan: &DumpPlan, restored: bool) -> Result<(), Stop> {
        let text = self.dump_text(plan, restored);
        self.product(&text, || json_restore::restored_dump(&work.resolved.environment, work.sandbox, plan, restored))
    }

    pub fn show_rebuilt(&mut self, work: &Work, report: &Rebuilt) -> Result<(), Stop> {
        let text = restore::rebuilt(report, self.style());
        self.product(&text, || json_restore::rebuilt(&work.resolved.environment, work.sandbox, report))
    }

    pub fn show_dumped(&mut self, work: &Work, server: &str, made: &DumpsMade) -> Result<(), Stop> {
        let text = backup::dumped(made, self.style());
        self.product(&text, || json_backup::dumped(&work.resolved.environment, work.sandbox, server, made))
    }

    /// A drill, as the document and the page that are kept of it.
    pub fn drill_documents(&self, one: &Drill) -> (String, String) {
        let misses = diag::render(&Diagnostics(one.misses.clone()), &self.sources, Style { coloured: false });
        let document = json_drill::drill(one);
        (format!("{document:#}\n"), drill::markdown(one, &misses))
    }

    pub fn show_drill(&mut self, one: &Drill) -> Result<(), Stop> {
        let text = drill::report(one, self.style()) + &self.findings(&one.misses);
        self.product(&text, || json_drill::drill(one))
    }

    pub fn show_drills(&mut self, work: &Work, all: &[Past]) -> Result<(), Stop> {
        let text = drill::history(all, Timestamp::now().as_second(), self.style(), terminal_width());
        self.product(&text, || json_drill::drills(&work.resolved.environment, work.sandbox, all))
    }

    /// Findings that are part of the product.
    fn findings(&self, findings: &[Diagnostic]) -> String {
        if findings.is_empty() {
            return String::new();
        }
        format!("\n{}", diag::render(&Diagnostics(findings.to_vec()), &self.sources, self.style()))
    }

    fn product(&mut self, text: &str, document: impl FnOnce() -> serde_json::Value) -> Result<(), Stop> {
        if self.is_json() {
            let document = document();
            writeln!(self.out, "{document:#}")?;
        } else {
            write!(self.out, "{text}")?;
        }
        Ok(self.out.flush()?)
    }

    /// Asks a question; only the whole word `yes` means yes.
    pub fn ask(&mut self, question: &str) -> Result<bool, Stop> {
        write!(self.err, "{question}")?;
        self.err.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        let yes = answer.trim() == "yes";
        if !yes {
            self.say("nothing was changed");
        }
        Ok(yes)
    }
}

/// What a saved plan was asked for beyond its inventory: apply asks for the same again.
fn asked_for(header: &Header) -> String {
    let list = |flag: &str, addresses: &[Address]| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        (!addresses.is_empty()).then(|| format!("{flag} {}", addresses.join(" ")))
    };
    let words = [
        header.destroy.then(|| "destroy".to_owned()),
        header.keep_protected.then(|| "--keep-protected".to_owned()),
        list("--only", &header.only),
        list("--lose-data", &header.lose_data),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() { String::new() } else { format!("asked for: {}\n", words.join(", ")) }
}

/// Columns of the terminal that the product goes to; `None` where it goes elsewhere.
fn terminal_width() -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(std::io::stdout())?;
    Some(usize::from(width.0))
}

/// An apply's end in the words of the view.
fn ended(applied: &Applied) -> progress::Ended {
    let Applied { done, already, failed, not_started, put_back, unchanged_after_revert } = applied.clone();
    let reasons = |all: Vec<(Address, Failure)>| {
        let reason = |(address, failure): (Address, Failure)| progress::Reason {
            address,
            why: failure.what,
            hint: failure.hint,
        };
        all.into_iter().map(reason).collect()
    };
    progress::Ended {
        done,
        already,
        failed: reasons(failed),
        not_started,
        put_back: reasons(put_back),
        unchanged_after_revert,
    }
}
