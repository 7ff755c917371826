//! The `kiln` program: parse, call, print. Everything it does is a library call.

mod args;
mod commands;
mod output;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match commands::run(args.command) {
        Ok(code) => code,
        Err(error) => output::fail(&*error),
    }
}
