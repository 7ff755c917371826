//! What a training run showed.

use kiln::clip::{Diagnosis, GradHealth, Verdict};
use kiln::plot::Curve;

pub struct Run {
    pub verdict: Verdict,
    pub first_loss: f64,
    pub last_loss: f64,
    /// Gradient norms by the distance from the loss.
    pub norms: Curve,
}

impl Run {
    /// Sums a run up and prints it. The first of the norms is the one nearest to the loss.
    pub fn new(name: &str, norms: Vec<f64>, losses: &[f64], healths: &[GradHealth]) -> Self {
        let verdict = Diagnosis::of(healths).verdict;
        let (first_loss, last_loss) = (losses[0], losses[losses.len() - 1]);
        println!("{name:11}  loss {first_loss:9.4} -> {last_loss:7.4}  {verdict}");
        let points = norms.into_iter().enumerate();
        let norms = Curve {
            name: name.into(),
            points: points.map(|(i, norm)| (i as f64, norm)).collect(),
        };
        Self {
            verdict,
            first_loss,
            last_loss,
            norms,
        }
    }

    pub fn learned(&self) -> bool {
        self.last_loss < 0.5 * self.first_loss
    }
}
