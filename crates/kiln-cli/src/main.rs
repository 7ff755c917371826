//! The `kiln` program: parse, call, print. Everything it does is a library call.

mod args;
mod commands;
mod memory;
mod output;
mod signals;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    memory::keep();
    memory::say_when_out();
    kiln::train::end_on_panic();
    quiet_graphics_drivers();
    let args = args::Args::read();
    let place = args.command.place_option();
    match commands::run(args.command) {
        Ok(code) => code,
        Err(error) => output::fail(&*error, place),
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
