//! Saved plans: a plan with who made it, from which inventory, and a digest by which an edited or truncated file is noticed.
//!
//! The digest is no signature: it keeps accidents out, not somebody who can write to your plans folder. That is why nothing
//! in a file is run: it is compared with what is proposed anew ([`crate::engine::guards`]).

use std::io::Write as _;
use std::path::Path;

use fs_err as fs;
use fs_err::File;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::base::digest::Digest;
use crate::base::read::{self, NotRead};
use crate::engine::nonce::Nonce;
use crate::plan::Plan;

/// The format that this version reads and writes.
pub const FORMAT: &str = "seawall.plan/2";

/// Largest plan file that is read, in bytes. A plan of a thousand servers is a tenth of it.
const SIZE_LIMIT: u64 = 256 * 1024 * 1024;

/// A plan as it is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Seawall saved plan")]
pub struct PlanFile {
    /// `seawall.plan/2`.
    #[schemars(extend("const" = FORMAT))]
    pub format: String,
    pub header: Header,
    pub plan: Plan,
    /// Digest of header and plan.
    pub digest: Digest,
}

/// Where a plan comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub environment: String,
    pub account: String,
    pub region: String,
    /// Made against the local cloud, not against AWS.
    pub sandbox: bool,
    /// Digest of the inventory as it was read.
    pub inventory: Digest,
    /// What `--only` named; empty for the whole inventory.
    pub only: Vec<Address>,
    pub destroy: bool,
    pub keep_protected: bool,
    pub lose_data: Vec<Address>,
    #[schemars(with = "String")]
    pub made_at: Timestamp,
    pub made_by: String,
    pub version: String,
    /// Random; recorded when the plan is used, so that it is used once.
    pub nonce: Nonce,
}

impl PlanFile {
    /// Seals a plan.
    pub fn new(header: Header, plan: Plan) -> Self {
        let digest = Digest::of(&(&header, &plan));
        Self { format: FORMAT.to_owned(), header, plan, digest }
    }

    /// Writes to a new file, readable by its owner only, or says that one is there already. A plan is never
    /// overwritten: somebody may have approved it.
    pub fn save(&self, path: &Path) -> Result<(), Diagnostic> {
        use fs_err::os::unix::fs::OpenOptionsExt as _;
        if path.exists() {
            return Err(Diagnostic::error(
                "plan-exists",
                format!("`{}` exists already; a saved plan is never overwritten", path.display()),
            )
            .hint("give the plan another name, or remove the old one"));
        }
        let failed = |error: std::io::Error| {
            Diagnostic::error("plan-not-saved", format!("the plan could not be saved to `{}`", path.display()))
                .note(error.to_string())
        };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let beside = path.with_extension(format!("{}.part", self.header.nonce));
        let mut bytes = serde_json::to_vec_pretty(self).expect("a plan serialises");
        bytes.push(b'\n');
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
        let written = file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
        written.map_err(|error| {
            // The original error is what matters. Its message names the leftover, should removing that fail, too.
            let _ = fs::remove_file(&beside);
            failed(error)
        })
    }

    /// Reads a saved plan and refuses one that is cut short, edited, or of a format that this version does not know.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let bytes = read::bytes(path, SIZE_LIMIT).map_err(|why| unopened(path, &why))?;
        Self::parse(path, &bytes)
    }

    /// Parses the bytes of a saved plan.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Diagnostic> {
        #[derive(Deserialize)]
        struct Kind {
            format: String,
        }
        if bytes.is_empty() {
            return Err(Diagnostic::error("plan-damaged", format!("`{}` is empty", path.display()))
                .note("nothing was changed by this run")
                .hint("make a new plan with `seawall plan --out`"));
        }
        let kind: Kind = serde_json::from_slice(bytes).map_err(|error| damaged(path, &error))?;
        if kind.format != FORMAT {
            let problem = Diagnostic::error(
                "plan-format",
                format!("`{}` has format `{}`, and this version knows `{FORMAT}`", path.display(), kind.format),
            );
            let problem = problem.note("nothing was changed by this run");
            return Err(problem.hint("apply it with the version that made it, or make a new plan with this one"));
        }
        let file: Self = serde_json::from_slice(bytes).map_err(|error| damaged(path, &error))?;
        if Digest::of(&(&file.header, &file.plan)) != file.digest {
            return Err(Diagnostic::error(
                "plan-edited",
                format!("`{}` was changed after it was made", path.display()),
            )
            .note("its content does not have the digest that it carries; nothing was changed by this run")
            .hint("make a new plan; plans are applied as they were shown, or not at all"));
        }
        Ok(file)
    }
}

fn unopened(path: &Path, why: &NotRead) -> Diagnostic {
    unreadable(path, &why.to_string()).hint("`seawall plan --out plans/NAME.json` saves a plan")
}

fn unreadable(path: &Path, why: &str) -> Diagnostic {
    Diagnostic::error("plan-unreadable", format!("`{}` could not be read", path.display()))
        .note(why.to_owned())
        .note("nothing was changed by this run")
}

fn damaged(path: &Path, error: &serde_json::Error) -> Diagnostic {
    let what = if error.is_eof() { "is cut short" } else { "is not a saved plan" };
    Diagnostic::error("plan-damaged", format!("`{}` {what}", path.display()))
        .note(format!("{error}; nothing was changed by this run"))
        .hint("make a new plan with `seawall plan --out`")
}
