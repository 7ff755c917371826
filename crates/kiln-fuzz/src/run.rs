use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::{Mutator, allocator};

/// What a check made of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The input was read.
    Accepted,
    /// The input was refused with an error, as it should be.
    Refused,
    /// Something that must not be, in words: a message without the file's name, a file left behind.
    Wrong(String),
}

impl<T, E> From<Result<T, E>> for Verdict {
    fn from(result: Result<T, E>) -> Self {
        if result.is_ok() {
            Self::Accepted
        } else {
            Self::Refused
        }
    }
}

/// A number of cases of one kind of input; see the crate's first page.
#[derive(Clone, Debug)]
pub struct Run {
    name: String,
    seed: u64,
    cases: u64,
    only: Option<u64>,
    slow: Duration,
    hang: Duration,
    bytes: usize,
    ceiling: usize,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The name of the run.
    pub name: String,
    /// The seed of the run.
    pub seed: u64,
    /// How many inputs were tried.
    pub cases: u64,
    /// How many of them were read.
    pub accepted: u64,
    /// How many were refused with an error.
    pub refused: u64,
    /// The longest time that a case took.
    pub slowest: Duration,
    /// The most memory in use at a time, beyond what was in use before the case; `None` unless
    /// [`CountingAllocator`](crate::CountingAllocator) is installed.
    pub most_bytes: Option<usize>,
    /// How long the run took, the making of inputs included.
    pub took: Duration,
    /// How many faults there were. [`faults`](Self::faults) has only the first few of each place.
    pub n_faults: u64,
    /// The faults, at most three that panicked at the same place or were of the same kind.
    pub faults: Vec<Fault>,
}

/// An input that did what no input may do.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The number of the case, for [`Run::only`].
    pub case: u64,
    /// What it did.
    pub kind: FaultKind,
    /// The input.
    pub input: Vec<u8>,
}

/// What an input did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It panicked: where, and the message.
    Panic {
        /// File, line and column.
        place: String,
        /// What the panic said.
        message: String,
    },
    /// It took this long, each of three times.
    Slow(Duration),
    /// It took this much memory.
    Memory(usize),
    /// What the check said.
    Wrong(String),
}

impl Run {
    /// A run of 1,000 cases with seed 0 in which a case may take one second and 64 MiB, and is fatal after 60 seconds or
    /// at 2 GiB.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            seed: 0,
            cases: 1000,
            only: None,
            slow: Duration::from_secs(1),
            hang: Duration::from_secs(60),
            bytes: 64 << 20,
            ceiling: 2 << 30,
        }
    }

    /// Another seed makes other cases.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many cases there are.
    #[must_use]
    pub fn cases(mut self, cases: u64) -> Self {
        self.cases = cases;
        self
    }

    /// Tries one case alone, by the number that a report gave it.
    #[must_use]
    pub fn only(mut self, case: u64) -> Self {
        self.only = Some(case);
        self
    }

    /// The time a case may take. One that took longer is tried twice more, since a busy machine is no fault.
    #[must_use]
    pub fn slow(mut self, slow: Duration) -> Self {
        self.slow = slow;
        self
    }

    /// The time after which a case hangs: the process names it and aborts.
    #[must_use]
    pub fn hang(mut self, hang: Duration) -> Self {
        self.hang = hang;
        self
    }

    /// The bytes a case may have in use at a time, beyond what was in use before it.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// The bytes at which the process names the case and aborts instead of taking them.
    #[must_use]
    pub fn ceiling(mut self, ceiling: usize) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// The input of a case, as `make` makes it.
    pub fn input<I>(&self, case: u64, mut make: impl FnMut(&mut Mutator) -> I) -> I {
        // Cases lie far apart in the generator's sequence.
        let mut start = Mutator::new(self.seed ^ case.wrapping_mul(0xd6e8_feb8_6659_fd93));
        make(&mut Mutator::new(start.bits()))
    }

    /// Makes each case's input and checks it.
    ///
    /// Runs of one process wait for each other, since the memory of all threads is counted together.
    pub fn check<I: AsRef<[u8]>>(
        &self,
        mut make: impl FnMut(&mut Mutator) -> I,
        mut check: impl FnMut(&I) -> Verdict,
    ) -> Report {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        quiet_panics();
        let watch = Watch::new(self);
        let started = Instant::now();
        let mut report = Report {
            name: self.name.clone(),
            seed: self.seed,
            cases: 0,
            accepted: 0,
            refused: 0,
            slowest: Duration::ZERO,
            most_bytes: allocator::is_installed().then_some(0),
            took: Duration::ZERO,
            n_faults: 0,
            faults: Vec::new(),
        };
        let cases = match self.only {
            Some(case) => case..case + 1,
            None => 0..self.cases,
        };
        for case in cases {
            let input = self.input(case, &mut make);
            report.cases += 1;
            let mut once = || {
                watch.begin(case);
                let before = allocator::start(self.ceiling);
                let start = Instant::now();
                IN_CASE.set(true);
                let result = panic::catch_unwind(AssertUnwindSafe(|| check(&input)));
                IN_CASE.set(false);
                let (took, bytes) = (start.elapsed(), allocator::peak_since(before));
                watch.end();
                (result, took, bytes)
            };
            let (mut result, mut took, mut bytes) = once();
            for _ in 0..2 {
                if took > self.slow && result.is_ok() {
                    let again = once();
                    (result, took, bytes) = (again.0, took.min(again.1), bytes.min(again.2));
                }
            }
            report.slowest = report.slowest.max(took);
            report.most_bytes = report.most_bytes.map(|most| most.max(bytes));
            let kind = match result {
                Err(_) => Some(FaultKind::panicked()),
                Ok(Verdict::Wrong(what)) => Some(FaultKind::Wrong(what)),
                Ok(verdict) => {
                    report.accepted += u64::from(verdict == Verdict::Accepted);
                    report.refused += u64::from(verdict == Verdict::Refused);
                    if took > self.slow {
                        Some(FaultKind::Slow(took))
                    } else if bytes > self.bytes && report.most_bytes.is_some() {
                        Some(FaultKind::Memory(bytes))
                    } else {
                        None
                    }
                }
            };
            if let Some(kind) = kind {
                report.n_faults += 1;
                let alike = |fault: &&Fault| fault.kind.place() == kind.place();
                if report.faults.iter().filter(alike).count() < 3 {
                    let input = input.as_ref().to_vec();
                    report.faults.push(Fault { case, kind, input });
                }
            }
        }
        report.took = started.elapsed();
        report
    }
}

