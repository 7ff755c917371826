//! Whatever a study holds, every plot and every importance comes back soon, stays small, and never panics; and what it
//! shows of names and numbers is fit to be read.
#![cfg(feature = "plot")]

#[path = "../../kiln-plot/tests/svg/mod.rs"]
mod svg;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_tune::importance::{
    FanovaEvaluator, FanovaTree, ImportanceEvaluator, MeanDecreaseImpurityEvaluator,
    PedAnovaEvaluator, Tree, get_param_importances_with, grid_density,
};
use kiln_tune::plot::{self, Figure};
use kiln_tune::rng::Rng;
use kiln_tune::{
    CategoricalDistribution, Distribution, FloatDistribution, FrozenTrial, IntDistribution, Params,
    Study, StudyDirection, Timestamp, TrialBuilder, TrialState,
};
use svg::check_svg;

const VALUES: [f64; 14] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    5e-324,
    1e-300,
    1e16,
    1e300,
    1.7e308,
    f64::MAX,
    -f64::MAX,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
];

const NAMES: [&str; 8] = [
    "x",
    "<evil>&\"'",
    "]]>",
    "\u{1b}[31mred\u{7}",
    "two\nlines",
    "\u{202e}turned\u{fffe}",
    "</script><script>alert(1)</script>",
    "",
];

fn distributions() -> Vec<Distribution> {
    let float = |low, high, log, step| -> Distribution {
        FloatDistribution::build(low, high, log, step)
            .unwrap()
            .into()
    };
    let int = |low, high, log, step| -> Distribution {
        IntDistribution::build(low, high, log, step).unwrap().into()
    };
    vec![
        float(0.0, 1.0, false, None),
        float(-f64::MAX, f64::MAX, false, None),
        float(5e-324, f64::MAX, true, None),
        float(1e-300, 1e308, true, None),
        float(0.0, 5e-324, false, None),
        float(0.0, 1.0, false, Some(1e-20)),
        float(0.0, 1.0, false, Some(5e-324)),
        float(-1.7e308, 1.7e308, false, Some(1e308)),
        int(i64::MIN, i64::MAX, false, 1),
        int(i64::MAX - 1, i64::MAX, false, 1),
        int(1, i64::MAX, true, 1),
        int(0, 9, false, 3),
        float(2.0, 2.0, false, None),
        CategoricalDistribution::new(NAMES).unwrap().into(),
        CategoricalDistribution::new((0..300).map(i64::from))
            .unwrap()
            .into(),
    ]
}

/// A value of the distribution, or sometimes one that only a damaged storage holds.
fn internal(distribution: &Distribution, rng: &mut Rng) -> f64 {
    if rng.below(12) == 0 {
        return [VALUES[rng.below(VALUES.len())], 1e6, -7.0, 99.5][rng.below(4)];
    }
    match distribution {
        Distribution::Categorical(d) => rng.below(d.choices().len()) as f64,
        Distribution::Int(d) => match rng.below(3) {
            0 => d.low() as f64,
            1 => d.high() as f64,
            _ => d.low() as f64 * 0.5 + d.high() as f64 * 0.5,
        },
        Distribution::Float(d) => match rng.below(3) {
            0 => d.low(),
            1 => d.high(),
            _ => d.low() * 0.5 + d.high() * 0.5,
        },
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp_micros(seconds.saturating_mul(1_000_000)).unwrap_or_default()
}

/// A study of random trials, as damaged and as extreme as a storage may give them.
fn random_study(seed: u64, n_trials: usize) -> Study {
    let mut rng = Rng::new(Some(seed));
    let n_objectives = [1, 1, 2, 3][rng.below(4)];
    let directions: Vec<StudyDirection> = (0..n_objectives)
        .map(|i| {
            if i % 2 == 0 {
                StudyDirection::Minimize
            } else {
                StudyDirection::Maximize
            }
        })
        .collect();
    let study = Study::builder()
        .name(format!("<study> \u{1b}[1m & {seed}"))
        .directions(directions)
        .create()
        .unwrap();
    let kinds = distributions();
    let space: Vec<(Arc<str>, Arc<Distribution>)> = (0..rng.below(6))
        .map(|i| {
            let name = format!("{}{i}", NAMES[rng.below(NAMES.len())]);
            (
                Arc::from(name),
                Arc::new(kinds[rng.below(kinds.len())].clone()),
            )
        })
        .collect();
    for number in 0..n_trials {
        let mut params = Params::new();
        for (name, distribution) in &space {
            if rng.below(8) > 0 {
                params.insert(
                    name.clone(),
                    internal(distribution, &mut rng),
                    distribution.clone(),
                );
            }
        }
        let mut value = || VALUES[rng.below(VALUES.len())];
        let values: Vec<f64> = (0..n_objectives).map(|_| value()).collect();
        let reports = (0..rng.below(4)).map(|_| {
            let step = [0, 1, i64::MAX, i64::MIN, -5][rng.below(5)];
            (step, VALUES[rng.below(VALUES.len())])
        });
        let intermediate_values = reports.collect();
        let state = match rng.below(8) {
            0 => TrialState::Running,
            1 => TrialState::Pruned,
            2 => TrialState::Fail,
            3 => TrialState::Waiting,
            _ => TrialState::Complete,
        };
        let times = [
            0,
            1_700_000_000,
            1_700_000_001,
            -60_000_000_000,
            250_000_000_000,
        ];
        let mut time = || Some(at(times[rng.below(times.len())]));
        let mut trial = FrozenTrial {
            number: number as u64,
            state,
            values: (state == TrialState::Complete).then_some(values),
            datetime_start: time(),
            datetime_complete: if state.is_finished() { time() } else { None },
            params,
            intermediate_values,
            ..TrialBuilder::new()
                .state(TrialState::Running)
                .build()
                .unwrap()
        };
        if rng.below(3) == 0 {
            let constraint = [1.0, -1.0, f64::MAX][rng.below(3)];
            trial
                .system_attrs
                .insert("constraints:c\u{7}".to_owned(), constraint.into());
        }
        study
            .storage()
            .create_new_trial(study.id(), Some(&trial))
            .unwrap();
    }
    study
}

type Plot<'a> = (
    &'static str,
    Box<dyn Fn() -> kiln_tune::Result<Figure> + 'a>,
);

