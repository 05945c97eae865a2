//! What somebody changes by hand is found by drift and healed by apply. Each round has at most one change of each
//! resource, so that none hides another, and drift must name them all.

use crate::sandbox::{bans, certificate, firewall, jobs};
use crate::support::rehearsal::{Rehearsal, Tampering, rounds, tampering};

const SSHD: [Tampering; 10] = [
    of_sshd("sed -i s/^MaxAuthTries.*/MaxAuthTries\\ 20/ /etc/ssh/sshd_config.d/00-seawall.conf"),
    of_sshd("rm /etc/ssh/sshd_config.d/00-seawall.conf"),
    of_sshd("echo PasswordAuthentication yes >/etc/ssh/sshd_config.d/00-a.conf"),
    of_sshd("sed -i /^Include/d /etc/ssh/sshd_config"),
    of_sshd("printf 'Match Address 10.0.0.0/8\\n  PermitRootLogin yes\\n' >>/etc/ssh/sshd_config"),
    of_sshd("echo 'DenyUsers admin' >/etc/ssh/sshd_config.d/99-z.conf"),
    of_sshd("systemctl disable ssh.service"),
    // Three doors that no file of keys shows.
    of_sshd(
        "rm -f /tmp/ca; ssh-keygen -q -t ed25519 -N '' -f /tmp/ca && echo 'TrustedUserCAKeys /tmp/ca.pub' >/etc/ssh/sshd_config.d/00-a.conf; \
         systemctl reload ssh",
    ),
    of_sshd("echo 'SSHD_OPTS=\"-o PasswordAuthentication=yes\"' >>/etc/default/ssh; systemctl restart ssh"),
    of_sshd("printf 'Match all\\n  AuthorizedPrincipalsFile /tmp/p\\n' >>/etc/ssh/sshd_config; systemctl reload ssh"),
];

const fn of_sshd(command: &'static str) -> Tampering {
    tampering("host.sshd/db", command)
}

const USERS: [Tampering; 4] = [
    of_users("ssh-keygen -q -t ed25519 -N '' -f /tmp/k && cat /tmp/k.pub >>/home/admin/.ssh/authorized_keys"),
    of_users("cp /home/admin/.ssh/authorized_keys /home/admin/.ssh/authorized_keys2"),
    of_users("chmod 644 /etc/sudoers.d/90-seawall-admin"),
    of_users("rm /etc/sudoers.d/90-seawall-admin"),
];

const fn of_users(command: &'static str) -> Tampering {
    tampering("host.users/db", command)
}

const SYSCTL: [Tampering; 3] = [
    tampering("host.sysctl/db", "sysctl -w net.ipv4.conf.all.accept_redirects=1"),
    tampering("host.sysctl/db", "sysctl -w net.ipv4.tcp_syncookies=0"),
    tampering("host.sysctl/db", "rm /etc/sysctl.d/60-seawall.conf"),
];

const CREDENTIALS: [Tampering; 2] = [
    tampering("iam.user/repository", "rm /etc/seawall/credentials"),
    tampering("iam.user/repository", "chmod 644 /etc/seawall/credentials"),
];

const UPDATES: [Tampering; 1] = [tampering("host.updates/db", "systemctl disable --now apt-daily-upgrade.timer")];
const PACKAGES: [Tampering; 1] = [tampering("host.packages/db", "dpkg --remove --force-depends jq")];
const TIME: [Tampering; 1] = [tampering("host.time/db", "ln -sf /usr/share/zoneinfo/Europe/Paris /etc/localtime")];

/// A server that also has jobs and a certificate of its own.
fn server(test: &str) -> Option<Rehearsal> {
    let lab = Rehearsal::base(test)?;
    jobs::declared(&lab);
    jobs::there(&lab);
    certificate::private_declared(&lab);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "drift"]);
    Some(lab)
}

/// Two tests of one half each, which run beside each other: the firewall alone has two dozen.
#[test]
fn every_tampering_is_found_and_healed() {
    let Some(lab) = server("every_tampering_is_found_and_healed") else { return };
    let (ufw, _) = firewall::TAMPERINGS.split_at(firewall::TAMPERINGS.len() / 2);
    for round in rounds(&[ufw, &jobs::TAMPERINGS, &SYSCTL, &UPDATES, &PACKAGES]) {
        lab.tampered(&round);
    }
    what_records_failures_is_everybodys(&lab);
    what_nobody_declared_is_shown(&lab);
    ways_in_are_named(&lab);
}

