//! The `kiln` program: parse, call, print. Everything it does is a library call.

mod args;
mod commands;
mod output;

use std::process::ExitCode;

/// On the CPU a step allocates and frees every activation: the system's allocator gives such blocks back and
/// pays a page fault for each page of the next step (see benches/README.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_memory();
    quiet_graphics_drivers();
    let args = args::Args::read();
    match commands::run(args.command) {
        Ok(code) => code,
        Err(error) => output::fail(&*error),
    }
}

/// Tells the allocator to keep what a step has freed for the next one; it would give back large blocks after some
/// milliseconds, and every step would fault them in again. `MIMALLOC_PURGE_DELAY` in the environment says otherwise.
#[allow(unsafe_code)]
fn keep_memory() {
    /// `mi_option_purge_delay` of mimalloc.h, which the bindings leave out.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: the option exists, and the program has a single thread at this point.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
}

/// Without this folder the display libraries that graphics drivers bring complain on stderr.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn quiet_graphics_drivers() {
    const FOLDER: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(FOLDER).is_none() {
        // SAFETY: the program has a single thread at this point.
        unsafe { std::env::set_var(FOLDER, std::env::temp_dir()) };
    }
}

#[cfg(not(target_os = "linux"))]
fn quiet_graphics_drivers() {}
