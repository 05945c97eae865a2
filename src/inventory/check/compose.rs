//! Checks of a stack of containers: its file is read and judged, and its variables can be set.

use crate::base::diag::Label;
use crate::inventory::check::{Report, jobs, text};
use crate::inventory::compose;

pub(super) fn check(report: &mut Report<'_>) {
    for (server, section) in &report.inventory.servers {
        let Some(stack) = &section.compose else { continue };
        let base = format!("servers.{server}.compose");
        let path = format!("{base}.file");
        report.text("bad-path", &path, text::operator_path(&stack.file));
        for variable in stack.secrets.keys() {
            jobs::variable_name(report, &format!("{base}.secrets.{variable}"), variable);
        }
        // A file that could not be read has been complained about by who tried.
        if let Some(contents) = &stack.contents {
            let (_, problems) = compose::read(stack.project.as_str(), &stack.file, contents);
            let here = report.places.span(&path);
            report.found.extend(problems.into_iter().map(|mut problem| {
                // First where the inventory names it: that is the order in which messages are told.
                problem.labels.insert(0, Label { span: here.clone(), text: "this Compose file".to_owned() });
                problem
            }));
        }
    }
}
