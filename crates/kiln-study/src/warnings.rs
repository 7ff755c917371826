//! The warnings of the library, on the terminal.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};

use kiln_tune::printable;
use kiln_tune::sync::lock;

/// How many different warnings are shown, each once; those after them are not.
const REMEMBERED: usize = 1_000;

/// Shows the warnings of kiln-tune and of the commands on stderr, each once: that a range was cut to its step, that an enqueued value lies
/// outside of its range, and the like. Does nothing in a program that has a logger.
///
/// [`Command::run`](super::Command::run) calls this; a program with commands of its own that tune may do so, too.
pub fn show_warnings() {
    static TERMINAL: Terminal = Terminal {
        shown: Mutex::new(BTreeSet::new()),
    };
    if log::set_logger(&TERMINAL).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

struct Terminal {
    shown: Mutex<BTreeSet<String>>,
}

impl Log for Terminal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        metadata.level() <= Level::Warn
            && (target.starts_with("kiln_tune") || target.starts_with("kiln_study"))
            && target != kiln_tune::error::SAID_BY_COMMANDS
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let mut shown = lock(&self.shown);
        if shown.len() >= REMEMBERED || !shown.insert(text.clone()) {
            return;
        }
        // The lock is held, so that lines of several threads do not mix.
        let _ = writeln!(std::io::stderr(), "warning: {}", printable(&text));
    }

    fn flush(&self) {}
}
