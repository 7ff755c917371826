//! The learning rate over time.

use super::settings::{OptimizerRecipe, ScheduleName, ScheduleRecipe};

/// The learning rate of every step of a run: linear warm-up, then constant, stepped or cosine.
///
/// With `w` warm-up steps of `n` in all, step `t` (from 0) has
///
/// - `lr · (t + 1) / (w + 1)` during the warm-up (`t < w`);
/// - `constant`: `lr`;
/// - `step`: `lr · gamma^floor((t - w) / (step_size · steps per epoch))`;
/// - `cosine`: `eta_min + (lr - eta_min) · (1 + cos(π · (t - w) / (n - w))) / 2`
///   ([SGDR](https://arxiv.org/abs/1608.03983) without restarts).
///
/// Without warm-up these are PyTorch's `StepLR` and `CosineAnnealingLR`, the cosine stepped once a
/// step rather than once an epoch.
///
/// ```
/// use kiln_train::{OptimizerRecipe, Schedule, ScheduleRecipe};
/// let optimizer = OptimizerRecipe { lr: Some(0.1), ..Default::default() };
/// // 100 steps, 10 an epoch.
/// let schedule = Schedule::new(&ScheduleRecipe::default(), &optimizer, 10, 100);
/// assert_eq!(schedule.at(0), 0.1);
/// assert!((schedule.at(50) - 0.05).abs() < 1e-12);
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    name: ScheduleName,
    lr: f64,
    eta_min: f64,
    gamma: f64,
    warmup: usize,
    /// Steps between two drops of `step`.
    step_size: usize,
    total: usize,
}

impl Schedule {
    /// The learning rate of an optimizer in a run of `total` steps, `steps_per_epoch` an epoch.
    pub fn new(
        schedule: &ScheduleRecipe,
        optimizer: &OptimizerRecipe,
        steps_per_epoch: usize,
        total: usize,
    ) -> Self {
        let warmup = schedule.warmup_epochs * steps_per_epoch as f64;
        Self {
            name: schedule.name,
            lr: optimizer.learning_rate(),
            eta_min: schedule.eta_min,
            gamma: schedule.gamma,
            warmup: (warmup.round() as usize).min(total),
            step_size: (schedule.step_size * steps_per_epoch).max(1),
            total,
        }
    }

    /// Steps of the warm-up.
    pub(crate) fn warmup(&self) -> usize {
        self.warmup
    }

    /// The learning rate of step `step`, counted from 0.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let step = step - self.warmup;
        match self.name {
            ScheduleName::Constant => self.lr,
            ScheduleName::Step => self.lr * self.gamma.powf((step / self.step_size) as f64),
            ScheduleName::Cosine => {
                let part = step as f64 / (self.total - self.warmup).max(1) as f64;
                let cosine = (std::f64::consts::PI * part.min(1.0)).cos();
                self.eta_min + (self.lr - self.eta_min) * (1.0 + cosine) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> Schedule {
        let text = format!("[optimizer]\nlr = 0.1\n[schedule]\n{text}");
        let recipe = crate::Recipe::from_toml(&text).unwrap();
        Schedule::new(&recipe.schedule, &recipe.optimizer, 10, 100)
    }

    fn close(schedule: &Schedule, expected: &[(usize, f64)]) {
        for &(step, lr) in expected {
            let got = schedule.at(step);
            assert!((got - lr).abs() < 1e-12, "step {step}: {got} != {lr}");
        }
    }

    #[test]
    fn the_step_schedule_drops_by_gamma_every_step_size_epochs() {
        // torch.optim.lr_scheduler.StepLR(step_size=3, gamma=0.5), 10 steps an epoch.
        let schedule = schedule("name = 'step'\nstep_size = 3\ngamma = 0.5");
        close(
            &schedule,
            &[(0, 0.1), (29, 0.1), (30, 0.05), (60, 0.025), (99, 0.0125)],
        );
    }

    #[test]
    fn the_cosine_ends_at_eta_min() {
        // torch's CosineAnnealingLR(T_max=100, eta_min=0.02) after 25, 50 and 100 steps.
        let schedule = schedule("name = 'cosine'\neta_min = 0.02");
        let quarter = 0.02 + 0.08 * (1.0 + 0.5f64.sqrt()) / 2.0;
        close(
            &schedule,
            &[
                (0, 0.1),
                (25, quarter),
                (50, 0.06),
                (100, 0.02),
                (500, 0.02),
            ],
        );
    }

    #[test]
    fn the_warm_up_rises_linearly_to_the_full_rate() {
        let schedule = schedule("name = 'constant'\nwarmup_epochs = 0.4");
        close(
            &schedule,
            &[(0, 0.02), (1, 0.04), (3, 0.08), (4, 0.1), (99, 0.1)],
        );
    }

    #[test]
    fn a_warm_up_longer_than_the_run_never_divides_by_zero() {
        let schedule = schedule("warmup_epochs = 1000");
        assert!((0..200).all(|step| schedule.at(step).is_finite()));
    }
}
