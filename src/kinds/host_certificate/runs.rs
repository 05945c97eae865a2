//! Functions of the program as a shell runs them: what it judges, how it orders, what it makes of a copy. Whether the
//! whole works is shown by real hosts (`tests/sandbox/certificate.rs`).

use super::*;
use crate::kinds::programs;
use crate::kinds::programs::tests::Bench;

/// What every call needs first.
const BEGIN: &str = "work=$state/work; wish; where\n";

fn wish(issuer: Issuer) -> Desired {
    Desired {
        address: "host.certificate/db".parse().expect("an address"),
        name: "db.example.org".to_owned(),
        also: vec!["a.example.org".to_owned(), "short".to_owned()],
        issuer,
        challenge: Challenge::default(),
        contact: Some("o'ps@example.org".to_owned()),
        acme_dns: None,
        consumers: vec![Consumer {
            unit: "postgresql@15-main.service".to_owned(),
            port: 5432,
            settings: SETTINGS.to_owned(),
        }],
        copy: Some(Copy {
            bucket: "project-chronos-backups".to_owned(),
            region: "ca-central-1".to_owned(),
            folder: "chronos.certificate".to_owned(),
            pass: crate::base::secret::SecretRef::Env { env: "SEAWALL_CERTIFICATE_PASS".to_owned() }.into(),
        }),
    }
}

fn bench(desired: &Desired) -> Bench {
    let conf = files::settings(desired);
    assert_eq!((conf.group, conf.mode), ("root", "0600"));
    let bench = Bench::new(programs::CERTIFICATE, &conf);
    // Owners cannot be given away by whoever runs this test.
    bench.tool(
        "install",
        r#"for last; do :; done
case $1 in
-d) mkdir -p -- "$last" ;;
*) while [ "$1" != -- ]; do shift; done; cp -- "$2" "$3" ;;
esac"#,
    );
    bench
}

/// Writes each word on a line of its own, as it came.
const TELL: &str = r#"for word; do printf '<%s>' "$word"; done; echo"#;

#[test]
fn an_order_names_every_name_and_the_first_one_first() {
    for (challenge, says) in [
        (Challenge::TlsAlpn01, "<--tls><--tls.port><:443>"),
        (Challenge::Http01, "<--http><--http.port><:80>"),
        (Challenge::Dns01, "<--dns><exec>"),
    ] {
        let bench = bench(&Desired { challenge, ..wish(Issuer::LetsencryptStaging) });
        bench.tool("lego", TELL);
        let said = bench.says(&format!("{BEGIN}ask https://ca/dir \"$acme/x\""));
        let root = bench.at("").display().to_string();
        assert_eq!(
            said.replace(root.as_str(), "/"),
            format!(
                "<--server><https://ca/dir><--path></etc/seawall/acme/x><--accept-tos><--key-type><ec256><--email>\
                 <o'ps@example.org><--domains><db.example.org><--domains><a.example.org><--domains><short>{says}<run>\n"
            )
        );
    }
}

#[test]
fn a_port_is_opened_only_for_the_challenge_that_needs_it() {
    for (issuer, challenge, port) in [
        (Issuer::Letsencrypt, Challenge::TlsAlpn01, "443"),
        (Issuer::Letsencrypt, Challenge::Http01, "80"),
        (Issuer::Letsencrypt, Challenge::Dns01, ""),
        (Issuer::Private, Challenge::TlsAlpn01, ""),
    ] {
        let desired = Desired { challenge, ..wish(issuer) };
        let bench = bench(&desired);
        bench.tool("iptables", "echo \"$*\" >>\"$HOME/asked\"");
        bench.tool("ip6tables", ":");
        bench.says(&format!("{BEGIN}port -I"));
        let asked = std::fs::read_to_string(bench.at("var/lib/seawall/certificate/asked")).unwrap_or_default();
        assert_eq!(asked.contains(&format!("--dport {port} ")), !port.is_empty(), "{asked}");
        assert_eq!(opened(&desired).map_or_else(String::new, |port| port.to_string()), port);
    }
}

