//! What every command has: the global flags, the streams, and how messages look on them.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::diag::{Diagnostic, Diagnostics};
use crate::base::digest::Digest;
use crate::base::redact::Redactor;
use crate::base::span::Span;
use crate::cli::args::{Color, Format, Global};
use crate::cli::clean::{Clean, Kind};
use crate::cli::exit::{Exit, Stop};
use crate::engine::resolve::{Resolved, resolve};
use crate::inventory::check::check;
use crate::inventory::load::load;
use crate::inventory::places::Places;
use crate::inventory::sections::Inventory;
use crate::reach::ssh::session::Ssh;

/// The folder that holds everything local: lab, local state. Beside where the command runs, ignored by git.
pub const LOCAL_FOLDER: &str = ".seawall";

/// One run of the program.
pub struct Session {
    pub global: Global,
    pub out: Box<dyn Write + Send>,
    pub err: Box<dyn Write + Send>,
    /// Texts of the files that messages point into.
    pub sources: BTreeMap<String, String>,
    /// What takes the secrets of this run out of everything that leaves.
    pub redactor: Redactor,
    /// Connections to hosts, to be closed at the end: an ssh master would outlive this program.
    pub ssh: Option<Arc<Ssh>>,
}

/// An inventory that was read and found good.
#[derive(Clone)]
pub struct Loaded {
    pub inventory: Inventory,
    pub places: Places,
    pub digest: Digest,
    /// The file, as the operator named it.
    pub file: String,
}

impl Session {
    /// A session on the process's own streams. Both are cleaned.
    pub fn new(global: Global) -> Self {
        let redactor = Redactor::default();
        let text = Kind::Text { coloured: global.color != Color::Never };
        // Scripts of `completions` are for a shell and come from this program alone.
        let kind = if global.format == Format::Json { Kind::Json } else { text };
        Self {
            out: Box::new(Clean::new(std::io::stdout(), kind, redactor.clone())),
            err: Box::new(Clean::new(std::io::stderr(), text, redactor.clone())),
            sources: BTreeMap::new(),
            redactor,
            ssh: None,
            global,
        }
    }

    /// Another writer to stderr, for what draws as it goes.
    pub fn stderr(&self) -> Box<dyn Write + Send> {
        Box::new(Clean::new(std::io::stderr(), Kind::Text { coloured: true }, self.redactor.clone()))
    }

    pub fn is_json(&self) -> bool {
        self.global.format == Format::Json
    }

    /// Whether somebody is there to answer.
    pub fn can_ask(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Says something on stderr.
    pub fn say(&mut self, text: impl AsRef<str>) {
        // A closed stderr must not stop work that is under way.
        let _ = writeln!(self.err, "{}", text.as_ref());
    }

    /// Reads the inventory; all its problems are in the error.
    pub fn load(&mut self) -> Result<Loaded, Stop> {
        let path = self.inventory_path()?;
        let file = path.display().to_string();
        let mut loaded = load(&path);
        self.sources.insert(file.clone(), std::mem::take(&mut loaded.text));
        if let Some(inventory) = &loaded.inventory {
            loaded.diagnostics.extend(check(inventory, &loaded.places));
        }
        match loaded.inventory {
            Some(inventory) if !loaded.diagnostics.has_errors() => {
                self.show_diagnostics(&loaded.diagnostics);
                let digest = Digest::of(&inventory);
                Ok(Loaded { inventory, places: loaded.places, digest, file })
            }
            _ => Err(Stop::new(Exit::Failed, loaded.diagnostics)),
        }
    }

    /// Reads the inventory and asks the kinds what it asks for.
    pub fn resolve(&mut self) -> Result<(Loaded, Resolved), Stop> {
        let loaded = self.load()?;
        let resolved = resolve(&loaded.inventory).map_err(|problems| Stop::new(Exit::Bug, problems))?;
        Ok((loaded, resolved))
    }

    fn inventory_path(&self) -> Result<PathBuf, Stop> {
        if let Some(path) = &self.global.inventory {
            return Ok(path.clone());
        }
        let folder = Path::new("inventories");
        let mut found: Vec<PathBuf> = fs_err::read_dir(folder)
            .map(|entries| entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect())
            .unwrap_or_default();
        found.retain(|path| path.extension().is_some_and(|e| e == "yaml" || e == "yml"));
        found.sort();
        match found.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Stop::new(
                Exit::Usage,
                Diagnostic::error("no-inventory", "there is no inventory in `inventories/`")
                    .hint("name one: seawall -i FILE, or set SEAWALL_INVENTORY"),
            )),
            many => Err(Stop::new(
                Exit::Usage,
                Diagnostic::error("which-inventory", format!("there are {} inventories in `inventories/`", many.len()))
                    .note(many.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))
                    .hint("name one: seawall -i FILE, or set SEAWALL_INVENTORY"),
            )),
        }
    }
}

impl Loaded {
    /// The line of the inventory that a path stands for.
    pub fn locate(&self, path: &str) -> Option<Span> {
        Some(self.places.span(path))
    }

    /// Bucket and prefix of what all operators share, where the inventory names them.
    pub fn shared_state(&self) -> Option<(String, String)> {
        let state = self.inventory.state.as_ref()?;
        let bucket = self.inventory.buckets.get(&state.bucket)?;
        Some((bucket.name.clone(), format!("{}/{}", state.prefix, self.inventory.environment)))
    }
}

/// Whether a list of findings keeps a plan from being applied.
pub fn refuses(findings: &[Diagnostic]) -> bool {
    Diagnostics(findings.to_vec()).has_errors()
}
