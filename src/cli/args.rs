//! The command line. Help texts are the manual: one line each, more where a person at 3 a.m. needs it.

mod document;
mod drill;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::drill::{Breakage, DrillArgs, DrillCommand, GcArgs};
use crate::base::address::Address;
pub use crate::cli::args::document::Document;
use crate::inventory::scalar::Name;

/// Provisions and hardens a production PostgreSQL server on AWS Lightsail from one inventory, and keeps it so
#[derive(Parser, Debug)]
#[command(
    name = "seawall",
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done or nothing to do, 1 failed, 2 differences (plan, drift),\n3 refused by a rule or protection, 4 stale plan, 5 rolled back, 64 usage, 70 a bug in seawall,\n130 interrupted. Every error's code is explained in docs/errors.md."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The inventory; the only file in `inventories/` is the default
    #[arg(short, long, global = true, env = "SEAWALL_INVENTORY", value_name = "FILE")]
    pub inventory: Option<PathBuf>,
    /// Work on a local cloud with real machines instead of AWS
    #[arg(long, global = true)]
    pub sandbox: bool,
    /// How to print what the command produces
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// When to use colours; NO_COLOR is respected
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// Say more: whole diffs, every step; twice for the log
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Check the inventory offline; every problem at once
    Validate,
    /// Show what apply would do; exits with 2 when there are differences
    Plan(PlanArgs),
    /// Make the world as the inventory says; with a saved plan, exactly that plan
    Apply(ApplyArgs),
    /// Show what changed behind us; cannot write; exits with 2 when there are differences
    Drift(OnlyArgs),
    /// Who can reach what, what is not well, and whether all is as wanted
    Status,
    /// Remove what Seawall put there
    Destroy(DestroyArgs),
    /// What can be restored, whether it is whole, and one more backup
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Restore to a moment, beside the database or in its place; planned, shown and confirmed first
    Restore(Box<RestoreArgs>),
    /// Make a lost server anew from the inventory, the secrets and the bucket, with the clock running
    Rebuild(RebuildArgs),
    /// Restore to measure and prove it: loss, time, verification; the copy is removed and a report kept
    ///
    /// Exits with 0 when all of it is as it must be, with 1 on any miss. The database beside it is not touched.
    Drill(DrillArgs),
    /// Print a saved plan
    Show {
        /// The saved plan
        #[arg(value_name = "PLAN.json")]
        plan: PathBuf,
    },
    /// Say what a kind manages, or why a resource is as it is
    Explain {
        /// A kind such as host.sysctl, or an address such as host.sysctl/db; without it, all kinds
        #[arg(value_name = "KIND or ADDRESS")]
        what: Option<String>,
    },
    /// Print the JSON Schema of inventories, for editors, or of a document that Seawall writes
    Schema {
        #[arg(value_enum, default_value_t = Document::Inventory)]
        document: Document,
    },
    /// Print the least IAM policy for this inventory, as JSON; asks AWS nothing
    Policy {
        /// For whom
        #[arg(value_enum, value_name = "FOR")]
        whose: PolicyFor,
    },
    /// Print a completion script for a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Remove a lock that a dead run left behind
    Unlock {
        /// Why; it is recorded
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// The local cloud: start, look, log in, end
    Sandbox {
        #[command(subcommand)]
        command: SandboxCommand,
    },
}

