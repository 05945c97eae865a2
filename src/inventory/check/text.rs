//! Rules for texts that somebody else defines: AWS, Debian, the kernel, mail. Each answers with one sentence.

use crate::base::visible::is_dangerous;

/// E-mail addresses that can receive alarms: one `@`, a name, a domain with a dot, nothing exotic.
pub fn email(text: &str) -> Result<(), String> {
    let bad = || format!("`{text}` is not an e-mail address");
    let (local, domain) = text.split_once('@').ok_or_else(bad)?;
    let local_good = !local.is_empty()
        && local.len() <= 64
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && local.bytes().all(|b| b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&b));
    if local_good && domain.contains('.') && host_name(domain).is_ok() { Ok(()) } else { Err(bad()) }
}

/// Host and domain names (RFC 1123): labels of letters, digits and inner hyphens.
pub fn host_name(text: &str) -> Result<(), String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    // `300.1.1.1` is a mistyped address, not a name.
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if text.len() <= 253 && !numeric && text.split('.').all(label) {
        Ok(())
    } else {
        Err(format!("`{text}` is not a host name"))
    }
}

/// The shape of a region's name, for example `ca-central-1`. Whether it exists only AWS knows.
pub fn region(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split('-').collect();
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let good = match parts.as_slice() {
        [area, middle @ .., number] => {
            area.len() == 2
                && word(area)
                && (1..=2).contains(&middle.len())
                && middle.iter().all(|part| word(part))
                && number.len() == 1
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        _ => false,
    };
    if good { Ok(()) } else { Err(format!("`{text}` is not a region; write for example `ca-central-1`")) }
}

/// General purpose buckets (AWS S3 user guide, bucket naming rules); dots are legal there and break TLS, so not here.
pub fn bucket_name(text: &str) -> Result<(), String> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let why = if text.contains('.') {
        "a dot in it breaks TLS"
    } else if !(3..=63).contains(&text.len()) {
        "it has 3 to 63 characters"
    } else if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        "it consists of lower-case letters, digits and hyphens"
    } else if !edge(text.chars().next()) || !edge(text.chars().last()) {
        "it begins and ends with a letter or digit"
    } else if text.starts_with("xn--") || text.starts_with("sthree-") || text.starts_with("amzn-s3-demo-") {
        "AWS keeps this beginning for itself"
    } else if text.ends_with("-s3alias") || text.ends_with("--ol-s3") || text.ends_with("--x-s3") {
        "AWS keeps this ending for itself"
    } else {
        return Ok(());
    };
    Err(format!("`{text}` is not a name for a bucket: {why}"))
}

/// A key prefix: parts between single slashes, none at the ends, characters that need no escaping anywhere.
pub fn prefix(text: &str) -> Result<(), String> {
    let why = if text.is_empty() {
        "it is empty, which would be the whole bucket"
    } else if text.starts_with('/') || text.ends_with('/') {
        "it has a slash at an end; Seawall puts them where they belong"
    } else if text.len() > 256 {
        "it has more than 256 characters"
    } else if text.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        "a part of it is empty, `.` or `..`"
    } else if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.-".contains(&b)) {
        // `*` and `?` would be wildcards in the policy that is made of it.
        "it consists of letters, digits and `/ _ . -`"
    } else {
        return Ok(());
    };
    Err(format!("`{text}` is not a prefix: {why}"))
}

/// Debian package names (Debian policy 5.6.1): `+`, `-` and `.` inside; no version, no architecture.
pub fn package(text: &str) -> Result<(), String> {
    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let good = first
        && text.len() >= 2
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    // `apt-get install name-` removes and `name+` installs: what looks like a name must not be a command.
    if good && !text.ends_with('-') && (!text.ends_with('+') || text.ends_with("++")) {
        Ok(())
    } else if text.contains('=') {
        Err(format!("`{text}` asks for a version; packages follow Debian's release"))
    } else {
        Err(format!("`{text}` is not a name of a Debian package"))
    }
}

/// Kernel parameters: dotted words. A slash would name another file.
pub fn sysctl(text: &str) -> Result<(), String> {
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if text.contains('.') && text.split('.').all(word) {
        Ok(())
    } else {
        Err(format!("`{text}` is not a kernel parameter; write for example `vm.swappiness`"))
    }
}

/// Names of users and groups, as Debian's `adduser` takes them.
pub fn account(text: &str) -> Result<(), String> {
    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let good = first
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if good { Ok(()) } else { Err(format!("`{text}` is not a name of a user or group on Debian")) }
}

