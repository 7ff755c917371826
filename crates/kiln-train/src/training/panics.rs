//! A panic ends the program, whichever thread it is on.
//!
//! Rust ends a thread that panics and leaves the others as they are. A backend computes on threads of its own, and one of them that is
//! gone leaves the training loop waiting for ever for what it was to compute. [`end_on_panic`] ends the program instead. Checkpoints are
//! whole or not there, so it may end at any moment.

use std::cell::Cell;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The exit code of a program that ended by a panic, as Rust has it.
const PANICKED: i32 = 101;

/// How long a training loop that has panicked may take to clear up: what it drops may wait for a thread that is gone.
const CLEARING_UP: Duration = Duration::from_secs(20);

/// How long a run may stand still after a panic on a thread of a device. Such panics are caught there and come back as errors, or
/// belong to kernels that were only tried, and kernels take their time to compile.
const STANDING_STILL: Duration = Duration::from_secs(600);

/// Batches computed in this process, whatever for.
static PROGRESS: AtomicUsize = AtomicUsize::new(0);
/// Training loops that have panicked, and how many of them have cleared up.
static LOOPS: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
/// The folders of the runs that are training now.
static RUNS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether someone waits for this thread and takes over its panic.
    static JOINED: Cell<bool> = const { Cell::new(false) };
}

/// From now on, a panic on any thread of this program ends it with a message and exit code 101, instead of leaving the other threads
/// waiting. A program that trains calls it once, in the thread of its `main`, before anything else.
///
/// A panic of that thread, or of one of rayon's, unwinds as always, since its caller may catch it. So does one within
/// [`Trainer::run`](crate::Trainer::run), which returns it as [`TrainError::Panicked`](crate::TrainError::Panicked). A panic
/// on a thread of a device's runtime, which catches it, ends the program if the run stands still for ten minutes afterwards.
///
/// ```no_run
/// kiln_train::end_on_panic();
/// // kiln_train::RecipeTrainer::new(recipe, device).run()
/// ```
pub fn end_on_panic() {
    let main = std::thread::current().id();
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        previous(info);
        let thread = std::thread::current();
        let is_joined =
            thread.id() == main || JOINED.get() || rayon::current_thread_index().is_some();
        // cubecl's device threads are named DSU and DSD.
        let is_device = thread.name().is_some_and(|name| name.starts_with("DS"));
        if is_device {
            let seen = PROGRESS.load(Ordering::Relaxed);
            let message = message(info);
            end_unless(STANDING_STILL, message, move || {
                PROGRESS.load(Ordering::Relaxed) != seen
            });
        } else if !is_joined {
            end(&message(info));
        }
    }));
}

/// Marks this thread as one whose panics the thread that started it takes over.
pub(crate) fn joined() {
    JOINED.set(true);
}

/// Says that something was computed, so that the program does not stand still.
pub(crate) fn progress() {
    PROGRESS.fetch_add(1, Ordering::Relaxed);
}

/// Dropped while a training loop panics, it makes sure that the program ends even if the rest of the loop cannot be dropped.
pub(crate) struct WhileTraining;

impl Drop for WhileTraining {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let this = LOOPS[0].fetch_add(1, Ordering::SeqCst);
            let message = "the training loop panicked and could not be cleared up".into();
            end_unless(CLEARING_UP, message, move || {
                LOOPS[1].load(Ordering::SeqCst) > this
            });
        }
    }
}

/// Says that a loop which panicked has cleared up.
pub(crate) fn cleared_up() {
    let [panicked, cleared] = &LOOPS;
    cleared.store(panicked.load(Ordering::SeqCst), Ordering::SeqCst);
}

/// A run that trains, until it is dropped: a panic's message names it.
pub(crate) struct Running(PathBuf);

impl Running {
    pub(crate) fn new(run: &Path) -> Self {
        runs().push(run.into());
        Self(run.into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut runs = runs();
        if let Some(at) = runs.iter().position(|run| *run == self.0) {
            runs.remove(at);
        }
    }
}

fn runs() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    RUNS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What a panic says.
fn message(info: &PanicHookInfo<'_>) -> String {
    of_payload(info.payload())
}

/// What a caught panic says.
pub(crate) fn of_payload(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it gave no reason").into()
}

/// Ends the program after a time, unless something has happened by then.
fn end_unless(limit: Duration, message: String, happened: impl Fn() -> bool + Send + 'static) {
    let watch = move || {
        let start = Instant::now();
        while start.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(100));
            if happened() {
                return;
            }
        }
        end(&message);
    };
    // Where no thread can be started any more, there is nobody to wait.
    let named = std::thread::Builder::new().name("kiln-watch".into());
    if named.spawn(watch).is_err() {
        std::process::abort();
    }
}

/// Ends the program without running what would wait for the threads that are gone.
#[allow(unsafe_code)]
fn end(message: &str) -> ! {
    let mut text = format!(
        "error: a thread of the program panicked, which is a fault of the program or of a driver: {}",
        kiln_tune::printable(message)
    );
    for run in runs().iter() {
        text.push_str(&format!(
            "\nif it has a checkpoint, the last one is intact; continue with: kiln train --resume {}",
            kiln_tune::printable(&crate::shell_word(run))
        ));
    }
    let _ = writeln!(std::io::stderr(), "{text}");
    #[cfg(unix)]
    {
        // SAFETY: it ends the process at once and touches nothing of it.
        unsafe { libc::_exit(PANICKED) }
    }
    #[cfg(not(unix))]
    std::process::exit(PANICKED)
}
