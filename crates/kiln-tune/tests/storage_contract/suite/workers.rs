use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_tune::{Budget, Json, Storage, Study, Trial, TrialBuilder, TrialState};

use super::{Place, float};

pub fn what_one_handle_writes_another_reads(place: &Place) {
    let (one, two, study) = (place.storage(), place.again(), place.study());
    let trial = one.create_new_trial(study, None).unwrap().id;
    assert_eq!(two.get_trial(trial).unwrap().state, TrialState::Running);
    two.set_trial_param(trial, &"x".into(), 0.5, &float(0.0, 1.0))
        .unwrap();
    assert_eq!(
        one.get_trial(trial).unwrap().params.internal("x"),
        Some(0.5)
    );
    one.set_trial_intermediate_value(trial, 0, 1.0).unwrap();
    two.set_trial_user_attr(trial, "k", &Json::Int(1)).unwrap();
    one.set_trial_state_values(trial, TrialState::Complete, Some(&[1.0]))
        .unwrap();
    let (a, b) = (one.get_trial(trial).unwrap(), two.get_trial(trial).unwrap());
    assert_eq!(a, b);
    assert_eq!((a.intermediate_values.len(), a.user_attrs.len()), (1, 1));
    assert_eq!(one.create_new_trial(study, None).unwrap().number, 1);
    assert_eq!(two.create_new_trial(study, None).unwrap().number, 2);
}

pub fn a_waiting_trial_starts_only_once(place: &Place) {
    let study = place.study();
    let template = TrialBuilder::new()
        .state(TrialState::Waiting)
        .build()
        .unwrap();
    let ids: Vec<_> = (0..8)
        .map(|_| {
            place
                .storage()
                .create_new_trial(study, Some(&template))
                .unwrap()
                .id
        })
        .collect();
    let handles: Vec<Arc<dyn Storage>> = (0..4).map(|_| place.again()).collect();
    let started: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = handles
            .iter()
            .map(|handle| {
                scope.spawn(|| {
                    ids.iter()
                        .filter(|id| {
                            handle
                                .set_trial_state_values(**id, TrialState::Running, None)
                                .unwrap()
                        })
                        .copied()
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    assert_eq!(
        started.len(),
        ids.len(),
        "each trial starts exactly once: {started:?}"
    );
    assert_eq!(started.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

pub fn threads_never_share_a_number(place: &Place) {
    let study = place.study();
    let handles = [place.shared(), place.shared(), place.again(), place.again()];
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = handles
            .iter()
            .map(|handle| {
                scope.spawn(|| {
                    (0..10)
                        .map(|_| handle.create_new_trial(study, None).unwrap().number)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
}

pub fn a_study_runs_on_it_from_two_handles(place: &Place) {
    let name = place.name("run");
    let objective = |trial: &mut Trial| -> kiln_tune::Result<f64> {
        let x = trial.suggest_float("x", -1.0, 1.0)?;
        trial.report(x, 0)?;
        Ok(x * x)
    };
    let open = |storage: Arc<dyn Storage>| {
        Study::builder()
            .name(&name)
            .shared_storage(storage)
            .load_if_exists(true)
            .create()
            .unwrap()
    };
    let studies = [open(place.shared()), open(place.again())];
    std::thread::scope(|scope| {
        for study in &studies {
            scope.spawn(move || {
                study
                    .optimize(objective, Budget::trials(8).n_jobs(2))
                    .unwrap()
            });
        }
    });
    let trials = studies[0].trials().unwrap();
    assert_eq!(trials, studies[1].trials().unwrap());
    let numbers: Vec<u64> = trials.iter().map(|trial| trial.number).collect();
    assert_eq!(numbers, (0..16).collect::<Vec<_>>());
    assert!(
        trials.iter().all(
            |trial| trial.state == TrialState::Complete && trial.intermediate_values.len() == 1
        )
    );
    let best = trials
        .iter()
        .filter_map(|trial| trial.value())
        .fold(f64::INFINITY, f64::min);
    assert_eq!(studies[1].best_value().unwrap(), best);
}
