//! What sshd would do: `sshd -T` for each kind of client, against what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::kinds::host_sshd::Desired;
use crate::plan::change::FieldChange;

/// Keyword in lower case to value, as `sshd -T` prints them; a keyword with several lines has them joined by blanks.
pub(crate) type Settings = BTreeMap<String, String>;

/// Algorithms to leave out, as patterns. The reasons are in the template.
const WEAK_KEX: [&str; 3] = ["ecdh-sha2-nistp*", "diffie-hellman-*", "*-sha1"];
/// What protects nothing that is recorded today from a quantum computer later. Lightsail's browser login is kept clear of
/// it: which exchanges it offers is nowhere documented, and a rescue must work.
const NOT_POST_QUANTUM: [&str; 1] = ["curve25519-*"];
pub(super) const WEAK_HOST_KEYS: [&str; 4] = ["ecdsa-sha2-*", "sk-ecdsa-sha2-*", "ssh-rsa*", "ssh-dss*"];
pub(super) const WEAK_CIPHERS: [&str; 3] = ["*-cbc*", "arcfour*", "cast128*"];
pub(super) const WEAK_MACS: [&str; 6] =
    ["umac-64*", "umac-128@openssh.com", "hmac-sha1*", "hmac-md5*", "hmac-sha2-256", "hmac-sha2-512"];

/// Where Lightsail's images have the authority of its browser login (AWS, "Set up SSH for your Linux/Unix-based Lightsail instances").
pub(super) const LIGHTSAIL_AUTHORITY: &str = "/etc/ssh/lightsail_instance_ca.pub";

/// Prints `== CLIENT` and what sshd would do for it. Each `Match` line gives a client that it is about. `!!` and a message
/// where sshd does not accept its files. Arguments: LOGIN PORT PATTERN.
const EFFECT: &str = r#"login=$1 port=$2 keys=$3
if ! said=$(/usr/sbin/sshd -t 2>&1); then printf '!! %s\n' "$said"; exit 0; fi
show() {
    printf '== %s\n' "$1"
    /usr/sbin/sshd -T -C "$1" 2>&1 | grep -E "$keys"
}
for user in "$login" root; do
    for address in 192.0.2.1 127.0.0.1; do
        show "user=$user,host=client.invalid,addr=$address,laddr=192.0.2.2,lport=$port"
    done
