//! Least privilege: with `seawall policy drift` one can look at everything and change nothing, and none of it is too much.
//!
//! The real binary and the library's own questions against a lab, whose emulator enforces IAM's policies, and whose
//! Lightsail does.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use aws_sdk_cloudwatch::types::{ComparisonOperator, Statistic};
use aws_sdk_s3::primitives::ByteStream;
use seawall::base::secret::Secret;
use seawall::engine::resolve::{Resolved, resolve};
use seawall::inventory::load::load;
use seawall::plan::cloud::Console;
use seawall::plan::observed::{Observed, Unseen};
use seawall::plan::probe::{CloudProbe, Probe};
use seawall::plan::step::CloudStep;
use seawall::reach::aws::{Aws, Connection};
use seawall::sandbox::emulator::EmulatorError;
use seawall::sandbox::lab::{Lab, LabError, up};
use serde_json::{Value, json};

use crate::lab::{ACCOUNT, Down, config, options};

const BUCKET: &str = "project-chronos-backups";
const STATE: &str = "seawall/chronos-prod/applied.json";
const ALARM: &str = "chronos-prod-repository-size";
/// What nobody would want, so that an apply would change it.
const THRESHOLD: f64 = 1.0;
const USER: &str = "chronos-prod-repository";
/// What no host is needed for.
const CLOUD: [&str; 5] = [
    "lightsail.key_pair/db",
    "lightsail.instance/db",
    "lightsail.static_ip/db",
    "s3.bucket/backups",
    "sns.topic/alerts",
];

/// A folder with the worked example as the inventory of the lab's account.
struct Place {
    folder: tempfile::TempDir,
    endpoint: String,
    authority: String,
}

impl Place {
    fn new(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("inventories")).expect("a folder");
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/inventories/chronos-prod.yaml");
        let example = std::fs::read_to_string(example).expect("the worked example").replace("123456789012", ACCOUNT);
        std::fs::write(folder.path().join("inventories/chronos-prod.yaml"), example).expect("an inventory");
        let authority = lab.folder.join("ca.pem").display().to_string();
        Self { folder, endpoint: lab.endpoint(), authority }
    }

    fn run(&self, key: (&str, &str), args: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        command.args(args).current_dir(self.folder.path()).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path()).env("USER", "tester");
        command.env("AWS_ENDPOINT_URL", &self.endpoint).env("AWS_CA_BUNDLE", &self.authority);
        command.env("AWS_ACCESS_KEY_ID", key.0).env("AWS_SECRET_ACCESS_KEY", key.1);
        let Output { status, stdout, stderr } = command.output().expect("the binary runs");
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        (status.code().unwrap_or(-1), said)
    }

    fn policy(&self, whose: &str) -> Value {
        let (code, said) = self.run(("", ""), &["policy", whose]);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&said).expect("nothing but the policy")
    }

    fn resolved(&self) -> Resolved {
        let loaded = load(&self.folder.path().join("inventories/chronos-prod.yaml"));
        resolve(&loaded.inventory.expect("a good inventory")).expect("it resolves")
    }

    async fn aws(&self, key: &(String, String)) -> Aws {
        let connection = Connection {
            buckets: std::collections::BTreeMap::new(),
            region: "ca-central-1".to_owned(),
            account: ACCOUNT.to_owned(),
            endpoint: Some(self.endpoint.clone()),
            ca_file: Some(self.authority.clone().into()),
            credentials: Some((key.0.clone(), Secret::new(key.1.clone()))),
        };
        Aws::connect(&connection).await.expect("these settings are complete")
    }
}

/// Everything that looking asks of AWS, with why it was refused where it was, and what is known of the console's password.
async fn look(aws: &Aws, resolved: &Resolved) -> (Vec<String>, Option<Console>) {
    let wanted = resolved.wanted.iter().flat_map(|wanted| (wanted.kind.probes)(&wanted.desired));
    let mut probes: Vec<CloudProbe> =
        wanted.filter_map(|probe| if let Probe::Cloud(probe) = probe { Some(probe) } else { None }).collect();
    probes.push(CloudProbe::Census { environment: resolved.environment.clone() });
    probes.sort();
    probes.dedup();
    let (mut refused, mut console) = (Vec::new(), None);
    for probe in &probes {
        match aws.ask(probe).await {
            Observed::Present(state) => {
                if matches!(probe, CloudProbe::User { .. }) {
                    console = serde_json::from_value(state["console"].clone()).ok();
                }
            }
            // Alarms whose topic nobody confirmed, and the like: what is not there was looked for, too.
            Observed::Absent => {}
            Observed::Unknown(Unseen::Refused(why)) => refused.push(why),
            Observed::Unknown(why) => panic!("{probe:?}: {why}"),
        }
    }
    if let Err(why) = aws.list_objects(BUCKET, "chronos", &mut |_| ()).await {
        refused.push(why.to_string());
    }
    if let Err(why) = aws.get_object(BUCKET, STATE).await {
        refused.push(why.to_string());
    }
    (refused, console)
}

