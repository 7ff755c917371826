//! Text of others, made safe for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every control character escaped as in Rust and Python (`\n`, `\x1b`, `\u202e`), so that a name, an
/// attribute or a message of somebody else can neither move the cursor of a terminal, nor turn the direction of its
/// text, nor pretend to be a line of its own.
///
/// ```
/// use kiln_tune::printable;
///
/// assert_eq!(printable("learning rate"), "learning rate");
/// assert_eq!(printable("a\u{1b}[2Jb\nc"), r"a\x1b[2Jb\nc");
/// ```
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if !is_unsafe(c) => out.push(c),
            c if (c as u32) < 0x100 => {
                write!(out, "\\x{:02x}", c as u32).expect("writing to a String cannot fail");
            }
            c => write!(out, "\\u{:04x}", c as u32).expect("writing to a String cannot fail"),
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal may act upon a character: control characters (C0, DEL, C1), line and paragraph separators, and the
/// marks that turn the direction of text.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}')
        || ('\u{2028}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_left() {
        let all: String = (0..=0x3000)
            .filter_map(char::from_u32)
            .filter(|c| is_unsafe(*c))
            .collect();
        let text = printable(&all);
        assert!(
            text.is_ascii() && !text.contains(|c: char| c.is_control()),
            "{text}"
        );
        for (text, expected) in [
            ("\u{7}\u{8}\u{7f}\u{9b}2J", r"\x07\x08\x7f\x9b2J"),
            ("a\r\n\tb", r"a\r\n\tb"),
            ("\u{202e}evil\u{2066}", r"\u202eevil\u2066"),
            ("naïve 名前 😀", "naïve 名前 😀"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[cfg(feature = "plot")]
    #[test]
    fn a_terminal_and_a_figure_show_the_same_characters_escaped() {
        // XML lacks these two.
        let is_xml = |c: &char| !matches!(c, '\u{fffe}' | '\u{ffff}');
        for c in ('\0'..=char::MAX).filter(is_xml) {
            let text = c.to_string();
            assert_eq!(printable(&text), kiln_plot::visible(&text), "{c:?}");
        }
    }
}