done
cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf 2>/dev/null | awk -v login="$login" -v port="$port" '
    tolower($1) == "match" && count++ < 16 {
        user = login; host = "client.invalid"; address = "192.0.2.1"; local = "192.0.2.2"; to = port; group = "-"
        for (i = 2; i < NF; i += 2) {
            value = $(i + 1)
            gsub(/"/, "", value); sub(/,.*/, "", value); gsub(/[*?]/, "x", value)
            if (value ~ /^!/) continue
            criterion = tolower($i)
            if (criterion == "user") user = value
            if (criterion == "group") group = value
            if (criterion == "host") host = value
            if (criterion == "address") { sub(/\/.*/, "", value); address = value }
            if (criterion == "localaddress") { sub(/\/.*/, "", value); local = value }
            if (criterion == "localport") to = value
        }
        print user, host, address, local, to, group
    }' | while read -r user host address local to group; do
        if [ "$group" != - ]; then
            user=$(getent group "$group" | cut -d: -f4 | cut -d, -f1)
            [ -n "$user" ] || continue
        fi
        show "user=$user,host=$host,addr=$address,laddr=$local,lport=$to"
    done"#;

/// The keywords that are set, with the values that they must have for every client. Algorithms are judged apart.
pub(super) fn wanted(desired: &Desired) -> Vec<(&'static str, String)> {
    let fixed = |name: &'static str, value: &str| (name, value.to_owned());
    vec![
        ("Port", desired.port.to_string()),
        ("AllowUsers", desired.users.join(" ")),
        fixed("DenyUsers", ""),
        fixed("AllowGroups", ""),
        fixed("DenyGroups", ""),
        fixed("PermitRootLogin", "no"),
        fixed("PubkeyAuthentication", "yes"),
        fixed("AuthenticationMethods", "publickey"),
        fixed("PasswordAuthentication", "no"),
        fixed("KbdInteractiveAuthentication", "no"),
        fixed("PermitEmptyPasswords", "no"),
        fixed("HostbasedAuthentication", "no"),
        fixed("IgnoreRhosts", "yes"),
        fixed("GSSAPIAuthentication", "no"),
        ("MaxAuthTries", desired.max_auth_tries.to_string()),
        ("LoginGraceTime", desired.login_grace_s.to_string()),
        fixed("MaxStartups", "10:30:60"),
        fixed("PerSourceMaxStartups", "10"),
        fixed("MaxSessions", "10"),
        ("ClientAliveInterval", desired.alive_interval().to_string()),
        fixed("ClientAliveCountMax", "2"),
        fixed("TCPKeepAlive", "no"),
        fixed("DisableForwarding", if desired.forwarding { "no" } else { "yes" }),
        fixed("AllowTcpForwarding", if desired.forwarding { "local" } else { "no" }),
        fixed("AllowStreamLocalForwarding", "no"),
        fixed("AllowAgentForwarding", "no"),
        fixed("X11Forwarding", "no"),
        fixed("GatewayPorts", "no"),
        fixed("PermitTunnel", "no"),
        fixed("PermitUserEnvironment", "no"),
        fixed("StrictModes", "yes"),
        fixed("UsePAM", "yes"),
        fixed("Compression", "no"),
        fixed("UseDNS", "no"),
        fixed("LogLevel", "VERBOSE"),
        // Where a command decides who gets in, the files of keys are not all that counts.
        fixed("AuthorizedKeysCommand", "none"),
        fixed("AuthorizedKeysFile", ".ssh/authorized_keys .ssh/authorized_keys2"),
        // Whoever holds the key of an authority that is trusted here lets in anybody.
        fixed("TrustedUserCAKeys", trusted_authority(desired)),
        fixed("AuthorizedPrincipalsFile", "none"),
        fixed("AuthorizedPrincipalsCommand", "none"),
        fixed("ForceCommand", "none"),
        fixed("ChrootDirectory", "none"),
    ]
}

/// The file of the authority that may sign for logins: that of Lightsail's browser login, or none.
pub(super) fn trusted_authority(desired: &Desired) -> &'static str {
    if desired.rescue { LIGHTSAIL_AUTHORITY } else { "none" }
}

/// The key exchanges to leave out.
pub(super) fn weak_kex(desired: &Desired) -> Vec<&'static str> {
    let more: &[&str] = if desired.rescue { &[] } else { &NOT_POST_QUANTUM };
    WEAK_KEX.iter().chain(more).copied().collect()
}

/// Keyword of an algorithm list, and the patterns that must not be in it.
fn lists(desired: &Desired) -> [(&'static str, Vec<&'static str>); 4] {
    [
        ("KexAlgorithms", weak_kex(desired)),
        ("HostKeyAlgorithms", WEAK_HOST_KEYS.to_vec()),
        ("Ciphers", WEAK_CIPHERS.to_vec()),
        ("MACs", WEAK_MACS.to_vec()),
    ]
}

/// The command that asks.
pub(super) fn ask(desired: &Desired) -> Vec<&str> {
    // Constant but for the user: a plan's guard must not depend on the order of a set.
    vec!["sh", "-c", EFFECT, "seawall", &desired.users[0], "22", KEYS]
}

/// The keywords that are read, as an extended regular expression.
const KEYS: &str = "^(port|allowusers|denyusers|allowgroups|denygroups|permitrootlogin|pubkeyauthentication|\
authenticationmethods|passwordauthentication|kbdinteractiveauthentication|permitemptypasswords|hostbasedauthentication|\
ignorerhosts|gssapiauthentication|maxauthtries|logingracetime|maxstartups|persourcemaxstartups|maxsessions|clientaliveinterval|\
clientalivecountmax|tcpkeepalive|disableforwarding|allowtcpforwarding|allowstreamlocalforwarding|\
allowagentforwarding|x11forwarding|gatewayports|permittunnel|permituserenvironment|strictmodes|usepam|compression|\
usedns|loglevel|authorizedkeyscommand|authorizedkeysfile|trustedusercakeys|authorizedprincipalsfile|\
authorizedprincipalscommand|forcecommand|chrootdirectory|kexalgorithms|hostkeyalgorithms|ciphers|\
macs) ";

