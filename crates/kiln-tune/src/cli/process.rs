//! A child process with everything it starts.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a program has to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// A program of a trial, in a process group of its own. Dropped, it is killed with all of its group.
pub(super) struct Process {
    child: Child,
    lines: Receiver<String>,
    group_alive: bool,
}

/// What happened while waiting for a process.
pub(super) enum Event {
    /// A line of its standard output.
    Line(String),
    /// It has ended, and its output has been read.
    Ended(ExitStatus),
    /// Neither, for a moment.
    Nothing,
}

impl Process {
    /// Starts a program. Its standard error is ours, or goes into `log` with its output.
    pub(super) fn start(
        command: &[String],
        environment: &[(String, String)],
        log: Option<&Path>,
    ) -> std::io::Result<Self> {
        let mut program = Command::new(&command[0]);
        program
            .args(&command[1..])
            .envs(environment.iter().map(|(key, value)| (key, value)));
        program.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut log = log.map(std::fs::File::create).transpose()?;
        if let Some(log) = &log {
            program.stderr(log.try_clone()?);
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut program, 0);
        let mut child = program.spawn()?;
        let (sender, lines) = channel();
        let output = child
            .stdout
            .take()
            .ok_or_else(|| std::io::Error::other("the output is not a pipe"))?;
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            while matches!(output.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
                if let Some(log) = &mut log {
                    let _ = std::io::Write::write_all(log, &bytes);
                }
                // A progress bar rewrites its line with carriage returns.
                for line in String::from_utf8_lossy(&bytes).split('\r') {
                    if sender.send(line.to_owned()).is_err() {
                        return;
                    }
                }
                bytes.clear();
            }
        });
        Ok(Self {
            child,
            lines,
            group_alive: true,
        })
    }

    /// Waits a moment for the next event.
    pub(super) fn next(&mut self) -> std::io::Result<Event> {
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
    pub(super) fn stop(&mut self) {
        self.kill_group(Signal::Terminate);
        let asked = Instant::now();
        while asked.elapsed() < GRACE {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
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

enum Signal {
    Terminate,
    Kill,
}
