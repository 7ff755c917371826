//! Parameters that a complete trial has are not evaluated again.

use std::collections::BTreeSet;
use std::sync::Mutex;

use kiln_tune::{
    Budget, Error, Outcome, RandomSampler, Study, StudyDirection, Trial, TrialPruned, TrialState,
};

fn study() -> Study {
    Study::builder()
        .sampler(RandomSampler::new(1))
        .create()
        .unwrap()
}

/// Optimizes over two parameters with six combinations, and returns those that were evaluated, in their order.
fn evaluated(study: &Study, budget: Budget) -> Vec<(i64, String)> {
    let evaluated = Mutex::new(Vec::new());
    let objective = |trial: &mut Trial| {
        let n = trial.suggest_int("n", 1, 3)?;
        let kind = trial.suggest_categorical("kind", &["a".to_owned(), "b".to_owned()])?;
        trial.suggest_float("only", 0.5, 0.5)?;
        trial.skip_duplicate()?;
        evaluated.lock().unwrap().push((n, kind));
        Ok::<_, Error>(n as f64)
    };
    study.optimize(objective, budget).unwrap();
    evaluated.into_inner().unwrap()
}

#[test]
fn a_finite_space_ends_when_each_combination_was_evaluated_once() {
    let study = study();
    let evaluated = evaluated(&study, Budget::unlimited());
    assert_eq!(evaluated.len(), 6);
    let distinct: BTreeSet<_> = evaluated.iter().collect();
    assert_eq!(distinct.len(), 6);
    for trial in study.trials().unwrap().iter() {
        assert_eq!(trial.state, TrialState::Complete);
        let n = trial.params.value("n").unwrap();
        assert_eq!(n.to_string(), trial.value().unwrap().to_string());
        if let Some(earlier) = trial.duplicate_of() {
            let earlier = &study.trials().unwrap()[usize::try_from(earlier).unwrap()];
            assert_eq!(earlier.duplicate_of(), None);
            assert_eq!(earlier.params, trial.params);
        }
    }
}

#[test]
fn duplicates_do_not_count_for_the_number_of_trials() {
    let study = study();
    assert_eq!(evaluated(&study, Budget::trials(4)).len(), 4);
    // Another run goes on where this one ended.
    assert_eq!(evaluated(&study, Budget::trials(4)).len(), 2);
    assert!(study.trials().unwrap().len() > 6);
    let one_more = evaluated(&study, Budget::trials(4));
    assert!(one_more.is_empty());
}

#[test]
fn several_jobs_evaluate_as_many_trials_as_were_asked_for() {
    for seed in 0..20 {
        let study = Study::builder()
            .sampler(RandomSampler::new(seed))
            .create()
            .unwrap();
        let objective = |trial: &mut Trial| {
            let n = trial.suggest_int("n", 1, 14)?;
            trial.skip_duplicate()?;
            Ok::<_, Error>(n as f64)
        };
        study
            .optimize(objective, Budget::trials(10).n_jobs(4))
            .unwrap();
        let trials = study.trials().unwrap();
        let evaluated = trials.iter().filter(|t| t.duplicate_of().is_none());
        assert_eq!(evaluated.count(), 10, "seed {seed}");
    }
}

#[test]
fn jobs_share_what_was_evaluated_and_end_together() {
    let study = study();
    let evaluated = evaluated(&study, Budget::unlimited().n_jobs(4));
    let distinct: BTreeSet<_> = evaluated.iter().collect();
    assert_eq!(distinct.len(), 6);
    // What runs at the same time is no duplicate yet.
    assert!(evaluated.len() < 6 + 4 * 3);
}

#[test]
fn a_space_that_is_not_known_to_be_finite_ends_after_so_many_duplicates_in_a_row() {
    let study = study();
    let objective = |trial: &mut Trial| {
        // Another parameter in one of the branches: the space is conditional.
        if trial.suggest_categorical("deep", &[true, false])? {
            trial.suggest_int("layers", 1, 2)?;
        }
        trial.skip_duplicate()?;
        Ok::<_, Error>(1.0)
    };
    let budget = Budget::unlimited().max_duplicates(30);
    study.optimize(objective, budget).unwrap();
    let trials = study.trials().unwrap();
    let n_evaluated = trials.iter().filter(|t| t.duplicate_of().is_none()).count();
    assert_eq!(n_evaluated, 3);
    let last: Vec<_> = trials.iter().rev().take(30).collect();
    assert!(last.iter().all(|trial| trial.duplicate_of().is_some()));
    assert!(trials[trials.len() - 31].duplicate_of().is_none());
}

#[test]
fn continuous_parameters_have_no_duplicates() {
    let study = study();
    let objective = |trial: &mut Trial| {
        let x = trial.suggest_float("x", 0.0, 1.0)?;
        trial.skip_duplicate()?;
        Ok::<_, Error>(x)
    };
    study.optimize(objective, 20).unwrap();
    let trials = study.trials().unwrap();
    assert_eq!(trials.len(), 20);
    assert!(trials.iter().all(|trial| trial.duplicate_of().is_none()));
}

#[test]
fn a_duplicate_has_all_values_and_the_constraints_of_the_earlier_trial() {
    let study = Study::builder()
        .directions([StudyDirection::Minimize; 2])
        .create()
        .unwrap();
    let objective = |trial: &mut Trial| {
        trial.suggest_int("n", 1, 2)?;
        trial.skip_duplicate()?;
        trial.set_constraint("c", 0.5)?;
        Ok::<_, Error>([3.0, 4.0])
    };
    study.enqueue_trial([("n", 1)]).unwrap();
    study.enqueue_trial([("n", 1)]).unwrap();
    study.optimize(objective, 2).unwrap();
    let trials = study.trials().unwrap();
    assert_eq!(trials[1].duplicate_of(), Some(0));
    assert_eq!(trials[1].values, Some(vec![3.0, 4.0]));
    assert_eq!(trials[1].constraints(), trials[0].constraints());
    assert!(!trials[1].is_feasible());
}

#[test]
fn trials_that_failed_or_were_pruned_are_tried_again() {
    let study = study();
    let objective = |trial: &mut Trial| -> Result<Outcome, Error> {
        trial.suggest_int("n", 1, 1)?;
        trial.skip_duplicate()?;
        match trial.number() {
            0 => Ok(Outcome::Fail),
            1 => Err(TrialPruned.into()),
            _ => Ok(Outcome::from(1.0)),
        }
    };
    study.optimize(objective, 3).unwrap();
    let states: Vec<TrialState> = study.trials().unwrap().iter().map(|t| t.state).collect();
    let expected = [TrialState::Fail, TrialState::Pruned, TrialState::Complete];
    assert_eq!(states, expected);
}

#[test]
fn a_duplicate_can_be_looked_for_with_ask_and_tell() {
    let study = study();
    let ask = || {
        let mut trial = study.ask().unwrap();
        trial.suggest_int("n", 7, 7).unwrap();
        trial
    };
    let first = ask();
    assert!(first.find_duplicate().unwrap().is_none());
    study.tell(first, 2.0).unwrap();
    let second = ask();
    let earlier = second.find_duplicate().unwrap().unwrap();
    assert_eq!((earlier.number, earlier.value()), (0, Some(2.0)));
    let error = second.skip_duplicate().unwrap_err();
    assert!(
        matches!(&error, Error::Duplicate(d) if d.of == 0),
        "{error}"
    );
    // More parameters than the earlier one make it another trial.
    let mut third = ask();
    third.suggest_int("m", 1, 2).unwrap();
    assert!(third.find_duplicate().unwrap().is_none());
}