#[derive(Subcommand, Debug)]
pub enum BackupCommand {
    /// Show backups, the times that can be restored, and whether WAL arrives; changes nothing
    ///
    /// Exits with 0 when all is well, with 2 when something is not (a gap, a late backup, WAL that does not arrive), and
    /// with 1 when not everything could be looked at.
    List(RepositoryArgs),
    /// Prove that every file of the repository is there, whole and readable, and that WAL arrives
    ///
    /// Reads the whole repository, which takes as long as a restore. Exits with 3 when anything is wrong. Only a restore
    /// proves more.
    Verify(RepositoryArgs),
    /// Make a backup now and follow it to its end
    ///
    /// It runs as the service that the schedule starts, and goes on when this program or the connection ends.
    Now {
        #[command(flatten)]
        of: RepositoryArgs,
        /// What is copied: everything, or what changed since the last full backup
        #[arg(long = "type", value_enum, default_value_t = BackupType::Full, value_name = "TYPE")]
        kind: BackupType,
        /// Start nothing; follow the backup that runs
        #[arg(long, conflicts_with = "kind")]
        follow: bool,
    },
    /// Dump every declared database now, whole, and keep the dumps under a name
    ///
    /// Before a migration, for example. Nothing thins these dumps out. It goes on when this program or the connection ends.
    Dump {
        #[command(flatten)]
        server: ServerArgs,
        /// What is about to happen: letters, digits and hyphens
        #[arg(long, value_name = "NAME")]
        before: Name,
    },
}

#[derive(Args, Debug, Clone)]
pub struct RebuildArgs {
    #[command(flatten)]
    pub of: RepositoryArgs,
    /// Delete what is left of the old server, which a rebuild has stopped and kept
    #[arg(long)]
    pub accept: bool,
    /// Rebuild on a fresh instance beside the server, without fence, archiving and address; measure it, remove it (`drill --fresh`)
    #[arg(long, conflicts_with = "accept")]
    pub rehearse: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args, Debug, Clone)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RestoreArgs {
    /// `latest`, a moment with its offset from UTC ("2026-11-21 02:21:10+00"), `backup:LABEL` or `name:RESTORE_POINT`
    #[arg(long, value_name = "TARGET")]
    pub to: Option<String>,
    /// Restore one database from its logical dump of that time, for example 20261121T033000Z, into a new database
    #[arg(long, value_name = "STAMP", requires = "database", conflicts_with_all = ["to", "in_place", "set", "timeline", "name", "keep_hours", "copy"])]
    pub from_dump: Option<String>,
    /// The database whose dump is restored
    #[arg(long, value_name = "DATABASE", requires = "from_dump")]
    pub database: Option<String>,
    #[command(flatten)]
    pub of: RepositoryArgs,
    /// Replace the server's own data instead of making a copy beside it; the old data is kept aside
    #[arg(long)]
    pub in_place: bool,
    /// Show what would be done and end; exits with 3 when it cannot be done
    #[arg(long)]
    pub plan: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// The backup to begin with, by its label; the newest good one before the target is the default
    #[arg(long, value_name = "LABEL")]
    pub set: Option<String>,
    /// The timeline to follow, where more than one holds the moment
    #[arg(long, value_name = "NUMBER")]
    pub timeline: Option<u32>,
    /// A name for the restore; the time of day is the default
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Hours that a copy runs; 24 is the default
    #[arg(long, value_name = "HOURS", conflicts_with = "in_place")]
    pub keep_hours: Option<u64>,
    #[command(subcommand)]
    pub command: Option<RestoreCommand>,
}

