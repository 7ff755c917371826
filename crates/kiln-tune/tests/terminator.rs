//! Studies that end by themselves. That the numbers are Optuna's is tested in `src/terminator/golden.rs`.

use std::sync::Arc;

use kiln_tune::terminator::{
    BaseTerminator, BestValueStagnationEvaluator, CrossValidationErrorEvaluator, EmmrEvaluator,
    ErrorEvaluator, ImprovementEvaluator, MedianErrorEvaluator, NoBetterTerminator,
    RegretBoundEvaluator, StaticErrorEvaluator, TargetTerminator, Terminator,
    report_cross_validation_scores, terminator_callback,
};
use kiln_tune::{
    Budget, Error, GpSampler, Outcome, Study, StudyDirection, Trial, TrialBuilder, TrialState,
};

fn study() -> Study {
    Study::builder()
        .sampler(GpSampler::new(3))
        .create()
        .unwrap()
}

fn parabola(trial: &mut Trial) -> kiln_tune::Result<f64> {
    let x = trial.suggest_float("x", -2.0, 2.0)?;
    let y = trial.suggest_float("y", -2.0, 2.0)?;
    Ok(x * x + y * y)
}

/// Tells a study these values, one trial after the other; `None` fails its trial.
fn told(study: &Study, values: &[Option<f64>]) {
    for value in values {
        let trial = study.ask().unwrap();
        let outcome = value.map_or(Outcome::Fail, Outcome::from);
        study.tell(trial, outcome).unwrap();
    }
}

#[test]
fn optimize_ends_when_less_is_left_to_gain_than_the_values_are_exact() {
    for (terminator, most) in [
        (
            Terminator::new(
                RegretBoundEvaluator::new().seed(0),
                StaticErrorEvaluator::new(0.5),
            ),
            60,
        ),
        (Terminator::stagnation(10), 80),
        (
            {
                let emmr = Arc::new(EmmrEvaluator::new().seed(0).deterministic_objective(true));
                let median = MedianErrorEvaluator::new(emmr.clone()).warm_up_trials(5);
                let median = median.n_initial_trials(10).unwrap();
                Terminator::new(emmr, median.threshold_ratio(0.9).unwrap())
            },
            60,
        ),
    ] {
        let study = study();
        let budget = Budget::trials(100).callback(terminator_callback(terminator));
        study.optimize(parabola, budget).unwrap();
        let n = study.trials().unwrap().len();
        assert!((15..most).contains(&n), "{n}");
    }
}

#[test]
fn cross_validation_scores_are_kept_where_optuna_keeps_them() {
    let study = study();
    let mut trial = study.ask().unwrap();
    for scores in [&[][..], &[1.0], &[1.0, f64::NAN], &[1.0, f64::INFINITY]] {
        let error = report_cross_validation_scores(&mut trial, scores).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    }
    report_cross_validation_scores(&mut trial, &[1.0, 2.0, 4.5]).unwrap();
    study.tell(trial, 2.5).unwrap();
    let stored = study.trials().unwrap()[0].system_attrs["terminator:cv_scores"].to_compact();
    assert_eq!(stored, "[1.0,2.0,4.5]");
}

#[test]
fn a_study_without_scores_says_what_to_do_and_one_with_several_objectives_is_refused() {
    let single = study();
    single.optimize(parabola, 25).unwrap();
    let error = Terminator::default().should_terminate(&single).unwrap_err();
    assert!(
        error.to_string().contains("report_cross_validation_scores"),
        "{error}"
    );
    let two = Study::builder()
        .directions([StudyDirection::Minimize; 2])
        .create()
        .unwrap();
    let error = Terminator::default().should_terminate(&two).unwrap_err();
    assert!(matches!(error, Error::MultiObjective { .. }), "{error}");
}

#[test]
fn without_trials_or_common_parameters_there_is_no_number_and_no_panic() {
    let minimize = StudyDirection::Minimize;
    let regret_bound = RegretBoundEvaluator::new();
    let error = regret_bound.evaluate(&[], minimize).unwrap_err();
    assert!(matches!(error, Error::NoTrials(_)), "{error}");
    let error = CrossValidationErrorEvaluator.evaluate(&[], minimize);
    assert!(matches!(error, Err(Error::NoTrials(_))));
    let error = BestValueStagnationEvaluator::default().evaluate(&[], minimize);
    assert!(matches!(error, Err(Error::NoTrials(_))));
    let study = study();
    told(&study, &[Some(1.0), Some(2.0), Some(3.0)]);
    let trials = study.trials().unwrap();
    let error = regret_bound.evaluate(&trials, minimize).unwrap_err();
    assert!(error.to_string().contains("parameter"), "{error}");
    // The model regret stays unknown, so that the study goes on.
    let unknown = EmmrEvaluator::new().evaluate(&trials, minimize).unwrap();
    assert!(unknown > 1e300);
    assert!(EmmrEvaluator::new().evaluate(&[], minimize).unwrap() > 1e300);
}

