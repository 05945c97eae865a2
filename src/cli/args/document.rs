//! Documents of Seawall's whose schema can be printed.

use clap::ValueEnum;

/// Documents with a published schema.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// What a person writes
    Inventory,
    /// A saved plan
    Plan,
    /// What `plan` and `show` print with --format json
    PlanView,
    /// What `drift` prints with --format json
    Drift,
    /// What `apply` and `destroy` print with --format json
    Applied,
    /// What `backup list` prints with --format json
    Backups,
    /// What `backup verify` prints with --format json
    BackupsVerified,
    /// What `backup now` prints with --format json
    BackupMade,
    /// What `restore` prints with --format json
    Restore,
    /// What `restore list` prints with --format json
    Restores,
    /// What `restore --from-dump` prints with --format json
    RestoredDump,
    /// What `rebuild` prints with --format json
    Rebuilt,
    /// What `backup dump` prints with --format json
    DumpsMade,
    /// What `drill` prints with --format json, and what is kept of a drill
    Drill,
    /// What `drill list` prints with --format json
    Drills,
    /// Problems with --format json
    Problems,
}
