//! [`Clipper`]: a setting at work.

use burn::module::{Module, Param, ParamGroup};
use burn::optim::GradientsParams;
use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use crate::grads::{self, Each, Place, walk};
use crate::norm::scale_all;
use crate::{
    AdaptiveGradClip, AutoClip, ClipError, ClipGradNorm, GradClip, NormType,
    clip_grad_norm_per_parameter, clip_grad_value,
};

/// Clips the gradients of step after step as a [`GradClip`] says, and counts the steps it skips.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::{GradientsParams, SgdConfig};
/// use burn::tensor::Tensor;
/// use kiln_clip::GradClip;
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// let mut clipper = "norm:1.0".parse::<GradClip>()?.init()?.skip_nonfinite(true);
/// let (mut model, mut optim) = (LinearConfig::new(2, 1).init(&device), SgdConfig::new().init());
/// for x in [[3.0, 4.0], [f32::NAN, 1.0]] {
///     let loss = model.forward(Tensor::<2>::from_floats([x], &device)).sum();
///     let mut grads = GradientsParams::from_grads(loss.backward(), &model);
///     let clipped = clipper.clip(&mut grads, &model);
///     model = optim.step(0.1, model, grads);
/// #   let _ = clipped.norm;
/// }
/// assert_eq!(clipper.skipped()?, 1);
/// assert!(model.weight.val().try_into_vec_as::<f32>().unwrap().iter().all(|w| w.is_finite()));
/// # Ok::<(), kiln_clip::ClipError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Clipper {
    setting: GradClip,
    skip_nonfinite: bool,
    auto: Option<AutoClip>,
    agc: Option<AdaptiveGradClip>,
    skipped: Skipped,
}

/// Steps that were skipped: of a loaded state, and since, on the device.
#[derive(Clone, Debug, Default)]
struct Skipped {
    before: u64,
    since: Option<Tensor<1>>,
}

/// What [`Clipper::clip`] knows of the gradients it was given. All of it is on the device.
#[derive(Clone, Debug)]
pub struct Clipped {
    /// `[1]`: the global norm before clipping: of the setting's order, else L2.
    pub norm: Tensor<1>,
    /// `[1]`: whether that norm is finite. If not and the clipper skips such steps, all gradients are 0 now.
    pub finite: Tensor<1, Bool>,
}

/// What a [`Clipper`] has gathered: save it with a checkpoint, so that a resumed run clips as one that was never interrupted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipState {
    /// Steps skipped.
    pub skipped: u64,
    /// AutoClip's norms from low to high; empty for other settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<f32>,
}

impl Clipper {
    pub(crate) fn new(setting: GradClip) -> Self {
        Self {
            setting,
            skip_nonfinite: false,
            auto: match setting {
                GradClip::Auto { percentile } => AutoClip::new(percentile).ok(),
                _ => None,
            },
            agc: match setting {
                GradClip::Agc { clipping, eps } => AdaptiveGradClip::new(clipping, eps).ok(),
                _ => None,
            },
            skipped: Skipped::default(),
        }
    }

    /// Whether a step whose norm is NaN or infinite is skipped on the device: all its gradients become 0, and it is
    /// counted. Default: no; then such gradients go through as in PyTorch.
    ///
    /// See [`keep_if_nonfinite`](crate::keep_if_nonfinite) for optimizers with momentum.
    pub fn skip_nonfinite(mut self, skip: bool) -> Self {
        self.skip_nonfinite = skip;
        self
    }

    /// The setting.
    pub fn setting(&self) -> GradClip {
        self.setting
    }

    /// Clips the gradients of one step. Nothing is read back.
    pub fn clip<M: Module>(&mut self, grads: &mut GradientsParams, module: &M) -> Clipped {
        let skip = self.skip_nonfinite;
        let norm = match self.setting {
            GradClip::Norm {
                max_norm,
                norm_type,
            } => ClipGradNorm::new(max_norm)
                .norm_type(norm_type)
                .skip_nonfinite(skip)
                .clip(grads, module)
                .expect("only a check for errors can fail"),
            GradClip::Auto { .. } => match &mut self.auto {
                Some(auto) => auto.clip_or_zero(grads, module, skip),
                None => unreachable!("made with the setting"),
            },
            _ => {
                let norm = crate::total_norm(grads, module, NormType::L2);
                self.clip_by_parts(grads, module);
                if skip {
                    let finite = norm.clone().is_finite().float();
                    let list = scale_all(grads::take(grads, module), &finite, true);
                    grads::give(grads, list);
                }
                norm
            }
        };
        let finite = norm.clone().is_finite();
        if skip {
            let skipped = finite.clone().bool_not().float();
            let before = self.skipped.since.take();
            self.skipped.since = Some(match before {
                Some(before) => before.to_device(&skipped.device()) + skipped,
                None => skipped,
            });
        }
        Clipped { norm, finite }
    }

    fn clip_by_parts<M: Module>(&self, grads: &mut GradientsParams, module: &M) {
        match self.setting {
            GradClip::ParamNorm { max_norm } => {
                clip_grad_norm_per_parameter(grads, module, max_norm, NormType::L2);
            }
            GradClip::Value { clip_value } => clip_grad_value(grads, module, clip_value),
            _ => {
                if let Some(agc) = &self.agc {
                    agc.clip(grads, module);
                }
            }
        }
    }

    /// How many steps were skipped; reads the counter.
    ///
    /// # Errors
    ///
    /// [`ClipError::Read`] if the device fails.
    pub fn skipped(&self) -> Result<u64, ClipError> {
        let since = match &self.skipped.since {
            Some(count) => count
                .clone()
                .try_into_vec_as::<f64>()
                .map_err(ClipError::Read)?[0],
            None => 0.0,
        };
        Ok(self.skipped.before + since as u64)
    }

