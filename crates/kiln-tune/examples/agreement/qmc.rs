//! Replays `qmc.json`: the first points of the Sobol and Halton sequences and the sampler's values.

use kiln_tune::sampler::qmc::{Halton, Sobol};
use serde_json::Value;

use super::replay::{Replay, matrix};

const HALTON_TOLERANCE: f64 = 1e-15;

/// Replays a whole file.
pub fn replay(file: &Value) -> Replay {
    let mut replay = Replay::default();
    for (dimension, points) in file["sobol"].as_object().into_iter().flatten() {
        let d = dimension.parse().expect("a dimension");
        let sobol = Sobol::new(d).expect("the dimension is allowed");
        let points = matrix(points);
        let got: Vec<Vec<f64>> = (0..points.len() as u64)
            .map(|i| sobol.point(i).expect("the sequence is long enough"))
            .collect();
        replay.exact(&format!("sobol {dimension}"), &got, &points);
    }
    for (dimension, points) in file["halton"].as_object().into_iter().flatten() {
        let halton = Halton::new(dimension.parse().expect("a dimension"));
        for (i, want) in matrix(points).iter().enumerate() {
            let place = format!("halton {dimension} point {i}");
            replay.all_close(&place, &halton.point(i as u64), want, HALTON_TOLERANCE);
        }
    }
    replay
}
