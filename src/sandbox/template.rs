//! Templates: a whole lab kept at a moment, from which others begin in seconds.
//!
//! A template is a folder that appears only when it is complete. A lab that begins from it takes copies of what is
//! small, and its servers stand on the template's files in their overlays; nothing ever writes to a template.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::base::read;
use crate::sandbox::emulator;
use crate::sandbox::files::EMULATOR_FOLDER;
use crate::sandbox::lab::{self, Lab, LabError};
use crate::sandbox::machines::{self, MachineError};
use crate::sandbox::process::write_private;
use crate::sandbox::seal::Seals;

const ABOUT_FILE: &str = "template.json";
/// Parts of a template's folder: the lab's own files, its servers, and what operators share about it.
const LAB: &str = "lab";
const MACHINES: &str = "machines";
const SHARED: &str = "shared";
/// How long a name may be, in characters: it stands in paths that overlayfs takes a page of.
const NAME_LIMIT: usize = 40;
/// A block of a file's size on disk, in bytes, whatever the file system's own are (stat(2)).
const BLOCK: u64 = 512;

/// Why there is no template, or no lab from it.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("`{0}` cannot name a template: one to {NAME_LIMIT} letters, digits, `-` and `_`, the first not a sign")]
    Name(String),
    #[error("there is no template `{name}`")]
    Unknown { name: String, known: Vec<String> },
    #[error("there is a template `{0}` already")]
    Exists(String),
    #[error("template `{name}` was made for account {account} in {region}")]
    Other { name: String, account: String, region: String },
    #[error("the servers of template `{name}` stand on image {image}, which is not in the cache")]
    Image { name: String, image: String },
    #[error("there is a sandbox in `{}` already", .0.display())]
    Begun(PathBuf),
    #[error("the servers of the sandbox here stand on template `{0}`")]
    InUse(String),
    #[error("the sandbox did not stop its servers: {0}")]
    Rest(String),
    #[error(transparent)]
    Lab(#[from] LabError),
    #[error(transparent)]
    Machines(#[from] MachineError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where templates and the lab are.
pub struct Places {
    pub templates: PathBuf,
    /// The lab's folder.
    pub lab: PathBuf,
    /// What operators share about the rehearsed environments: locks, used plans, journals.
    pub shared: PathBuf,
    /// Where images are.
    pub images: PathBuf,
}

/// What is known of a template without looking into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The version of this format.
    pub version: u32,
    pub name: String,
    pub account: String,
    pub region: String,
    /// The images that its servers stand on.
    pub images: BTreeSet<String>,
    pub saved_at: Timestamp,
    /// On disk, in bytes.
    pub size: u64,
}

impl Places {
    fn of(&self, name: &str) -> Result<PathBuf, TemplateError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if !first || name.len() > NAME_LIMIT || !name.chars().all(fits) {
            return Err(TemplateError::Name(name.to_owned()));
        }
        Ok(self.templates.join(name))
    }

    /// One at a time makes, takes or removes a template.
    fn turn(&self) -> Result<Flock<std::fs::File>, TemplateError> {
        // Keys and passwords of rehearsals are in a template.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.templates)?;
        let file = fs_err::File::create(self.templates.join(".lock"))?.into_parts().0;
        Ok(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))?)
    }

    /// All templates, by name. What is not complete is none.
    pub fn list(&self) -> Vec<Template> {
        let seals = Seals::of_this_user();
        let entries = fs_err::read_dir(&self.templates).into_iter().flatten().flatten();
        let mut found: Vec<Template> = entries
            .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
            .filter(|(name, _)| !name.starts_with('.'))
            // What a repository brought is none either.
            .filter(|(_, path)| seals.as_ref().is_ok_and(|seals| seals.is_marked(path)))
            .filter_map(|(_, path)| serde_json::from_slice(&read::ours(&path.join(ABOUT_FILE), read::OURS).ok()?).ok())
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    fn find(&self, name: &str) -> Result<(PathBuf, Template), TemplateError> {
        let folder = self.of(name)?;
        let known = self.list();
        if let Some(template) = known.iter().find(|template| template.name == name) {
            return Ok((folder, template.clone()));
        }
        let known = known.into_iter().map(|template| template.name).collect();
        Err(TemplateError::Unknown { name: name.to_owned(), known })
    }

    /// Whether a lab may be saved under a name; asked before anything is stopped.
    pub fn free(&self, name: &str) -> Result<(), TemplateError> {
        if self.of(name)?.exists() { Err(TemplateError::Exists(name.to_owned())) } else { Ok(()) }
    }

    /// Stops the servers of a lab in order, ends it, and keeps it as a template. The lab stays as it is, down.
    pub async fn save(&self, lab: &Lab, name: &str) -> Result<Template, TemplateError> {
        self.free(name)?;
        let (status, said) = crate::sandbox::control::rest(lab).await?;
        if status != 200 {
            return Err(TemplateError::Rest(said));
        }
        lab::down(&self.lab)?;
        let _turn = self.turn()?;
        self.free(name)?;
        // One name for what is not complete: what a killed run left is found and replaced.
        let half = self.templates.join(".half");
        remove(&half)?;
        fs_err::create_dir_all(half.join(LAB))?;
        for part in lab::KEPT {
            let from = self.lab.join(part);
            if from.exists() {
                machines::copy(&from, &half.join(LAB).join(part)).await?;
            }
        }
        emulator::forget_process(&half.join(LAB).join(EMULATOR_FOLDER))?;
        fs_err::create_dir_all(half.join(MACHINES))?;
        let hosts = self.lab.join("machines");
        if hosts.exists() {
            machines::keep(&hosts, &half.join(MACHINES)).await?;
        }
        if self.shared.exists() {
            machines::copy(&self.shared, &half.join(SHARED)).await?;
        }
        let template = Template {
            version: 1,
            name: name.to_owned(),
            account: lab.settings.account.clone(),
            region: lab.settings.region.clone(),
            images: machines::images(&half.join(MACHINES))?,
            saved_at: Timestamp::now(),
            size: size(&half)?,
        };
        Seals::of_this_user()?.mark(&half)?;
        let about = serde_json::to_vec_pretty(&template).map_err(io::Error::other)?;
        write_private(&half.join(ABOUT_FILE), &about)?;
        fs_err::rename(&half, self.of(name)?)?;
        Ok(template)
    }

    /// Lays a lab from a template where there is none. It is started as any other that is down.
    pub async fn begin(&self, name: &str, account: &str, region: &str) -> Result<(), TemplateError> {
        let _turn = self.turn()?;
        let (folder, template) = self.find(name)?;
        if self.lab.exists() {
            return Err(TemplateError::Begun(self.lab.clone()));
        }
        if (template.account.as_str(), template.region.as_str()) != (account, region) {
            let Template { account, region, .. } = template;
            return Err(TemplateError::Other { name: name.to_owned(), account, region });
        }
        for image in template.images {
            if !self.images.join(format!("image-{image}")).is_dir() {
                return Err(TemplateError::Image { name: name.to_owned(), image });
            }
        }
        let half = self.lab.with_extension("half");
        remove(&half)?;
        machines::copy(&folder.join(LAB), &half).await?;
        if folder.join(MACHINES).join("lab.json").exists() {
            machines::stand_on(&folder.join(MACHINES), &half.join("machines"))?;
        }
        remove(&self.shared)?;
        if folder.join(SHARED).exists() {
            machines::copy(&folder.join(SHARED), &self.shared).await?;
        }
        Seals::of_this_user()?.mark(&half)?;
        // The lab is there from here on, whole.
        Ok(fs_err::rename(&half, &self.lab)?)
    }

    /// Removes a template that the lab here does not stand on. Returns how much room it took, in bytes.
    pub fn forget(&self, name: &str) -> Result<u64, TemplateError> {
        let _turn = self.turn()?;
        let (folder, template) = self.find(name)?;
        if self.lab.join("machines").exists() && machines::stands_on(&self.lab.join("machines"), &folder)? {
            return Err(TemplateError::InUse(name.to_owned()));
        }
        // Hidden first: what is half removed is no template.
        let half = self.templates.join(".half");
        remove(&half)?;
        fs_err::rename(&folder, &half)?;
        remove(&half)?;
        Ok(template.size)
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs_err::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes on disk of everything in a folder.
fn size(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let about = fs_err::symlink_metadata(&path)?;
        total += about.blocks() * BLOCK;
        if about.is_dir() {
            total += size(&path)?;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path) -> Places {
        let at = |name: &str| folder.join(name);
        Places { templates: at("templates"), lab: at("lab"), shared: at("shared"), images: at("images") }
    }

    #[test]
    fn names_are_file_names_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let places = places(folder.path());
        for good in ["base", "a", "Base_2-x", &"x".repeat(NAME_LIMIT)] {
            assert!(places.free(good).is_ok(), "{good}");
        }
        for bad in ["", ".half", "-x", "../x", "a/b", "a b", "a:b", "ä", &"x".repeat(NAME_LIMIT + 1)] {
            assert!(matches!(places.free(bad), Err(TemplateError::Name(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_not_complete_is_no_template() {
        let folder = tempfile::tempdir().expect("a folder");
        let places = places(folder.path());
        fs_err::create_dir_all(places.templates.join(".half")).expect("a killed run's");
        fs_err::write(places.templates.join(".half").join(ABOUT_FILE), "{}").expect("a file");
        fs_err::create_dir_all(places.templates.join("empty")).expect("a folder of somebody else's");
        assert_eq!(places.list(), []);
        let none = places.begin("empty", "1", "r").await;
        assert!(matches!(none, Err(TemplateError::Unknown { known, .. }) if known.is_empty()));
    }
}
