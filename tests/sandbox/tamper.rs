//! What somebody changes by hand is found by drift and healed by apply, one thing at a time.

use crate::support::rehearsal::Rehearsal;

/// What is done on the server, and the resource that must notice.
const TAMPERINGS: [(&str, &str); 16] = [
    ("sed -i s/^MaxAuthTries.*/MaxAuthTries\\ 20/ /etc/ssh/sshd_config.d/00-seawall.conf", "host.sshd/db"),
    ("rm /etc/ssh/sshd_config.d/00-seawall.conf", "host.sshd/db"),
    ("echo PasswordAuthentication yes >/etc/ssh/sshd_config.d/00-a.conf", "host.sshd/db"),
    ("sed -i /^Include/d /etc/ssh/sshd_config", "host.sshd/db"),
    ("printf 'Match Address 10.0.0.0/8\\n  PermitRootLogin yes\\n' >>/etc/ssh/sshd_config", "host.sshd/db"),
    ("echo 'DenyUsers admin' >/etc/ssh/sshd_config.d/99-z.conf", "host.sshd/db"),
    ("systemctl disable ssh.service", "host.sshd/db"),
    ("ufw allow 8080/tcp", "host.ufw/db"),
    ("ufw delete allow 443/tcp; ufw --force delete 2", "host.ufw/db"),
    ("sed -i s/ENABLED=yes/ENABLED=no/ /etc/ufw/ufw.conf", "host.ufw/db"),
    ("iptables -I INPUT -j ACCEPT", "host.ufw/db"),
    ("ssh-keygen -q -t ed25519 -N '' -f /tmp/k && cat /tmp/k.pub >>/home/admin/.ssh/authorized_keys", "host.users/db"),
    ("cp /home/admin/.ssh/authorized_keys /home/admin/.ssh/authorized_keys2", "host.users/db"),
    ("chmod 644 /etc/sudoers.d/90-seawall-admin", "host.users/db"),
    ("sysctl -w net.ipv4.conf.all.accept_redirects=1", "host.sysctl/db"),
    ("sysctl -w net.ipv4.tcp_syncookies=0", "host.sysctl/db"),
];

#[test]
fn every_tampering_is_found_and_healed() {
    let Some(lab) = Rehearsal::begin("every_tampering_is_found_and_healed") else { return };
    lab.expect(0, &["sandbox", "up"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "drift"]);
    for (tampering, address) in TAMPERINGS {
        lab.on_server(&["bash", "-c", tampering]);
        let drift = lab.expect(2, &["--sandbox", "drift"]);
        assert!(drift.stdout.contains(address), "{tampering}: {}", drift.stdout);
        assert!(drift.stdout.contains("1 changed behind us"), "{tampering}: {}", drift.stdout);
        lab.expect(0, &["--sandbox", "apply", "--yes"]);
        let healed = lab.expect(0, &["--sandbox", "plan"]);
        assert!(healed.stdout.contains("No changes"), "{tampering}: {}", healed.stdout);
    }
    what_nobody_declared_is_shown(&lab);
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
