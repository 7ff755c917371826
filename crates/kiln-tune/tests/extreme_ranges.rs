//! No range may cost more than its trials, and no sampler may fail on one: integers of 64 bits, the largest and smallest
//! floats, and steps far too small for them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_tune::sampler::ga::crossover::{
    BlxAlphaCrossover, Crossover, SbxCrossover, SpxCrossover, UndxCrossover, VsbxCrossover,
};
use kiln_tune::sampler::ga::mutation::PolynomialMutation;
use kiln_tune::sampler::{
    BruteForceSampler, CmaEsSampler, GpSampler, GridSampler, NsgaIiSampler, NsgaIiiSampler,
    PartialFixedSampler, QmcSampler, QmcType, RestartStrategy,
};
use kiln_tune::{
    Budget, Distribution, Error, FloatDistribution, IntDistribution, ParamValue, RandomSampler,
    Sampler, Study, StudyDirection, Suggest, TpeSampler, Trial, TrialState,
};

fn extremes() -> Vec<(&'static str, Distribution)> {
    let int = |low, high, log, step| IntDistribution::build(low, high, log, step).unwrap();
    let float = |low, high, log, step| FloatDistribution::build(low, high, log, step).unwrap();
    vec![
        ("32 bits", int(0, 4_294_967_295, false, 1).into()),
        ("64 bits", int(i64::MIN, i64::MAX, false, 1).into()),
        ("64 bits, log", int(1, i64::MAX, true, 1).into()),
        (
            "64 bits in steps of 7",
            int(i64::MIN, i64::MAX, false, 7).into(),
        ),
        (
            "64 bits in two steps",
            int(i64::MIN, i64::MAX, false, i64::MAX).into(),
        ),
        (
            "the two largest integers",
            int(i64::MAX - 1, i64::MAX, false, 1).into(),
        ),
        (
            "all but the largest integer",
            int(0, i64::MAX - 1, false, 1).into(),
        ),
        ("odd integers beyond 2^53", int(1, 1 << 60, false, 2).into()),
        ("all floats", float(-f64::MAX, f64::MAX, false, None).into()),
        (
            "nearly all floats",
            float(-1.7e308, 1.7e308, false, None).into(),
        ),
        ("large floats", float(1e308, 1.7e308, false, None).into()),
        (
            "all positive floats, log",
            float(5e-324, f64::MAX, true, None).into(),
        ),
        (
            "0 and the smallest float",
            float(0.0, 5e-324, false, None).into(),
        ),
        (
            "smallest floats, log",
            float(5e-324, 1e-310, true, None).into(),
        ),
        ("small floats", float(-1e-300, 1e-300, false, None).into()),
        ("steps of 1e-20", float(0.0, 1.0, false, Some(1e-20)).into()),
        (
            "steps of the smallest float",
            float(0.0, 1.0, false, Some(5e-324)).into(),
        ),
        (
            "large steps",
            float(-1.7e308, 1.7e308, false, Some(1e308)).into(),
        ),
        (
            "all floats in steps of 1",
            float(-f64::MAX, f64::MAX, false, Some(1.0)).into(),
        ),
        (
            "half steps among floats that are whole",
            float(1.0, 9_007_199_254_740_993.0, false, Some(11.5)).into(),
        ),
        (
            "a step of the largest float",
            float(0.0, f64::MAX, false, Some(f64::MAX)).into(),
        ),
    ]
}

fn nsga(crossover: impl Crossover + 'static) -> Arc<dyn Sampler> {
    let sampler = NsgaIiSampler::new(1).population_size(4).unwrap();
    let sampler = sampler.crossover(crossover).unwrap();
    Arc::new(sampler.mutation(PolynomialMutation::default()))
}

