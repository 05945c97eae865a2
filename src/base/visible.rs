//! Characters that do something to a terminal other than being seen: who shows text of others replaces them.

/// Replaces what could write to the operator's terminal: control characters, and those that turn the direction of what
/// follows. Line breaks and tabs stay.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_dangerous(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// The same for what must stay on one line.
pub fn clean_line(text: &str) -> String {
    text.chars().map(|c| if is_dangerous(c) && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Whether a character does something to a terminal other than being seen. The bidirectional controls are those of
/// Unicode's UAX #9.
pub fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_dangerous_stays() {
        assert_eq!(clean("a\u{1b}[2J\u{9b}1m\u{202e}b\tc\nd\r"), "a\u{fffd}[2J\u{fffd}1m\u{fffd}b\tc\nd\u{fffd}");
        assert_eq!(clean_line("a\nb"), "a\u{fffd}b");
        assert_eq!(clean("grüße 接続 ✓"), "grüße 接続 ✓");
    }
}
