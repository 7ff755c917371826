//! What every sampler has to bear: the same studies are run with all of them.

use std::sync::Arc;

use kiln_tune::sampler::{
    CmaEsSampler, GpSampler, NsgaIiSampler, NsgaIiiSampler, QmcSampler, QmcType, RestartStrategy,
};
use kiln_tune::{
    Budget, Error, InMemoryStorage, Sampler, Study, StudyDirection, Trial, TrialState,
};

type Maker = fn(u64) -> Arc<dyn Sampler>;

/// The samplers of one and of several objectives.
fn samplers() -> Vec<(&'static str, Maker)> {
    vec![
        ("cma-es", |seed| Arc::new(CmaEsSampler::new(seed))),
        ("separable cma-es", |seed| {
            Arc::new(CmaEsSampler::new(seed).separable(true).unwrap())
        }),
        ("cma-es with margin", |seed| {
            Arc::new(CmaEsSampler::new(seed).with_margin(true).unwrap())
        }),
        ("cma-es with learning rate adaptation", |seed| {
            Arc::new(
                CmaEsSampler::new(seed)
                    .learning_rate_adaptation(true)
                    .unwrap(),
            )
        }),
        ("cma-es with restarts", |seed| {
            let strategy = RestartStrategy::Bipop(2);
            Arc::new(CmaEsSampler::new(seed).restart_strategy(strategy).unwrap())
        }),
        ("gp", |seed| Arc::new(GpSampler::new(seed))),
        ("nsga-ii", |seed| {
            Arc::new(NsgaIiSampler::new(seed).population_size(6).unwrap())
        }),
        ("nsga-iii", |seed| {
            Arc::new(NsgaIiiSampler::new(seed).population_size(6).unwrap())
        }),
        ("qmc", |seed| Arc::new(QmcSampler::new(seed))),
        ("scrambled halton", |seed| {
            Arc::new(
                QmcSampler::new(seed)
                    .qmc_type(QmcType::Halton)
                    .scramble(true),
            )
        }),
    ]
}

fn study(sampler: Arc<dyn Sampler>) -> Study {
    Study::builder().sampler(sampler).create().unwrap()
}

/// Every kind of parameter, a single-valued one and a condition.
fn everything(trial: &mut Trial) -> Result<f64, Error> {
    let x = trial.suggest_float("x", -1.0, 3.0)?;
    let lr = trial.suggest_float_log("lr", 1e-5, 1.0)?;
    let step = trial.suggest_float_step("step", 0.0, 1.0, 0.25)?;
    let depth = trial.suggest_int("depth", 1, 9)?;
    let units = trial.suggest_int_log("units", 1, 300)?;
    let odd = trial.suggest_int_step("odd", 1, 99, 2)?;
    let only = trial.suggest_float("only", 2.0, 2.0)?;
    assert!((-1.0..=3.0).contains(&x) && (1e-5..=1.0).contains(&lr) && only == 2.0);
    assert!((step * 4.0).fract() == 0.0 && (1..=9).contains(&depth) && odd % 2 == 1);
    assert!((1..=300).contains(&units) && (1..=99).contains(&odd));
    let mut value = x * x + (lr.ln() + 5.0).abs() + step + (depth - 4).abs() as f64;
    if trial.suggest_categorical("kind", &["a", "b", "c"])? == "b" {
        value -= trial.suggest_float("extra", 0.0, 1.0)?;
    }
    Ok(value)
}

