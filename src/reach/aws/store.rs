//! Small objects on S3 with one atomic operation: create if absent. Locks, used plans and journals live on it.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use tokio::time::sleep;

use crate::reach::aws::Aws;
use crate::reach::aws::fault::{Fault, FaultKind};

/// Tries when S3 says that another conditional write is under way (409 ConditionalRequestConflict).
const CONFLICT_TRIES: u32 = 8;
/// Pause between them; conflicts last as long as one write.
const CONFLICT_PAUSE: Duration = Duration::from_millis(120);
/// Largest object that is read, in bytes: these are locks and journals.
const SIZE_LIMIT: i64 = 16 * 1024 * 1024;

/// Metadata of an object that tells one call's own write from another's with the same content.
const CLAIM: &str = "seawall-claim";

/// What a create-if-absent found.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    Created,
    /// The object was there already, with this content.
    Exists(Vec<u8>),
}

/// An object with the tag by which it can be deleted if unchanged.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    pub bytes: Vec<u8>,
    pub etag: String,
}

/// Why the store could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("bucket `{0}` does not exist")]
    NoSuchBucket(String),
    /// Not the same as absent: a lock beside one that cannot be seen would be no lock.
    #[error("bucket `{bucket}` exists and is not in account {account}, or these credentials may not see it")]
    NotSeen { bucket: String, account: String },
    #[error("{0}")]
    Fault(String),
    #[error("object `{0}` is larger than {SIZE_LIMIT} bytes")]
    TooLarge(String),
}

impl StoreError {
    fn of(bucket: &str, fault: &Fault) -> Self {
        if fault.has_code("NoSuchBucket") {
            Self::NoSuchBucket(bucket.to_owned())
        } else {
            Self::Fault(fault.to_string())
        }
    }
}

impl Aws {
    /// Whether a bucket of this account is there.
    ///
    /// # Errors
    /// [`StoreError::NotSeen`] where it is somebody else's or may not be looked at, and why S3 did not say.
    pub async fn bucket_exists(&self, bucket: &str) -> Result<bool, StoreError> {
        match self.s3.head_bucket().bucket(bucket).expected_bucket_owner(&self.account).send().await {
            Ok(_) => Ok(true),
            Err(error) => {
                let fault = Fault::of("s3:HeadBucket", &error);
                match fault.kind {
                    FaultKind::NotThere => Ok(false),
                    FaultKind::NotAllowed => {
                        Err(StoreError::NotSeen { bucket: bucket.to_owned(), account: self.account.clone() })
                    }
                    FaultKind::NoAnswer | FaultKind::Garbled | FaultKind::Refused => {
                        Err(StoreError::of(bucket, &fault))
                    }
                }
            }
        }
    }

    /// Creates an object unless it exists. Of any number of racing callers exactly one wins.
    pub async fn put_if_absent(&self, bucket: &str, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        let claim = format!("{:032x}", fastrand::u128(..));
        let mut last = None;
        for _ in 0..CONFLICT_TRIES {
            let call = self.s3.put_object().bucket(bucket).key(key).expected_bucket_owner(&self.account);
            let call = call.if_none_match("*").metadata(CLAIM, &claim).body(ByteStream::from(bytes.to_vec()));
            let fault = match call.send().await {
                Ok(_) => return Ok(Put::Created),
                Err(error) => Fault::of("s3:PutObject", &error),
            };
            if fault.has_code("PreconditionFailed") {
                match self.read(bucket, key).await? {
                    // Our own first try may have had its effect although its answer was lost.
                    Some((_, Some(winner))) if winner == claim => return Ok(Put::Created),
                    Some((found, _)) => return Ok(Put::Exists(found.bytes)),
                    // It went away in between: try again.
                    None => {}
                }
            } else if !fault.has_code("ConditionalRequestConflict") {
                return Err(StoreError::of(bucket, &fault));
            }
            last = Some(fault);
            sleep(CONFLICT_PAUSE).await;
        }
        let text = last.map_or_else(String::new, |fault| fault.to_string());
        Err(StoreError::Fault(format!("no answer but conflicts after {CONFLICT_TRIES} tries: {text}")))
    }

    /// Reads an object.
    pub async fn get_object(&self, bucket: &str, key: &str) -> Result<Option<Object>, StoreError> {
        Ok(self.read(bucket, key).await?.map(|(object, _)| object))
    }

    /// Reads an object and whose claim it is.
    async fn read(&self, bucket: &str, key: &str) -> Result<Option<(Object, Option<String>)>, StoreError> {
        let call = self.s3.get_object().bucket(bucket).key(key).expected_bucket_owner(&self.account);
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let fault = Fault::of("s3:GetObject", &error);
                if fault.has_code("NoSuchKey") {
                    return Ok(None);
                }
                return Err(StoreError::of(bucket, &fault));
            }
        };
        if answer.content_length().unwrap_or(0) > SIZE_LIMIT {
            return Err(StoreError::TooLarge(key.to_owned()));
        }
        let claim = answer.metadata().and_then(|metadata| metadata.get(CLAIM)).cloned();
        let etag = answer.e_tag().unwrap_or_default().to_owned();
        let bytes = answer.body.collect().await.map_err(|error| StoreError::Fault(error.to_string()))?.to_vec();
        Ok(Some((Object { bytes, etag }, claim)))
    }

    /// Writes an object, whatever was there.
    pub async fn put_object(&self, bucket: &str, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let call = self.s3.put_object().bucket(bucket).key(key).expected_bucket_owner(&self.account);
        let sent = call.body(ByteStream::from(bytes.to_vec())).send().await;
        sent.map(|_| ()).map_err(|error| StoreError::of(bucket, &Fault::of("s3:PutObject", &error)))
    }

    /// Deletes an object if it is still the one with this tag. Says whether it was.
    pub async fn delete_if_match(&self, bucket: &str, key: &str, etag: &str) -> Result<bool, StoreError> {
        let call = self.s3.delete_object().bucket(bucket).key(key).expected_bucket_owner(&self.account).if_match(etag);
        match call.send().await {
            Ok(_) => Ok(true),
            Err(error) => {
                let fault = Fault::of("s3:DeleteObject", &error);
                if fault.has_code("PreconditionFailed") || fault.has_code("NoSuchKey") || fault.is_not_there() {
                    return Ok(false);
                }
                Err(StoreError::of(bucket, &fault))
            }
        }
    }
}