#[test]
fn constant_and_infinite_values_and_single_points_give_a_number() {
    for values in [
        [1.0; 6],
        [0.0, 1.0, f64::INFINITY, 3.0, 2.0, f64::NEG_INFINITY],
        [1e300, -1e300, 0.0, 1.0, 2.0, 3.0],
    ] {
        let study = study();
        let mut next = values.iter();
        study
            .optimize(
                |trial: &mut Trial| {
                    trial.suggest_float("x", 0.0, 1.0)?;
                    trial.suggest_int("only", 4, 4)?;
                    Ok::<_, Error>(values[usize::try_from(trial.number()).unwrap()])
                },
                next.by_ref().count() as u64,
            )
            .unwrap();
        let trials = study.trials().unwrap();
        for n in 1..=trials.len() {
            let regret_bound = RegretBoundEvaluator::new().seed(1);
            let bound = regret_bound.evaluate(&trials[..n], StudyDirection::Minimize);
            assert!(bound.unwrap().is_finite(), "{values:?} {n}");
            let emmr = EmmrEvaluator::new().seed(1);
            let regret = emmr.evaluate(&trials[..n], StudyDirection::Minimize);
            assert!(regret.unwrap().is_finite(), "{values:?} {n}");
        }
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    assert!(Terminator::default().min_n_trials(0).is_err());
    assert!(RegretBoundEvaluator::new().top_trials_ratio(1.5).is_err());
    assert!(RegretBoundEvaluator::new().min_n_trials(0).is_err());
    assert!(EmmrEvaluator::new().min_n_trials(1).is_err());
    assert!(EmmrEvaluator::new().delta(0.0).is_err());
    let median = || MedianErrorEvaluator::new(Arc::new(EmmrEvaluator::new()));
    assert!(median().threshold_ratio(f64::NAN).is_err());
    assert!(median().n_initial_trials(0).is_err());
    assert!(NoBetterTerminator::new(0).is_err());
    assert!(TargetTerminator::new([]).is_err());
    assert!(TargetTerminator::new([f64::NAN]).is_err());
}

#[test]
fn a_study_ends_when_so_many_trials_brought_nothing_better() {
    let rule = NoBetterTerminator::new(3).unwrap();
    let ends = |study: &Study| rule.should_terminate(study).unwrap();
    let study = study();
    assert!(!ends(&study));
    // Failed trials say nothing, an equal value is not better.
    told(
        &study,
        &[Some(2.0), None, Some(1.0), Some(1.0), None, Some(3.0)],
    );
    assert!(!ends(&study));
    // A pruned trial is one that brought nothing better.
    let trial = study.ask().unwrap();
    study.tell(trial, Outcome::Pruned).unwrap();
    assert!(ends(&study));
    told(&study, &[Some(0.5)]);
    assert!(!ends(&study));

    // What violates a constraint is not better.
    let mut trial = study.ask().unwrap();
    trial.set_constraint("c", 1.0).unwrap();
    study.tell(trial, 0.0).unwrap();
    told(&study, &[Some(0.5), Some(0.7)]);
    assert!(ends(&study));
}

#[test]
fn a_study_without_a_good_trial_yet_goes_on() {
    let study = study();
    for _ in 0..10 {
        let trial = study.ask().unwrap();
        study.tell(trial, Outcome::Pruned).unwrap();
    }
    let rule = NoBetterTerminator::new(3).unwrap();
    assert!(!rule.should_terminate(&study).unwrap());
}

#[test]
fn with_several_objectives_better_is_what_joins_the_pareto_front() {
    let study = Study::builder()
        .directions([StudyDirection::Minimize, StudyDirection::Maximize])
        .create()
        .unwrap();
    let rule = NoBetterTerminator::new(2).unwrap();
    let ends_after = |values: [f64; 2]| {
        let trial = study.ask().unwrap();
        study.tell(trial, values).unwrap();
        rule.should_terminate(&study).unwrap()
    };
    assert!(!ends_after([1.0, 1.0]));
    assert!(!ends_after([2.0, 0.0]));
    assert!(!ends_after([2.0, 3.0]));
    assert!(!ends_after([0.0, 5.0]));
    assert!(!ends_after([0.0, 5.0]));
    assert!(ends_after([1.0, 1.0]));

    let target = |targets: &[f64]| TargetTerminator::new(targets).unwrap();
    assert!(target(&[0.0, 5.0]).should_terminate(&study).unwrap());
    assert!(!target(&[0.0, 5.5]).should_terminate(&study).unwrap());
    let error = target(&[0.0]).should_terminate(&study).unwrap_err();
    assert!(error.to_string().contains("1 for 2 objectives"), "{error}");
}

#[test]
fn a_study_ends_at_its_target_but_not_by_a_trial_that_violates_a_constraint() {
    let study = Study::builder().maximize().create().unwrap();
    let rule = TargetTerminator::new([0.9]).unwrap();
    let add = |trial: TrialBuilder| study.add_trial(&trial.build().unwrap()).unwrap();
    add(TrialBuilder::new().value(0.8));
    add(TrialBuilder::new().value(0.95).constraint("c", 1.0));
    add(TrialBuilder::new().state(TrialState::Pruned).value(0.99));
    assert!(!rule.should_terminate(&study).unwrap());
    add(TrialBuilder::new().value(0.9).constraint("c", 0.0));
    assert!(rule.should_terminate(&study).unwrap());
}