#[test]
fn every_kind_of_parameter_stays_in_its_range() {
    for (name, make) in samplers() {
        let study = study(make(1));
        study
            .optimize(everything, 30)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            study.trials_in(&[TrialState::Complete]).unwrap().len(),
            30,
            "{name}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_trials() {
    for (name, make) in samplers() {
        let params = |seed| {
            let study = study(make(seed));
            study.optimize(everything, 16).unwrap();
            study
                .trials()
                .unwrap()
                .iter()
                .map(|t| t.params.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(params(5), params(5), "{name}");
        assert_ne!(params(5), params(6), "{name}");
    }
}

#[test]
fn no_parameter_at_all_is_fine() {
    for (name, make) in samplers() {
        let study = study(make(1));
        let empty = |_: &mut Trial| Ok::<_, Error>(1.0);
        study
            .optimize(empty, 14)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let single = |t: &mut Trial| t.suggest_int("i", 3, 3).map(|i| i as f64);
        study
            .optimize(single, 3)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn failed_pruned_and_infinite_trials_do_no_harm() {
    for (name, make) in samplers() {
        let study = study(make(3));
        let objective = |trial: &mut Trial| {
            let x = trial.suggest_float("x", -1.0, 1.0)?;
            let y = trial.suggest_int("y", 0, 40)?;
            match trial.number() % 7 {
                0 => return Err(Error::invalid("failed on purpose")),
                1 => {
                    trial.report(f64::NAN, 1)?;
                    return Err(kiln_tune::TrialPruned)?;
                }
                2 => return Ok(f64::INFINITY),
                3 => return Ok(f64::NEG_INFINITY),
                4 => return Ok(f64::NAN),
                _ => {}
            }
            Ok(x * x + y as f64)
        };
        let budget = Budget::trials(60).catch_all();
        study
            .optimize(objective, budget)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(study.trials().unwrap().len(), 60, "{name}");
    }
}

#[test]
fn equal_values_and_huge_values_do_no_harm() {
    for (name, make) in samplers() {
        for scale in [0.0, 1e300] {
            let study = study(make(4));
            study
                .optimize(
                    |trial| {
                        let x = trial.suggest_float("x", -1.0, 1.0)?;
                        let y = trial.suggest_float("y", -1e9, 1e9)?;
                        Ok::<_, Error>(scale * (x + y * 1e-9))
                    },
                    40,
                )
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

#[test]
fn a_study_is_resumed_by_a_new_sampler() {
    for (name, make) in samplers() {
        let storage: Arc<dyn kiln_tune::Storage> = Arc::new(InMemoryStorage::new());
        for part in 0..3 {
            let study = Study::builder()
                .name("resumed")
                .shared_storage(storage.clone())
                .load_if_exists(true)
                .sampler(make(part))
                .create()
                .unwrap();
            study
                .optimize(everything, 12)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(
                study.trials().unwrap().len() as u64,
                12 * (part + 1),
                "{name}"
            );
        }
    }
}

#[test]
fn four_jobs_finish_every_trial() {
    for (name, make) in samplers() {
        let study = study(make(2));
        let budget = Budget::trials(40).n_jobs(4);
        study
            .optimize(everything, budget)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let numbers: Vec<u64> = study.trials().unwrap().iter().map(|t| t.number).collect();
        assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn enqueued_parameters_come_first() {
    for (name, make) in samplers() {
        let study = study(make(2));
        study.optimize(everything, 13).unwrap();
        study.enqueue_trial([("x", 0.125)]).unwrap();
        study
            .optimize(everything, 1)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let last = study.trials().unwrap().pop().unwrap();
        assert_eq!(last.params.internal("x"), Some(0.125), "{name}");
    }
}

#[test]
fn a_changed_search_space_is_survived() {
    for (name, make) in samplers() {
        let study = study(make(2));
        study
            .optimize(|t| t.suggest_float("x", 0.0, 1.0), 14)
            .unwrap();
        let wider = |t: &mut Trial| {
            let x = t.suggest_float("x", 0.0, 2.0)?;
            Ok::<_, Error>(x + t.suggest_float("y", 0.0, 1.0)?)
        };
        study
            .optimize(wider, 14)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let narrower = |t: &mut Trial| t.suggest_float("y", 0.0, 1.0);
        study
            .optimize(narrower, 14)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn several_objectives_with_constraints_are_sampled_or_refused() {
    for (name, make) in samplers() {
        let directions = [
            StudyDirection::Minimize,
            StudyDirection::Maximize,
            StudyDirection::Minimize,
        ];
        let study = Study::builder()
            .directions(directions)
            .sampler(make(2))
            .create()
            .unwrap();
        let objective = |trial: &mut Trial| {
            let x = trial.suggest_float("x", 0.0, 1.0)?;
            let y = trial.suggest_int("y", 0, 20)?;
            trial.set_constraint("sum", x + y as f64 - 12.0)?;
            let third = if trial.number() == 3 {
                f64::INFINITY
            } else {
                (x - 0.5).abs()
            };
            Ok::<_, Error>([x, y as f64, third])
        };
        let result = study.optimize(objective, 18);
        if name.contains("cma-es") {
            let message = result.unwrap_err().to_string();
            assert!(message.contains("objective"), "{name}: {message}");
        } else {
            result.unwrap_or_else(|e| panic!("{name}: {e}"));
            let front = study.best_trials().unwrap();
            assert!(
                !front.is_empty() && front.iter().all(|t| t.is_feasible()),
                "{name}"
            );
        }
    }
}

#[test]
fn constraints_lead_into_the_feasible_region() {
    let makers: [(&str, u64, Maker); 2] = [
        ("gp", 26, |seed| Arc::new(GpSampler::new(seed))),
        ("nsga-ii", 80, |seed| {
            Arc::new(NsgaIiSampler::new(seed).population_size(10).unwrap())
        }),
    ];
    for (name, n_trials, make) in makers {
        let study = study(make(1));
        let objective = |trial: &mut Trial| {
            let x = trial.suggest_float("x", 0.0, 1.0)?;
            let y = trial.suggest_float("y", 0.0, 1.0)?;
            trial.set_constraint("far", 1.6 - x - y)?;
            Ok::<_, Error>((x - 0.9).powi(2) + (y - 0.8).powi(2))
        };
        study.optimize(objective, n_trials).unwrap();
        let trials = study.trials().unwrap();
        let late = &trials[trials.len() / 2..];
        let share = late.iter().filter(|t| t.is_feasible()).count() as f64 / late.len() as f64;
        // The region is 8 % of the square.
        assert!(share >= 0.3, "{name}: {share}");
    }
}

#[test]
fn workers_share_one_evolution_strategy() {
    let storage: Arc<dyn kiln_tune::Storage> = Arc::new(InMemoryStorage::new());
    let open = |seed| {
        Study::builder()
            .name("shared")
            .shared_storage(storage.clone())
            .load_if_exists(true)
            .sampler(CmaEsSampler::new(seed))
            .create()
            .unwrap()
    };
    let sphere = |trial: &mut Trial| {
        let mut sum = 0.0;
        for i in 0..5 {
            sum += trial.suggest_float(&format!("x{i}"), -4.0, 6.0)?.powi(2);
        }
        Ok::<_, Error>(sum)
    };
    let (a, b) = (open(1), open(2));
    for _ in 0..100 {
        a.optimize(sphere, 1).unwrap();
        b.optimize(sphere, 1).unwrap();
    }
    // One worker alone would need both halves; with two strategies neither gets below 0.1.
    assert!(a.best_value().unwrap() < 0.1, "{}", a.best_value().unwrap());
    let newest = |study: &Study| {
        let trials = study.trials().unwrap();
        let generation = |t: &Arc<kiln_tune::FrozenTrial>| {
            t.system_attrs
                .get("kiln_cma:generation")
                .and_then(kiln_tune::Json::as_i64)
        };
        trials.iter().filter_map(generation).max().unwrap()
    };
    assert_eq!(newest(&a), newest(&b));
    assert!(newest(&a) >= 23, "{}", newest(&a));
    let keys: Vec<String> = a
        .trials()
        .unwrap()
        .iter()
        .flat_map(|t| t.system_attrs.keys().cloned().collect::<Vec<_>>())
        .collect();
    assert!(
        keys.iter().all(|k| !k.starts_with("cma:")),
        "Python workers would unpickle these"
    );
}

#[test]
fn a_warm_start_begins_where_the_source_study_was_good() {
    let sphere = |centre: f64| {
        move |trial: &mut Trial| {
            let x = trial.suggest_float("x", 0.0, 1.0)?;
            let y = trial.suggest_float("y", 0.0, 1.0)?;
            Ok::<_, Error>((x - centre).powi(2) + (y - centre).powi(2))
        }
    };
    let source = study(Arc::new(CmaEsSampler::new(1)));
    source.optimize(sphere(0.8), 60).unwrap();
    let warm = CmaEsSampler::new(1)
        .source_trials(source.trials().unwrap())
        .unwrap();
    let target = study(Arc::new(warm));
    target.optimize(sphere(0.82), 12).unwrap();
    assert!(
        target.best_value().unwrap() < 0.01,
        "{}",
        target.best_value().unwrap()
    );

    let unrelated = CmaEsSampler::new(1).source_trials([]).unwrap();
    let failed = study(Arc::new(unrelated));
    let message = failed.optimize(sphere(0.5), 5).unwrap_err().to_string();
    assert!(message.contains("source trial"), "{message}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let refused = [
        CmaEsSampler::new(0)
            .separable(true)
            .and_then(|s| s.with_margin(true)),
        CmaEsSampler::new(0)
            .with_margin(true)
            .and_then(|s| s.learning_rate_adaptation(true)),
        CmaEsSampler::new(0)
            .separable(true)
            .and_then(|s| s.source_trials([])),
        CmaEsSampler::new(0).population_size(1),
        CmaEsSampler::new(0).restart_strategy(RestartStrategy::Ipop(1)),
    ];
    for sampler in refused {
        assert!(matches!(sampler, Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn a_sampler_that_outlives_a_study_knows_nothing_of_it_in_the_next_one() {
    let fresh = |sampler: Arc<dyn Sampler>, name: &str| {
        let study = study(sampler);
        let objective = |trial: &mut Trial| trial.suggest_float(name, 0.0, 1.0);
        study.optimize(objective, 12).unwrap();
        study.trials().unwrap()[11].params.len()
    };
    for (name, make) in samplers() {
        let sampler = make(1);
        // A storage that is freed leaves its address to the next one.
        for round in 0..4 {
            let n = fresh(sampler.clone(), ["x", "y"][round % 2]);
            assert_eq!(n, 1, "{name}, round {round}");
        }
    }
    let tpe: Arc<dyn Sampler> = Arc::new(kiln_tune::TpeSampler::new().seed(1));
    for log in [false, true, false, true] {
        let study = study(tpe.clone());
        let objective = |trial: &mut Trial| {
            if log {
                trial.suggest_float_log("x", 0.1, 1.0)
            } else {
                trial.suggest_float("x", 0.1, 1.0)
            }
        };
        study.optimize(objective, 15).unwrap();
    }
}