    /// What a later run needs to go on; reads it from the device.
    ///
    /// # Errors
    ///
    /// [`ClipError::Read`] if the device fails.
    pub fn state(&self) -> Result<ClipState, ClipError> {
        Ok(ClipState {
            skipped: self.skipped()?,
            history: self
                .auto
                .as_ref()
                .map_or(Ok(Vec::new()), AutoClip::history)?,
        })
    }

    /// Goes on from a state.
    pub fn with_state(mut self, state: ClipState) -> Self {
        self.auto = self.auto.map(|auto| auto.with_history(state.history));
        self.skipped = Skipped {
            before: state.skipped,
            since: None,
        };
        self
    }
}

/// Different settings for different parameters, each group with a norm of its own.
///
/// A parameter belongs to the last group that matches it, as in Burn's `ModuleOptimizer::with_group`, or else to the rest.
/// Groups match Burn's paths (`model.head.weight`).
///
/// ```
/// use burn::module::ParamGroup;
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::Tensor;
/// use kiln_clip::{ClipGroups, GradClip};
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// let linear = LinearConfig::new(2, 1).init(&device);
/// let mut clip = ClipGroups::new("norm:1.0".parse()?)?
///     .group(ParamGroup::from_predicate("bias"), GradClip::Value { clip_value: 0.5 })?;
/// let loss = linear.forward(Tensor::<2>::from_floats([[3.0, 4.0]], &device)).sum();
/// let mut grads = GradientsParams::from_grads(loss.backward(), &linear);
/// let norms = clip.clip(&mut grads, &linear);
/// // The weight's norm is 5, the bias's 1.
/// assert_eq!(norms[0].norm.clone().try_into_vec_as::<f32>().unwrap(), [5.0]);
/// let bias = grads.get::<1>(linear.bias.as_ref().unwrap().id).unwrap();
/// assert_eq!(bias.try_into_vec_as::<f32>().unwrap(), [0.5]);
/// # Ok::<(), kiln_clip::ClipError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClipGroups {
    rest: Clipper,
    groups: Vec<(ParamGroup, Clipper)>,
}

impl ClipGroups {
    /// One setting for all.
    ///
    /// # Errors
    ///
    /// [`ClipError::Setting`] for a number out of range.
    pub fn new(rest: GradClip) -> Result<Self, ClipError> {
        Ok(Self {
            rest: rest.init()?,
            groups: Vec::new(),
        })
    }

    /// Another setting for a group.
    ///
    /// # Errors
    ///
    /// [`ClipError::Setting`] for a number out of range.
    pub fn group(mut self, group: ParamGroup, clip: GradClip) -> Result<Self, ClipError> {
        self.groups.push((group, clip.init()?));
        Ok(self)
    }

    /// Whether a group's step is skipped when the group's norm is not finite; see [`Clipper::skip_nonfinite`].
    pub fn skip_nonfinite(mut self, skip: bool) -> Self {
        self.rest.skip_nonfinite = skip;
        for (_, clipper) in &mut self.groups {
            clipper.skip_nonfinite = skip;
        }
        self
    }

    /// Clips each group; what is known of the rest first, then of the groups in their order.
    pub fn clip<M: Module>(&mut self, grads: &mut GradientsParams, module: &M) -> Vec<Clipped> {
        struct Sort<'a> {
            groups: &'a [(ParamGroup, Clipper)],
            from: &'a mut GradientsParams,
            into: &'a mut [GradientsParams],
        }
        impl Each for Sort<'_> {
            fn see<const D: usize>(&mut self, place: &Place<'_>, _: &Param<Tensor<D>>) {
                let Some(grad) = self.from.remove::<D>(place.id) else {
                    return;
                };
                let path = place.path();
                let matches = |(group, _): &(ParamGroup, _)| group.matches(&place.id, Some(&path));
                let group = self.groups.iter().rposition(matches).map_or(0, |i| i + 1);
                self.into[group].register(place.id, grad);
            }
        }
        let mut parts: Vec<GradientsParams> = (0..=self.groups.len())
            .map(|_| GradientsParams::new())
            .collect();
        let sort = Sort {
            groups: &self.groups,
            from: grads,
            into: &mut parts,
        };
        walk(module, true, sort);
        let clippers =
            std::iter::once(&mut self.rest).chain(self.groups.iter_mut().map(|(_, c)| c));
        let mut all = Vec::new();
        for (clipper, mut part) in clippers.zip(parts) {
            all.push(clipper.clip(&mut part, module));
            grads::give(grads, grads::take(&mut part, module));
        }
        all
    }

    /// The states of the rest and of the groups; reads them.
    ///
    /// # Errors
    ///
    /// [`ClipError::Read`] if the device fails.
    pub fn states(&self) -> Result<Vec<ClipState>, ClipError> {
        let clippers = std::iter::once(&self.rest).chain(self.groups.iter().map(|(_, c)| c));
        clippers.map(Clipper::state).collect()
    }

    /// Goes on from states, in the order of [`states`](Self::states); missing ones are empty.
    pub fn with_states(mut self, states: Vec<ClipState>) -> Self {
        let clippers =
            std::iter::once(&mut self.rest).chain(self.groups.iter_mut().map(|(_, c)| c));
        let states = states
            .into_iter()
            .chain(std::iter::repeat_with(ClipState::default));
        for (clipper, state) in clippers.zip(states) {
            *clipper = clipper.clone().with_state(state);
        }
        self
    }
}
