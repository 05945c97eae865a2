//! Whoever has the database tries for what root keeps in the bucket, and leaves something there for the next server.

use serde_json::json;

use crate::support::rehearsal::Rehearsal;

const BUCKET: &str = "project-chronos-backups";
const COPY: &str = "chronos.certificate/db.automatonicai.com.tar.bin";

/// WORD...: rclone as user postgres, with the key that pgBackRest has.
const AS_POSTGRES: &str = r#"value() { sed -n "s/^$1=//p" /etc/pgbackrest/conf.d/key.conf; }
export RCLONE_CONFIG_X_TYPE=s3 RCLONE_CONFIG_X_PROVIDER=Other RCLONE_CONFIG_X_FORCE_PATH_STYLE=true RCLONE_CONFIG_X_REGION=ca-central-1 \
    RCLONE_CONFIG_X_ENDPOINT=https://s3.ca-central-1.amazonaws.com RCLONE_CONFIG_X_NO_CHECK_BUCKET=true RCLONE_CONFIG_X_NO_HEAD=true \
    RCLONE_CONFIG_X_ACCESS_KEY_ID=$(value repo1-s3-key) RCLONE_CONFIG_X_SECRET_ACCESS_KEY=$(value repo1-s3-key-secret) \
    RCLONE_RETRIES=1 RCLONE_LOW_LEVEL_RETRIES=1
exec timeout 60 rclone --config '' "$@""#;

/// What a rebuilt server does not have.
const LOSE: &str = "rm -r /etc/seawall/issued /etc/seawall/acme /etc/seawall/tls /var/lib/seawall/certificate/stored";

fn as_postgres(lab: &Rehearsal, words: &[&str]) -> (i32, String) {
    let argv = ["runuser", "-u", "postgres", "--", "sh", "-c", AS_POSTGRES, "sh"];
    let ended = lab.tried_on_server(&[argv.as_slice(), words].concat());
    (ended.code, format!("{}{}", ended.stdout, ended.stderr))
}

fn keys(lab: &Rehearsal, prefix: &str) -> Vec<String> {
    let page = lab.aws("s3", "list_objects_v2", &json!({ "Bucket": BUCKET, "Prefix": prefix }));
    let all = page["Contents"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|object| object["Key"].as_str().map(str::to_owned)).collect()
}

/// Puts an object there with the account's own key, as whoever owns the bucket could.
fn put(lab: &Rehearsal, body: &str) {
    lab.aws("s3", "put_object", &json!({ "Bucket": BUCKET, "Key": COPY, "Body": body }));
}

fn serial(lab: &Rehearsal) -> String {
    lab.on_server(&["openssl", "x509", "-in", "/etc/seawall/tls/server.crt", "-noout", "-serial"]).stdout
}

#[test]
fn who_has_the_database_gets_nothing_of_roots_and_leaves_nothing_behind() {
    let Some(lab) = Rehearsal::database("who_has_the_database") else { return };
    assert_eq!(keys(&lab, "chronos.certificate/"), [COPY], "the first apply stores a copy");
    assert!(keys(&lab, "chronos/certificate").is_empty());
    for path in ["/etc/seawall/certificate.pass", "/etc/seawall/certificate.credentials"] {
        let read = lab.tried_on_server(&["runuser", "-u", "postgres", "--", "cat", path]);
        assert!(read.code != 0 && read.stderr.contains("Permission denied"), "{path}: {}", read.stderr);
    }
    // Its own folder it may list and use, and nothing beside it: neither names nor contents.
    let (code, said) = as_postgres(&lab, &["lsf", &format!("X:{BUCKET}/chronos/")]);
    assert!(code == 0 && said.contains("pgbackrest/"), "{said}");
    for beside in ["", "/chronos.certificate", "/seawall", "/chronos.certificate/"] {
        let (code, said) = as_postgres(&lab, &["lsf", "-R", &format!("X:{BUCKET}{beside}")]);
        assert!(code != 0 && said.contains("AccessDenied"), "{beside}: {said}");
    }
    let forged = format!("X:{BUCKET}/{COPY}");
    for words in [&["cat", forged.as_str()][..], &["copyto", "/etc/hostname", &forged], &["deletefile", &forged]] {
        let (code, said) = as_postgres(&lab, words);
        assert!(code != 0, "{words:?}: {said}");
    }

    // A rebuilt server has the same certificate, and not by a new order.
    let before = serial(&lab);
    lab.on_server(&["sh", "-c", LOSE]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    assert_eq!(serial(&lab), before);
    lab.expect(0, &["--sandbox", "plan"]);

    // What somebody else left there is not opened, not used and not written over: the server orders for itself.
    put(&lab, "RCLONE\u{0}\u{0}forged");
    lab.on_server(&["sh", "-c", LOSE]);
    let apply = lab.run(&["--sandbox", "apply", "--yes"]);
    assert_ne!(apply.code, 0, "a copy that cannot be stored is no success: {}", apply.stdout);
    assert_ne!(serial(&lab), before);
    let plan = lab.expect(2, &["--sandbox", "plan"]).stdout;
    assert!(plan.contains("cannot be read with /etc/seawall/certificate.pass"), "{plan}");
    let kept = lab.aws("s3", "head_object", &json!({ "Bucket": BUCKET, "Key": COPY }));
    assert_eq!(kept["ContentLength"], 14, "{kept}");
}
