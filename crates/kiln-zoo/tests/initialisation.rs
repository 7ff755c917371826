//! Fresh weights have the statistics that each model's source gives them.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
use kiln_zoo::{Norm, Settings, create, create_segmenter, weights};
use std::collections::HashMap;

fn device() -> Device {
    kiln_testing::devices().remove(0)
}

/// Mean, standard deviation and largest absolute value of each parameter, and its shape in PyTorch.
struct Stats {
    shape: Vec<usize>,
    mean: f64,
    std: f64,
    largest: f64,
}

fn stats<M: Module>(model: &M) -> Vec<(String, Stats)> {
    struct Values(HashMap<ParamId, Vec<f64>>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0
                .insert(param.id, param.val().into_data().iter::<f64>().collect());
        }
    }
    let mut values = Values(HashMap::new());
    model.visit(&mut values);
    let shapes: HashMap<String, Vec<usize>> = weights::names(model).into_iter().collect();
    let stats = weights::ids(model).into_iter().map(|(name, id)| {
        let values = &values.0[&id];
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let std = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        let largest = values.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let shape = shapes[&name].clone();
        (
            name,
            Stats {
                shape,
                mean,
                std,
                largest,
            },
        )
    });
    stats.collect()
}

#[derive(Clone, Copy)]
enum Rule {
    /// With this standard deviation.
    Normal(fn(&[usize]) -> f64),
    /// Within this bound.
    Uniform(fn(&[usize]) -> f64),
    Constant(f64),
}

fn fan_in(shape: &[usize]) -> f64 {
    shape[1..].iter().product::<usize>() as f64
}

fn fan_out(shape: &[usize]) -> f64 {
    (shape[0] * shape[2] * shape[3]) as f64
}

fn check(name: &str, stats: &Stats, rule: Rule) {
    let count: usize = stats.shape.iter().product();
    let few = 6.0 / (count as f64).sqrt(); // six standard errors of a mean of unit variance
    match rule {
        Rule::Constant(value) => {
            assert!(
                stats.mean == value && stats.std == 0.0,
                "{name}: mean {}",
                stats.mean
            );
        }
        Rule::Normal(std) => {
            let std = std(&stats.shape);
            assert!(stats.mean.abs() < few * std, "{name}: mean {}", stats.mean);
            assert!(
                (stats.std / std - 1.0).abs() < few,
                "{name}: std {}, expected {std}",
                stats.std
            );
            if count > 10_000 {
                // A uniform distribution of this deviation ends at sqrt(3) = 1.7 of it.
                assert!(stats.largest > 3.0 * std, "{name}: not normal");
            }
        }
        Rule::Uniform(bound) => {
            let bound = bound(&stats.shape);
            let std = bound / 3f64.sqrt();
            assert!(
                stats.largest <= bound * 1.000_001,
                "{name}: {} beyond {bound}",
                stats.largest
            );
            assert!(
                (stats.std / std - 1.0).abs() < few,
                "{name}: std {}, expected {std}",
                stats.std
            );
        }
    }
}

fn pytorch_default(shape: &[usize]) -> f64 {
    1.0 / fan_in(shape).sqrt()
}

/// What all models do with their normalizations.
fn is_norm(name: &str, shape: &[usize]) -> Option<Rule> {
    let last = name.rsplit('.').next()?;
    match last {
        "running_mean" => Some(Rule::Constant(0.0)),
        "running_var" => Some(Rule::Constant(1.0)),
        "weight" if shape.len() == 1 => Some(Rule::Constant(1.0)),
        _ => None,
    }
}

fn walk<M: Module>(model: &M, rule: impl Fn(&str, &[usize]) -> Option<Rule>) {
    let stats = stats(model);
    let mut checked = 0;
    for (name, stats) in &stats {
        if let Some(rule) = is_norm(name, &stats.shape).or_else(|| rule(name, &stats.shape)) {
            check(name, stats, rule);
            checked += 1;
        }
    }
    assert!(
        checked >= stats.len() - 2,
        "{checked} of {} have a rule",
        stats.len()
    );
}

fn settings() -> Settings {
    Settings {
        input: [3, 64, 64],
        num_classes: 100,
        ..Settings::default()
    }
}

