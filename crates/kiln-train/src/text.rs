//! Names of files and classes, which may hold any character, as text that is shown.

use std::borrow::Cow;
use std::path::Path;

/// The text with control characters, line ends among them, and characters that turn the direction of writing as escapes, so that
/// a name can neither move a terminal's cursor nor pretend to be another.
///
/// ```
/// use kiln_train::printable;
/// assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
/// assert_eq!(printable("café"), "café");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    let unprintable =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(unprintable) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match unprintable(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown.into()
}

/// A path as a word of a command line, quoted where a POSIX shell would read it otherwise.
///
/// ```
/// use kiln_train::shell_word;
/// assert_eq!(shell_word("runs/first".as_ref()), "runs/first");
/// assert_eq!(shell_word("my runs/it's".as_ref()), r"'my runs/it'\''s'");
/// ```
pub fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain =
        |c: char| c.is_alphanumeric() || "/._-+=:,@%\\".contains(c) && (c != '\\' || cfg!(windows));
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
