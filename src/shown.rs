//! What others wrote (names of files, foremost) as terminals, logs and reports get it: a name must not steer a
//! terminal, begin a line of its own or turn the text around it.

use std::fmt::{self, Display, Write};

/// A text whose control characters are escaped, as in `\u{1b}[31m`.
#[derive(Clone, Copy, Debug)]
pub struct Shown<T> {
    text: T,
    /// Whether it may have several lines.
    lines: bool,
}

/// On one line: line feeds are escaped, too.
pub fn shown<T: Display>(text: T) -> Shown<T> {
    let lines = false;
    Shown { text, lines }
}

/// Of one line or several.
pub fn shown_lines<T: Display>(text: T) -> Shown<T> {
    let lines = true;
    Shown { text, lines }
}

impl<T: Display> Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines;
        write!(Escape { to: f, lines }, "{}", self.text)
    }
}

struct Escape<'a, 'b> {
    to: &'a mut fmt::Formatter<'b>,
    lines: bool,
}

/// Controls of ISO 6429, line and paragraph separators, and Unicode's marks that turn the direction of text.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, mut text: &str) -> fmt::Result {
        let kept = |c: char| self.lines && matches!(c, '\n' | '\t');
        while let Some((at, c)) = text.char_indices().find(|&(_, c)| steers(c) && !kept(c)) {
            self.to.write_str(&text[..at])?;
            write!(self.to, "{}", c.escape_default())?;
            text = &text[at + c.len_utf8()..];
        }
        self.to.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_escaped_and_the_rest_stays() {
        let name = "a\u{1b}[31mred\n\r\t\u{7f}\u{9b}2J\u{202e}gnp.x é 部品.png";
        assert_eq!(
            shown(name).to_string(),
            r"a\u{1b}[31mred\n\r\t\u{7f}\u{9b}2J\u{202e}gnp.x é 部品.png"
        );
        let lines = shown_lines("one\n\ttwo\u{1b}c").to_string();
        assert_eq!(lines, "one\n\ttwo\\u{1b}c");
        assert_eq!(shown("").to_string(), "");
    }
}
