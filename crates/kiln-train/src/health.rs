//! Gradient health of a run: the log of measurements, its plot and the diagnosis.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_clip::{Diagnosis, GradHealth};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::files::{for_each_line, open_in_place};
use crate::plot_health;
use crate::recipe::Recipe;
use crate::recorder::keep_lines_until;
use crate::run_dir::RunDir;

/// `grad_health.jsonl`.
pub(crate) struct HealthLog {
    path: PathBuf,
    file: File,
}

/// One line of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Steps taken, with the one measured.
    pub(crate) step: usize,
    epoch: usize,
    #[serde(flatten)]
    pub(crate) health: GradHealth,
}

impl HealthLog {
    /// Opens the log. Lines after `step` are dropped: their steps will be taken again.
    pub(crate) fn open(path: &Path, step: usize) -> Result<Self, TrainError> {
        keep_lines_until(path, step)?;
        Ok(Self {
            path: path.into(),
            file: open_in_place(path, OpenOptions::new().append(true))?,
        })
    }

    pub(crate) fn write(
        &mut self,
        epoch: usize,
        step: usize,
        health: &GradHealth,
    ) -> Result<(), TrainError> {
        let health = health.clone();
        let line = Measurement {
            step,
            epoch,
            health,
        };
        let mut text = serde_json::to_string(&line).expect("plain values have a JSON form");
        text.push('\n');
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|error| TrainError::io("write", &self.path, error))
    }
}

fn read(path: &Path) -> Result<Vec<Measurement>, TrainError> {
    let mut measurements = Ok(Vec::new());
    for_each_line(path, |line| {
        let Ok(seen) = &mut measurements else { return };
        match serde_json::from_slice(line) {
            Ok(measurement) => seen.push(measurement),
            Err(error) => {
                measurements = Err(TrainError::Damaged {
                    path: path.into(),
                    problem: error.to_string(),
                });
            }
        }
    })?;
    measurements
}

/// Draws the plot and judges the whole run; none if it measures nothing.
pub(crate) fn conclude(run: &RunDir, recipe: &Recipe) -> Result<Option<Diagnosis>, TrainError> {
    if recipe.grad_health == 0 {
        return Ok(None);
    }
    let measurements = read(&run.health_file())?;
    let healths: Vec<GradHealth> = measurements.iter().map(|m| m.health.clone()).collect();
    let diagnosis = Diagnosis::of(&healths);
    plot_health::grad_norms(&measurements, &diagnosis, &run.health_plot())?;
    Ok(Some(diagnosis))
}
