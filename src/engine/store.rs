//! What operators share: lock, used plans, what was applied, journals. On S3 where the inventory names a state bucket,
//! in a local folder where it does not (then only this machine is guarded, and the output says so).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::File;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use crate::base::address::Address;
use crate::base::digest::Digest;
use crate::base::read;
use crate::engine::private;
use crate::reach::aws::Aws;
use crate::reach::aws::store::{Put, StoreError};

/// A place for small objects with one atomic operation: create if absent.
pub enum Store {
    Local(PathBuf),
    S3 { aws: Aws, bucket: String, prefix: String },
}

/// What a create-if-absent found.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    Won,
    /// The object was there already, with this content.
    Held(Vec<u8>),
}

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailure {
    #[error("the state folder could not be used: {0}")]
    Local(#[from] std::io::Error),
    #[error("the state bucket could not be used: {0}")]
    S3(#[from] StoreError),
}

impl Store {
    /// In words, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Local(folder) => format!("folder {}", folder.display()),
            Self::S3 { bucket, prefix, .. } => format!("s3://{bucket}/{prefix}"),
        }
    }

    /// Whether other machines see it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::S3 { .. })
    }

    /// Creates an object unless it exists. Of any number of racing callers exactly one wins.
    pub async fn claim(&self, key: &str, bytes: &[u8]) -> Result<Claim, StoreFailure> {
        match self {
            Self::Local(folder) => {
                let path = folder.join(key);
                let _guard = guard(folder, &path)?;
                match claim_file(&path, bytes) {
                    Ok(()) => Ok(Claim::Won),
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                        Ok(Claim::Held(read::ours(&path, read::OURS)?))
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Self::S3 { aws, bucket, prefix } => {
                match aws.put_if_absent(bucket, &format!("{prefix}/{key}"), bytes).await? {
                    Put::Created => Ok(Claim::Won),
                    Put::Exists(found) => Ok(Claim::Held(found)),
                }
            }
        }
    }

    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreFailure> {
        match self {
            Self::Local(folder) => match read::ours(&folder.join(key), read::OURS) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::S3 { aws, bucket, prefix } => {
                Ok(aws.get_object(bucket, &format!("{prefix}/{key}")).await?.map(|object| object.bytes))
            }
        }
    }

    pub async fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreFailure> {
        match self {
            Self::Local(folder) => {
                let path = folder.join(key);
                make_folder(folder, &path)?;
                let beside = path.with_extension("part");
                fs::write(&beside, bytes)?;
                fs::set_permissions(&beside, std::fs::Permissions::from_mode(private::FILE))?;
                Ok(fs::rename(&beside, &path)?)
            }
            Self::S3 { aws, bucket, prefix } => Ok(aws.put_object(bucket, &format!("{prefix}/{key}"), bytes).await?),
        }
    }

    /// Deletes an object if its content is still `expected`. Says whether it was.
    pub async fn delete_if(&self, key: &str, expected: &[u8]) -> Result<bool, StoreFailure> {
        match self {
            Self::Local(folder) => {
                let path = folder.join(key);
                let _guard = guard(folder, &path)?;
                match read::ours(&path, read::OURS) {
                    Ok(found) if found == expected => {
                        fs::remove_file(&path)?;
                        Ok(true)
                    }
                    Ok(_) => Ok(false),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
            Self::S3 { aws, bucket, prefix } => {
                let key = format!("{prefix}/{key}");
                match aws.get_object(bucket, &key).await {
                    Ok(Some(object)) if object.bytes == expected => {
                        Ok(aws.delete_if_match(bucket, &key, &object.etag).await?)
                    }
                    // If the bucket was destroyed, the object is gone with it.
                    Ok(_) | Err(StoreError::NoSuchBucket(_)) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

/// Folders of this user only: what was applied and who did it is nobody else's.
fn make_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), private::folders)
}

/// Makes the folder, for this user only, with what is above `path` in it. One that an older version made is closed.
fn make_folder(folder: &Path, path: &Path) -> std::io::Result<()> {
    make_parent(path)?;
    if fs::metadata(folder)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, std::fs::Permissions::from_mode(private::FOLDER))?;
    }
    Ok(())
}

/// Locks the folder for one compare-and-act. The kernel releases the lock even if the process is killed.
fn guard(folder: &Path, path: &Path) -> std::io::Result<std::fs::File> {
    make_folder(folder, path)?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(private::FILE)
        .open(folder.join(".guard"))?
        .into_parts()
        .0;
    file.lock()?;
    Ok(file)
}

/// Creates a file with its content in one step: other processes see the whole content or no file.
fn claim_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension(format!("{}-{:x}", std::process::id(), fastrand::u64(..)));
    let mut file = File::options().write(true).create_new(true).mode(private::FILE).open(&beside)?;
    let linked = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&beside, path));
    fs::remove_file(&beside)?;
    linked
}

/// Digest of each resource's desired state when it was last applied: tells "changed behind us" from "not applied yet".
pub type LastApplied = BTreeMap<Address, Digest>;

/// Key of the applied digests.
pub const LAST_APPLIED: &str = "applied.json";

/// What was last applied. Unreadable content counts as nothing applied: it only words a message.
pub async fn last_applied(store: &Store) -> Result<LastApplied, StoreFailure> {
    Ok(parse_last_applied(store.get(LAST_APPLIED).await?))
}

/// Reads the bytes of what was last applied.
pub fn parse_last_applied(bytes: Option<Vec<u8>>) -> LastApplied {
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Remembers what was applied.
pub async fn remember(store: &Store, applied: &LastApplied) -> Result<(), StoreFailure> {
    store.put(LAST_APPLIED, &serde_json::to_vec(applied).expect("plain data serialises")).await
}