fn every_plot<'a>(study: &'a Study, objective: usize, params: &'a [&'a str]) -> Vec<Plot<'a>> {
    let n = study.directions().len();
    vec![
        (
            "history",
            Box::new(move || plot::optimization_history(&[study], objective)),
        ),
        (
            "intermediate",
            Box::new(|| plot::intermediate_values(study)),
        ),
        (
            "slice",
            Box::new(move || plot::slice(study, objective, params)),
        ),
        (
            "contour",
            Box::new(move || plot::contour(study, objective, params)),
        ),
        (
            "rank",
            Box::new(move || plot::rank(study, objective, params)),
        ),
        (
            "parallel",
            Box::new(move || plot::parallel_coordinate(study, objective, params)),
        ),
        (
            "edf",
            Box::new(move || plot::edf(&[study, study], objective)),
        ),
        ("timeline", Box::new(|| plot::timeline(study))),
        ("pareto", Box::new(|| plot::pareto_front(study))),
        (
            "hypervolume",
            Box::new(move || plot::hypervolume_history(study, &vec![1.7e308; n])),
        ),
        (
            "importances",
            Box::new(|| {
                plot::param_importances(&[("a\u{7}".to_owned(), -0.0), ("b".to_owned(), 1.0)])
            }),
        ),
    ]
}

fn check(figure: &Figure, place: &str) {
    let start = Instant::now();
    let svg = figure.to_svg();
    check_svg(&svg, place);
    let html = figure.to_html();
    assert!(
        svg.len() < 20_000_000 && html.len() < 40_000_000,
        "{place}: {} {}",
        svg.len(),
        html.len()
    );
    assert_eq!(html.matches("<script").count(), 2, "{place}");
    assert!(
        !html.contains('\u{1b}') && !html.contains('\u{7}'),
        "{place}"
    );
    assert!(start.elapsed() < Duration::from_secs(60), "{place}");
}

fn evaluators() -> Vec<(&'static str, Box<dyn ImportanceEvaluator>)> {
    vec![
        ("ped-anova", Box::new(PedAnovaEvaluator::default())),
        (
            "global ped-anova",
            Box::new(PedAnovaEvaluator::new(0.2, 0.9, false).unwrap()),
        ),
        ("fanova", Box::new(FanovaEvaluator::new(0).n_trees(4))),
        (
            "mdi",
            Box::new(MeanDecreaseImpurityEvaluator::new(0).n_trees(4)),
        ),
    ]
}

