//! Who can reach what, as a table for each server.

use std::fmt::Write as _;

use crate::plan::reachability::{Gate, Path, Reachability};
use crate::view::context::PlanContext;
use crate::view::style::Role;
use crate::view::table;
use crate::view::text::clean_line;

/// Before each line under a table's title.
const INDENT: &str = "  ";

/// The tables, each with an empty line after it. Nothing where no server is there.
pub fn tables(all: &[Reachability], context: &PlanContext) -> String {
    let mut text = String::new();
    for one in all {
        let title = format!("who can reach what on {}", one.server);
        let head = [title.as_str(), "lightsail", "host", "answers"];
        let rows = one.declared.iter().map(row).collect();
        // The title begins at the edge and the rows under it further in; its columns must follow.
        let width = context.width.map(|width| width.saturating_sub(INDENT.len()));
        for (index, line) in table::lines(head, rows, width).into_iter().enumerate() {
            let line = match line.strip_prefix(&title).filter(|_| index == 0) {
                Some(columns) => context.style.paint(Role::Title, format!("{title}{INDENT}{columns}")),
                None => format!("{INDENT}{line}"),
            };
            let _ = writeln!(text, "{line}");
        }
        for exposure in &one.undeclared {
            let line = format!(
                "  ! {} {} from {} reaches {}: nobody declared that",
                exposure.protocol,
                exposure.port,
                exposure.from,
                clean_line(&exposure.listener)
            );
            let _ = writeln!(text, "{}", context.style.paint(Role::Danger, &line));
        }
        if one.undeclared.is_empty() && one.unseen.is_empty() {
            let line = "  nothing else answers from outside";
            let _ = writeln!(text, "{}", context.style.paint(Role::Faint, line));
        }
        for why in &one.unseen {
            let line = format!("  ? not known: {}", clean_line(why));
            let _ = writeln!(text, "{}", context.style.paint(Role::Danger, &line));
        }
        text.push('\n');
    }
    text
}

fn row(path: &Path) -> [String; 4] {
    let gate = |gate: Gate| match gate {
        Gate::Open => "open",
        Gate::Closed => "closed",
        Gate::Unknown => "?",
    };
    let from = match path.from.as_str() {
        "0.0.0.0/0" => "anywhere",
        "::/0" => "anywhere (IPv6)",
        from => from,
    };
    let answers = match (path.reaches(), &path.listener) {
        (Some(true), Some(program)) => clean_line(program),
        (Some(_), None) => "nothing listens".to_owned(),
        (Some(false), Some(program)) => format!("{} is not reached", clean_line(program)),
        (None, Some(program)) => format!("{}?", clean_line(program)),
        (None, None) => "?".to_owned(),
    };
    let what = format!("{} {} from {from}, {}", path.protocol, path.port, clean_line(&path.why));
    [what, gate(path.cloud).to_owned(), gate(path.host).to_owned(), answers]
}
