//! A child process with everything it starts.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long a program has to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Lines that wait to be read; a program that prints more waits, too.
const WAITING_LINES: usize = 1024;

/// A longer line says nothing of the objective, and is not kept in memory.
const LONGEST_LINE: usize = 1 << 20;

/// A program of a trial, in a process group of its own. Dropped, it is killed with all of its group.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    group_alive: bool,
}

/// What happened while waiting for a process.
pub(crate) enum Event {
    /// A line of its standard output.
    Line(String),
    /// It has ended, and its output has been read.
    Ended(ExitStatus),
    /// Neither, for a moment.
    Nothing,
}

impl Process {
    /// Starts a program. Its standard error is ours, or goes into `log` with its output.
    pub(crate) fn start(
        command: &[String],
        environment: &[(String, String)],
        log: Option<File>,
    ) -> io::Result<Self> {
        let mut program = Command::new(&command[0]);
        program
            .args(&command[1..])
            .envs(environment.iter().map(|(key, value)| (key, value)));
        program.stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(log) = &log {
            program.stderr(log.try_clone()?);
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut program, 0);
        let mut child = program.spawn()?;
        let (sender, lines) = sync_channel(WAITING_LINES);
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("the output is not a pipe"))?;
        std::thread::spawn(move || {
            // An error ends the output as its end does.
            let _ = read_lines(BufReader::new(output), log, &sender);
        });
        Ok(Self {
            child,
            lines,
            group_alive: true,
        })
    }

    /// Waits a moment for the next event.
    pub(crate) fn next(&mut self) -> io::Result<Event> {
        match self.lines.recv_timeout(Duration::from_millis(20)) {
            Ok(line) => Ok(Event::Line(line)),
            // Its end of the pipe is closed, so it is mostly about to end.
            Err(RecvTimeoutError::Disconnected) => Ok(match self.child.try_wait()? {
                Some(status) => self.ended(status),
                None => {
                    std::thread::sleep(Duration::from_millis(5));
                    Event::Nothing
                }
            }),
            Err(RecvTimeoutError::Timeout) => match self.child.try_wait()? {
                None => Ok(Event::Nothing),
                Some(status) => {
                    // Something it started holds the pipe open. What the program itself wrote is here by now.
                    self.kill_group(Signal::Kill);
                    match self.lines.recv_timeout(Duration::from_millis(200)) {
                        Ok(line) => Ok(Event::Line(line)),
                        Err(_) => Ok(self.ended(status)),
                    }
                }
            },
        }
    }

    /// What it left in the background ends with it.
    fn ended(&mut self, status: ExitStatus) -> Event {
        self.kill_group(Signal::Kill);
        self.group_alive = false;
        Event::Ended(status)
    }

    /// Ends the program and everything in its group: politely first, then for good.
    pub(crate) fn stop(&mut self) {
        self.kill_group(Signal::Terminate);
        let asked = Instant::now();
        while asked.elapsed() < GRACE {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
            // What it still has to say must not keep it from ending.
            self.lines.try_iter().take(WAITING_LINES).for_each(drop);
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill_group(Signal::Kill);
        self.group_alive = false;
        let _ = self.child.wait();
    }

    #[cfg(unix)]
    fn kill_group(&mut self, signal: Signal) {
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        // The group has the id of its first process; an error means that nobody is left in it.
        if let Some(group) = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    #[cfg(not(unix))]
    fn kill_group(&mut self, signal: Signal) {
        if let Signal::Kill = signal {
            let _ = self.child.kill();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.group_alive {
            self.kill_group(Signal::Kill);
            let _ = self.child.wait();
        }
    }
}

/// Sends each line, and keeps all of the output in `log`. A progress bar ends its lines with a carriage return.
fn read_lines(
    mut output: impl BufRead,
    mut log: Option<File>,
    sender: &SyncSender<String>,
) -> io::Result<()> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let bytes = match output.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        let ended = bytes.is_empty();
        if let Some(log) = &mut log {
            // A full disk is no reason to lose the trial.
            let _ = log.write_all(bytes);
        }
        let n = bytes.len();
        let mut pieces = bytes.split(|b| matches!(b, b'\n' | b'\r')).peekable();
        while let Some(piece) = pieces.next() {
            too_long |= line.len() + piece.len() > LONGEST_LINE;
            if !too_long {
                line.extend_from_slice(piece);
            }
            if pieces.peek().is_some() || ended {
                let whole = !too_long && !line.is_empty();
                if whole
                    && sender
                        .send(String::from_utf8_lossy(&line).into_owned())
                        .is_err()
                {
                    return Ok(());
                }
                line.clear();
                too_long = false;
            }
        }
        if ended {
            return Ok(());
        }
        output.consume(n);
    }
}

enum Signal {
    Terminate,
    Kill,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_a_line_feed_or_a_carriage_return_and_have_a_longest_length() {
        let long = "x".repeat(LONGEST_LINE + 1);
        let output = format!("a\r\nb\rc\n\n{long}\nd");
        let (sender, lines) = sync_channel(WAITING_LINES);
        let small = BufReader::with_capacity(7, output.as_bytes());
        read_lines(small, None, &sender).unwrap();
        drop(sender);
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }
}
