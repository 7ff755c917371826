//! Pruning by the reports of several objectives.

use kiln_tune::storage::retry_stale_trial;
use kiln_tune::{
    Error, HyperbandPruner, MedianPruner, NopPruner, Outcome, PercentilePruner, Pruner,
    RandomSampler, Study, StudyDirection, SuccessiveHalvingPruner, ThresholdPruner, Trial,
    TrialPruned, TrialState,
};

fn study(pruner: impl Pruner + 'static) -> Study {
    // The name decides the brackets of Hyperband.
    Study::builder()
        .name("several")
        .directions([StudyDirection::Minimize, StudyDirection::Maximize])
        .sampler(RandomSampler::new(1))
        .pruner(pruner)
        .create()
        .unwrap()
}

/// Runs a trial that reports these values from step 1 on; returns whether it was pruned.
fn run(study: &Study, reports: &[[f64; 2]]) -> bool {
    let mut trial = study.ask().unwrap();
    for (values, step) in reports.iter().zip(1..) {
        trial.report_multi(values, step).unwrap();
        if trial.should_prune().unwrap() {
            study.tell(trial, Outcome::Pruned).unwrap();
            return true;
        }
    }
    study.tell(trial, *reports.last().unwrap()).unwrap();
    false
}

#[test]
fn reports_are_kept_as_a_list_per_step_and_read_back() {
    let study = study(NopPruner);
    let mut trial = study.ask().unwrap();
    for step in [0, 2, 10] {
        trial.report_multi(&[f64::from(step), 0.5], step).unwrap();
    }
    trial.report_multi(&[f64::NAN, f64::INFINITY], 3).unwrap();
    // A second report of a step is ignored.
    trial.report_multi(&[9.0, 9.0], 2).unwrap();
    assert!(!trial.should_prune().unwrap());
    study.tell(trial, [1.0, 1.0]).unwrap();
    let trial = &study.trials().unwrap()[0];
    assert!(trial.intermediate_values.is_empty());
    assert_eq!(
        trial.system_attrs["kiln:report:2"].to_compact(),
        "[2.0,0.5]"
    );
    assert_eq!(
        trial.system_attrs["kiln:report:3"].to_compact(),
        "[null,Infinity]"
    );
    let reported = trial.reported_values();
    let steps: Vec<i64> = reported.keys().copied().collect();
    assert_eq!(steps, [0, 2, 3, 10]);
    assert_eq!(reported[&10], [10.0, 0.5]);
    assert!(reported[&3][0].is_nan());
    assert_eq!(trial.last_step(), Some(10));
}

#[test]
fn a_report_of_one_objective_is_an_intermediate_value() {
    let study = Study::builder().create().unwrap();
    let mut trial = study.ask().unwrap();
    trial.report_multi(&[0.5], 3).unwrap();
    study.tell(trial, 1.0).unwrap();
    let trial = &study.trials().unwrap()[0];
    assert_eq!(trial.intermediate_values[&3], 0.5);
    assert_eq!(trial.reported_values()[&3], [0.5]);
    assert!(trial.system_attrs.is_empty());
}

#[test]
fn reports_that_make_no_sense_are_refused() {
    let study = study(MedianPruner::new());
    let mut trial = study.ask().unwrap();
    for (values, step) in [(&[1.0][..], 1), (&[1.0, 2.0, 3.0], 1), (&[1.0, 2.0], -1)] {
        let error = trial.report_multi(values, step).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument(_)), "{error}");
    }
    let error = trial.report(1.0, 1).unwrap_err();
    assert!(error.to_string().contains("report_multi"), "{error}");
    let error = trial.should_prune().unwrap_err();
    assert!(error.to_string().contains("report_multi first"), "{error}");
}

#[test]
fn a_pruner_of_one_objective_says_which_ones_judge_several() {
    let study = study(ThresholdPruner::new().upper(1.0));
    let mut trial = study.ask().unwrap();
    trial.report_multi(&[1.0, 2.0], 0).unwrap();
    let error = trial.should_prune().unwrap_err();
    assert!(matches!(error, Error::MultiObjective { .. }));
    assert!(
        error.to_string().contains("SuccessiveHalvingPruner"),
        "{error}"
    );
}