#[derive(Subcommand, Debug, Clone)]
pub enum RestoreCommand {
    /// Show the restores that are on a server; changes nothing
    List(ServerArgs),
    /// Open psql in a restored copy
    Psql {
        /// The restore
        name: String,
        #[command(flatten)]
        server: ServerArgs,
        /// Arguments of psql
        #[arg(last = true, value_name = "PSQL-ARGUMENTS")]
        arguments: Vec<String>,
    },
    /// Copy a table from a restored copy into the database beside it, under a name that is not there yet
    CopyTable {
        /// The restore
        name: String,
        /// The database
        database: String,
        /// The table, with its schema where it is not in public
        table: String,
        /// The new table's name; TABLE_restored is the default
        #[arg(long, value_name = "TABLE")]
        into: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// End a restored copy and remove it
    Drop {
        /// The restore
        name: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Keep what was restored in place: archiving begins again, and a full backup is made
    Accept {
        /// The restore
        name: String,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Go back to the data of before a restore in place
    Undo {
        /// The restore
        name: String,
        #[command(flatten)]
        server: ServerArgs,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupType {
    Full,
    Diff,
}

#[derive(Args, Debug, Clone, Default)]
pub struct ServerArgs {
    /// The server, by its name in the inventory, where more than one has backups
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
}

#[derive(Args, Debug, Clone, Default)]
pub struct RepositoryArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// The second repository, which the inventory declares under `backup.copies`
    #[arg(long)]
    pub copy: bool,
}

/// Whom a policy is for.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFor {
    /// Who looks and changes nothing: plan, drift, status, backup list
    Drift,
    /// Who applies and destroys
    Operator,
}

#[derive(Args, Debug, Clone, Default)]
pub struct OnlyArgs {
    /// Only these resources, for example host.sysctl/db
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    pub only: Vec<Address>,
}

#[derive(Args, Debug, Clone)]
pub struct PlanArgs {
    #[command(flatten)]
    pub only: OnlyArgs,
    /// Save the plan, to be applied exactly once
    #[arg(long, value_name = "plans/NAME.json")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub data: DataArgs,
}

#[derive(Args, Debug, Clone)]
pub struct ApplyArgs {
    /// A saved plan; without it, a plan is made, shown and applied
    #[arg(value_name = "PLAN.json")]
    pub plan: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub only: OnlyArgs,
    #[command(flatten)]
    pub data: DataArgs,
}

#[derive(Args, Debug, Clone)]
pub struct DestroyArgs {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Leave protected resources and remove the rest
    #[arg(long)]
    pub keep_protected: bool,
    /// Save the plan of removals instead of doing it
    #[arg(long, value_name = "plans/NAME.json")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub only: OnlyArgs,
    #[command(flatten)]
    pub data: DataArgs,
}

#[derive(Args, Debug, Clone, Default)]
pub struct DataArgs {
    /// A resource whose data may be lost, for example lightsail.instance/db
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    pub lose_data: Vec<Address>,
}

#[derive(Subcommand, Debug)]
pub enum SandboxCommand {
    /// Start the local cloud; the first time builds the machine image (some minutes)
    Up {
        /// Begin as a saved one was, with its servers; only where there is no sandbox yet
        #[arg(long, value_name = "TEMPLATE")]
        from: Option<String>,
    },
    /// Stop the servers in order and keep all of it as a template, from which others begin in seconds
    Save {
        /// The template's name
        name: String,
    },
    /// Remove a template
    Forget {
        /// The template's name; `seawall sandbox status` lists them
        name: String,
    },
    /// Say what runs and how to reach it
    Status,
    /// Log in to a server
    Ssh {
        /// The server, by its name in the inventory
        server: String,
        /// Port that its sshd listens on, where it is not the inventory's
        #[arg(short, long)]
        port: Option<u16>,
        /// A command to run there instead of a shell
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a program in the lab's network
    Exec {
        /// Source address that the program's traffic comes from
        #[arg(long, value_name = "ADDRESS")]
        from: Option<std::net::IpAddr>,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Confirm an e-mail subscription, as its reader would by clicking
    Confirm {
        /// The e-mail address
        address: String,
    },
    /// Take the automatic snapshots that Lightsail takes once a day
    Snapshot,
    /// Make the next calls of an AWS operation go wrong
    Fault {
        /// lightsail, s3, sns, monitoring, iam or sts
        service: String,
        /// The operation, `*` for any; for s3 the HTTP method
        operation: String,
        /// throttle, access_denied, expired_token, http500, fail_operation, timeout_after_effect or stuck_pending
        #[arg(long, default_value = "throttle")]
        kind: String,
        /// How many calls
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
    /// End everything that runs; `--wipe` also removes what it kept
    Down {
        /// Remove machines, buckets and all other state, too
        #[arg(long)]
        wipe: bool,
    },
}
