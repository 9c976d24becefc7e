//! Writing to a terminal what came from a network.
//!
//! Foreign text can carry escape sequences that clear a screen, retitle a window or forge a line of this
//! program's own. Everything foreign goes through [`escaped`] before it is written. Colours are used on a
//! terminal only, and not where `NO_COLOR` is set (<https://no-color.org>).

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use webhook_core::time::{Clock as _, SystemClock};

/// The text on one line: control characters, and those that reorder or hide text, are written as `\n`, `\t` or
/// `\u{…}`.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unsafe(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// Text of several lines: each line escaped and indented, so that none can pass for a line of ours.
pub(crate) fn indented(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.lines() {
        let _ = writeln!(out, "    {}", escaped(line));
    }
    out
}

/// C0 and C1 controls, and what Unicode uses to reorder (UAX 9), break or hide text.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The time of day, UTC, as `12:34:56.789`.
pub(crate) fn time_of_day() -> String {
    let micros = SystemClock.now().as_micros().rem_euclid(86_400_000_000);
    let (seconds, millis) = (micros / 1_000_000, micros / 1_000 % 1_000);
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A colour of the terminal's own palette.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
    Bold,
}

/// Standard output, written line by line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    colours: bool,
}

impl Screen {
    pub(crate) fn stdout() -> Self {
        Self { colours: use_colours(io::stdout().is_terminal()) }
    }

    /// The text in this colour, where there are colours.
    pub(crate) fn paint<T: fmt::Display>(self, colour: Colour, text: T) -> Painted<T> {
        Painted { colour: self.colours.then_some(colour), text }
    }

    /// Writes the text and a line's end, in one piece.
    ///
    /// # Errors
    /// When nobody reads any more, as behind `| head`.
    #[allow(clippy::unused_self, reason = "whoever holds the screen may write")]
    pub(crate) fn line(self, text: impl fmt::Display) -> io::Result<()> {
        let text = format!("{text}\n");
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// Whether to colour what goes to a terminal, or to something that is none.
pub(crate) fn use_colours(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A text with its colour. Width and alignment apply to the text alone.
#[derive(Debug)]
pub(crate) struct Painted<T> {
    colour: Option<Colour>,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(colour) = self.colour else {
            return self.text.fmt(f);
        };
        f.write_str(match colour {
            Colour::Red => "\x1b[31m",
            Colour::Green => "\x1b[32m",
            Colour::Yellow => "\x1b[33m",
            Colour::Dim => "\x1b[2m",
            Colour::Bold => "\x1b[1m",
        })?;
        self.text.fmt(f)?;
        f.write_str("\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_not_touched() {
        assert!(matches!(escaped("order.created → 42 € “ok”"), Cow::Borrowed(_)));
    }

    #[test]
    fn escape_sequences_and_line_ends_are_spelled_out() {
        assert_eq!(escaped("a\x1b[2Jb\r\nc\u{9b}d"), r"a\u{1b}[2Jb\r\nc\u{9b}d");
        assert_eq!(escaped("\u{202e}gnp.exe"), r"\u{202e}gnp.exe");
    }

    #[test]
    fn no_line_of_a_body_starts_where_ours_do() {
        assert_eq!(indented("{\n  \"a\": 1\n}"), "    {\n      \"a\": 1\n    }\n");
    }

    #[test]
    fn padding_ignores_colour() {
        let red = Painted { colour: Some(Colour::Red), text: "no" };
        assert_eq!(format!("{red:<4}|"), "\x1b[31mno  \x1b[0m|");
    }
}