#[test]
fn a_pruned_trial_has_its_last_report_as_its_values() {
    let study = study(NopPruner);
    for (last, expected) in [([2.0, 3.0], Some(vec![2.0, 3.0])), ([f64::NAN, 3.0], None)] {
        let mut trial = study.ask().unwrap();
        trial.report_multi(&[0.0, 0.0], 9).unwrap();
        trial.report_multi(&last, 10).unwrap();
        study.tell(trial, Outcome::Pruned).unwrap();
        let trials = study.trials().unwrap();
        let trial = trials.last().unwrap();
        assert_eq!(
            (trial.state, &trial.values),
            (TrialState::Pruned, &expected)
        );
    }
    // It is on no front.
    assert!(study.best_trials().unwrap().is_empty());
}

#[test]
fn the_median_pruner_keeps_what_is_among_the_better_half_by_rank() {
    let study = study(MedianPruner::new().n_startup_trials(4));
    // A front of two, and two that are dominated.
    for values in [[1.0, 0.5], [2.0, 0.9], [3.0, 0.4], [4.0, 0.3]] {
        assert!(!run(&study, &[values, values]));
    }
    // Five reports, of which three go on.
    assert!(!run(&study, &[[0.5, 0.1], [0.5, 0.2]]), "on the front");
    assert!(run(&study, &[[5.0, 0.2], [0.0, 1.0]]), "dominated by all");
    assert!(!run(&study, &[[1.0, 0.5], [2.0, 0.9]]), "equal to the best");
    assert!(run(&study, &[[f64::NAN, 0.9]]), "NaN");
}

#[test]
fn pruning_begins_after_startup_trials_and_warm_up() {
    let pruner = PercentilePruner::new(10.0).n_startup_trials(3);
    let study = study(pruner.n_warmup_steps(2));
    for _ in 0..3 {
        assert!(!run(&study, &[[1.0, 1.0]; 3]));
    }
    let mut trial = study.ask().unwrap();
    let mut pruned = Vec::new();
    for step in 1..=3 {
        trial.report_multi(&[2.0, 0.0], step).unwrap();
        pruned.push(trial.should_prune().unwrap());
    }
    assert_eq!(pruned, [false, true, true]);
}

#[test]
fn successive_halving_promotes_the_best_share_of_a_rung() {
    let study = study(
        SuccessiveHalvingPruner::new()
            .min_resource(1)
            .reduction_factor(2),
    );
    assert!(!run(&study, &[[1.0, 0.5]]), "the first is the best so far");
    // Of two one goes on: none dominates the other, and the second spans more.
    assert!(!run(&study, &[[0.5, 0.8]]));
    assert!(run(&study, &[[0.6, 0.7]]), "of three one goes on");
    // Of four two go on: the front is the second and this one.
    assert!(!run(&study, &[[0.4, 0.6]]));
    let trials = study.trials().unwrap();
    assert_eq!(
        trials[2].system_attrs["completed_rung_0"].to_compact(),
        "[0.6,0.7]"
    );
    // Later rungs count for themselves, and NaN does not reach one.
    assert!(!run(&study, &[[0.3, 0.9], [0.3, 0.9]]));
    assert!(run(&study, &[[f64::NAN, 0.9]]));
    let last = &study.trials().unwrap()[5];
    assert!(!last.system_attrs.contains_key("completed_rung_0"));
}

/// Error and cost of a made-up training: small is better in the first, large in the second.
fn training(trial: &mut Trial) -> Result<[f64; 2], Error> {
    let width = trial.suggest_float("width", 0.0, 1.0)?;
    let skill = trial.suggest_float("skill", 0.0, 1.0)?;
    let mut values = [0.0; 2];
    for epoch in 1..=27 {
        let speed = 1.0 - width;
        values = [1.0 - width * skill * f64::from(epoch) / 27.0, speed * skill];
        trial.report_multi(&values, epoch)?;
        if trial.should_prune()? {
            return Err(TrialPruned.into());
        }
    }
    Ok(values)
}

