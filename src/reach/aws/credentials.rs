//! Where credentials come from, and what a profile asks for.
//!
//! Deliberately absent: instance metadata, also where a profile names it (`credential_source = Ec2InstanceMetadata`), and a prompt for
//! the code of a second factor, which the SDK does not have. The sessions of `aws login` are left to the AWS CLI, too: they would take
//! some twenty libraries more.

use std::borrow::Cow;

use aws_config::Region;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;

use aws_config::profile::{Profile, ProfileFileCredentialsProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::os_shim_internal::{Env, Fs};

/// Where credentials are looked for, in order. Instance metadata is never used.
pub const CHAIN: &str = "environment (AWS_ACCESS_KEY_ID), profile files (AWS_PROFILE: keys, role, SSO, credential_process), \
                         web identity token, container";

/// The chain. Providers that ask AWS themselves do so in `region`, within `limits`, and by `http` where it trusts other authorities.
pub(super) fn chain(region: Region, limits: TimeoutConfig, http: Option<SharedHttpClient>) -> CredentialsProviderChain {
    let config = ProviderConfig::default().with_region(Some(region)).with_timeout_config(limits);
    let config = match http {
        Some(http) => config.with_http_client(http),
        None => config,
    };
    let profile = ProfileFileCredentialsProvider::builder()
        .configure(&config)
        .with_custom_provider(Cow::Borrowed("Ec2InstanceMetadata"), Never)
        .build();
    CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("profile", profile)
        .or_else("web identity", WebIdentityTokenCredentialsProvider::builder().configure(&config).build())
        .or_else("container", EcsCredentialsProvider::builder().configure(&config).build())
}

/// Gives no credentials.
#[derive(Debug)]
struct Never;

impl ProvideCredentials for Never {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let why = "instance metadata is never used: on Lightsail its credentials are of an account of AWS's own";
        future::ProvideCredentials::ready(Err(CredentialsError::invalid_configuration(why)))
    }
}

/// What the profile in use is made of, and what gives credentials with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uses {
    pub what: String,
    pub hint: String,
}

/// What is known of the profile in use. `None` where there is no file and none was asked for.
pub(super) async fn profile() -> Option<Uses> {
    let asked = std::env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
    match aws_config::profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), None).await {
        Err(error) => Some(Uses {
            what: format!("the profile files cannot be read: {error}"),
            hint: "look at ~/.aws/config and ~/.aws/credentials".to_owned(),
        }),
        Ok(set) if set.is_empty() && asked.is_none() => None,
        Ok(set) => uses(&set),
    }
}

fn uses(set: &ProfileSet) -> Option<Uses> {
    let name = set.selected_profile();
    let Some(profile) = set.get_profile(name) else {
        let mut known: Vec<&str> = set.profiles().collect();
        known.sort_unstable();
        let hint = match known.as_slice() {
            [] => format!("make it: aws configure --profile {name}"),
            known => format!("set AWS_PROFILE to one that is there: {}", known.join(", ")),
        };
        return (name != "default").then(|| Uses { what: format!("profile `{name}` is in no profile file"), hint });
    };
    Some(of(name, profile))
}

/// How the AWS CLI hands over what it has, or asks for.
fn session(name: &str) -> String {
    format!(
        "take a session into the environment: eval \"$(aws configure export-credentials --profile {name} --format env)\""
    )
}

fn of(name: &str, profile: &Profile) -> Uses {
    let has = |key: &str| profile.get(key).filter(|value| !value.is_empty());
    if let (Some(role), Some(_)) = (has("role_arn"), has("mfa_serial")) {
        return Uses {
            what: format!(
                "profile `{name}` assumes {role} with a second factor, whose code nobody can be asked for here"
            ),
            hint: session(name),
        };
    }
    let (what, hint) = if let Some(role) = has("role_arn") {
        let from = match (has("source_profile"), has("credential_source"), has("web_identity_token_file")) {
            (Some(source), _, _) => format!("with the credentials of profile `{source}`"),
            (_, Some(source), _) => format!("with credentials from {source}"),
            (_, _, Some(file)) => format!("with the token in {file}"),
            (None, None, None) => "and has no source_profile, credential_source or web_identity_token_file".to_owned(),
        };
        (format!("assumes {role} {from}"), format!("see what AWS says: aws sts get-caller-identity --profile {name}"))
    } else if let Some(session) = has("sso_session").or_else(|| has("sso_start_url")) {
        (format!("logs in by SSO ({session})"), format!("log in: aws sso login --profile {name}"))
    } else if has("login_session").is_some() {
        ("logs in by `aws login`, whose sessions are not read here".to_owned(), session(name))
    } else if let Some(program) = has("credential_process") {
        let program = program.split_whitespace().next().unwrap_or(program);
        (format!("asks a program ({program})"), "run that program, and see what it says".to_owned())
    } else if has("aws_access_key_id").is_some() {
        let hint = "make the access key whole: aws_access_key_id and aws_secret_access_key";
        ("has an access key".to_owned(), hint.to_owned())
    } else {
        ("names no credentials".to_owned(), format!("give it some: aws configure --profile {name}"))
    };
    Uses { what: format!("profile `{name}` {what}"), hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_config::profile::Property;

    fn used(keys: &[(&str, &str)]) -> Uses {
        let properties =
            keys.iter().map(|(key, value)| ((*key).to_owned(), Property::new((*key).to_owned(), (*value).to_owned())));
        of("ops", &Profile::new("ops", properties.collect()))
    }

    #[test]
    fn a_profile_is_said_for_what_it_is() {
        let role = ("role_arn", "arn:aws:iam::123456789012:role/ops");
        for (keys, what, hint) in [
            (vec![("sso_session", "work")], "logs in by SSO (work)", "aws sso login --profile ops"),
            (vec![("login_session", "arn:x")], "logs in by `aws login`", "export-credentials --profile ops"),
            (
                vec![role, ("source_profile", "base")],
                "with the credentials of profile `base`",
                "aws sts get-caller-identity",
            ),
            (
                vec![role, ("source_profile", "base"), ("mfa_serial", "arn:m")],
                "with a second factor",
                "export-credentials",
            ),
            (vec![role], "has no source_profile", "aws sts"),
            (
                vec![("credential_process", "/opt/vault --secret abc")],
                "asks a program (/opt/vault)",
                "run that program",
            ),
            (vec![("region", "eu-west-1")], "names no credentials", "aws configure"),
        ] {
            let uses = used(&keys);
            assert!(uses.what.contains(what) && uses.hint.contains(hint), "{keys:?}: {uses:?}");
            assert!(!uses.what.contains("abc"), "a program's arguments may hold a secret: {uses:?}");
        }
    }
}
