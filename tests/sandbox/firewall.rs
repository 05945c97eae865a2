//! The host's firewall on a real Debian server: who gets in, with it and without it, and a reboot.
//!
//! Lightsail's firewall stands before the host's. To see the host's alone, somebody else opens Lightsail's for a moment.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::rehearsal::{Rehearsal, Tampering, tampering};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_mins(1);

/// Prints how a connection ends; nothing at all is what a firewall that drops answers with.
const CONNECT: &str = "import socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.5)
except TimeoutError: print('silent')
else: print('open')";

const APPLICATION: &str = "198.51.100.7";
const STRANGER: &str = "192.0.2.50";
const STRANGER6: &str = "2001:db8::50";
const OPEN: &str = "open";
const SILENT: &str = "silent";

/// What changes the firewall behind us; none may close SSH, or nobody could look. `tamper.rs` does it.
pub(super) const TAMPERINGS: &[Tampering] = &[
    // What the kernel has, and no file tells.
    of_ufw("ip6tables -F ufw6-user-input"),
    of_ufw("iptables -F ufw-user-input; iptables -A ufw-user-input -p tcp --dport 22 -j ACCEPT"),
    of_ufw("iptables -P INPUT ACCEPT"),
    of_ufw("iptables -I INPUT -j ACCEPT"),
    of_ufw("ip6tables -A INPUT -p tcp --dport 9999 -m comment --comment 'a note' -j ACCEPT"),
    of_ufw("iptables -N hole; iptables -A hole -p tcp -j ACCEPT; iptables -I INPUT 3 -j hole"),
    of_ufw("iptables -I ufw-before-input -j ACCEPT"),
    of_ufw("iptables -A ufw-track-input -j ACCEPT"),
    of_ufw("iptables -P INPUT ACCEPT; iptables -F"),
    of_ufw("for t in iptables ip6tables; do $t -P INPUT ACCEPT; $t -F; $t -X; done"),
    // What packets pass before ufw, and what ufw would load itself.
    of_ufw("iptables -t nat -A PREROUTING -p tcp --dport 443 -j REDIRECT --to-ports 22"),
    of_ufw("sed -i '/^# End required lines/a -A ufw-before-input -p tcp --dport 8081 -j ACCEPT' /etc/ufw/before.rules"),
    of_ufw(
        "sed -i '/^# End required lines/a -A ufw6-before-input -p tcp --dport 8081 -j ACCEPT' /etc/ufw/before6.rules; \
         /usr/lib/ufw/ufw-init force-reload",
    ),
    of_ufw("chmod +x /etc/ufw/before.init"),
    // What only the next boot would show.
    of_ufw("sed -i s/^ENABLED=.*/ENABLED=no/ /etc/ufw/ufw.conf"),
    of_ufw("systemctl mask ufw.service"),
    // What people do with ufw.
    of_ufw("ufw --force disable"),
    of_ufw("ufw allow 8080/tcp"),
    of_ufw("ufw limit 22/tcp"),
    of_ufw("ufw allow OpenSSH"),
    of_ufw("ufw route allow in on eth0 out on eth0"),
    of_ufw("ufw delete allow 443/tcp"),
    // By its number, which depends on what happened before.
    of_ufw(
        r"ufw delete allow 443/tcp; ufw --force delete $(ufw status numbered | sed -n 's/^\[ *\([0-9]*\)\] 5432.*/\1/p')",
    ),
    of_ufw("ufw prepend deny proto tcp from 198.51.0.0/16 to any port 5432"),
    of_ufw("ufw default allow incoming"),
    of_ufw("ufw logging high"),
    of_ufw("sed -i s/^IPV6=.*/IPV6=no/ /etc/default/ufw; ufw reload"),
    of_ufw("sed -i 's/--dport 443 -j/--dport 444 -j/' /etc/ufw/user.rules"),
];

const fn of_ufw(command: &'static str) -> Tampering {
    tampering("host.ufw/db", command)
}

