//! Typed search spaces: what a derive suggests, how it is called, and how it comes back.
#![cfg(feature = "derive")]

use kiln_tune::{Error, FixedTrial, ParamValue, RandomSampler, SearchSpace, Study};

const WIDEST: i64 = 64;

#[derive(Debug, Clone, PartialEq, SearchSpace)]
struct Config {
    #[param(low = 1e-4, high = 1e-1, log)]
    lr: f64,
    #[param(low = 0.0, high = 1.0, step = 0.25)]
    dropout: f32,
    #[param(low = 16, high = WIDEST, step = 16, name = "n_units")]
    width: usize,
    #[param(low = -3, high = -1)]
    shift: i8,
    #[param(choices = ["relu", "gelu"])]
    activation: String,
    #[param(choices = [32, 64])]
    batch: i64,
    #[param(choices = [None, Some(0.9)])]
    momentum: Option<f64>,
    nesterov: bool,
    block: Block,
    head: Head,
}

#[derive(Debug, Clone, PartialEq, SearchSpace)]
struct Block {
    #[param(low = 1, high = 4)]
    depth: u32,
}

#[derive(Debug, Clone, PartialEq, SearchSpace)]
enum Head {
    Linear,
    #[param(name = "multi-layer")]
    Mlp {
        #[param(low = 1, high = 3)]
        layers: u64,
    },
    Wrapped(Block),
}

fn study() -> Study {
    Study::builder()
        .sampler(RandomSampler::new(1))
        .create()
        .unwrap()
}

#[test]
fn a_struct_is_suggested_in_one_call_and_comes_back_from_the_best_trial() {
    let study = study();
    let seen = std::sync::Mutex::new(Vec::new());
    study
        .optimize(
            |trial| {
                let config: Config = trial.suggest_space()?;
                assert!((1e-4..=1e-1).contains(&config.lr) && config.dropout % 0.25 == 0.0);
                assert!(
                    config.width.is_multiple_of(16)
                        && config.width <= 64
                        && (-3..=-1).contains(&config.shift)
                );
                seen.lock().unwrap().push(config.clone());
                Ok::<_, Error>(config.lr)
            },
            30,
        )
        .unwrap();
    let seen = seen.into_inner().unwrap();
    let best = seen.iter().min_by(|a, b| a.lr.total_cmp(&b.lr)).unwrap();
    assert_eq!(study.best_params_as::<Config>().unwrap(), *best);
    for (trial, config) in study.trials().unwrap().iter().zip(&seen) {
        assert_eq!(trial.params.to_space::<Config>().unwrap(), *config);
    }
}

#[test]
fn parameters_are_called_after_their_fields_and_exist_only_where_they_are_used() {
    let study = study();
    study
        .optimize(
            |trial| trial.suggest_space::<Config>().map(|config| config.lr),
            30,
        )
        .unwrap();
    let mut heads = std::collections::BTreeSet::new();
    for trial in study.trials().unwrap() {
        let names: Vec<&str> = trial.params.iter().map(|param| &*param.name).collect();
        let common = [
            "lr",
            "dropout",
            "n_units",
            "shift",
            "activation",
            "batch",
            "momentum",
            "nesterov",
            "block.depth",
            "head",
        ];
        assert_eq!(names[..10], common);
        let head = trial.params.value("head").unwrap().to_string();
        let own: &[&str] = match head.as_str() {
            "Linear" => &[],
            "multi-layer" => &["head.layers"],
            "Wrapped" => &["head.depth"],
            other => panic!("{other} is not a variant"),
        };
        assert_eq!(&names[10..], own);
        heads.insert(head);
    }
    assert_eq!(heads.len(), 3, "every variant was chosen");
}

#[test]
fn an_enum_alone_is_called_after_its_type() {
    let mut trial = FixedTrial::new([
        ("head", ParamValue::from("multi-layer")),
        ("head.layers", 2.into()),
    ]);
    // The variant's field is called after the enum's own parameter only when the enum has a prefix.
    let alone = Head::suggest_from(&mut trial, "head").unwrap();
    assert_eq!(alone, Head::Mlp { layers: 2 });
    let study = study();
    study
        .optimize(|trial| trial.suggest_space::<Head>().map(|_| 0.0), 1)
        .unwrap();
    assert!(study.trials().unwrap()[0].params.contains("head"));
}

#[test]
fn missing_and_unfit_parameters_are_errors() {
    let study = study();
    assert!(matches!(
        study.best_params_as::<Block>(),
        Err(Error::NoTrials(_))
    ));
    study
        .optimize(|trial| trial.suggest_float("depth", 0.0, 0.5), 1)
        .unwrap();
    assert!(
        study
            .best_params_as::<Head>()
            .unwrap_err()
            .to_string()
            .contains("no value for parameter \"head\"")
    );

    #[derive(Debug, SearchSpace)]
    struct TooNarrow {
        #[param(low = 0, high = 300)]
        #[allow(dead_code)]
        level: u8,
    }
    let error = TooNarrow::suggest_from(&mut FixedTrial::new([("level", 300)]), "").unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
}
