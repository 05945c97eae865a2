//! A command line as words, split as a shell would, without anything else that a shell does.
//!
//! What a shell would give a meaning (a pipe, a variable, a pattern) is refused instead of being taken literally: whoever
//! writes `>> log` means a shell, and nothing here is one. In single quotes every character is itself.

/// Characters that mean something to a shell outside of quotes. `?`, `~`, `#` and braces are left out: they stand in
/// URLs and ordinary arguments.
const SPECIAL: &str = "|&;<>()$`*\\";
/// Characters that mean something to a shell within double quotes.
const SPECIAL_QUOTED: &str = "$`";

/// Splits a line into words.
///
/// # Errors
/// What in it only a shell would understand, or a quote that does not end.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => single(&mut chars, word.get_or_insert_default())?,
            '"' => double(&mut chars, word.get_or_insert_default())?,
            c if SPECIAL.contains(c) => {
                return Err(format!("it has `{c}` outside of quotes, and no shell reads it"));
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    for c in chars {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err("a single quote does not end".to_owned())
}

fn double(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            // Within double quotes a backslash is an ordinary character, unless it escapes the one that follows.
            '\\' => match chars.next() {
                Some(next @ ('"' | '\\' | '$' | '`')) => word.push(next),
                Some(next) => word.extend(['\\', next]),
                None => break,
            },
            c if SPECIAL_QUOTED.contains(c) => {
                return Err(format!("it has `{c}` in double quotes, and no shell reads it"));
            }
            c => word.push(c),
        }
    }
    Err("a double quote does not end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_a_shell_would_make_of_them() {
        for (line, words) in [
            ("", &[][..]),
            ("  /opt/x  --a\t-b ", &["/opt/x", "--a", "-b"]),
            ("/opt/x 'a b' \"c d\"e''", &["/opt/x", "a b", "c de"]),
            ("'' \"\"", &["", ""]),
            (r#""a\"b\\c\d\$" '$x `y` \' "#, &[r#"a"b\c\d$"#, r"$x `y` \"]),
            ("http://x/?a={b}#c ~d", &["http://x/?a={b}#c", "~d"]),
        ] {
            assert_eq!(split(line).expect(line), words, "{line}");
        }
    }

    #[test]
    fn what_only_a_shell_understands_is_refused() {
        for line in
            ["a | b", "a >> log", "a && b", "a; b", "a $HOME", "a \"$HOME\"", "a `b`", "a *.csv", "a\\ b", "(a)"]
        {
            assert!(split(line).expect_err(line).contains("no shell"), "{line}");
        }
        for line in ["'a", "\"a", "\"a\\"] {
            assert!(split(line).expect_err(line).contains("does not end"), "{line}");
        }
    }
}
