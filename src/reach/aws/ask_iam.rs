//! IAM's answers as one state document per user.

use std::collections::BTreeMap;

use aws_sdk_iam::types::StatusType;
use serde_json::Value;

use crate::plan::cloud::{AccessKey, Console, Tags, User};
use crate::plan::observed::Unseen;
use crate::reach::aws::Aws;
use crate::reach::aws::fault::look;

/// Most inline policies that are read of one user; ours has one.
const MOST_POLICIES: usize = 20;

impl Aws {
    pub(crate) async fn user(&self, name: &str) -> Result<Option<User>, Unseen> {
        let answer = look("iam:GetUser", self.iam.get_user().user_name(name).send().await)?;
        let Some(found) = answer.as_ref().and_then(|answer| answer.user()) else { return Ok(None) };
        let (policies, attached, groups, keys, console, tags) = futures::try_join!(
            self.inline_policies(name),
            self.attached_policies(name),
            self.groups(name),
            self.access_keys(name),
            self.console(name),
            self.user_tags(name),
        )?;
        Ok(Some(User {
            name: found.user_name().to_owned(),
            path: found.path().to_owned(),
            arn: found.arn().to_owned(),
            policies,
            attached,
            groups,
            keys,
            console,
            boundary: found.permissions_boundary().and_then(|of| of.permissions_boundary_arn()).map(str::to_owned),
            tags,
        }))
    }

    async fn inline_policies(&self, user: &str) -> Result<BTreeMap<String, Value>, Unseen> {
        let answer = look("iam:ListUserPolicies", self.iam.list_user_policies().user_name(user).send().await)?;
        let names = answer.map(|answer| answer.policy_names).unwrap_or_default();
        let mut policies = BTreeMap::new();
        for name in names.into_iter().take(MOST_POLICIES) {
            let call = self.iam.get_user_policy().user_name(user).policy_name(&name);
            let Some(answer) = look("iam:GetUserPolicy", call.send().await)? else { continue };
            let text = decoded(answer.policy_document());
            let document = serde_json::from_str(&text)
                .map_err(|error| Unseen::Misread(format!("policy `{name}` of user `{user}`: {error}")))?;
            policies.insert(name, document);
        }
        Ok(policies)
    }

    async fn attached_policies(&self, user: &str) -> Result<Vec<String>, Unseen> {
        let call = self.iam.list_attached_user_policies().user_name(user);
        let answer = look("iam:ListAttachedUserPolicies", call.send().await)?;
        let attached = answer
            .as_ref()
            .map(aws_sdk_iam::operation::list_attached_user_policies::ListAttachedUserPoliciesOutput::attached_policies)
            .unwrap_or_default();
        let mut arns: Vec<String> = attached.iter().filter_map(|p| p.policy_arn().map(str::to_owned)).collect();
        arns.sort();
        Ok(arns)
    }

    async fn groups(&self, user: &str) -> Result<Vec<String>, Unseen> {
        let answer = look("iam:ListGroupsForUser", self.iam.list_groups_for_user().user_name(user).send().await)?;
        let groups = answer
            .as_ref()
            .map(aws_sdk_iam::operation::list_groups_for_user::ListGroupsForUserOutput::groups)
            .unwrap_or_default();
        let mut names: Vec<String> = groups.iter().map(|group| group.group_name().to_owned()).collect();
        names.sort();
        Ok(names)
    }

    async fn console(&self, user: &str) -> Result<Console, Unseen> {
        let answer = self.iam.get_login_profile().user_name(user).send().await;
        match look("iam:GetLoginProfile", answer) {
            Ok(Some(_)) => Ok(Console::Password),
            Ok(None) => Ok(Console::None),
            // A smaller key of the operator's may not ask; the rest of the user is known all the same.
            Err(Unseen::Refused(_)) => Ok(Console::NotKnown),
            Err(why) => Err(why),
        }
    }

    pub(crate) async fn access_keys(&self, user: &str) -> Result<Vec<AccessKey>, Unseen> {
        let answer = look("iam:ListAccessKeys", self.iam.list_access_keys().user_name(user).send().await)?;
        let found = answer
            .as_ref()
            .map(aws_sdk_iam::operation::list_access_keys::ListAccessKeysOutput::access_key_metadata)
            .unwrap_or_default();
        let mut keys: Vec<AccessKey> = found
            .iter()
            .map(|key| AccessKey {
                id: key.access_key_id().unwrap_or_default().to_owned(),
                active: key.status() == Some(&StatusType::Active),
                created: key.create_date().map(ToString::to_string).unwrap_or_default(),
            })
            .collect();
        keys.sort();
        Ok(keys)
    }

    pub(crate) async fn user_tags(&self, user: &str) -> Result<Tags, Unseen> {
        let answer = look("iam:ListUserTags", self.iam.list_user_tags().user_name(user).send().await)?;
        let tags =
            answer.as_ref().map(aws_sdk_iam::operation::list_user_tags::ListUserTagsOutput::tags).unwrap_or_default();
        Ok(tags.iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect())
    }
}

/// IAM gives documents percent-encoded (RFC 3986), as its reference says.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_decoded() {
        assert_eq!(decoded("%7B%22a%22%3A%20%22%C3%A9%22%7D"), "{\"a\": \"é\"}");
        assert_eq!(decoded("{\"a\": \"100%\"}"), "{\"a\": \"100%\"}");
    }
}
