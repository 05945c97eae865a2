//! Arguments of `seawall drill`.

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::{RepositoryArgs, ServerArgs};
use crate::plan::drills::Broken;

#[derive(Args, Debug, Clone)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DrillArgs {
    /// `latest`, `random` (a moment drawn from the windows), or a target as `restore` takes it
    #[arg(long, value_name = "TARGET", default_value = "latest")]
    pub to: String,
    #[command(flatten)]
    pub of: RepositoryArgs,
    /// Only prove, from here and without the server, that the passphrase opens the repository; for CI
    #[arg(long, conflicts_with_all = ["to", "broken"])]
    pub preflight: bool,
    /// On a fresh instance instead of beside the database: as after the loss of the server, which costs money and is removed
    #[arg(long, conflicts_with_all = ["preflight", "broken"])]
    pub fresh: bool,
    /// Break something on purpose, in what the drill sees only: it must notice, and exits with 1
    #[arg(long = "break", value_enum, value_name = "WHAT")]
    pub broken: Option<Breakage>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[command(subcommand)]
    pub command: Option<DrillCommand>,
}

#[derive(Subcommand, Debug, Clone)]
pub enum DrillCommand {
    /// Show the drills that were run; changes nothing
    List(ServerArgs),
    /// Remove fresh instances of drills that were killed, and nothing else
    Gc(GcArgs),
}

#[derive(Args, Debug, Clone)]
pub struct GcArgs {
    /// Also those that have not expired: of a drill that was killed a moment ago
    #[arg(long)]
    pub all: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What a drill can be made to stumble over.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// A segment of WAL that the target needs is missing
    Segment,
    /// The passphrase is another one
    Passphrase,
    /// An object of the backup takes hours to be read
    StorageClass,
    /// The timeline does not exist
    Timeline,
}

impl From<Breakage> for Broken {
    fn from(what: Breakage) -> Self {
        match what {
            Breakage::Segment => Self::Segment,
            Breakage::Passphrase => Self::Passphrase,
            Breakage::StorageClass => Self::StorageClass,
            Breakage::Timeline => Self::Timeline,
        }
    }
}
