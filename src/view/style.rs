//! Colours, and only where they are wanted. Nothing is told by colour alone.

use std::fmt::Display;

/// What a piece of text is, not how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Added,
    Changed,
    Removed,
    Danger,
    Title,
    Faint,
}

/// Paints, or leaves text as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub coloured: bool,
}

impl Style {
    pub const PLAIN: Self = Self { coloured: false };

    /// The text in its role's colour. SGR codes of ECMA-48, the eight that every terminal has.
    pub fn paint(self, role: Role, text: impl Display) -> String {
        if !self.coloured {
            return text.to_string();
        }
        let code = match role {
            Role::Added => "32",
            Role::Changed => "33",
            Role::Removed => "31",
            Role::Danger => "1;31",
            Role::Title => "1",
            Role::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}