fn check_importances(study: &Study, place: &str) {
    let first = |trial: &FrozenTrial| trial.values.as_ref().map_or(f64::NAN, |values| values[0]);
    for (name, evaluator) in evaluators() {
        let start = Instant::now();
        let found = get_param_importances_with(study, &*evaluator, None, Some(&first), true);
        if let Ok(importances) = found {
            for (param, share) in &importances {
                assert!(
                    share.is_finite()
                        && (0.0..=1.0 + 1e-9).contains(share)
                        && !share.is_sign_negative(),
                    "{place}, {name}: {param:?} {share}"
                );
            }
            let sum: f64 = importances.iter().map(|(_, share)| share).sum();
            assert!(
                importances.is_empty() || (sum - 1.0).abs() < 1e-9,
                "{place}, {name}: {sum}"
            );
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{place}, {name}");
    }
}

#[test]
fn random_studies_with_extreme_values_are_drawn_and_assessed_or_refused() {
    for seed in 0..32 {
        let study = random_study(seed, [0, 1, 2, 30][seed as usize % 4]);
        for objective in 0..study.directions().len() {
            for (name, draw) in every_plot(&study, objective, &[]) {
                let place = format!("seed {seed}, objective {objective}, {name}");
                let start = Instant::now();
                if let Ok(figure) = draw() {
                    check(&figure, &place);
                }
                assert!(start.elapsed() < Duration::from_secs(20), "{place}");
            }
            for figure in plot::all(&study, objective, &[]).unwrap() {
                check(&figure, &format!("seed {seed}, all, {}", figure.title()));
            }
        }
        check_importances(&study, &format!("seed {seed}"));
    }
}

#[test]
fn pictures_of_extreme_studies_are_drawn_in_pixels() {
    for seed in [3] {
        let study = random_study(seed, 30);
        for (name, draw) in every_plot(&study, 0, &[]) {
            let start = Instant::now();
            if let Ok(figure) = draw() {
                let png = figure.to_png().unwrap();
                assert!(
                    png.starts_with(b"\x89PNG") && png.len() < 5_000_000,
                    "{name}"
                );
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "seed {seed}, {name}"
            );
        }
    }
}

/// Trials with `n_params` parameters each.
fn large_study(n_trials: usize, n_params: usize, n_objectives: usize) -> Study {
    let study = Study::builder()
        .directions(vec![StudyDirection::Minimize; n_objectives])
        .create()
        .unwrap();
    let mut rng = Rng::new(Some(1));
    let unit: Arc<Distribution> = Arc::new(FloatDistribution::new(0.0, 1.0).unwrap().into());
    let names: Vec<Arc<str>> = (0..n_params)
        .map(|i| Arc::from(format!("p{i:04}")))
        .collect();
    for number in 0..n_trials {
        let mut params = Params::new();
        for name in &names {
            params.insert(name.clone(), rng.uniform(), unit.clone());
        }
        let x = rng.uniform();
        let trial = FrozenTrial {
            values: Some(
                (0..n_objectives)
                    .map(|i| if i == 0 { x } else { 1.0 - x })
                    .collect(),
            ),
            datetime_start: Some(at(1_700_000_000 + number as i64)),
            datetime_complete: Some(at(1_700_000_001 + number as i64)),
            params,
            intermediate_values: (0..5).map(|step| (step, rng.uniform())).collect(),
            ..TrialBuilder::new()
                .values(vec![0.0; n_objectives])
                .build()
                .unwrap()
        };
        study
            .storage()
            .create_new_trial(study.id(), Some(&trial))
            .unwrap();
    }
    study
}

#[test]
fn a_hundred_thousand_trials_make_figures_that_a_browser_can_open() {
    let study = large_study(100_000, 3, 1);
    for (name, draw) in every_plot(&study, 0, &[]) {
        if name == "pareto" || name == "hypervolume" {
            continue;
        }
        let figure = draw().unwrap_or_else(|error| panic!("{name}: {error}"));
        check(&figure, name);
        let is_thinned = !matches!(name, "edf" | "importances");
        assert_eq!(
            figure.to_svg().contains(" of 100000 trials drawn"),
            is_thinned,
            "{name}"
        );
    }
    let evaluator = PedAnovaEvaluator::default();
    let start = Instant::now();
    get_param_importances_with(&study, &evaluator, None, None, true).unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_line_of_the_best_value_is_bounded_where_every_trial_is_better_than_the_one_before() {
    let study = Study::builder().create().unwrap();
    let n = 60_000;
    for number in 0..n {
        let trial = TrialBuilder::new().value(f64::from(n - number));
        let trial = trial.build().unwrap();
        study
            .storage()
            .create_new_trial(study.id(), Some(&trial))
            .unwrap();
    }
    let figure = plot::optimization_history(&[&study], 0).unwrap();
    check(&figure, "history");
    let svg = figure.to_svg();
    let lines = svg.split("points=\"").skip(1);
    let points = lines.map(|line| line.split_once('"').unwrap().0.split(' ').count());
    let most = points.max().unwrap();
    assert!((10_000..=20_000).contains(&most), "{most}");
    // It ends at the best value of all.
    assert!(figure.to_html().contains("best value 1 up to trial 59999"));
}

#[test]
fn a_front_of_thousands_of_trials_is_drawn() {
    let study = large_study(4_000, 1, 2);
    for (name, draw) in every_plot(&study, 0, &[]) {
        if name == "pareto" {
            check(&draw().unwrap(), name);
        }
    }
    let history = plot::hypervolume_history(&study, &[2.0, 2.0]).unwrap();
    check(&history, "hypervolume");
    assert!(history.to_svg().contains("50 of 4000 trials drawn"));
}

#[test]
fn a_thousand_parameters_make_figures_of_some_of_them() {
    let study = large_study(60, 1000, 1);
    let names: Vec<String> = (0..1000).map(|i| format!("p{i:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for params in [&names[..0], &names[500..]] {
        for (name, draw) in every_plot(&study, 0, params) {
            if let Ok(figure) = draw() {
                check(&figure, name);
                let is_cut = matches!(name, "slice" | "contour" | "rank" | "parallel");
                assert_eq!(
                    figure.to_svg().contains("0 parameters drawn"),
                    is_cut,
                    "{name}"
                );
            }
        }
    }
    for (name, evaluator) in evaluators() {
        let start = Instant::now();
        let importances =
            get_param_importances_with(&study, &*evaluator, None, None, true).unwrap();
        assert!(start.elapsed() < Duration::from_secs(60), "{name}");
        let figure = plot::param_importances(&importances).unwrap();
        assert!(
            figure.to_svg().contains("60 of 1000 parameters drawn"),
            "{name}"
        );
    }
}

#[test]
fn every_trial_with_a_range_of_its_own_is_assessed_soon() {
    let study = Study::builder().create().unwrap();
    for number in 0..20_000_i32 {
        let high = 1.0 + f64::from(number) * 1e-6;
        let trial = TrialBuilder::new()
            .param("x", 0.5, FloatDistribution::new(0.0, high).unwrap())
            .value(f64::from(number % 100))
            .build()
            .unwrap();
        study.add_trial(&trial).unwrap();
    }
    let start = Instant::now();
    let evaluator = PedAnovaEvaluator::default();
    get_param_importances_with(&study, &evaluator, None, None, true).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn an_axis_whose_top_overflows_has_a_few_ticks() {
    let study = Study::builder().create().unwrap();
    let wide: Distribution = FloatDistribution::with_log(5e-324, f64::MAX)
        .unwrap()
        .into();
    for (x, value) in [
        (1e308, -1.7e308),
        (5e-324, 1.7e308),
        (f64::MAX, 0.0),
        (1.0, 1.0),
    ] {
        let trial = TrialBuilder::new().param("x", x, wide.clone()).value(value);
        study.add_trial(&trial.build().unwrap()).unwrap();
    }
    let svg = plot::slice(&study, 0, &[]).unwrap().to_svg();
    check_svg(&svg, "slice");
    let ticks = svg.matches("<text").count();
    assert!((8..40).contains(&ticks), "{ticks}");
    assert!(svg.contains("1e-323") && svg.contains("1e199"), "{svg}");
}

#[test]
fn numbers_and_names_in_figures_are_fit_to_be_read() {
    let study = Study::builder().create().unwrap();
    study.set_metric_names(&["loss\u{1b}[2J\nnext"]).unwrap();
    let name = "lr\u{7}\nrate <b>";
    let trial = TrialBuilder::new()
        .param(name, 1e300, FloatDistribution::new(0.0, 1e301).unwrap())
        .param(
            "kind",
            "]]>",
            CategoricalDistribution::new(["]]>", "a&b"]).unwrap(),
        )
        .value(1e300);
    study.add_trial(&trial.build().unwrap()).unwrap();
    let figure = plot::slice(&study, 0, &[]).unwrap();
    let (svg, html) = (figure.to_svg(), figure.to_html());
    check_svg(&svg, "slice");
    assert!(
        html.contains(r"value 1e+300") && html.contains(r"lr\\x07\\nrate \u003cb> = 1e+300"),
        "{html}"
    );
    assert!(
        svg.contains(r"lr\x07\nrate &lt;b&gt;") && svg.contains("]]&gt;"),
        "{svg}"
    );
    assert!(svg.contains(r"loss\x1b[2J\nnext"), "{svg}");
}

#[test]
fn a_plot_that_cannot_be_drawn_says_so_on_the_page() {
    let study = Study::builder().create().unwrap();
    assert!(plot::all(&study, 0, &[]).unwrap().is_empty());
    let unit: Distribution = FloatDistribution::new(0.0, 1.0).unwrap().into();
    // Parameters of failed and infinite trials are none of those that plots show.
    let failed = TrialBuilder::new()
        .state(TrialState::Fail)
        .param("aaa", 0.5, unit.clone());
    study.add_trial(&failed.build().unwrap()).unwrap();
    let infinite = TrialBuilder::new()
        .param("aab", 0.5, unit.clone())
        .value(f64::INFINITY);
    study.add_trial(&infinite.build().unwrap()).unwrap();
    let text = |title: &str| {
        let figures = plot::all(&study, 0, &[]).unwrap();
        let figure = figures.iter().find(|figure| figure.title() == title);
        figure
            .unwrap_or_else(|| panic!("{title} is missing"))
            .to_svg()
    };
    assert!(text("Slice").contains("Not drawn: "));
    assert!(!text("Timeline").contains("Not drawn: "));
    for value in [1.0, 2.0, 3.0] {
        let trial = TrialBuilder::new()
            .param("zzz", value / 4.0, unit.clone())
            .value(value);
        study.add_trial(&trial.build().unwrap()).unwrap();
    }
    let slice = text("Slice");
    assert!(
        slice.contains("zzz") && !slice.contains("aaa") && !slice.contains("aab"),
        "{slice}"
    );
    assert!(text("Contour").contains("Not drawn: the contour plot needs at least two parameters"));
    assert!(text("Intermediate values").contains("Not drawn: no trial has reported"));
    let titles: Vec<String> = (plot::all(&study, 0, &[]).unwrap().iter())
        .map(|figure| figure.title().to_owned())
        .collect();
    assert_eq!(titles.len(), 9, "{titles:?}");
    assert!(
        !titles.contains(&"Pareto front".to_owned()),
        "one objective has no front"
    );
}

#[test]
fn a_trial_that_died_weeks_ago_does_not_own_the_axis_of_the_timeline() {
    let study = Study::builder().create().unwrap();
    let start = 1_700_000_000;
    let add = |trial: TrialBuilder| study.add_trial(&trial.build().unwrap()).unwrap();
    for i in 0..5 {
        add(TrialBuilder::new()
            .value(1.0)
            .datetime_start(at(start + 60 * i))
            .datetime_complete(at(start + 60 * i + 50)));
    }
    add(TrialBuilder::new()
        .state(TrialState::Running)
        .datetime_start(at(start + 100)));
    let svg = plot::timeline(&study).unwrap().to_svg();
    // All ticks are minutes of the day of the trials.
    assert!(svg.contains("11-14 22:1"), "{svg}");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    add(TrialBuilder::new()
        .state(TrialState::Running)
        .datetime_start(at(now.as_secs() as i64 - 20)));
    let svg = plot::timeline(&study).unwrap().to_svg();
    assert!(!svg.contains("11-14 22:1"), "{svg}");
}

#[test]
fn densities_and_trees_bear_values_outside_of_their_ranges() {
    for distribution in distributions().iter().filter(|d| !d.is_single()) {
        let density = grid_density(distribution, &VALUES);
        assert!((1..=300).contains(&density.len()), "{distribution}");
        let sum: f64 = density.iter().sum();
        assert!((sum - 1.0).abs() < 1e-6, "{distribution}: {sum}");
        assert!(
            grid_density(distribution, &[])
                .iter()
                .all(|p| p.is_finite())
        );
    }
    // Thresholds below, above and beyond all numbers.
    for threshold in [-5.0, 5.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5] {
        let tree = Tree {
            feature: vec![0, -1, -1],
            threshold: vec![threshold, 0.0, 0.0],
            left: vec![1, 0, 0],
            right: vec![2, 0, 0],
            value: vec![0.5, 0.0, 1.0],
            ..Tree::default()
        };
        for bounds in [[[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [3.0, 3.0]]] {
            let tree = FanovaTree::new(&tree, &bounds);
            let expected = if threshold == 0.5 { 0.25 } else { 0.0 };
            let found = (
                tree.variance(),
                tree.marginal_variance(&[0]),
                tree.marginal_variance(&[0, 1]),
            );
            assert_eq!(found, (expected, expected, expected), "{threshold}");
        }
    }
}
