//! A manifest that somebody on the host wrote to: nothing in it is believed beyond the host and what an inventory could say, and
//! what is missing in it is written again.

use crate::support::rehearsal::Rehearsal;

/// Records as somebody would write them who wants something deleted: a file of an application's, a user in AWS, another server's
/// resource; one that is none; one in the wrong place.
const FORGED: &str = r#"cd /var/lib/seawall/manifest && mkdir -p /srv/app /etc/seawall/jobs && echo x >/srv/app/prod.env
job='{"words":["/bin/true"],"when":"daily","longest_gap":1,"user":"root","timeout":1,"directory":null,"environment":{},"secrets":{}}'
echo '{"address":"host.jobs/db","desired":{"address":"host.jobs/db","jobs":{"../../../srv/app/prod":'"$job"'}}}' >host.jobs--db.json
echo '{"address":"iam.user/zz","desired":{"name":"zz"}}' >iam.user--zz.json
echo '{"address":"host.swap/web","desired":{}}' >host.swap--web.json
echo 'not json' >x.json
cp host.time--db.json host.elsewhere--db.json"#;

const FILES: [(&str, &str); 5] = [
    ("host.jobs--db.json", "../../../srv/app/prod"),
    ("iam.user--zz.json", "cannot be on `db`"),
    ("host.swap--web.json", "cannot be on `db`"),
    ("x.json", "line 1"),
    ("host.elsewhere--db.json", "another name"),
];

#[test]
fn a_forged_manifest_takes_nothing_away_and_a_lost_one_is_written_again() {
    let Some(lab) = Rehearsal::base("a_forged_manifest") else { return };
    let file = "/srv/app/prod.env";
    lab.on_server(&["sh", "-c", FORGED]);
    let drift = lab.run(&["--sandbox", "drift"]);
    assert_eq!(drift.code, 1, "{}{}", drift.stdout, drift.stderr);
    for (name, why) in FILES {
        let line = drift.stdout.lines().find(|line| line.contains(&format!("/manifest/{name}`")));
        assert!(line.is_some_and(|line| line.contains(why)), "{name}: {}", drift.stdout);
    }
    let apply = lab.run(&["--sandbox", "apply", "--yes"]);
    assert!(!apply.stdout.contains("prod.env") && !apply.stdout.contains("delete user"), "{}", apply.stdout);
    lab.on_server(&["test", "-s", file]);

    // What the operator removes is gone for good; what is missing or was edited is a difference of its own.
    let names: Vec<String> = FILES.iter().map(|(name, _)| format!("/var/lib/seawall/manifest/{name}")).collect();
    lab.on_server(&[&["rm", "--"][..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    lab.on_server(&["rm", "/var/lib/seawall/manifest/host.fail2ban--db.json"]);
    lab.on_server(&["sed", "-i", "s/jq/jqx/", "/var/lib/seawall/manifest/host.packages--db.json"]);
    lab.on_server(&["sh", "-c", "echo garbage >/var/lib/seawall/manifest/host.sshd--db.json"]);
    let drift = lab.expect(2, &["--sandbox", "drift"]).stdout;
    for (address, before) in
        [("host.fail2ban/db", "(absent)"), ("host.packages/db", "another"), ("host.sshd/db", "not readable")]
    {
        assert!(drift.contains(address), "{address}: {drift}");
        assert!(drift.contains(&format!("{before} → as declared")), "{address}: {drift}");
    }
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);

    // All of it at once: what leaves the inventory afterwards is still known to be ours.
    lab.on_server(&["rm", "-r", "/var/lib/seawall/manifest"]);
    lab.expect(2, &["--sandbox", "drift"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.edit_inventory("    fail2ban: {}", "    # fail2ban: {}");
    let plan = lab.expect(2, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("- host.fail2ban/db"), "{}", plan.stdout);
}
