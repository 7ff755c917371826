//! The allocator, and what is said when it has nothing left to give.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};

use mimalloc::MiMalloc;

/// On the CPU a step allocates and frees every activation: the system's allocator gives such blocks back and
/// pays a page fault for each page of the next step (see benches/README.md). This one remembers what it could not give.
pub struct Allocator;

/// Bytes of the last request that failed.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

fn noted(given: *mut u8, size: usize) -> *mut u8 {
    if given.is_null() {
        REFUSED.store(size, Ordering::Relaxed);
    }
    given
}

// SAFETY: every call is passed on as it came.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        noted(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        noted(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, given: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        noted(unsafe { MiMalloc.realloc(given, layout, size) }, size)
    }

    unsafe fn dealloc(&self, given: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(given, layout) }
    }
}

/// Tells the allocator to keep what a step has freed for the next one; it would give back large blocks after some
/// milliseconds, and every step would fault them in again. `MIMALLOC_PURGE_DELAY` in the environment says otherwise.
pub fn keep() {
    /// `mi_option_purge_delay` of mimalloc.h, which the bindings leave out.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: the option exists, and the program has a single thread at this point.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
}

/// Makes an allocation that fails end the program with a message and exit code 1, where Rust would abort it.
#[cfg(unix)]
pub fn say_when_out() {
    use std::io::Write;
    let told = || {
        let refused = REFUSED.load(Ordering::Relaxed);
        if refused == 0 {
            // Something else aborts, and does so when this returns.
            return;
        }
        // A signal's handler may not allocate.
        let mut text = [0; 200];
        let mut rest = &mut text[..];
        let _ = writeln!(
            rest,
            "error: out of memory: another {refused} bytes could not be had; a smaller batch_size, model or image needs less"
        );
        let left = rest.len();
        let length = text.len() - left;
        // SAFETY: both are allowed in a signal's handler, and the text is as long as it says.
        unsafe {
            libc::write(2, text.as_ptr().cast(), length);
            libc::_exit(1);
        }
    };
    // SAFETY: the handler reads an atomic, writes to its stack and calls what POSIX allows there.
    // Where it cannot be registered, the program aborts as it would have.
    let _ = unsafe { signal_hook::low_level::register(libc::SIGABRT, told) };
}

#[cfg(not(unix))]
pub fn say_when_out() {}
