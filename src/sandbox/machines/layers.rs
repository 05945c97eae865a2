//! Hosts that are kept as a template, and hosts that stand on one.
//!
//! What is kept is whole: every layer of a host down to its image, so that no template needs another. A host that
//! stands on it has these folders below its own in its overlay, which never writes to them.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::sandbox::machines::error::MachineError;
use crate::sandbox::machines::record::LabFile;
use crate::sandbox::machines::record::folder;
use crate::sandbox::machines::record::load;
use crate::sandbox::machines::record::lock_folder;
use crate::sandbox::machines::record::records;
use crate::sandbox::machines::record::save;

/// A server with a database is half a gigabyte, which takes a second or two. A slow disk gets this long.
const COPY_LIMIT: Duration = Duration::from_mins(10);

/// Copies the hosts of a lab that is down into `to`.
pub async fn keep(state: &Path, to: &Path) -> Result<(), MachineError> {
    let state = folder(state)?;
    let _held = lock_folder(&state)?;
    for mut record in records(&state)? {
        let from = state.join("hosts").join(&record.spec.name);
        let kept = to.join("hosts").join(&record.spec.name);
        fs_err::create_dir_all(&kept).map_err(MachineError::at(&kept))?;
        let layers: Vec<PathBuf> = [from.join("upper")].into_iter().chain(std::mem::take(&mut record.layers)).collect();
        for (depth, layer) in layers.iter().enumerate() {
            let name = format!("layer-{depth}");
            copy(layer, &kept.join(&name)).await?;
            record.layers.push(PathBuf::from(name));
        }
        save(&kept.join("host.json"), &record)?;
    }
    let file: LabFile = load(&state.join("lab.json"))?.unwrap_or_default();
    save(&to.join("lab.json"), &LabFile { holder: 0, started: 0, copied: true, ..file })
}

/// Makes `state` a lab whose hosts stand on what [`keep`] wrote into `kept`.
pub fn stand_on(kept: &Path, state: &Path) -> Result<(), MachineError> {
    let kept = folder(kept)?;
    let file: Option<LabFile> = load(&kept.join("lab.json"))?;
    let file = file.ok_or_else(|| MachineError::bad(format!("`{}` holds no hosts", kept.display())))?;
    fs_err::create_dir_all(state).map_err(MachineError::at(state))?;
    for mut record in records(&kept)? {
        let from = kept.join("hosts").join(&record.spec.name);
        let host = state.join("hosts").join(&record.spec.name);
        for part in ["upper", "work", "root"] {
            let path = host.join(part);
            fs_err::create_dir_all(&path).map_err(MachineError::at(&path))?;
        }
        record.layers = record.layers.iter().map(|layer| from.join(layer)).collect();
        save(&host.join("host.json"), &record)?;
    }
    save(&state.join("lab.json"), &file)
}

/// The digests of the images that the hosts of a folder stand on.
pub fn images(state: &Path) -> Result<BTreeSet<String>, MachineError> {
    Ok(records(state)?.into_iter().map(|record| record.image).collect())
}

/// Whether a host of a lab stands on something in `place`.
pub fn stands_on(state: &Path, place: &Path) -> Result<bool, MachineError> {
    let place = fs_err::canonicalize(place).map_err(MachineError::at(place))?;
    Ok(records(state)?.iter().flat_map(|record| &record.layers).any(|layer| layer.starts_with(&place)))
}

/// Copies a folder with everything that a layer is made of: owners, times, devices (what was removed), attributes.
pub async fn copy(from: &Path, to: &Path) -> Result<(), MachineError> {
    let mut tool = Command::new("cp");
    tool.args(["--archive", "--reflink=auto", "--no-target-directory", "--"]).arg(from).arg(to);
    tool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let what = || format!("copying `{}`", from.display());
    let output = timeout(COPY_LIMIT, tool.output())
        .await
        .map_err(|_| MachineError::Timeout { what: what(), limit: COPY_LIMIT })?
        .map_err(MachineError::io(what()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(MachineError::Tool { program: "cp".to_owned(), status: output.status.to_string(), said })
}