impl Report {
    /// Panics with the whole report unless the run found nothing.
    ///
    /// # Panics
    /// When there was a fault.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.n_faults == 0, "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} cases of seed {}, {} read, {} refused, {} faults; slowest {:.3} s",
            self.name,
            self.cases,
            self.seed,
            self.accepted,
            self.refused,
            self.n_faults,
            self.slowest.as_secs_f64()
        )?;
        if let Some(bytes) = self.most_bytes {
            #[allow(clippy::cast_precision_loss)]
            let mebibytes = bytes as f64 / f64::from(1 << 20);
            write!(f, ", at most {mebibytes:.1} MiB")?;
        }
        write!(f, "; {:.0} s in all", self.took.as_secs_f64())?;
        for fault in &self.faults {
            let shown = &fault.input[..fault.input.len().min(2000)];
            write!(
                f,
                "\ncase {}: {}\n  input ({} bytes): {}",
                fault.case,
                fault.kind,
                fault.input.len(),
                shown.escape_ascii()
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic { place, message } => write!(f, "panicked at {place}: {message}"),
            Self::Slow(took) => write!(f, "took {:.3} s", took.as_secs_f64()),
            Self::Memory(bytes) => write!(f, "took {bytes} bytes of memory"),
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

impl FaultKind {
    /// The panic that this thread caught last.
    fn panicked() -> Self {
        let (place, message) = LAST_PANIC.take().unwrap_or_default();
        Self::Panic { place, message }
    }

    /// What faults have in common that have the same cause.
    fn place(&self) -> &str {
        match self {
            Self::Panic { place, .. } => place,
            Self::Slow(_) => "slow",
            Self::Memory(_) => "memory",
            Self::Wrong(_) => "wrong",
        }
    }
}

thread_local! {
    static IN_CASE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    static LAST_PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Panics of a case are for the report; all others are printed as ever.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IN_CASE.get() {
                return usual(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let message = info.payload_as_str().unwrap_or("(not a text)").to_owned();
            LAST_PANIC.set(Some((place, message)));
        }));
    });
}

/// The case that runs, for what cannot be survived: its number plus one, or 0 between cases.
static CASE: AtomicU64 = AtomicU64::new(0);
static NAME: Mutex<String> = Mutex::new(String::new());

/// Names the case and ends the process.
pub(crate) fn abort_case(what: &str) -> ! {
    let case = CASE.load(Ordering::Relaxed).wrapping_sub(1);
    let name = NAME.try_lock().map(|name| name.clone()).unwrap_or_default();
    eprintln!("kiln-fuzz: case {case} of {name} {what}");
    std::process::abort();
}

/// A thread that ends the process when a case hangs.
struct Watch {
    stop: std::sync::Arc<AtomicBool>,
}

impl Watch {
    fn new(run: &Run) -> Self {
        *NAME.lock().unwrap_or_else(PoisonError::into_inner) =
            format!("{} (seed {})", run.name, run.seed);
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let (stopped, hang) = (stop.clone(), run.hang);
        std::thread::spawn(move || {
            let (mut last, mut since) = (0, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                let case = CASE.load(Ordering::Relaxed);
                if case != last || case == 0 {
                    (last, since) = (case, Instant::now());
                } else if since.elapsed() > hang {
                    abort_case(&format!("hangs: it runs since {hang:?}"));
                }
                std::thread::sleep(Duration::from_millis(200).min(hang / 4));
            }
        });
        Self { stop }
    }

    fn begin(&self, case: u64) {
        CASE.store(case + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        CASE.store(0, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