#[test]
fn resnets_convolutions_are_kaiming_normal_by_fan_out() {
    // torchvision/models/resnet.py; the groups do not enter its fan-out.
    for name in ["resnet18", "resnext50_32x4d", "resnet20"] {
        let model = create(name, &settings(), &device()).unwrap();
        walk(&model, |name, shape| {
            Some(match (name, shape.len()) {
                ("fc.weight", _) => Rule::Uniform(pytorch_default),
                ("fc.bias", _) => return None,
                (_, 4) => Rule::Normal(|shape| (2.0 / fan_out(shape)).sqrt()),
                _ => Rule::Constant(0.0),
            })
        });
    }
}

#[test]
fn zero_init_sets_the_last_normalization_of_each_block_to_zero() {
    for (name, last) in [("resnet18", ".bn2.weight"), ("resnet50", ".bn3.weight")] {
        let settings = Settings {
            zero_init: Some(true),
            ..settings()
        };
        let model = create(name, &settings, &device()).unwrap();
        let mut blocks = 0;
        for (name, stats) in stats(&model) {
            if stats.shape.len() == 1 && name.ends_with(".weight") {
                let zero = name.ends_with(last);
                blocks += usize::from(zero);
                check(&name, &stats, Rule::Constant(if zero { 0.0 } else { 1.0 }));
            }
        }
        assert_eq!(blocks, if name == "resnet18" { 8 } else { 16 });
    }
}

#[test]
fn densenets_convolutions_are_kaiming_normal_by_fan_in() {
    // torchvision/models/densenet.py
    let model = create("densenet121", &settings(), &device()).unwrap();
    walk(&model, |name, shape| {
        Some(match (name, shape.len()) {
            ("classifier.weight", _) => Rule::Uniform(pytorch_default),
            (_, 4) => Rule::Normal(|shape| (2.0 / fan_in(shape)).sqrt()),
            _ => Rule::Constant(0.0),
        })
    });
}

#[test]
fn the_cifar_densenets_convolutions_are_normal_by_fan_out() {
    // bamos/densenet.pytorch, densenet.py
    let model = create("densenet-bc-40-12", &settings(), &device()).unwrap();
    walk(&model, |name, shape| {
        Some(match (name, shape.len()) {
            ("fc.weight", _) => Rule::Uniform(pytorch_default),
            (_, 4) => Rule::Normal(|shape| (2.0 / fan_out(shape)).sqrt()),
            _ => Rule::Constant(0.0),
        })
    });
}

#[test]
fn the_small_resnet_and_unet_are_drawn_as_pytorch_draws_layers() {
    let model = create("small-resnet", &settings(), &device()).unwrap();
    walk(&model, |name, shape| match shape.len() {
        1 if name == "fc.bias" => None,
        1 => Some(Rule::Constant(0.0)),
        _ => Some(Rule::Uniform(pytorch_default)),
    });
    let model = create_segmenter("unet", &settings(), &device()).unwrap();
    for (name, stats) in stats(&model) {
        if stats.shape.len() == 4 {
            // The second axis of a transposed convolution is its outputs; PyTorch counts it all the same.
            check(&name, &stats, Rule::Uniform(pytorch_default));
        }
        if name == "up1.up.bias" {
            // The weight has the shape [1024, 512, 2, 2].
            let bound = 1.0 / (512f64 * 4.0).sqrt();
            assert!(
                stats.largest <= bound && stats.largest > 0.9 * bound,
                "{name}"
            );
        }
    }
}

#[test]
fn the_decoder_over_a_backbone_is_kaiming_uniform() {
    let model = create_segmenter("unet-resnet18", &settings(), &device()).unwrap();
    let mut decoder = 0;
    for (name, stats) in stats(&model) {
        if name.starts_with("decoder") && stats.shape.len() == 4 {
            check(
                &name,
                &stats,
                Rule::Uniform(|shape| (6.0 / fan_in(shape)).sqrt()),
            );
            decoder += 1;
        }
        if name == "head.bias" {
            check(&name, &stats, Rule::Constant(0.0));
        }
    }
    assert_eq!(decoder, 10);
}

#[test]
fn convolutions_have_a_bias_where_there_is_no_normalization() {
    let settings = Settings {
        norm: Some(Norm::None),
        ..settings()
    };
    let model = create("resnet20", &settings, &device()).unwrap();
    let names: Vec<String> = weights::names(&model)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"layer1.0.conv1.bias".into()));
    assert!(!names.iter().any(|name| name.contains("bn")));
}
