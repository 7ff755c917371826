//! Paths as text that is shown.

use std::path::Path;

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
