//! ufw's two files of settings: the values that count, and a file with ours in it and the rest as it was.

pub(super) const CONF: &str = "/etc/ufw/ufw.conf";
pub(super) const DEFAULTS: &str = "/etc/default/ufw";

/// Settings of ufw: file, key, value, and the field that shows them. Other lines of these files stay as they are.
pub(super) const SETTINGS: [(&str, &str, &str, &str); 6] = [
    (CONF, "ENABLED", "yes", "boot.enabled"),
    (CONF, "LOGLEVEL", "low", "logging"),
    (DEFAULTS, "IPV6", "yes", "ipv6"),
    (DEFAULTS, "DEFAULT_INPUT_POLICY", "DROP", "policy.incoming"),
    (DEFAULTS, "DEFAULT_OUTPUT_POLICY", "ACCEPT", "policy.outgoing"),
    (DEFAULTS, "DEFAULT_FORWARD_POLICY", "DROP", "policy.routed"),
];

/// The value that a shell gives a key: the last line that sets it wins.
pub(super) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let set = |line: &'a str| line.trim_start().strip_prefix(key)?.strip_prefix('=');
    let value = text.lines().filter_map(set).next_back()?.trim();
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split_whitespace().next(),
    }
}

/// A file of settings with ours in it and everything else as it was.
pub(super) fn with_settings(path: &str, text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (_, key, wanted, _) in SETTINGS.into_iter().filter(|(file, ..)| *file == path) {
        if value(text, key) == Some(wanted) {
            continue;
        }
        let setting = format!("{key}={wanted}");
        let sets = |line: &String| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with('='));
        match lines.iter().rposition(sets) {
            // The last one wins.
            Some(last) => lines[last] = setting,
            None => lines.push(setting),
        }
    }
    lines.join("\n") + "\n"
}

/// Words of people for a policy of iptables.
pub(super) fn policy(value: &str) -> &str {
    match value {
        "DROP" => "deny",
        "ACCEPT" => "allow",
        "REJECT" => "reject",
        other => other,
    }
}
