//! Studies from the command line: list them, look at them, plot them, and tune any program.

use std::process::ExitCode;

use clap::Parser;
use kiln_study::Command;

/// Studies from the command line: list them, look at them, plot them, and tune any program
#[derive(Parser)]
#[command(
    name = "kiln-study",
    version,
    arg_required_else_help = true,
    propagate_version = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    Arguments::parse().command.run()
}