#[test]
fn each_pruner_runs_few_of_the_epochs_and_keeps_most_of_the_front() {
    let epochs = |study: &Study| -> usize {
        let trials = study.trials().unwrap();
        trials.iter().map(|t| t.reported_values().len()).sum()
    };
    let volume = |study: &Study| {
        let front = study.best_trials().unwrap();
        let losses: Vec<Vec<f64>> = front
            .iter()
            .map(|trial| {
                vec![
                    trial.values.as_ref().unwrap()[0],
                    -trial.values.as_ref().unwrap()[1],
                ]
            })
            .collect();
        kiln_tune::multi_objective::hypervolume(&losses, &[1.0, 0.0]).unwrap()
    };
    let all = study(NopPruner);
    all.optimize(training, 200).unwrap();
    let asha = SuccessiveHalvingPruner::new().min_resource(1);
    // The largest share of the epochs that are run, and the least of the hypervolume that is kept.
    let pruners: [(&str, Box<dyn Pruner>, f64, f64); 4] = [
        ("asha", Box::new(asha.reduction_factor(3)), 0.15, 0.6),
        (
            "hyperband",
            Box::new(HyperbandPruner::new().max_resource(27)),
            0.3,
            0.7,
        ),
        ("median", Box::new(MedianPruner::new()), 0.3, 0.95),
        (
            "percentile",
            Box::new(PercentilePruner::new(25.0)),
            0.15,
            0.85,
        ),
    ];
    for (name, pruner, most, least) in pruners {
        let pruned = study(pruner);
        pruned.optimize(training, 200).unwrap();
        let share = epochs(&pruned) as f64 / epochs(&all) as f64;
        assert!(share < most, "{name} ran {share} of the epochs");
        let kept = volume(&pruned) / volume(&all);
        assert!(kept > least, "{name} kept {kept} of the hypervolume");
    }
}

#[test]
fn one_number_of_a_damaged_report_is_no_report_of_two_objectives() {
    let study = study(MedianPruner::new().n_startup_trials(1));
    for stored in ["kiln:report:1", "kiln:report:x", "completed_rung_0"] {
        let trial = study.ask().unwrap();
        let storage = study.storage();
        storage
            .set_trial_system_attr(trial.id(), stored, &"high".into())
            .unwrap();
        study.tell(trial, [1.0, 1.0]).unwrap();
    }
    assert!(!run(&study, &[[2.0, 0.5]]));
    assert!(study.trials().unwrap()[0].reported_values().is_empty());
}

#[test]
fn a_percentile_of_a_hundred_reports_keeps_exactly_that_many() {
    let study = study(PercentilePruner::new(7.0).n_startup_trials(99));
    let report = |rank: f64| [[rank, 1.0 - rank / 100.0]];
    for rank in 1..=99 {
        assert!(!run(&study, &report(f64::from(rank))));
    }
    assert!(run(&study, &report(7.5)), "the eighth of a hundred");
    assert!(!run(&study, &report(6.5)), "the seventh of a hundred");
}

#[test]
fn a_retried_trial_has_the_reports_of_the_dead_one_only_if_they_are_inherited() {
    for inherit in [false, true] {
        let study = study(NopPruner);
        let mut trial = study.ask().unwrap();
        trial.report_multi(&[1.0, 0.0], 1).unwrap();
        trial.set_user_attr("who", 7).unwrap();
        let dead = study.tell(trial, Outcome::Fail).unwrap();
        retry_stale_trial(None, inherit)(study.context(), &dead).unwrap();
        let trials = study.trials().unwrap();
        let [_, retried] = &trials[..] else {
            panic!("{} trials", trials.len())
        };
        assert_eq!(retried.state, TrialState::Waiting);
        assert!(retried.user_attrs.contains_key("who"));
        let reports = retried.reported_values();
        assert_eq!(reports.len(), usize::from(inherit), "{reports:?}");
    }
}
