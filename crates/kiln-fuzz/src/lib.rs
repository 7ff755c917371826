//! Fuzzing that runs on stable Rust, as a test: a [`Mutator`] damages valid inputs in a way that a seed repeats, and a
//! [`Run`] hands them to the code that reads them and reports what no input may cause: a panic, a case that takes too
//! long, memory beyond a bound, and whatever else the check itself finds wrong.
//!
//! ```
//! use kiln_fuzz::{Run, Verdict};
//!
//! let seeds: [&[u8]; 2] = [b"12", b"3456789"];
//! let report = Run::new("numbers").cases(500).check(
//!     |mutator| mutator.mutate_any(&seeds),
//!     |input| match std::str::from_utf8(input).ok().and_then(|text| text.parse::<i64>().ok()) {
//!         Some(_) => Verdict::Accepted,
//!         None => Verdict::Refused,
//!     },
//! );
//! report.assert_clean();
//! assert!(report.accepted > 0 && report.refused > 0);
//! ```
//!
//! Every case is made from the run's seed and its own number alone, so a fault is repeated by
//! `Run::new(..).only(NUMBER)`. Memory is counted where the test binary asks for it:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: kiln_fuzz::CountingAllocator = kiln_fuzz::CountingAllocator;
//! # fn main() {}
//! ```
//!
//! A case that hangs, or asks for more memory than the machine should give, cannot be survived: the process then names
//! the case on stderr and aborts.

mod allocator;
mod mutator;
mod run;

pub use allocator::CountingAllocator;
pub use mutator::Mutator;
pub use run::{Fault, FaultKind, Report, Run, Verdict};
