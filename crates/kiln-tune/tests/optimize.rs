//! The optimize loop: budgets, jobs, errors, panics, and samplers that end it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kiln_tune::{Budget, Error, Outcome, RandomSampler, Study, Trial, TrialPruned, TrialState};

fn random_study() -> Study {
    Study::builder()
        .sampler(RandomSampler::new(0))
        .create()
        .unwrap()
}

#[derive(Debug, thiserror::Error)]
#[error("disk full")]
struct DiskFull;

#[derive(Debug, thiserror::Error)]
#[error("training failed")]
struct Wrapped(#[source] Box<dyn std::error::Error + Send + Sync>);

#[test]
fn an_uncaught_error_fails_its_trial_and_ends_the_study_with_it() {
    let study = random_study();
    let error = study
        .optimize(
            |trial| {
                if trial.number() == 2 {
                    Err(Wrapped(Box::new(DiskFull)))
                } else {
                    Ok(1.0)
                }
            },
            10,
        )
        .unwrap_err();
    assert_eq!(error.to_string(), "trial 2 failed: training failed");
    let Error::Objective { number: 2, source } = &error else {
        panic!("{error:?}")
    };
    assert!(source.is::<Wrapped>());
    let trials = study.trials().unwrap();
    assert_eq!(trials.len(), 3);
    assert_eq!(trials[2].state, TrialState::Fail);
    assert_eq!(trials[2].fail_reason(), Some("training failed: disk full"));
}

#[test]
fn a_caught_error_fails_only_its_trial() {
    let study = random_study();
    let objective = |trial: &mut Trial| {
        if trial.number() == 2 {
            Err(Wrapped(Box::new(DiskFull)))
        } else {
            Ok(1.0)
        }
    };
    study
        .optimize(objective, Budget::trials(5).catch::<DiskFull>())
        .unwrap();
    study
        .optimize(
            |_| Err::<f64, _>("no".to_owned()),
            Budget::trials(1).catch_all(),
        )
        .unwrap();
    let states: Vec<TrialState> = study
        .trials()
        .unwrap()
        .iter()
        .map(|trial| trial.state)
        .collect();
    assert_eq!(
        states
            .iter()
            .filter(|state| **state == TrialState::Fail)
            .count(),
        2
    );
    assert_eq!(states.len(), 6);
    let error = study
        .optimize(
            |_| Err::<f64, _>(DiskFull),
            Budget::trials(5).catch::<std::fmt::Error>(),
        )
        .unwrap_err();
    assert!(matches!(error, Error::Objective { .. }));
}

#[test]
fn a_panic_fails_its_trial_only() {
    let study = random_study();
    study
        .optimize(
            |trial| {
                let x = trial.suggest_float("x", 0.0, 1.0)?;
                assert!(trial.number() != 1, "index out of bounds");
                Ok::<_, Error>(x)
            },
            Budget::trials(4).n_jobs(2),
        )
        .unwrap();
    let trials = study.trials().unwrap();
    assert_eq!(trials.len(), 4);
    assert_eq!(trials[1].state, TrialState::Fail);
    assert!(
        trials[1]
            .fail_reason()
            .unwrap()
            .contains("index out of bounds")
    );
}

#[test]
fn pruning_is_found_in_any_error() {
    let study = random_study();
    study.optimize(|_| Err::<f64, _>(TrialPruned), 1).unwrap();
    study
        .optimize(|_| Err::<f64, _>(Error::from(TrialPruned)), 1)
        .unwrap();
    study
        .optimize(
            |_| {
                Err::<f64, _>(Box::<dyn std::error::Error + Send + Sync>::from(
                    TrialPruned,
                ))
            },
            1,
        )
        .unwrap();
    study
        .optimize(|_| Err::<f64, _>(Wrapped(Box::new(TrialPruned))), 1)
        .unwrap();
    study
        .optimize(|_| Ok::<_, Error>(Outcome::Pruned), 1)
        .unwrap();
    assert!(
        study
            .trials()
            .unwrap()
            .iter()
            .all(|trial| trial.state == TrialState::Pruned)
    );
}

#[test]
fn nan_fails_the_trial_and_the_loop_goes_on() {
    let study = random_study();
    study
        .optimize(
            |trial| Ok::<_, Error>(if trial.number() == 0 { f64::NAN } else { 1.0 }),
            3,
        )
        .unwrap();
    let states: Vec<TrialState> = study
        .trials()
        .unwrap()
        .iter()
        .map(|trial| trial.state)
        .collect();
    assert_eq!(
        states,
        [TrialState::Fail, TrialState::Complete, TrialState::Complete]
    );
}

#[test]
fn timeout_stop_and_callbacks_end_the_loop() {
    let study = random_study();
    let start = Instant::now();
    let objective = |_: &mut Trial| {
        std::thread::sleep(Duration::from_millis(5));
        Ok::<_, Error>(1.0)
    };
    study
        .optimize(objective, Duration::from_millis(30))
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(30) && !study.trials().unwrap().is_empty());

    let study = random_study();
    let stopping = study.clone();
    study
        .optimize(
            move |trial| {
                if trial.number() == 3 {
                    stopping.stop()?;
                }
                Ok::<_, Error>(1.0)
            },
            Budget::unlimited(),
        )
        .unwrap();
    assert_eq!(
        study.trials().unwrap().len(),
        4,
        "the trial that stops is finished"
    );
    assert!(
        matches!(study.stop(), Err(Error::InvalidArgument(_))),
        "outside of optimize"
    );

    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let budget = Budget::trials(3).callback(move |_, trial| {
        assert!(trial.state.is_finished());
        seen.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    study.optimize(|_| Ok::<_, Error>(1.0), budget).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    let failing = Budget::trials(9).callback(|_, _| Err(Error::invalid("enough")));
    assert_eq!(
        study
            .optimize(|_| Ok::<_, Error>(1.0), failing)
            .unwrap_err()
            .to_string(),
        "enough"
    );
}

#[test]
fn optimize_cannot_be_nested_in_its_own_study() {
    let study = random_study();
    let inner = study.clone();
    let error = study
        .optimize(
            move |_| {
                inner.optimize(|_| Ok::<_, Error>(1.0), 1)?;
                Ok::<_, Error>(1.0)
            },
            1,
        )
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot be called from an objective"),
        "{error}"
    );
    // Another study may well be optimized inside.
    study
        .optimize(
            |_| {
                let other = random_study();
                other.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), 3)?;
                other.best_value()
            },
            2,
        )
        .unwrap();
}

