//! The objects below a prefix of a bucket, with what a restore needs to know of them.

use aws_sdk_s3::types::OptionalObjectAttributes;
use jiff::Timestamp;

use crate::plan::observed::Unseen;
use crate::reach::aws::Aws;
use crate::reach::aws::fault::Fault;

/// An object as a listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub bytes: u64,
    /// When it was written, in seconds since 1970-01-01 UTC.
    pub modified: Option<i64>,
    /// S3's name of its storage class.
    pub class: String,
    /// It can be read although its class is an archive's, because somebody had it restored for a time.
    pub is_restored: bool,
}

impl Aws {
    /// Lists everything below a prefix, in the order of keys; `None` where there is no such bucket. `on_page` hears how
    /// many are known so far.
    pub async fn list_objects(
        &self,
        bucket: &str,
        prefix: &str,
        on_page: &mut (dyn FnMut(usize) + Send),
    ) -> Result<Option<Vec<Listed>>, Unseen> {
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let call = self.s3.list_objects_v2().bucket(bucket).prefix(prefix).expected_bucket_owner(&self.account);
            let call = call.optional_object_attributes(OptionalObjectAttributes::RestoreStatus);
            let page = match call.set_continuation_token(next.take()).send().await {
                Ok(page) => page,
                Err(error) => {
                    let fault = Fault::of("s3:ListObjectsV2", &error);
                    return if fault.is_not_there() { Ok(None) } else { Err(fault.unseen()) };
                }
            };
            for object in page.contents() {
                let Some(key) = object.key() else { continue };
                let seconds = object.last_modified().map(aws_sdk_s3::primitives::DateTime::secs);
                let restored = object.restore_status().and_then(|status| status.restore_expiry_date());
                let is_restored = restored.is_some_and(|until| until.secs() > Timestamp::now().as_second());
                found.push(Listed {
                    key: key.to_owned(),
                    bytes: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    modified: seconds,
                    // S3 leaves the default class out.
                    class: object.storage_class().map_or("STANDARD", |class| class.as_str()).to_owned(),
                    is_restored,
                });
            }
            on_page(found.len());
            match page.next_continuation_token() {
                Some(token) if page.is_truncated().unwrap_or(false) => next = Some(token.to_owned()),
                _ => return Ok(Some(found)),
            }
        }
    }
}
