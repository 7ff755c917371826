//! Counts the memory of the process.
#![allow(unsafe_code)] // A global allocator is unsafe to implement; this one hands everything to the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The system's allocator, which counts what is in use: install it with `#[global_allocator]` in the test binary, and a
/// [`Run`](crate::Run) knows how much memory each case took.
///
/// All threads are counted together, so let no other test of the binary run beside a run. Memory that C code takes by
/// `malloc` is not seen.
#[derive(Debug)]
pub struct CountingAllocator;

static INSTALLED: AtomicBool = AtomicBool::new(false);
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Requests that would take the process beyond this are fatal; the check is off at the largest number.
static CEILING: AtomicUsize = AtomicUsize::new(usize::MAX);

fn add(bytes: usize) {
    let now = IN_USE
        .fetch_add(bytes, Ordering::Relaxed)
        .saturating_add(bytes);
    if now > CEILING.load(Ordering::Relaxed) {
        // What is printed here may allocate.
        CEILING.store(usize::MAX, Ordering::Relaxed);
        crate::run::abort_case(&format!("asked for {bytes} bytes at once"));
    }
    PEAK.fetch_max(now, Ordering::Relaxed);
}

fn remove(bytes: usize) {
    IN_USE.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came; counting touches atomics alone.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        INSTALLED.store(true, Ordering::Relaxed);
        add(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is the one of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        INSTALLED.store(true, Ordering::Relaxed);
        add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        remove(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new exist together while they are copied.
        add(new_size);
        // SAFETY: as above.
        let moved = unsafe { System.realloc(pointer, layout, new_size) };
        remove(layout.size());
        moved
    }
}

/// Whether anything is counted.
pub(crate) fn is_installed() -> bool {
    INSTALLED.load(Ordering::Relaxed)
}

/// Starts to measure: what is in use now is what the peak counts from.
pub(crate) fn start(ceiling: usize) -> usize {
    let now = IN_USE.load(Ordering::Relaxed);
    PEAK.store(now, Ordering::Relaxed);
    CEILING.store(now.saturating_add(ceiling), Ordering::Relaxed);
    now
}

/// The most that was in use at a time since [`start`], beyond what was in use then.
pub(crate) fn peak_since(start: usize) -> usize {
    CEILING.store(usize::MAX, Ordering::Relaxed);
    PEAK.load(Ordering::Relaxed).saturating_sub(start)
}
