//! Steps in IAM. A new key's secret half goes from AWS to its place and nowhere else.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_sdk_iam::types::Tag;
use serde_json::Value;

use crate::base::secret::Secret;
use crate::plan::cloud::Tags;
use crate::plan::step::KeyDelivery;
use crate::reach::Failure;
use crate::reach::aws::fault::{done, gone};
use crate::reach::aws::{Aws, Deliver};

/// Request types are built from values that are all set; a builder that misses one is a fault of this program.
const COMPLETE: &str = "every required field was set just above";

fn sdk_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build().expect(COMPLETE)).collect()
}

impl Aws {
    pub(super) async fn create_user(&self, what: &str, name: &str, path: &str, tags: &Tags) -> Result<(), Failure> {
        let call = self.iam.create_user().user_name(name).path(path).set_tags(Some(sdk_tags(tags)));
        done("iam:CreateUser", what, call.send().await).map(|_| ())
    }

    pub(super) async fn tag_user(&self, what: &str, name: &str, tags: &Tags) -> Result<(), Failure> {
        let call = self.iam.tag_user().user_name(name).set_tags(Some(sdk_tags(tags)));
        done("iam:TagUser", what, call.send().await).map(|_| ())
    }

    pub(super) async fn put_user_policy(
        &self,
        what: &str,
        user: &str,
        policy: &str,
        document: &Value,
    ) -> Result<(), Failure> {
        let call = self.iam.put_user_policy().user_name(user).policy_name(policy);
        let sent = call.policy_document(document.to_string()).send().await;
        done("iam:PutUserPolicy", what, sent).map(|_| ())
    }

    pub(super) async fn delete_user_policy(&self, what: &str, user: &str, policy: &str) -> Result<(), Failure> {
        let call = self.iam.delete_user_policy().user_name(user).policy_name(policy);
        gone("iam:DeleteUserPolicy", what, call.send().await)
    }

    pub(super) async fn detach_user_policy(&self, what: &str, user: &str, arn: &str) -> Result<(), Failure> {
        let call = self.iam.detach_user_policy().user_name(user).policy_arn(arn);
        gone("iam:DetachUserPolicy", what, call.send().await)
    }

    pub(super) async fn delete_key(&self, what: &str, user: &str, id: &str) -> Result<(), Failure> {
        let call = self.iam.delete_access_key().user_name(user).access_key_id(id);
        gone("iam:DeleteAccessKey", what, call.send().await)
    }

    /// A user goes with its keys and policies: IAM refuses to delete one that still has any.
    pub(super) async fn delete_user(&self, what: &str, name: &str) -> Result<(), Failure> {
        let seen = Box::pin(self.user(name))
            .await
            .map_err(|why| Failure::new(format!("could not {what}: {why}; nothing was changed by it")))?;
        let Some(user) = seen else { return Ok(()) };
        for key in &user.keys {
            self.delete_key(what, name, &key.id).await?;
        }
        for policy in user.policies.keys() {
            self.delete_user_policy(what, name, policy).await?;
        }
        for arn in &user.attached {
            let call = self.iam.detach_user_policy().user_name(name).policy_arn(arn);
            gone("iam:DetachUserPolicy", what, call.send().await)?;
        }
        for group in &user.groups {
            let call = self.iam.remove_user_from_group().user_name(name).group_name(group);
            gone("iam:RemoveUserFromGroup", what, call.send().await)?;
        }
        gone("iam:DeleteUser", what, self.iam.delete_user().user_name(name).send().await)
    }

    pub(super) async fn create_key(
        &self,
        what: &str,
        user: &str,
        place: &KeyDelivery,
        deliver: &impl Deliver,
    ) -> Result<(), Failure> {
        let answer = done("iam:CreateAccessKey", what, self.iam.create_access_key().user_name(user).send().await)?;
        let Some(key) = answer.access_key() else {
            return Err(Failure::new(format!("could not {what}: AWS answered without a key")));
        };
        let id = key.access_key_id().to_owned();
        let bytes = Secret::new(credentials_file(user, &id, key.secret_access_key()).into_bytes());
        let delivered = match place {
            KeyDelivery::HostFile { server, path, group } => {
                deliver.deliver(server.clone(), path.clone(), group.clone(), bytes).await
            }
            KeyDelivery::OperatorFile { path } => write_here(what, Path::new(path), &bytes),
        };
        let Err(failure) = delivered else { return Ok(()) };
        // A key that nobody has is a key that nobody will miss, and IAM allows two per user.
        match self.delete_key(what, user, &id).await {
            Ok(()) => Err(Failure { what: format!("{}; the new key was deleted again", failure.what), ..failure }),
            Err(other) => Err(Failure {
                what: format!("{}; key {id} could not be deleted again: {}", failure.what, other.what),
                hint: Some(format!("delete it: aws iam delete-access-key --user-name {user} --access-key-id {id}")),
                ..failure
            }),
        }
    }
}

/// An AWS credentials file with one profile (AWS, "Configuration and credential file settings").
fn credentials_file(profile: &str, id: &str, secret: &str) -> String {
    format!("[{profile}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
}

fn write_here(what: &str, path: &Path, bytes: &Secret<Vec<u8>>) -> Result<(), Failure> {
    let failed = |why: std::io::Error| {
        let hint = (why.kind() == std::io::ErrorKind::AlreadyExists)
            .then(|| "it may hold a key that is in use: move it away first".to_owned());
        Failure { what: format!("could not {what}: `{}`: {why}", path.display()), position: None, code: None, hint }
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let written = file.write_all(bytes.reveal()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a key is none, and would be in the way of the next one. The first error is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys/repository");
        let bytes = Secret::new(credentials_file("u", "AKIA", "s").into_bytes());
        write_here("test", &path, &bytes).expect("a new file is written");
        let mode = std::fs::metadata(&path).expect("the file is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = write_here("test", &path, &bytes).expect_err("it is there already");
        assert!(again.hint.is_some_and(|hint| hint.contains("move it away")));
    }
}