#[test]
fn the_host_firewall_opens_what_is_declared_and_is_healed() {
    let Some(lab) = Rehearsal::base("the_host_firewall_opens_what_is_declared_and_is_healed") else { return };
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
    let status = lab.on_server(&["ufw", "status", "verbose"]).stdout;
    for line in ["deny (incoming), allow (outgoing)", "# seawall: application", "# seawall: certificate validation"] {
        assert!(status.contains(line), "{status}");
    }

    for port in ["443", "5432", "8080"] {
        lab.on_server(&["systemd-run", "--quiet", "python3", "-m", "http.server", port, "--bind", "::"]);
    }
    who_gets_in(&lab);
    // The same doors with the firewall off: what was silent was the firewall, and neither Lightsail's nor the listener.
    lab.on_server(&["ufw", "--force", "disable"]);
    assert_eq!(lets(&lab, STRANGER, false, "8080"), OPEN);
    assert_eq!(lets(&lab, STRANGER6, true, "8080"), OPEN);
    lab.expect(2, &["--sandbox", "drift"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.expect(0, &["--sandbox", "plan"]);
    who_gets_in(&lab);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);

    what_closes_is_left_alone(&lab);
    a_reboot_changes_nothing(&lab);
}

/// Lightsail's firewall is opened by a foreign hand first; the next apply closes it again.
fn who_gets_in(lab: &Rehearsal) {
    let everything = json!({
        "fromPort": 0, "toPort": 65535, "protocol": "tcp", "cidrs": ["0.0.0.0/0"], "ipv6Cidrs": ["::/0"],
    });
    let open = json!({ "instanceName": "chronos-prod-db", "portInfos": [everything] });
    lab.aws("lightsail", "put_instance_public_ports", &open);
    let doors = [
        (STRANGER, false, "22", OPEN),
        (STRANGER, false, "443", OPEN),
        (STRANGER, false, "5432", SILENT),
        (STRANGER, false, "8080", SILENT),
        (APPLICATION, false, "5432", OPEN),
        (APPLICATION, false, "8080", SILENT),
        (STRANGER6, true, "22", OPEN),
        (STRANGER6, true, "443", OPEN),
        (STRANGER6, true, "5432", SILENT),
        (STRANGER6, true, "8080", SILENT),
    ];
    for (from, v6, port, wanted) in doors {
        assert_eq!(lets(lab, from, v6, port), wanted, "port {port} from {from}");
    }
}

/// How a connection to the server ends.
fn lets(lab: &Rehearsal, from: &str, v6: bool, port: &str) -> String {
    let addresses = lab.on_server(&["hostname", "-I"]).stdout;
    let to = addresses.split_whitespace().find(|address| address.contains(':') == v6).expect("an address");
    let ended = lab.run(&["sandbox", "exec", "--from", from, "--", "python3", "-c", CONNECT, to, port]);
    format!("{}{}", ended.stdout, ended.stderr).trim().to_owned()
}

/// Rules of others that only close are no difference, and are named.
fn what_closes_is_left_alone(lab: &Rehearsal) {
    lab.on_server(&["ufw", "deny", "from", "192.0.2.66"]);
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("`deny any any from 192.0.2.66` in ufw is not ours and stays"), "{}", plan.stdout);
}

fn a_reboot_changes_nothing(lab: &Rehearsal) {
    let boot = lab.on_server(&["cat", "/proc/sys/kernel/random/boot_id", "/etc/ufw/user.rules"]).stdout;
    let started = lab.on_server(&["systemctl", "show", "--property", "UserspaceTimestampMonotonic"]).stdout;
    // The connection may end before the command does.
    lab.run(&["sandbox", "ssh", "db", "--", "sudo", "systemctl", "reboot"]);
    let waiting = Instant::now();
    loop {
        let now =
            lab.run(&["sandbox", "ssh", "db", "--", "systemctl", "show", "--property", "UserspaceTimestampMonotonic"]);
        if now.code == 0 && now.stdout != started && lab.run(&["--sandbox", "plan"]).code == 0 {
            break;
        }
        assert!(waiting.elapsed() < PATIENCE, "the server did not come back as wanted; before: {boot}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let loaded = lab.on_server(&["iptables", "-S", "ufw-user-input"]).stdout;
    assert!(loaded.contains("-s 198.51.100.7/32 -p tcp -m tcp --dport 5432 -j ACCEPT"), "{loaded}");
}