/// Ways to root that are nobody's of this inventory, and what a plan says about each.
const WAYS_IN: [(&str, &str); 9] = [
    (
        "mkdir -p /root/.ssh; echo 'ssh-ed25519 AAAA x' >/root/.ssh/authorized_keys",
        "root has keys in /root/.ssh/authorized_keys",
    ),
    ("echo root:secret | chpasswd", "root has a password that can be used"),
    ("useradd -o -u 0 -M toor", "toor is root under another name"),
    ("useradd -M guest; usermod -aG disk guest", "guest is in the group disk"),
    (
        "echo 'www-data ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/web",
        "/etc/sudoers.d/web says `www-data ALL=(ALL) NOPASSWD: ALL`",
    ),
    ("echo '* * * * * root true' >/etc/cron.d/x", "/etc/cron.d/x runs things by itself"),
    (
        "printf '[Service]\nExecStart=/bin/true\n' >/etc/systemd/system/x.service",
        "/etc/systemd/system/x.service runs things by itself",
    ),
    ("cp /bin/sh /var/tmp/sh; chmod 4755 /var/tmp/sh", "/var/tmp/sh runs with the rights of its owner"),
    (
        "echo /tmp/x.so >/etc/ld.so.preload.new; cp /bin/true /usr/bin/su2; chmod 4755 /usr/bin/su2",
        "/usr/bin/su2 runs with the rights of its owner",
    ),
];

/// Nothing is done about them, and none is passed over.
fn ways_in_are_named(lab: &Rehearsal) {
    let before = lab.expect(0, &["--sandbox", "plan"]).stdout;
    assert!(!before.contains("not declared: "), "{before}");
    for (command, _) in WAYS_IN {
        lab.on_server(&["sh", "-c", command]);
    }
    let plan = lab.expect(0, &["--sandbox", "plan"]).stdout;
    let plan = plan.split_whitespace().collect::<Vec<_>>().join(" ");
    for (command, says) in WAYS_IN {
        assert!(plan.contains(&format!("not declared: {says}")), "{command}: {plan}");
    }
}

/// Every service relies on the program that records failures, so each of their resources says that it was changed.
fn what_records_failures_is_everybodys(lab: &Rehearsal) {
    lab.on_server(&["bash", "-c", "echo exit 0 >/usr/local/lib/seawall/alert"]);
    let drift = lab.expect(2, &["--sandbox", "drift"]).stdout;
    for line in ["host.jobs/db", "host.certificate/db", "/usr/local/lib/seawall/alert", "2 changed behind us"] {
        assert!(drift.contains(line), "{line}: {drift}");
    }
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let healed = lab.expect(0, &["--sandbox", "plan"]);
    assert!(healed.stdout.contains("No changes"), "{}", healed.stdout);
}

#[test]
fn every_other_tampering_is_found_and_healed() {
    let Some(lab) = server("every_other_tampering_is_found_and_healed") else { return };
    let authority = certificate::verified(&lab);
    let (_, ufw) = firewall::TAMPERINGS.split_at(firewall::TAMPERINGS.len() / 2);
    for round in rounds(&[ufw, &bans::TAMPERINGS, &SSHD, &USERS, &certificate::TAMPERINGS, &CREDENTIALS, &TIME]) {
        lab.tampered(&round);
    }
    assert_eq!(certificate::verified(&lab), authority, "clients pinned the CA");
}

/// A program that answers behind two firewalls that somebody opened.
fn what_nobody_declared_is_shown(lab: &Rehearsal) {
    let status = lab.expect(0, &["--sandbox", "status"]);
    assert!(status.stdout.contains("nothing else answers from outside"), "{}", status.stdout);
    lab.on_server(&["systemd-run", "--quiet", "--collect", "python3", "-m", "http.server", "8080"]);
    lab.on_server(&["ufw", "allow", "8080/tcp"]);
    let open =
        |range: &str| serde_json::json!({ "fromPort": 8080, "toPort": 8080, "protocol": "tcp", "cidrs": [range] });
    lab.aws(
        "lightsail",
        "open_instance_public_ports",
        &serde_json::json!({ "instanceName": "chronos-prod-db", "portInfo": open("192.0.2.0/24") }),
    );
    let status = lab.expect(0, &["--sandbox", "status"]);
    assert!(
        status.stdout.contains("tcp 8080 from 192.0.2.0/24 reaches python3: nobody declared that"),
        "{}",
        status.stdout
    );
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let status = lab.expect(0, &["--sandbox", "status"]);
    assert!(status.stdout.contains("nothing else answers from outside"), "{}", status.stdout);
}