#[test]
fn a_private_authority_signs_for_its_domains_and_what_it_made_is_good() {
    let bench = bench(&Desired { also: vec!["pg.example.org".to_owned()], ..wish(Issuer::Private) });
    let cnf = bench.says(&format!("{BEGIN}authority_cnf"));
    assert!(
        cnf.contains("nameConstraints = critical, permitted;DNS:example.org, excluded;IP:0.0.0.0/0.0.0.0,"),
        "{cnf}"
    );
    assert!(cnf.contains("subjectAltName = DNS:db.example.org, DNS:pg.example.org\n"), "{cnf}");
    let said = bench.says(&format!(
        "{BEGIN}good \"$issued\" && echo early; order_private >&2 && good \"$issued\" && names_in \"$issued/server.crt\""
    ));
    assert_eq!(said, "db.example.org\npg.example.org\n");
    // The same CA signs again, and never a new one by itself.
    let before = std::fs::read(bench.at("etc/seawall/ca/ca.crt")).expect("a CA");
    bench.says(&format!("{BEGIN}order_private >&2"));
    assert_eq!(std::fs::read(bench.at("etc/seawall/ca/ca.crt")).expect("a CA"), before);
    std::fs::remove_file(bench.at("etc/seawall/ca/ca.key")).expect("a CA's key");
    let lost = bench.run(&format!("{BEGIN}good \"$issued\" || order_private"));
    let said = String::from_utf8_lossy(&lost.stdout).into_owned();
    assert!(!lost.status.success() && said.contains("nobody can make the same one again"), "{said}");
    assert!(said.contains("chronos.certificate/db.example.org.tar.bin in the bucket"), "{said}");
}

#[test]
fn what_is_due_is_told_by_a_third_of_its_own_lifetime() {
    let bench = bench(&wish(Issuer::Private));
    let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -subj /CN=x -days 90 -out crt";
    // `date` says what time it is, and what it makes of openssl's dates is asked of the real one.
    bench.tool("date", r#"case $* in +%s) echo $(($(/bin/date +%s) + later * 86400)) ;; *) /bin/date "$@" ;; esac"#);
    for (days, due) in [(0, false), (59, false), (61, true), (100, true)] {
        let said = bench.says(&format!(
            "{BEGIN}cd \"$work\" && {make} >/dev/null 2>&1; later={days}; export later; if due crt; then echo due; else echo no; fi"
        ));
        assert_eq!(said, if due { "due\n" } else { "no\n" }, "{days} days later");
    }
    assert_eq!(bench.says(&format!("{BEGIN}cd \"$work\"; echo x >bad; due bad 2>/dev/null && echo due")), "due\n");
}

#[test]
fn after_three_failures_within_an_hour_nothing_is_ordered() {
    let bench = bench(&wish(Issuer::Letsencrypt));
    bench.tool("lego", "echo ordered; exit 1");
    let issue = format!("{BEGIN}issue 2>&1");
    for _ in 0..3 {
        let said = bench.run(&issue);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("ordered") && said.contains("there is no certificate yet"), "{said}");
    }
    let said = bench.run(&issue);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        !said.contains("ordered\n") && said.contains("3 orders for db.example.org failed within the last hour"),
        "{said}"
    );
    // Failures of yesterday do not count.
    let failures = "var/lib/seawall/certificate/failures";
    let old = std::fs::read_to_string(bench.at(failures)).expect("failures");
    bench.write(failures, &old.lines().flat_map(|line| ["1", &line[10..], "\n"]).collect::<String>());
    let said = bench.run(&issue);
    assert!(String::from_utf8_lossy(&said.stdout).contains("ordered"));
}

#[test]
fn a_name_that_was_never_issued_is_tried_with_the_staging_service_first() {
    let bench = bench(&wish(Issuer::Letsencrypt));
    bench.tool("lego", "echo \"$2\"; exit 1");
    let said = bench.run(&format!("{BEGIN}order_letsencrypt"));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("acme-staging-v02") && !said.contains("//acme-v02"), "{said}");
}

#[test]
fn a_copy_comes_back_without_rights_and_links() {
    let bench = bench(&wish(Issuer::Private));
    bench.write("etc/seawall/certificate.pass", "a passphrase\n");
    bench.write(
        "etc/seawall/certificate.credentials",
        "[seawall]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = s3cret\n",
    );
    // The bucket is a folder, and says when it is empty that there is none, as S3 does. What is sealed begins with its passphrase.
    bench.tool(
        "rclone",
        r#"shift 2
if [ "$1" = obscure ]; then tr a-z b-za; exit; fi
[ "$RCLONE_CONFIG_S3_ACCESS_KEY_ID:$RCLONE_CONFIG_S3_SECRET_ACCESS_KEY" = AKIAEXAMPLE:s3cret ] || exit 9
case $1:$2:$RCLONE_CONFIG_COPY_REMOTE in
lsf:*) [ -e "$HOME/../object" ] || exit 3; echo db.example.org.tar.bin ;;
copyto:COPY:db.example.org.tar:S3:project-chronos-backups/chronos.certificate)
    if [ "$(head -n 1 "$HOME/../object")" != "$RCLONE_CONFIG_COPY_PASSWORD" ]; then echo 'failed to authenticate' >&2; exit 1; fi
    tail -n +2 -- "$HOME/../object" >"$3"
    ;;
