//! Gradient health of a run: the log of measurements, `grad_health.jsonl`.

use std::path::Path;

use kiln_clip::GradHealth;
use serde::{Deserialize, Serialize};

use super::files::for_each_line;
use crate::error::TrainError;

/// One line of it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Steps taken, with the one measured.
    pub(crate) step: usize,
    epoch: usize,
    #[serde(flatten)]
    pub(crate) health: GradHealth,
}

impl Measurement {
    pub(crate) fn new(epoch: usize, step: usize, health: &GradHealth) -> Self {
        let health = health.clone();
        Self {
            step,
            epoch,
            health,
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<Measurement>, TrainError> {
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
