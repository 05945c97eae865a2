//! Data in shell programs: every argument is quoted here, so that data never becomes code.
//!
//! The only place that quotes for a shell: what goes to a host as root and what a person is given to copy are made here.
//! Single quotes keep everything but themselves and NUL literal in every POSIX shell. NUL cannot be an argument of any
//! program; [`quote`] refuses it instead of cutting the text there.

use std::fmt::Write as _;

/// Functions for a POSIX shell that say who can change what a path leads to, and act without following a link: `keeper`,
/// `only_root`, `rewritten`, `as`, `theirs`. They stand before a program that writes by path as root.
pub const FOLDERS: &str = include_str!("folders.sh");
/// The status with which these functions, and a host's step, end where a path is not root's alone.
pub const UNSAFE: i32 = 77;
/// The status with which a host's step ends that has put back what it changed, and found its service well with it.
pub const PUT_BACK: i32 = 85;

/// A text that no shell can carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a NUL byte cannot be part of an argument, a path or a file that a host step writes: {0:?}")]
pub struct HasNul(String);

/// The text as one literal word of a POSIX shell.
pub fn quote(text: &str) -> Result<String, HasNul> {
    if text.contains('\0') {
        return Err(HasNul(text.chars().take(40).collect()));
    }
    Ok(in_quotes(text))
}

fn in_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The same for a person to read and copy: an argument that means nothing else to a shell stays bare. For arguments and
/// paths, which have no NUL; the first word of a command would need more care (`a=b` is no command).
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,+%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { in_quotes(text) }
}

/// Several texts as words, separated by spaces.
pub fn quote_all<T: AsRef<str>>(texts: &[T]) -> Result<String, HasNul> {
    let mut line = String::new();
    for (index, text) in texts.iter().enumerate() {
        let gap = if index == 0 { "" } else { " " };
        write!(line, "{gap}{}", quote(text.as_ref())?).expect("writing to a String does not fail");
    }
    Ok(line)
}

/// A word in which only `*`, `?` and simple bracket expressions (`[a-z0-9]`, `[!.]`) keep their meaning.
pub fn quote_glob(pattern: &str) -> Result<String, HasNul> {
    let mut word = String::new();
    let mut literal = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let special = match first {
            '*' | '?' => 1,
            '[' => bracket(rest).unwrap_or(0),
            _ => 0,
        };
        if special == 0 {
            literal.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        if !literal.is_empty() {
            word.push_str(&quote(&literal)?);
            literal.clear();
        }
        word.push_str(&rest[..special]);
        rest = &rest[special..];
    }
    if !literal.is_empty() || word.is_empty() {
        word.push_str(&quote(&literal)?);
    }
    Ok(word)
}

/// Length of the bracket expression that `text` starts with, where it holds nothing that a shell could read otherwise.
fn bracket(text: &str) -> Option<usize> {
    let end = text.find(']')?;
    let inner = &text[1..end];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '!');
    (!inner.is_empty() && inner.chars().all(plain)).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What a real shell makes of a word.
    fn shell(script: &str) -> Vec<u8> {
        let out = Command::new("sh").arg("-c").arg(script).output().expect("sh runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    #[test]
    fn any_text_survives_a_shell() {
        let alphabet: Vec<char> = "a '\"\\$`!*?[]{}()<>|&;#~\n\t\r=%-é\u{7f}\u{1b}漢".chars().collect();
        let mut random = fastrand::Rng::with_seed(7);
        let texts: Vec<String> = (0..400)
            .map(|_| (0..random.usize(0..24)).map(|_| alphabet[random.usize(0..alphabet.len())]).collect())
            .collect();
        let words = quote_all(&texts).expect("no NUL in the alphabet");
        let wanted: Vec<u8> = texts.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(shell(&format!("printf '%s\\0' {words}")), wanted);
        let shown: Vec<String> = texts.iter().map(|text| word(text)).collect();
        assert_eq!(shell(&format!("printf '%s\\0' {}", shown.join(" "))), wanted);
    }

    #[test]
    fn a_person_sees_quotes_only_where_they_are_needed() {
        for bare in ["-oPort=22", "admin@192.0.2.1", "plans/a+b.json", "100%,1:2"] {
            assert_eq!(word(bare), bare);
        }
        for (text, shown) in [("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("~/x", "'~/x'"), ("é", "'é'")] {
            assert_eq!(word(text), shown);
        }
    }

    #[test]
    fn nul_is_refused() {
        assert!(quote("a\0b").is_err());
        assert!(quote_glob("/etc/\0*").is_err());
    }

    #[test]
    fn globs_keep_their_stars_and_nothing_else() {
        assert_eq!(quote_glob("/etc/*.conf").as_deref(), Ok("'/etc/'*'.conf'"));
        assert_eq!(quote_glob("/a/[!a-z]?$(id)").as_deref(), Ok("'/a/'[!a-z]?'$(id)'"));
        assert_eq!(quote_glob("/a/[`id`]").as_deref(), Ok("'/a/[`id`]'"));
        assert_eq!(quote_glob("").as_deref(), Ok("''"));
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["one.conf", "two $(x).conf", "three"] {
            fs_err::write(dir.path().join(name), "").expect("a file");
        }
        let word = quote_glob(&format!("{}/*.conf", dir.path().display())).expect("no NUL");
        let found = String::from_utf8(shell(&format!("printf '%s\\n' {word}"))).expect("text");
        assert_eq!(found.lines().count(), 2);
    }
}
