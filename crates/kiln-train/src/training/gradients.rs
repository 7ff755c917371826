//! What a training step does with its gradients: clip them, skip a step that is not finite, measure.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Bool, FloatDType, Tensor, TensorReadError};
use kiln_clip::{ClipError, ClipState, Clipped, Clipper, GradHealth, Measured, keep_if_nonfinite};

use super::settings::TrainSettings;

/// Handles the gradients of a run.
#[derive(Debug)]
pub(crate) struct Gradients<M> {
    skip_nonfinite: bool,
    health_every: usize,
    /// Whether anyone wants to know of gradients; if not they go straight to the optimizer.
    watched: bool,
    clipper: Clipper,
    /// The model before the forward pass of this step, if this run skips steps.
    before: Option<M>,
}

/// What is known of the gradients of one step, on the device.
#[derive(Clone, Debug)]
pub(crate) struct StepGradients {
    clipped: Clipped,
    /// Whether the step counts for nothing if its norm is not finite.
    skips: bool,
    /// Steps taken with this one, and the measurement.
    health: Option<(usize, Measured)>,
}

impl<M: Module> Gradients<M> {
    pub(crate) fn new(settings: &TrainSettings, state: ClipState) -> Result<Self, ClipError> {
        let clipper = settings.clip.init()?;
        Ok(Self {
            skip_nonfinite: settings.skip_nonfinite,
            health_every: settings.grad_health,
            watched: settings.watches_gradients(),
            clipper: clipper
                .skip_nonfinite(settings.skip_nonfinite)
                .with_state(state),
            before: None,
        })
    }

    /// What a checkpoint must hold; reads it.
    pub(crate) fn state(&self) -> Result<ClipState, ClipError> {
        self.clipper.state()
    }

    /// Keeps a model as it is before its forward pass, which changes running statistics, if this run skips steps. Of
    /// several passes for one step of the optimizer the first counts.
    pub(crate) fn remember(&mut self, model: &M) {
        if self.skip_nonfinite {
            // A clone holds the same tensors, so nothing is copied.
            self.before.get_or_insert_with(|| model.clone());
        }
    }

    /// Takes step `step` (from 0) with the optimizer, after all that is to be done with the gradients. Nothing is read.
    pub(crate) fn step(
        &mut self,
        step: usize,
        model: M,
        mut grads: GradientsParams,
        optimize: impl FnOnce(M, GradientsParams) -> M,
    ) -> (M, Option<StepGradients>) {
        if !self.watched {
            return (optimize(model, grads), None);
        }
        let due = self.health_every > 0 && step.is_multiple_of(self.health_every);
        let health = due.then(|| (step + 1, GradHealth::measure(&grads, &model)));
        let clipped = self.clipper.clip(&mut grads, &model);
        let mut model = optimize(model, grads);
        if let Some(before) = self.before.take() {
            model = keep_if_nonfinite(&before, model, &clipped.finite);
        }
        let known = StepGradients {
            clipped,
            skips: self.skip_nonfinite,
            health,
        };
        (model, Some(known))
    }
}

impl StepGradients {
    /// `[1]`: whether the step was skipped; none if this run skips none.
    pub(crate) fn skipped(&self) -> Option<Tensor<1, Bool>> {
        self.skips.then(|| self.clipped.finite.clone().bool_not())
    }
}

/// What is known of the gradients of some steps, added up on the device.
#[derive(Clone, Debug, Default)]
pub(crate) struct GradSums {
    /// `[4]`: the norms that are finite, how many there are, skipped steps, items of those.
    sums: Option<Tensor<1>>,
    health: Vec<(usize, Measured)>,
}

/// The same, read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct GradNumbers {
    /// The sum of the norms that are finite.
    pub(crate) norm: f64,
    /// How many there are.
    pub(crate) steps: usize,
    /// Steps skipped.
    pub(crate) skipped: usize,
    /// Items of these.
    pub(crate) skipped_items: usize,
}