#[test]
fn several_jobs_share_the_trials() {
    let study = random_study();
    let running = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    let objective = |trial: &mut Trial| {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(3));
        running.fetch_sub(1, Ordering::SeqCst);
        trial.suggest_float("x", 0.0, 1.0)
    };
    study
        .optimize(objective, Budget::trials(40).n_jobs(4))
        .unwrap();
    let trials = study.trials().unwrap();
    assert_eq!(
        trials.iter().map(|trial| trial.number).collect::<Vec<_>>(),
        (0..40).collect::<Vec<_>>()
    );
    assert!(
        trials
            .iter()
            .all(|trial| trial.state == TrialState::Complete)
    );
    assert!((2..=4).contains(&most.load(Ordering::SeqCst)));
}

#[test]
fn the_same_seed_and_one_job_give_the_same_trials() {
    let run = || {
        let study = Study::builder()
            .sampler(kiln_tune::TpeSampler::new().seed(5))
            .create()
            .unwrap();
        study
            .optimize(
                |trial| {
                    let x = trial.suggest_float("x", -1.0, 1.0)?;
                    Ok::<_, Error>(x * x + trial.suggest_int("n", 1, 9)? as f64)
                },
                40,
            )
            .unwrap();
        study
            .trials()
            .unwrap()
            .iter()
            .map(|trial| trial.params.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn brute_force_tries_every_combination_once_and_refuses_changed_ranges() {
    let study = Study::builder()
        .sampler(kiln_tune::BruteForceSampler::new().seed(1))
        .create()
        .unwrap();
    study
        .optimize(
            |trial| {
                let kind = trial.suggest_categorical("kind", &["float", "int"])?;
                if kind == "float" {
                    return trial.suggest_float_step("x", 1.0, 3.0, 0.5);
                }
                let a = trial.suggest_int("a", 1, 3)?;
                let b = trial.suggest_int("b", 0, 1)?;
                Ok::<_, Error>((a + b) as f64)
            },
            100,
        )
        .unwrap();
    let trials = study.trials().unwrap();
    assert_eq!(trials.len(), 5 + 6);
    for (i, trial) in trials.iter().enumerate() {
        assert!(
            trials[..i].iter().all(|other| other.params != trial.params),
            "trial {i} repeats an earlier one"
        );
    }
    let mut trial = study.ask().unwrap();
    let error = trial
        .suggest_categorical("kind", &["float", "int", "more"])
        .unwrap_err();
    assert!(matches!(
        error,
        Error::InvalidArgument(_) | Error::IncompatibleDistribution { .. }
    ));

    let study = Study::builder()
        .sampler(kiln_tune::BruteForceSampler::new())
        .create()
        .unwrap();
    let error = study
        .ask()
        .unwrap()
        .suggest_float("x", 0.0, 1.0)
        .unwrap_err();
    assert!(error.to_string().contains("needs a step"), "{error}");
}

#[test]
fn a_grid_is_tried_once_even_by_several_jobs_and_says_what_it_lacks() {
    let grid = || {
        kiln_tune::GridSampler::new()
            .param("x", [0.0, 0.5, 1.0])
            .param("c", [Some("a"), None])
    };
    let study = Study::builder().sampler(grid()).create().unwrap();
    let objective = |trial: &mut Trial| {
        trial.suggest_categorical("c", &[Some("a"), None])?;
        trial.suggest_float("x", 0.0, 1.0)
    };
    study
        .optimize(objective, Budget::trials(50).n_jobs(3))
        .unwrap();
    let trials = study.trials().unwrap();
    assert!(trials.len() >= 6);
    let mut points: Vec<String> = trials
        .iter()
        .map(|trial| format!("{:?}", trial.params))
        .collect();
    points.sort();
    points.dedup();
    assert_eq!(points.len(), 6, "every point was tried");

    let study = Study::builder().sampler(grid()).create().unwrap();
    let error = study
        .ask()
        .unwrap()
        .suggest_float("unknown", 0.0, 1.0)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no values for parameter \"unknown\""),
        "{error}"
    );
    let study = Study::builder().sampler(grid()).create().unwrap();
    study.enqueue_trial([("x", 0.5)]).unwrap();
    let mut trial = study.ask().unwrap();
    assert_eq!(trial.suggest_float("x", 0.0, 1.0).unwrap(), 0.5);
    assert!(trial.suggest_categorical("c", &[Some("a"), None]).is_err());
}

#[test]
fn partially_fixed_parameters_stay_fixed_and_the_others_vary() {
    let sampler =
        kiln_tune::PartialFixedSampler::new([("x", 0.25)], kiln_tune::TpeSampler::new().seed(0));
    let study = Study::builder().sampler(sampler).create().unwrap();
    study
        .optimize(
            |trial| {
                Ok::<_, Error>(
                    trial.suggest_float("x", 0.0, 1.0)? + trial.suggest_float("y", 0.0, 1.0)?,
                )
            },
            20,
        )
        .unwrap();
    let trials = study.trials().unwrap();
    assert!(
        trials
            .iter()
            .all(|trial| trial.params.internal("x") == Some(0.25))
    );
    assert!(trials[19].params.internal("y") != trials[18].params.internal("y"));
}

#[test]
fn a_trial_that_another_worker_gave_up_does_not_end_the_study() {
    let study = random_study();
    study
        .optimize(
            |trial| {
                if trial.number() == 0 {
                    let storage = trial.study().storage();
                    storage.set_trial_state_values(trial.id(), TrialState::Fail, None)?;
                }
                trial.suggest_float("x", 0.0, 1.0)
            },
            3,
        )
        .unwrap();
    let states: Vec<TrialState> = study
        .trials()
        .unwrap()
        .iter()
        .map(|trial| trial.state)
        .collect();
    assert_eq!(
        states,
        [TrialState::Fail, TrialState::Complete, TrialState::Complete]
    );
}

#[test]
fn brute_force_goes_on_after_a_trial_that_failed_halfway() {
    let study = Study::builder()
        .sampler(kiln_tune::BruteForceSampler::new().seed(3))
        .create()
        .unwrap();
    let objective = |trial: &mut Trial| {
        let a = trial.suggest_int("a", 0, 2)?;
        if trial.number() == 0 {
            return Err(Error::invalid("out of memory"));
        }
        Ok((a + trial.suggest_int("b", 0, 1)?) as f64)
    };
    study
        .optimize(objective, Budget::trials(50).catch_all())
        .unwrap();
    let trials = study.trials().unwrap();
    let mut points: Vec<String> = trials[1..]
        .iter()
        .map(|trial| format!("{:?}", trial.params))
        .collect();
    points.sort();
    points.dedup();
    assert!(points.len() == trials.len() - 1, "no point is tried twice");
    assert!((4..=6).contains(&points.len()), "{} points", points.len());
}
