use std::sync::Mutex;

use super::Sampler;
use crate::context::Context;
use crate::distribution::Distribution;
use crate::error::Result;
use crate::rng::Rng;
use crate::sync::lock;
use crate::transform::BoxTransform;
use crate::trial::FrozenTrial;

/// Samples every parameter independently and uniformly (in its log or steps).
///
/// ```
/// use kiln_tune::{RandomSampler, Study};
///
/// let study = Study::builder().sampler(RandomSampler::new(42)).create()?;
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug)]
pub struct RandomSampler {
    rng: Mutex<Rng>,
}

impl RandomSampler {
    /// A sampler with a seed; `None` seeds from the operating system.
    #[must_use]
    pub fn new(seed: impl Into<Option<u64>>) -> Self {
        Self {
            rng: Mutex::new(Rng::new(seed.into())),
        }
    }

    /// Draws the internal value of one parameter.
    pub fn sample(&self, distribution: &Distribution) -> f64 {
        let transform = BoxTransform::single(distribution);
        let mut rng = lock(&self.rng);
        let point: Vec<f64> = transform
            .bounds()
            .iter()
            .map(|[low, high]| rng.uniform_in(*low, *high))
            .collect();
        transform.untransform(&point)[0]
    }
}

impl Sampler for RandomSampler {
    fn sample_independent(
        &self,
        _study: &Context,
        _trial: &FrozenTrial,
        _name: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        Ok(self.sample(distribution))
    }

    fn reseed(&self) {
        lock(&self.rng).reseed();
    }
}