fn samplers() -> Vec<(&'static str, Arc<dyn Sampler>)> {
    let cmaes = || CmaEsSampler::new(1);
    vec![
        ("random", Arc::new(RandomSampler::new(1))),
        ("tpe", Arc::new(TpeSampler::new().seed(1))),
        (
            "univariate tpe",
            Arc::new(TpeSampler::new().seed(1).multivariate(false)),
        ),
        ("gp", Arc::new(GpSampler::new(1).n_startup_trials(4))),
        ("cma-es", Arc::new(cmaes())),
        (
            "separable cma-es",
            Arc::new(cmaes().separable(true).unwrap()),
        ),
        (
            "cma-es with margin",
            Arc::new(cmaes().with_margin(true).unwrap()),
        ),
        (
            "cma-es with restarts",
            Arc::new(cmaes().restart_strategy(RestartStrategy::Bipop(2)).unwrap()),
        ),
        ("nsga-ii, blx-alpha", nsga(BlxAlphaCrossover::default())),
        ("nsga-ii, sbx", nsga(SbxCrossover::default())),
        ("nsga-ii, vsbx", nsga(VsbxCrossover::default())),
        ("nsga-ii, spx", nsga(SpxCrossover::default())),
        ("nsga-ii, undx", nsga(UndxCrossover::default())),
        (
            "nsga-iii",
            Arc::new(NsgaIiiSampler::new(1).population_size(4).unwrap()),
        ),
        ("sobol", Arc::new(QmcSampler::new(1))),
        (
            "scrambled halton",
            Arc::new(QmcSampler::new(1).qmc_type(QmcType::Halton).scramble(true)),
        ),
        (
            "partial fixed",
            Arc::new(PartialFixedSampler::new(
                [("other", ParamValue::Float(0.5))],
                TpeSampler::new().seed(1),
            )),
        ),
    ]
}

/// Suggests a parameter of the distribution and another one, and checks what comes out.
fn objective(trial: &mut Trial, place: &str, distribution: &Distribution) -> Result<f64, Error> {
    let other = trial.suggest_float("other", 0.0, 1.0)?;
    let internal = trial.suggest_internal("x", distribution.clone())?;
    assert!(
        internal.is_finite() && distribution.contains(internal),
        "{place}: {internal:e} is not in {distribution}"
    );
    match (distribution, distribution.to_external(internal)) {
        (Distribution::Int(d), ParamValue::Int(x)) => {
            assert!(d.low() <= x && x <= d.high(), "{place}: {x}");
            let distance = i128::from(x) - i128::from(d.low());
            assert_eq!(distance % i128::from(d.step()), 0, "{place}: {x}");
        }
        (Distribution::Float(_), ParamValue::Float(x)) => assert_eq!(x, internal),
        (_, value) => panic!("{place}: {value:?}"),
    }
    // The objective is as extreme as the parameter.
    Ok(internal * 0.5 + other)
}

/// Two objectives and a constraint with values as extreme as floats are.
fn extreme_values(trial: &mut Trial) -> Result<[f64; 2], Error> {
    let x = trial.suggest_float("x", 0.0, 1.0)?;
    let y = trial.suggest_int("y", 0, 9)?;
    const EXTREMES: [f64; 8] = [
        1.7e308,
        -1.7e308,
        5e-324,
        0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e300,
        1.0,
    ];
    let number = trial.number() as usize;
    trial.set_constraint("c", EXTREMES[number / 2 % 8].min(f64::MAX) * (x - 0.3))?;
    Ok([
        EXTREMES[number % 8] * (x - 0.5),
        EXTREMES[number / 3 % 8] + y as f64,
    ])
}

#[test]
fn extreme_values_of_objectives_and_constraints_stop_no_sampler() {
    for (name, sampler) in samplers() {
        let several = StudyDirection::Minimize;
        let study = Study::builder()
            .directions([several, StudyDirection::Maximize])
            .sampler(sampler.clone())
            .create()
            .unwrap();
        let start = Instant::now();
        if !name.contains("cma-es") {
            study
                .optimize(extreme_values, Budget::trials(24).catch_all())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let study = Study::builder().sampler(sampler).create().unwrap();
        study
            .optimize(
                |trial| extreme_values(trial).map(|values| values[0]),
                Budget::trials(24).catch_all(),
            )
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(start.elapsed() < Duration::from_secs(600), "{name}");
        let found = study.trials_in(&[TrialState::Complete]).unwrap().len();
        assert!(found > 12, "{name}: {found}");
    }
}

/// The most memory this process has had, where the system tells.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|text| text.trim().trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or(0)
        / 1024
}

