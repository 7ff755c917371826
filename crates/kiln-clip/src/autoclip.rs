//! AutoClip: the limit is a percentile of the norms seen so far.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Int, Tensor};

use crate::norm::{norm_of, scale_all};
use crate::{ClipError, NormType, grads};

/// AutoClip, [Seetharaman et al. 2020](https://arxiv.org/abs/2007.14469): clips the global L2 norm to a percentile of all
/// norms seen so far, this step's included.
///
/// The history stays on the device, sorted, and a step inserts its norm there: nothing is read back. A norm that is not finite
/// is not kept. The percentile is interpolated linearly, as `numpy.percentile` does. Memory and time of a step grow with the
/// number of steps: 4 bytes each.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::Tensor;
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// let linear = LinearConfig::new(2, 1).with_bias(false).init(&device);
/// let mut clip = kiln_clip::AutoClip::new(50.0)?;
/// let mut length = 0.0;
/// for scale in [1.0, 3.0, 100.0] {
///     let x = Tensor::<2>::from_floats([[0.6, 0.8]], &device) * scale;
///     let mut grads = GradientsParams::from_grads(linear.forward(x).sum().backward(), &linear);
///     clip.clip(&mut grads, &linear);
///     let grad = grads.get::<2>(linear.weight.id).unwrap().square().sum().sqrt();
///     length = grad.try_into_vec_as::<f32>().unwrap()[0];
/// }
/// // The median of 1, 3 and 100.
/// assert!((length - 3.0).abs() < 1e-4);
/// # Ok::<(), kiln_clip::ClipError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AutoClip {
    percentile: f64,
    history: History,
}

/// Norms in order, on the device.
// One lives as long as its run: a box would only be another allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
enum History {
    /// Of a state that was loaded: its device is known at the next step.
    Host(Vec<f32>),
    Device {
        /// The norms from low to high, then infinities up to the capacity.
        sorted: Tensor<1>,
        /// `[1]`: how many are norms.
        len: Tensor<1>,
        /// At most as many.
        steps: usize,
    },
}

/// Room for the first norms; it doubles when it is full.
const CAPACITY: usize = 256;

impl AutoClip {
    /// Clips to this percentile, from 0 to 100; the paper takes 10.
    ///
    /// # Errors
    ///
    /// [`ClipError::Setting`] outside of 0 to 100.
    pub fn new(percentile: f64) -> Result<Self, ClipError> {
        match (0.0..=100.0).contains(&percentile) {
            true => Ok(Self {
                percentile,
                history: History::Host(Vec::new()),
            }),
            false => Err(ClipError::Setting {
                given: format!("auto:{percentile}"),
                problem: "the percentile must be between 0 and 100 inclusive".into(),
            }),
        }
    }

    /// Clips and returns the norm as it was before, `[1]`.
    pub fn clip<M: Module>(&mut self, grads: &mut GradientsParams, module: &M) -> Tensor<1> {
        self.clip_or_zero(grads, module, false)
    }

    /// With `zero`, gradients whose norm is not finite become 0.
    pub(crate) fn clip_or_zero<M: Module>(
        &mut self,
        grads: &mut GradientsParams,
        module: &M,
        zero: bool,
    ) -> Tensor<1> {
        let mut list = grads::take(grads, module);
        let norm = norm_of(&list, NormType::L2);
        if let Some(norm) = &norm {
            let seen = norm.clone().cast(FloatDType::F32);
            let limit = self.observe(seen.clone());
            let nan = seen.clone().is_nan();
            let finite = seen.clone().is_finite();
            let mut factor = (limit / (seen + 1e-6))
                .clamp_max(1.0)
                .mask_fill(nan, f32::NAN);
            if zero {
                factor = factor.mask_fill(finite.bool_not(), 0.0);
            }
            list = scale_all(list, &factor, zero);
        }
        grads::give(grads, list);
        norm.unwrap_or_else(|| Tensor::zeros([1], &grads::device_of(module)))
    }

    /// Adds a norm, `[1]`, and returns the percentile of all, `[1]`; an infinity as long as there is none.
    fn observe(&mut self, norm: Tensor<1>) -> Tensor<1> {
        let device = norm.device();
        let (sorted, len, steps) = match std::mem::replace(&mut self.history, History::Host(vec![]))
        {
            History::Device { sorted, len, steps } => (sorted, len, steps),
            History::Host(norms) => {
                let steps = norms.len();
                let len = Tensor::from_floats([steps as f32], &device);
                let room = CAPACITY.max((steps + 1).next_power_of_two());
                let mut padded = norms;
                padded.resize(room, f32::INFINITY);
                (Tensor::from_floats(padded.as_slice(), &device), len, steps)
            }
        };
        let [mut room] = sorted.dims();
        let mut sorted = sorted;
        if steps == room {
            sorted = Tensor::cat(vec![sorted, infinities(room, &device)], 0);
            room *= 2;
        }
        let finite = norm.clone().is_finite();
        let norm = norm.mask_fill(finite.clone().bool_not(), f32::INFINITY);
        // Each place takes what it has if that is below the new one, then the new one, then its lower neighbour.
        let lower = Tensor::cat(
            vec![
                -infinities(1, &device),
                sorted.clone().narrow(0, 0, room - 1),
            ],
            0,
        );
        let sorted = sorted.min_pair(norm.expand([room])).max_pair(lower);
        let len = len + finite.float();
        let limit = percentile(&sorted, &len, self.percentile / 100.0);
        self.history = History::Device {
            sorted,
            len,
            steps: steps + 1,
        };
        limit
    }

    /// All norms so far from low to high, to continue with [`with_history`](Self::with_history); reads them.
    ///
    /// # Errors
    ///
    /// [`ClipError::Read`] if the device fails.
    pub fn history(&self) -> Result<Vec<f32>, ClipError> {
        match &self.history {
            History::Host(norms) => Ok(norms.clone()),
            History::Device { sorted, .. } => {
                let read = sorted.clone().try_into_vec_as::<f32>();
                let norms = read.map_err(ClipError::Read)?.into_iter();
                Ok(norms.take_while(|norm| norm.is_finite()).collect())
            }
        }
    }

    /// Continues with a history; norms that are not finite are left out.
    pub fn with_history(mut self, mut history: Vec<f32>) -> Self {
        history.retain(|norm| norm.is_finite());
        history.sort_by(f32::total_cmp);
        self.history = History::Host(history);
        self
    }
}

fn infinities(count: usize, device: &Device) -> Tensor<1> {
    Tensor::full([count], f32::INFINITY, device)
}

/// The quantile `q` of the first `len` sorted values.
fn percentile(sorted: &Tensor<1>, len: &Tensor<1>, q: f64) -> Tensor<1> {
    let last = (len.clone() - 1.0).clamp_min(0.0);
    let position = last.clone() * q;
    let low = position.clone().floor();
    let high = (low.clone() + 1.0).min_pair(last);
    let at = |place: Tensor<1>| -> Tensor<1> {
        let place: Tensor<1, Int> = place.int();
        sorted.clone().gather(0, place)
    };
    let (below, above) = (at(low.clone()), at(high));
    let value = below.clone() + (above - below) * (position - low);
    value.mask_fill(len.clone().equal_elem(0.0), f32::INFINITY)
}
