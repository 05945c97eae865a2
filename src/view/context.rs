//! What plans and drift are shown with: everything that a reader needs to know and a plan does not hold.

use std::collections::BTreeMap;

use crate::base::address::Address;
use crate::plan::remark::Remark;
use crate::view::style::Style;

/// What a plan is shown with.
#[derive(Clone, Debug, Default)]
pub struct PlanContext {
    pub environment: String,
    pub account: String,
    pub region: String,
    pub sandbox: bool,
    pub inventory_file: String,
    /// Whole diffs, every step.
    pub verbose: bool,
    /// Everything that each step would run or write.
    pub whole_steps: bool,
    /// What is worth saying about resources, whether they change or not.
    pub remarks: Vec<(Address, Remark)>,
    /// In US cents.
    pub budget_cents: Option<u64>,
    pub sources: BTreeMap<String, String>,
    pub style: Style,
    /// Everything is asked to go, so that nothing to do means nothing there.
    pub destroy: bool,
    /// The command that does what is shown, where the reader is to type it: `seawall apply`. Empty where no command is
    /// needed (this one does it) or where another message names it.
    pub next: String,
    /// Columns of the terminal; `None` where the text goes elsewhere, so that it is the same everywhere.
    pub width: Option<usize>,
}