#[test]
fn no_range_costs_more_than_its_trials_whatever_the_sampler() {
    for (sampler_name, sampler) in samplers() {
        for (range, distribution) in extremes() {
            let place = format!("{sampler_name}, {range}");
            let start = Instant::now();
            let study = Study::builder().sampler(sampler.clone()).create().unwrap();
            let n = if sampler_name == "gp" { 8 } else { 24 };
            study
                .optimize(|trial| objective(trial, &place, &distribution), n)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            let complete = study.trials_in(&[TrialState::Complete]).unwrap().len();
            assert_eq!(complete, n, "{place}");
            let took = start.elapsed();
            assert!(took < Duration::from_secs(600), "{place}: {took:?}");
            let values: BTreeSet<String> = (study.trials().unwrap().iter())
                .filter_map(|trial| trial.params.value("x"))
                .map(|value| value.to_string())
                .collect();
            let few = match range {
                "the two largest integers" | "0 and the smallest float" => 1,
                "64 bits in two steps" | "large steps" => 2,
                "a step of the largest float" => 2,
                _ => 4,
            };
            assert!(values.len() >= few, "{place}: only {values:?}");
        }
    }
    assert!(peak_memory() < 1024, "{} MiB", peak_memory());
}

#[test]
fn exhaustive_searches_never_list_the_values_of_a_range() {
    for (range, distribution) in extremes() {
        let start = Instant::now();
        let study = Study::builder()
            .sampler(BruteForceSampler::new().seed(1))
            .create()
            .unwrap();
        let run = study.optimize(|trial| objective(trial, range, &distribution), 0);
        run.unwrap();
        let suggest = |trial: &mut Trial| {
            let n = trial.suggest_int("n", 1, 2)?;
            let x = trial.suggest_internal("x", distribution.clone())?;
            assert!(distribution.contains(x), "{range}: {x:e}");
            Ok::<_, Error>(n as f64)
        };
        let done = study.optimize(suggest, 30);
        let endless = matches!(&distribution, Distribution::Float(d) if d.step().is_none());
        assert_eq!(done.is_err(), endless, "{range}: {done:?}");
        let mut seen: Vec<String> = (study.trials_in(&[TrialState::Complete]).unwrap().iter())
            .map(|trial| format!("{:?}", trial.params))
            .collect();
        let n = seen.len();
        seen.sort();
        seen.dedup();
        assert!(
            seen.len() == n || n == 30,
            "{range}: values were repeated before the end"
        );
        assert!(start.elapsed() < Duration::from_secs(600), "{range}");
    }
    // 10^19 points, of which the study wants ten.
    let names = ["a", "b", "c", "d"];
    let values = || (0..60_000).map(i64::from);
    let grid = |n: usize| {
        let names = names.into_iter().take(n);
        names.fold(GridSampler::new(), |grid, name| grid.param(name, values()))
    };
    assert!(Study::builder().sampler(grid(4)).create().is_err());
    let study = Study::builder().sampler(grid(2)).create().unwrap();
    let suggest = |trial: &mut Trial| {
        let a = trial.suggest_int("a", 0, 59_999)?;
        let b = trial.suggest_int("b", 0, 59_999)?;
        Ok::<_, Error>((a + b) as f64)
    };
    study.optimize(suggest, 10).unwrap();
    let points: std::collections::HashSet<String> = (study.trials().unwrap().iter())
        .map(|trial| format!("{:?}", trial.params))
        .collect();
    assert_eq!(points.len(), 10);
    assert!(peak_memory() < 1024, "{} MiB", peak_memory());
}