impl GradSums {
    pub(crate) fn of(step: StepGradients, items: usize) -> Self {
        let norm = step.clipped.norm.cast(FloatDType::F32);
        let lost = step.clipped.finite.bool_not();
        let skipped = match step.skips {
            true => lost.clone().float(),
            false => norm.zeros_like(),
        };
        let numbers = vec![
            norm.mask_fill(lost.clone(), 0.0),
            lost.bool_not().float(),
            skipped.clone(),
            skipped * items as f32,
        ];
        Self {
            sums: Some(Tensor::cat(numbers, 0)),
            health: step.health.into_iter().collect(),
        }
    }

    /// Both together.
    pub(crate) fn add(mut self, other: Self) -> Self {
        self.health.extend(other.health);
        Self {
            sums: match (self.sums, other.sums) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            },
            health: self.health,
        }
    }

    /// Reads the device.
    pub(crate) fn read(&self) -> Result<GradNumbers, TensorReadError> {
        let Some(sums) = &self.sums else {
            return Ok(GradNumbers::default());
        };
        let sums = sums.clone().try_into_vec_as::<f64>()?;
        Ok(GradNumbers {
            norm: sums[0],
            steps: sums[1] as usize,
            skipped: sums[2] as usize,
            skipped_items: sums[3] as usize,
        })
    }

    /// The measurements, with the steps taken; reads the device.
    pub(crate) fn health(&self) -> Result<Vec<(usize, GradHealth)>, TensorReadError> {
        let read = |(step, measured): (usize, Measured)| match measured.read() {
            Ok(health) => Ok((step, health)),
            Err(ClipError::Read(error)) => Err(error),
            Err(other) => unreachable!("reading fails in one way: {other}"),
        };
        self.health.iter().cloned().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::Int;
    use burn::train::TrainStep;
    use kiln_data::Batch;
    use kiln_zoo::Settings;

    use crate::recipe::TaskName;
    use crate::tasks::loader::Input;
    use crate::tasks::network::Network;
    use crate::tasks::segment::SegmentationLoss;
    use crate::tasks::step::Task;

    /// All numbers of a module: parameters, running statistics, counters.
    fn numbers(module: &impl Module) -> Vec<f64> {
        struct Numbers(Vec<f64>);
        impl ModuleVisitor for Numbers {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.extend(param.val().try_into_vec_as::<f64>().unwrap());
            }

            fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
                let values = param.val().try_into_vec_as::<i64>().unwrap();
                self.0.extend(values.into_iter().map(|value| value as f64));
            }
        }
        let mut numbers = Numbers(Vec::new());
        module.visit(&mut numbers);
        numbers.0
    }

    #[test]
    fn a_skipped_step_changes_nothing_of_a_model_with_running_statistics() {
        for device in kiln_testing::devices() {
            let device = device.autodiff();
            let recipe = crate::Recipe {
                skip_nonfinite: true,
                ..Default::default()
            };
            let training = TrainSettings::of(&recipe, 1);
            let mut gradients = Gradients::new(&training, ClipState::default()).unwrap();
            let settings = Settings {
                input: [1, 8, 8],
                num_classes: 2,
                channels: Some(vec![2, 3]),
                hidden: Some(vec![4]),
                ..Settings::default()
            };
            let model = Network::create(TaskName::Classification, "cnn", &settings, &device);
            let mut task = Task {
                model: model.unwrap(),
                loss: SegmentationLoss::default(),
                classes: 2,
                memory_efficient: false,
            };
            let mut optim = crate::optimizer(&recipe.optimizer);
            let mut seen = vec![numbers(&task)];
            for pixel in [1.0, f32::NAN, 2.0] {
                let images =
                    Tensor::<4>::from_floats([[[[pixel; 8]; 8]], [[[0.5; 8]; 8]]], &device);
                let labels = Tensor::from_ints([0, 1], &device);
                gradients.remember(&task);
                let input = Input::Labels(Batch {
                    images,
                    labels,
                    mixed: None,
                });
                let grads = TrainStep::step(&task, input).grads;
                let lr = ModuleLearningRate::from(0.1);
                (task, _) = gradients.step(0, task, grads, |task, grads| {
                    task.optimize(&mut optim, lr, grads)
                });
                seen.push(numbers(&task));
            }
            assert!(seen.iter().flatten().all(|number| number.is_finite()));
            assert_ne!(seen[0], seen[1], "{device:?}");
            assert_eq!(seen[1], seen[2], "{device:?}");
            assert_ne!(seen[2], seen[3], "{device:?}");
        }
    }
}