copyto:/*) { echo "$RCLONE_CONFIG_COPY_PASSWORD" && cat -- "$2"; } >"$HOME/../object" ;;
esac"#,
    );
    let said =
        bench.says(&format!("{BEGIN}order_private >&2; mkdir -p \"$acme\"; echo {{}} >\"$acme/account\"; keep_copy"));
    assert_eq!(said, "stored a copy in the bucket\n");
    let sealed = std::fs::read(bench.at("var/lib/seawall/object")).expect("an object");
    assert!(sealed.starts_with(b"b qbttqisbtf\n"), "the passphrase, as rclone wants it");
    // Stored already: nothing is sent. What was lost comes back: the CA, the account, and the certificate.
    assert_eq!(bench.says(&format!("{BEGIN}keep_copy")), "");
    let authority = std::fs::read(bench.at("etc/seawall/ca/ca.crt")).expect("a CA");
    let lost = "rm -r \"$root/issued\" \"$ca\" \"$acme\" \"$state/stored\" \"$work\"; mkdir \"$work\"\n";
    let said = bench.says(&format!("{BEGIN}{lost}recall; good \"$issued\" && cat \"$acme/account\""));
    assert_eq!(said, "restored from the copy in the bucket\n{}\n");
    assert_eq!(std::fs::read(bench.at("etc/seawall/ca/ca.crt")).expect("a CA"), authority);

    // Even somebody with the passphrase cannot put in what a copy of ours never holds.
    let forged = "mkdir -p f/acme; cp /bin/true f/acme/sh; chmod 4755 f/acme/sh; chmod 2777 f/acme; ln -s /etc/passwd f/acme/link; \
                  true >f/whole; tar -c -C f -f f.tar acme whole; sealed \"$work/f.tar\" \"COPY:$first.tar\"";
    bench.says(&format!("{BEGIN}cd \"$work\"; {forged}"));
    let seen = bench.says(&format!(
        "{BEGIN}{lost}recall >&2; stat -c '%a' \"$acme\" \"$acme/sh\"; [ ! -L \"$acme/link\" ] && echo 'no link'"
    ));
    assert_eq!(seen, "700\n700\nno link\n");

    // What cannot be read, was cut, or has something else in it is not used and not written over.
    let recalled = format!("{BEGIN}rm -rf \"$state/stored\" \"$work\"; mkdir \"$work\"; recall 2>&1; keep_copy");
    bench.write("var/lib/seawall/object", "not ours");
    let said = bench.says(&recalled);
    assert!(
        said.ends_with(
            "cannot be read with /etc/seawall/certificate.pass, and was left as it is: failed to authenticate\n"
        ) || said.contains("left as it is: failed"),
        "{said}"
    );
    for others in ["acme", "acme ../f/acme whole", "acme work whole"] {
        let pack = format!(
            "cd \"$work\"; mkdir -p f/acme f/work; true >f/whole; tar -c -P -C f -f f.tar {others}; sealed \"$work/f.tar\" \"COPY:$first.tar\""
        );
        bench.says(&format!("{BEGIN}{pack}"));
        let said = bench.says(&recalled);
        assert!(said.ends_with("the copy in the bucket is not whole; it was left as it is\n"), "{others}: {said}");
    }
}

#[test]
fn only_what_is_set_up_to_serve_it_has_to_take_it_up() {
    let bench = bench(&wish(Issuer::Private));
    bench.tool("systemctl", "exit 0");
    let said = bench.says(&format!(
        "{BEGIN}order_private >&2; in_place() {{ :; }}; served() {{ echo none; }}; take_up() {{ echo \"$1\"; }}
echo \"client_tls_cert_file = $tls/server.crt\" >\"$work/ours\"; echo '[pgbouncer]' >\"$work/debians\"; mkfifo \"$work/pipe\"
consumers() {{ for unit in ours debians pipe missing; do echo \"$unit 6432 $work/$unit\"; done; }}
deploy"
    ));
    assert_eq!(said, "ours\n");
}

#[test]
fn words_that_are_no_command_are_refused_before_anything_is_read() {
    let bench = bench(&wish(Issuer::Private));
    for words in ["", "renew", "ensure now", "ensure opening more", "present elsewhere x"] {
        let ended = bench.run(&format!("configured() {{ echo read; }}; main {words}"));
        assert_eq!(ended.status.code(), Some(64), "{words}");
        assert!(ended.stdout.is_empty(), "{words}");
    }
}