/// A policy without one of its actions.
fn without(policy: &Value, action: &str) -> Value {
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().expect("a list");
    for statement in statements.iter_mut() {
        statement["Action"].as_array_mut().expect("a list").retain(|one| one != action);
    }
    statements.retain(|statement| statement["Action"] != json!([]));
    policy
}

fn actions(policy: &Value) -> Vec<String> {
    let statements = policy["Statement"].as_array().expect("a list");
    let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().expect("a list"));
    let mut actions: Vec<String> = actions.filter_map(|action| action.as_str().map(str::to_owned)).collect();
    actions.sort();
    actions.dedup();
    actions
}

/// The emulator does not know which topic tags are asked of, and allows it only to who may ask of all.
fn for_the_emulator(policy: &Value) -> Value {
    const TAGS: &str = "sns:ListTagsForResource";
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().expect("a list");
    let has_it =
        |statement: &Value| statement["Action"].as_array().is_some_and(|all| all.iter().any(|one| one == TAGS));
    if statements.iter().any(has_it) {
        statements.push(json!({ "Effect": "Allow", "Action": [TAGS], "Resource": "*" }));
    }
    policy
}

/// A user with a key and nothing else.
async fn user(iam: &aws_sdk_iam::Client, name: &str) -> (String, String) {
    iam.create_user().user_name(name).send().await.expect("a user");
    let key = iam.create_access_key().user_name(name).send().await.expect("a key").access_key.expect("it");
    (key.access_key_id, key.secret_access_key)
}

async fn put(iam: &aws_sdk_iam::Client, user: &str, policy: &Value) {
    let call = iam.put_user_policy().user_name(user).policy_name("seawall");
    call.policy_document(for_the_emulator(policy).to_string()).send().await.expect("IAM takes the policy");
}

/// What the inventory has in the cloud, as far as it needs no host, made by the account's owner.
async fn prepare(lab: &Lab, place: &Place) {
    let root = config(lab, ACCOUNT, "x");
    let (code, said) = place.run((ACCOUNT, "x"), &[&["apply", "--yes", "--only"][..], &CLOUD].concat());
    assert_eq!(code, 0, "{said}");
    let iam = aws_sdk_iam::Client::new(&root);
    iam.create_user().user_name(USER).path("/seawall/chronos-prod/").send().await.expect("a user");
    put(
        &iam,
        USER,
        &json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Deny", "Action": "*", "Resource": "*" }] }),
    )
    .await;
    let watch = aws_sdk_cloudwatch::Client::new(&root).put_metric_alarm().alarm_name(ALARM);
    let watch = watch.namespace("AWS/S3").metric_name("BucketSizeBytes").statistic(Statistic::Average);
    let watch = watch.comparison_operator(ComparisonOperator::GreaterThanThreshold).threshold(THRESHOLD);
    watch.period(86400).evaluation_periods(1).send().await.expect("an alarm");
    let s3 = aws_sdk_s3::config::Builder::from(&root).force_path_style(true).build();
    let object = aws_sdk_s3::Client::from_conf(s3).put_object().bucket(BUCKET).key(STATE);
    object.body(ByteStream::from_static(b"{}")).send().await.expect("an object");
}

/// A lab without machines; `None` after saying that the test is skipped.
async fn lab(folder: &Path) -> Option<(Lab, Down)> {
    let options = options(folder, true);
    let skip = std::env::var("SEAWALL_TESTS_WITHOUT_EMULATOR").is_ok_and(|value| value == "1");
    match up(&options).await {
        Err(LabError::Emulator(error @ EmulatorError::Install { .. })) if skip => {
            let _ = writeln!(std::io::stderr(), "least privilege: SKIPPED: {error}");
            None
        }
        other => Some((other.expect("the lab is up"), Down(options.folder))),
    }
}