/// A file on a server: absolute, plain, no way up.
pub fn server_path(text: &str) -> Result<(), String> {
    let why = if !text.starts_with('/') {
        "it does not begin with `/`"
    } else if text.ends_with('/') {
        "it is a directory"
    } else if text.split('/').skip(1).any(|part| part.is_empty() || part == "." || part == "..") {
        "a part of it is empty, `.` or `..`"
    } else if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.-@+".contains(&b)) {
        "it consists of letters, digits and `/ _ . - @ +`"
    } else {
        return Ok(());
    };
    Err(format!("`{text}` is not a path of a file on a server: {why}"))
}

/// A file on the operator's machine.
pub fn operator_path(text: &str) -> Result<(), String> {
    if text.is_empty() || text.ends_with('/') || text.chars().any(char::is_control) {
        Err(format!("`{}` is not a path of a file", text.escape_default()))
    } else {
        Ok(())
    }
}

/// One line of printable ASCII, as CloudWatch takes names.
pub fn ascii_line(text: &str, longest: usize) -> Result<(), String> {
    line(text, longest)?;
    if text.is_ascii() { Ok(()) } else { Err("this must be ASCII: CloudWatch takes no other letters".to_owned()) }
}

/// The name of a bundle. Whether it exists only AWS knows.
pub fn bundle(text: &str) -> Result<(), String> {
    let good = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if good {
        Ok(())
    } else {
        Err(format!("`{}` is no name of a bundle; write for example `small_3_0`", text.escape_default()))
    }
}

/// One line for people: something, and no control characters that a terminal or a comment would obey.
pub fn line(text: &str, longest: usize) -> Result<(), String> {
    if text.trim().is_empty() {
        Err("this says nothing".to_owned())
    } else if text.chars().any(|c| is_dangerous(c) || matches!(c, '\u{2028}' | '\u{2029}')) {
        Err("this must be one line without control characters".to_owned())
    } else if text.chars().count() > longest {
        Err(format!("this is longer than {longest} characters"))
    } else {
        Ok(())
    }
}

/// A time zone as the tz database names it.
pub fn time_zone(text: &str) -> Result<(), String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_uppercase())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b))
    };
    if text.split('/').count() <= 3 && text.split('/').all(part) {
        Ok(())
    } else {
        Err(format!("`{text}` is not a time zone; write for example `Etc/UTC` or `America/Toronto`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(rule: fn(&str) -> Result<(), String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Ok(()), "{text}");
        }
        for text in bad {
            assert!(rule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_others() {
        holds(
            email,
            &["ops@automatonicai.com", "a.b+c@x-y.example.org"],
            &["", "ops", "@a.b", "a@b", "a@.b", "a b@c.d", "a@b..c", ".a@b.c", "a@b@c.d", "a@b.c\n"],
        );
        holds(
            region,
            &["ca-central-1", "us-gov-west-1", "ap-southeast-3"],
            &["", "ca", "ca-1", "CA-central-1", "ca-central-1a", "central", "ca-central-12"],
        );
        holds(
            bucket_name,
            &["project-chronos-backups", "a1b"],
            &["ab", "a.b.c", "Abc", "-abc", "abc-", "xn--abc", "abc-s3alias", "a_b", &"a".repeat(64)],
        );
        holds(prefix, &["a", "a/b.c_d-e"], &["", "/a", "a/", "a//b", "a/../b", "a*", "é"]);
        holds(
            package,
            &["jq", "libstdc++6", "g++", "postgresql-15", "python3.11"],
            &["", "a", "Jq", "jq-", "jq+", "jq=1.6", "-jq", "jq;ls", "jq:amd64"],
        );
    }

    #[test]
    fn names_on_the_host() {
        holds(
            sysctl,
            &["vm.swappiness", "net.ipv4.conf.all.rp_filter"],
            &["", "swappiness", "vm/swappiness", "vm..x", "vm.x y", "-w.a=b"],
        );
        holds(account, &["admin", "_apt", "www-data"], &["", "Root", "1a", "a b", "a:b", "-a"]);
        holds(server_path, &["/etc/seawall/credentials"], &["", "etc/x", "/etc/", "/etc/../x", "/etc//x", "/a b", "/"]);
        holds(time_zone, &["Etc/UTC", "America/Toronto", "UTC"], &["", "utc", "../etc/passwd", "Etc/", "/Etc"]);
        assert!(line("operators", 60).is_ok());
        assert!(line(" ", 60).is_err() && line("a\u{1b}[2J", 60).is_err() && line("abc", 2).is_err());
    }
}
