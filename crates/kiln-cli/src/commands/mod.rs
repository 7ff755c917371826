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
use std::path::Path;
use std::process::ExitCode;

use kiln::device::Chosen;
use kiln::train::{TrainError, TrainedModel, read_class_names};

use crate::args::Command;
use crate::output;

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

/// A finished run's model; its classes have the names of a file if one is given.
fn trained(run: &Path, device: &Chosen, classes: Option<&Path>) -> Result<TrainedModel> {
    let model = TrainedModel::load(run, &device.device)?;
    let Some(file) = classes else {
        return Ok(model);
    };
    let names = read_class_names(file)?;
    if names != model.info().data.classes {
        output::note(&format!(
            "the classes have the names of {}, not those of the run",
            file.display()
        ));
    }
    Ok(model.with_classes(names)?)
}

/// Makes a folder to write into, and those that it is in.
fn make_folder(path: &Path) -> std::result::Result<(), TrainError> {
    std::fs::create_dir_all(path).map_err(|source| TrainError::Io {
        action: "create",
        path: path.into(),
        source,
    })
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
