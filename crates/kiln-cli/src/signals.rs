//! Requests to end: Ctrl-C, SIGTERM as supervisors and batch systems send it, SIGHUP of a terminal that was closed.

use std::sync::atomic::{AtomicI32, Ordering};

use crate::output;

/// SIGINT, which Ctrl-C sends.
const INTERRUPT: i32 = 2;

/// The first signal that came, or 0.
static CAME: AtomicI32 = AtomicI32::new(0);

/// The exit code of a program that a signal, or the dashboard, asked to end: 128 and the signal, as shells count it.
pub fn exit_code() -> u8 {
    let signal = match CAME.load(Ordering::SeqCst) {
        0 => INTERRUPT,
        signal => signal,
    };
    128 + signal as u8
}

/// Does something when the program is asked to end, and says so. A second Ctrl-C ends it at once; so does a second SIGTERM that is
/// not an echo of the first. SIGHUP stays ignored where it is, as under `nohup`.
#[cfg(unix)]
pub fn on_request(what: &'static str, stop: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use std::time::{Duration, Instant};
    /// `timeout` and the like send a signal to the program and to its group.
    const ECHO: Duration = Duration::from_secs(1);
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    for signal in wanted.clone() {
        note_first(signal)?;
    }
    let mut signals = signal_hook::iterator::Signals::new(wanted)?;
    let wait = move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            match first {
                None => {
                    first = Some(Instant::now());
                    stop();
                    output::note(&match CAME.load(Ordering::SeqCst) {
                        SIGINT => format!("{what} (Ctrl-C again to stop at once)"),
                        SIGTERM => format!("{what}, as SIGTERM asks for"),
                        _ => format!("{what}, as SIGHUP asks for"),
                    });
                }
                Some(first) if signal == SIGINT || signal == SIGTERM && first.elapsed() > ECHO => {
                    signal_hook::low_level::exit(128 + signal);
                }
                Some(_) => {}
            }
        }
    };
    std::thread::Builder::new()
        .name("kiln-signals".into())
        .spawn(wait)?;
    Ok(())
}

/// Notes a signal where it arrives, if it is the first: whoever waits for several of them is told in the order of their numbers.
#[cfg(unix)]
#[allow(unsafe_code)]
fn note_first(signal: i32) -> std::io::Result<()> {
    let note = move || {
        let _ = CAME.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    };
    // SAFETY: the handler only changes an atomic, which POSIX allows there.
    unsafe { signal_hook::low_level::register(signal, note) }.map(drop)
}

/// Whether whoever started the program wants it to ignore a signal.
#[cfg(unix)]
#[allow(unsafe_code)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: `sigaction` without a new action only fills in the present one, for which zeros are a valid value.
    unsafe {
        let mut present: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut present) == 0
            && present.sa_sigaction == libc::SIG_IGN
    }
}

/// Does something at the first Ctrl-C and says so; the second one ends the program.
#[cfg(not(unix))]
pub fn on_request(
    what: &'static str,
    stop: impl Fn() + Send + 'static,
) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || {
        if CAME.swap(INTERRUPT, Ordering::SeqCst) != 0 {
            std::process::exit(128 + INTERRUPT);
        }
        stop();
        output::note(&format!("{what} (Ctrl-C again to stop at once)"));
    })
}
