//! What inline policies of users allow, where the emulator does not judge: Lightsail, which it does not have, and CloudWatch,
//! whose protocol it does not look into.
//!
//! Understood are allowing and refusing statements, patterns of actions, every resource (`*`) and the region of the request.
//! A statement that says anything else allows nothing. Which alarm a call is about is not known here: one may do to all
//! what one may do to some.

use serde_json::Value;

/// Whether policies allow an action in a region, for example `lightsail:GetInstance`.
pub(super) fn allow<'a>(policies: impl IntoIterator<Item = &'a Value>, action: &str, region: &str) -> bool {
    let statements = policies.into_iter().flat_map(|policy| many(&policy["Statement"]));
    let about: Vec<&Value> = statements.filter(|statement| is_about(statement, action)).collect();
    let refused = about.iter().any(|statement| statement["Effect"] == "Deny");
    let alarms = action.strip_prefix("cloudwatch:").map(|_| format!("arn:aws:cloudwatch:{region}:"));
    !refused
        && about.iter().any(|statement| statement["Effect"] == "Allow" && holds(statement, region, alarms.as_deref()))
}

/// One or many: policies write a list of one as they like.
fn many(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(values) => values.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

fn is_about(statement: &Value, action: &str) -> bool {
    many(&statement["Action"]).into_iter().filter_map(Value::as_str).any(|pattern| matches(pattern, action))
}

/// Whether a statement is about everything, or about some of those that are not told apart, in this region.
fn holds(statement: &Value, region: &str, some: Option<&str>) -> bool {
    let is_some = |resource: &str| some.is_some_and(|begin| resource.starts_with(begin));
    let mut resources = many(&statement["Resource"]).into_iter().filter_map(Value::as_str);
    let everything = resources.any(|resource| resource == "*" || is_some(resource));
    let conditions = statement["Condition"].as_object();
    let here = conditions.is_none_or(|conditions| {
        conditions.iter().all(|(operator, keys)| {
            let keys = keys.as_object();
            operator == "StringEquals"
                && keys.is_some_and(|keys| {
                    keys.iter().all(|(key, values)| {
                        key.eq_ignore_ascii_case("aws:RequestedRegion")
                            && many(values).iter().any(|value| *value == region)
                    })
                })
        })
    });
    everything && here
}

/// Whether a pattern with `*` is an action's, whatever the case.
fn matches(pattern: &str, action: &str) -> bool {
    let (pattern, action) = (pattern.to_ascii_lowercase(), action.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| action.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(statement: &Value) -> bool {
        allow([&json!({ "Statement": statement })], "lightsail:GetInstance", "ca-central-1")
    }

    #[test]
    fn what_is_not_allowed_is_refused() {
        let with = |action: Value| json!({ "Effect": "Allow", "Action": action, "Resource": "*" });
        for yes in [json!("lightsail:GetInstance"), json!(["s3:*", "LIGHTSAIL:get*"]), json!("*"), json!("*:Get*tance")]
        {
            assert!(says(&with(yes.clone())), "{yes}");
        }
        for no in [json!("lightsail:GetInstances"), json!("lightsail:Get"), json!("s3:*"), json!([]), json!("*:Put*")] {
            assert!(!says(&with(no.clone())), "{no}");
        }
        assert!(!says(&json!([with("*".into()), { "Effect": "Deny", "Action": "lightsail:Get*", "Resource": "*" }])));
        assert!(!says(&json!({ "Effect": "Allow", "Action": "*", "Resource": "arn:aws:lightsail:*:*:Disk/*" })));
        let alarms = json!({ "Statement": { "Effect": "Allow", "Action": "cloudwatch:*", "Resource": "arn:aws:cloudwatch:r:1:alarm:a" } });
        assert!(allow([&alarms], "cloudwatch:DeleteAlarms", "r") && !allow([&alarms], "cloudwatch:DeleteAlarms", "s"));
        assert!(!allow([], "lightsail:GetInstance", "ca-central-1"));
    }

    #[test]
    fn conditions_that_are_not_understood_allow_nothing() {
        let with =
            |condition: Value| json!({ "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition });
        assert!(says(&with(json!({ "StringEquals": { "aws:RequestedRegion": ["us-east-1", "ca-central-1"] } }))));
        assert!(!says(&with(json!({ "StringEquals": { "aws:RequestedRegion": "us-east-1" } }))));
        assert!(!says(&with(json!({ "StringEquals": { "aws:username": "ops" } }))));
        assert!(!says(&with(json!({ "Bool": { "aws:SecureTransport": "true" } }))));
    }
}
