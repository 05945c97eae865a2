//! A client that is never let in writes names into PostgreSQL's log that look like somebody else's failed login.

use crate::support::rehearsal::Rehearsal;

/// Whom the attacker wants banned: nobody of this inventory.
const VICTIM: &str = "198.51.100.200";

/// VICTIM: startup packets (PostgreSQL, "Message Formats") whose names have line breaks and a whole line after them, cut after 63 bytes as
/// PostgreSQL does, and over two names.
const ATTACK: &str = r#"
import datetime, socket, struct, sys
victim = sys.argv[1]
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
why = "FATAL:  no pg_hba.conf entry for"
lines = [
    (f"\n{now} [1] app=,client={victim} {why}", "x"),
    (f"\n{now}[1] user=x", f"y,app=,client={victim} {why}"),
    (f"\n{now} [1] app=x", f",client={victim} {why}"),
    (f"\n[1] app=,client={victim} {why}", f"\n[1] app=,client={victim} {why}"),
    (f"x\r{now} [1] app=,client={victim} {why}", f"x\r\n{now} [1] app=,client={victim} {why}"),
]
for user, database in lines * 4:
    for name in ["", f"\n{now} [1] app=,client={victim} {why}", f"x,client={victim} {why}"]:
        body = struct.pack("!I", 196608)
        for key, value in [("user", user), ("database", database), ("application_name", name)]:
            body += key.encode() + b"\0" + value.encode() + b"\0"
        body += b"\0"
        with socket.create_connection(("127.0.0.1", 5432), timeout=5) as server:
            server.sendall(struct.pack("!I", len(body) + 4) + body)
            server.recv(4096)
"#;

#[test]
fn a_name_with_line_breaks_bans_nobody() {
    let Some(lab) = Rehearsal::database("a_name_with_line_breaks_bans_nobody") else { return };
    lab.on_server(&["runuser", "-u", "nobody", "--", "python3", "-c", ATTACK, VICTIM]);
    // It arrived: the log has the victim's address. fail2ban polls its files every second; it has read them when it has read what comes after.
    let log = "cat /var/log/postgresql/postgresql-*.log";
    let seen = lab.on_server(&["sh", "-c", &format!("{log} | grep -c {VICTIM}")]).stdout;
    assert!(seen.trim().parse::<u32>().is_ok_and(|count| count >= 20), "{seen}");
    let ours = "for i in 1 2 3 4 5 6; do echo \"$(date -u '+%Y-%m-%d %H:%M:%S.000 UTC') [1] app=x,client=198.51.100.201 \
                FATAL:  password authentication failed for user \\\"x\\\"\"; done >>/var/log/postgresql/postgresql-15-main.log";
    lab.on_server(&["sh", "-c", ours]);
    let banned = "for i in $(seq 60); do fail2ban-client get postgresql banip | grep -q 198.51.100.201 && break; sleep 0.5; done; \
                  fail2ban-client get postgresql banip";
    let banned = lab.on_server(&["sh", "-c", banned]).stdout;
    assert!(banned.contains("198.51.100.201"), "the jail works: {banned}");
    assert!(!banned.contains(VICTIM), "{banned}");
}
