//! A sampler of one's own, simulated annealing: `cargo run --release -p kiln-tune --example simulated_annealing`.

use std::sync::Mutex;

use kiln_tune::rng::Rng;
use kiln_tune::sampler::RelativeSample;
use kiln_tune::search_space::IntersectionSearchSpace;
use kiln_tune::{
    Context, Distribution, FrozenTrial, ParamSpace, RandomSampler, Result, Sampler, Study,
    TrialState,
};

/// Walks from the current point to a neighbour; a worse one is accepted with a probability that falls as it cools.
struct SimulatedAnnealing {
    random: RandomSampler,
    space: IntersectionSearchSpace,
    state: Mutex<(Rng, f64, Option<FrozenTrial>)>,
}

impl Sampler for SimulatedAnnealing {
    fn infer_relative_search_space(
        &self,
        context: &Context,
        _: &FrozenTrial,
    ) -> Result<ParamSpace> {
        self.space.calculate(context)
    }

    fn sample_relative(
        &self,
        _: &Context,
        _: &FrozenTrial,
        space: &ParamSpace,
    ) -> Result<RelativeSample> {
        let state = &mut *self.state.lock().expect("no panic while sampling");
        let (rng, temperature, Some(current)) = (&mut state.0, state.1, &state.2) else {
            return Ok(Vec::new());
        };
        let neighbour = space.iter().filter_map(|(name, distribution)| {
            let Distribution::Float(range) = &**distribution else {
                return None;
            };
            let width = (range.high() - range.low()) * temperature.max(0.01);
            let x = current.params.internal(name)? + width * (rng.uniform() - 0.5);
            Some((name.clone(), x.clamp(range.low(), range.high())))
        });
        Ok(neighbour.collect())
    }

    fn sample_independent(
        &self,
        _: &Context,
        _: &FrozenTrial,
        _: &str,
        distribution: &Distribution,
    ) -> Result<f64> {
        Ok(self.random.sample(distribution))
    }

    fn after_trial(
        &self,
        context: &Context,
        trial: &FrozenTrial,
        _: TrialState,
        values: Option<&[f64]>,
    ) -> Result<()> {
        let (rng, temperature, current) = &mut *self.state.lock().expect("no panic while sampling");
        let Some(&[value]) = values else {
            return Ok(());
        };
        let rise = context.direction().loss(value)
            - context.direction().loss(
                current
                    .as_ref()
                    .map_or(value, |c| c.values.as_ref().unwrap()[0]),
            );
        if current.is_none() || rng.uniform() < (-rise / *temperature).exp() {
            *current = Some(FrozenTrial {
                values: Some(vec![value]),
                ..trial.clone()
            });
        }
        *temperature *= 0.98;
        Ok(())
    }
}

fn main() -> Result<()> {
    let state = Mutex::new((Rng::new(Some(1)), 1.0, None));
    let annealing = SimulatedAnnealing {
        random: RandomSampler::new(0),
        space: IntersectionSearchSpace::new(false),
        state,
    };
    let study = Study::builder().sampler(annealing).create()?;
    study.optimize(
        |trial| {
            let (x, y) = (
                trial.suggest_float("x", -5.0, 5.0)?,
                trial.suggest_float("y", -5.0, 5.0)?,
            );
            Ok::<_, kiln_tune::Error>((x - 1.0).powi(2) + (y + 2.0).powi(2))
        },
        300,
    )?;
    println!("best value {:.5}", study.best_value()?);
    Ok(())
}
