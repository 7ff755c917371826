//! One file a command.

mod data;
mod devices;
mod eval;
mod models;
mod predict;
mod report;
mod train;
mod tune;

use std::error::Error;
use std::process::ExitCode;

use crate::args::Command;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train(args) => train::run(*args),
        Command::Eval(args) => done(eval::run(args)),
        Command::Predict(args) => done(predict::run(args)),
        Command::Tune(args) => tune::run(*args),
        Command::Report(args) => done(report::run(args)),
        Command::Devices(args) => done(devices::run(args)),
        Command::Models(args) => done(models::run(args)),
        Command::Data(args) => done(data::run(args)),
        Command::Study(command) => Ok(command.run()),
    }
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