/// What sshd would do, by client; or why it does not accept its files.
pub(super) fn read(printed: &str) -> Result<BTreeMap<String, Settings>, String> {
    let mut all = BTreeMap::new();
    let mut client: Option<(String, Settings)> = None;
    for line in printed.lines() {
        if let Some(why) = line.strip_prefix("!! ") {
            return Err(why.trim().to_owned());
        }
        if let Some(next) = line.strip_prefix("== ") {
            all.extend(client.replace((next.to_owned(), Settings::new())));
            continue;
        }
        let (Some((_, settings)), Some((key, value))) = (client.as_mut(), line.split_once(' ')) else { continue };
        let values = settings.entry(key.to_owned()).or_default();
        if !values.is_empty() {
            values.push(' ');
        }
        values.push_str(value);
    }
    all.extend(client);
    Ok(all)
}

/// What differs from what is wanted, for any client.
pub(super) fn differences(desired: &Desired, effect: &BTreeMap<String, Settings>) -> Vec<FieldChange> {
    let mut fields = Vec::new();
    for (name, value) in wanted(desired) {
        let key = name.to_lowercase();
        let found = |settings: &Settings| settings.get(&key).cloned().unwrap_or_default();
        let wrong = effect.iter().filter(|(_, settings)| !same(&found(settings), &value));
        let wrong: BTreeMap<String, &str> =
            wrong.map(|(client, settings)| (found(settings), client.as_str())).collect();
        let shown = |text: &String| if text.is_empty() { "nobody named".to_owned() } else { text.clone() };
        if !wrong.is_empty() {
            let everywhere = effect.values().all(|settings| wrong.contains_key(&found(settings)));
            let words =
                wrong.iter().map(
                    |(found, client)| {
                        if everywhere { shown(found) } else { format!("{} for {client}", shown(found)) }
                    },
                );
            let before = words.collect::<Vec<_>>().join("; ");
            fields.push(FieldChange::new(name, Some(Value::from(before)), Some(Value::from(shown(&value)))));
        }
    }
    for (name, weak) in lists(desired) {
        let key = name.to_lowercase();
        let lists = effect.values().filter_map(|settings| settings.get(&key));
        let found: BTreeSet<&str> =
            lists.flat_map(|list| list.split(',')).filter(|one| weak.iter().any(|weak| fits(weak, one))).collect();
        if !found.is_empty() {
            let before = found.into_iter().collect::<Vec<_>>().join(",");
            fields.push(FieldChange::new(
                name,
                Some(Value::from(format!("offers {before}"))),
                Some(Value::from("without these")),
            ));
        }
    }
    fields
}

/// Equal but for the order and the case of words: names of users keep their case in both.
fn same(found: &str, wanted: &str) -> bool {
    let words = |text: &str| text.split_whitespace().map(str::to_lowercase).collect::<BTreeSet<_>>();
    words(found) == words(wanted)
}

/// Whether a name fits a pattern with `*`, as sshd matches lists of algorithms.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).filter(|&at| tail.is_char_boundary(at)).any(|at| fits(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_sshd() {
        assert!(fits("umac-64*", "umac-64-etm@openssh.com") && fits("*-sha1", "diffie-hellman-group14-sha1"));
        assert!(!fits("hmac-sha2-256", "hmac-sha2-256-etm@openssh.com") && !fits("*-sha1", "x-sha10"));
        assert!(fits("*-cbc*", "aes128-cbc") && fits("*-cbc*", "rijndael-cbc@lysator.liu.se"));
    }

    #[test]
    fn every_keyword_that_is_wanted_is_read() {
        let desired: Desired = serde_json::from_value(serde_json::json!({
            "address": "host.sshd/db", "users": ["admin"], "port": 22, "max_auth_tries": 3, "login_grace_s": 30,
            "idle_s": 600, "forwarding": false, "rescue": false,
        }))
        .expect("a desired state");
        let read: Vec<&str> = KEYS.trim_start_matches("^(").trim_end_matches(") ").split('|').collect();
        let names = wanted(&desired).into_iter().map(|(name, _)| name).chain(lists(&desired).map(|(name, _)| name));
        for name in names {
            assert!(read.contains(&name.to_lowercase().as_str()), "{name}");
        }
    }
}