#[tokio::test]
async fn who_looks_may_look_at_all_of_it_and_every_right_is_needed() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((lab, _down)) = lab(folder.path()).await else { return };
    let place = Place::new(&lab);
    prepare(&lab, &place).await;
    let iam = aws_sdk_iam::Client::new(&config(&lab, ACCOUNT, "x"));
    let key = user(&iam, "drift").await;
    let resolved = place.resolved();
    let aws = place.aws(&key).await;

    let (refused, _) = look(&aws, &resolved).await;
    assert!(refused.len() > 5, "without a policy everything is refused: {refused:#?}");
    let policy = place.policy("drift");
    put(&iam, "drift", &policy).await;
    let (refused, console) = look(&aws, &resolved).await;
    assert_eq!((refused, console), (Vec::new(), Some(Console::None)));

    for action in actions(&policy) {
        put(&iam, "drift", &without(&policy, &action)).await;
        let (refused, console) = look(&aws, &resolved).await;
        if action == "iam:GetLoginProfile" {
            // Without it the rest of the user is known all the same, and the password is not.
            assert_eq!((refused, console), (Vec::new(), Some(Console::NotKnown)));
            continue;
        }
        // HeadBucket's answer has no text, so the message says what it may mean.
        let is_named = |why: &String| why.contains(&action) || why.contains("these credentials may not see it");
        assert!(refused.iter().any(is_named), "{action} is not needed, or its absence is not told: {refused:#?}");
    }

    // The program itself, with and without a right, and where it would change something.
    put(&iam, "drift", &policy).await;
    let user = (key.0.as_str(), key.1.as_str());
    let (code, said) = place.run(user, &[&["plan", "--only"][..], &CLOUD].concat());
    // Nobody has confirmed that he reads the alerts.
    assert!(code == 2 && said.contains("No changes, but 1 thing is not well"), "{code}: {said}");
    let (code, said) = place.run(user, &["apply", "--yes", "--only", "cloudwatch.alarm/repository-size"]);
    assert!(code == 1 && said.contains("AccessDenied") && said.contains("nothing was changed"), "{code}: {said}");
    let alarms = aws_sdk_cloudwatch::Client::new(&config(&lab, ACCOUNT, "x")).describe_alarms().alarm_names(ALARM);
    let alarms = alarms.send().await.expect("the owner may look");
    assert_eq!(alarms.metric_alarms()[0].threshold(), Some(THRESHOLD), "what was refused was not done");
    // A lock that cannot be seen is not one that nobody holds.
    put(&iam, "drift", &without(&policy, "s3:ListBucket")).await;
    let (code, said) = place.run(user, &["apply", "--yes", "--only", "sns.topic/alerts"]);
    assert!(code == 1 && said.contains("error[state-unusable]") && said.contains("may not see it"), "{code}: {said}");
    put(&iam, "drift", &without(&policy, "sns:GetTopicAttributes")).await;
    let (code, said) = place.run(user, &["plan", "--only", "sns.topic/alerts"]);
    assert!(code == 1 && said.contains("sns:GetTopicAttributes"), "{code}: {said}");
}

#[tokio::test]
async fn who_operates_may_apply_and_destroy() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((lab, _down)) = lab(folder.path()).await else { return };
    let place = Place::new(&lab);
    let iam = aws_sdk_iam::Client::new(&config(&lab, ACCOUNT, "x"));
    let key = user(&iam, "operator").await;
    put(&iam, "operator", &place.policy("operator")).await;
    let user = (key.0.as_str(), key.1.as_str());
    let all = [&CLOUD[..], &["cloudwatch.alarm/repository-size"]].concat();
    let with = |words: &[&'static str]| [words, &["--only"], &all].concat();
    let (code, said) = place.run(user, &with(&["apply", "--yes"]));
    assert_eq!(code, 0, "{said}");
    let (code, said) = place.run(user, &with(&["plan"]));
    assert!(code == 2 && said.contains("No changes, but 1 thing is not well"), "{code}: {said}");
    let inventory = place.folder.path().join("inventories/chronos-prod.yaml");
    let text = std::fs::read_to_string(&inventory).expect("the inventory");
    std::fs::write(&inventory, text.replace("auto_snapshot: \"06:00\"", "auto_snapshot: \"07:00\"")).expect("written");
    let (code, said) = place.run(user, &with(&["apply", "--yes"]));
    assert_eq!(code, 0, "{said}");
    let (code, said) =
        place.run(user, &with(&["destroy", "--yes", "--keep-protected", "--lose-data", "lightsail.instance/db"]));
    assert_eq!(code, 0, "{said}");
    let aws = place.aws(&key).await;
    let (name, path) = (USER.to_owned(), "/seawall/chronos-prod/".to_owned());
    for step in [
        CloudStep::CreateUser { name: name.clone(), path, tags: [("a".to_owned(), "b".to_owned())].into() },
        CloudStep::PutUserPolicy { user: name.clone(), policy: "seawall".to_owned(), document: place.policy("drift") },
        CloudStep::DeleteUser { name },
    ] {
        let done = aws.act(&step, &|_, _, _, _| async { Ok(()) }).await;
        assert!(done.is_ok(), "{}: {done:?}", step.summary());
    }
    // No user beyond the environment's, no bucket beyond the inventory's.
    let other = CloudProbe::User { name: "operator".to_owned() };
    assert!(matches!(aws.ask(&other).await, Observed::Unknown(Unseen::Refused(_))));
    let other = CloudProbe::Bucket { name: "somebody-elses-bucket".to_owned() };
    assert!(!matches!(aws.ask(&other).await, Observed::Present(_)));
}
