//! The map that all scalers but [`Normalizer`](super::Normalizer) are in the end: one line per feature.

/// `y = (x - center) / scale`, or `y = (x - center) * scale + low`, per feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    pub(super) center: Vec<f64>,
    pub(super) scale: Vec<f64>,
    /// Whether the deviation is multiplied by the scale (and `low` added) or divided by it.
    pub(super) multiplies: bool,
    pub(super) low: f64,
    /// The intercepts `low - center * scale`; empty where the scale divides.
    pub(super) intercept: Vec<f64>,
    pub(super) clip: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

impl Linear {
    /// `(x - center) / scale`.
    pub(super) fn dividing(center: Vec<f64>, scale: Vec<f64>) -> Self {
        Self {
            center,
            scale,
            multiplies: false,
            low: 0.0,
            intercept: Vec::new(),
            clip: None,
        }
    }

    /// The same map as `(x - mean) / std`; none if it clips.
    pub(super) fn mean_and_std(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        if self.clip.is_some() {
            return None;
        }
        if !self.multiplies {
            return Some((self.center.clone(), self.scale.clone()));
        }
        let pairs = std::iter::zip(&self.center, &self.scale);
        let mean = pairs.map(|(center, scale)| center - self.low / scale);
        Some((mean.collect(), self.scale.iter().map(|s| 1.0 / s).collect()))
    }

    /// One value, by scikit-learn's own operations in their order.
    pub(super) fn apply(&self, direction: Direction, column: usize, x: f64) -> f64 {
        let (center, scale) = (self.center[column], self.scale[column]);
        match (direction, self.multiplies) {
            (Direction::Forward, multiplies) => {
                let y = match multiplies {
                    true => x * scale + self.intercept[column],
                    false => (x - center) / scale,
                };
                self.clip.map_or(y, |(low, high)| y.clamp(low, high))
            }
            (Direction::Backward, true) => (x - self.intercept[column]) / scale,
            (Direction::Backward, false) => x * scale + center,
        }
    }
}
