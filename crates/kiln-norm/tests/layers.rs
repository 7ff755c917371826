//! What PyTorch's numbers do not show: state, freezing, settings, refusals.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use kiln::zoo::weights;
use kiln_norm::{
    BatchNorm, BatchNormConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    LocalResponseNormConfig, Norm, NormError, NormLayer, RmsNormConfig,
};

fn devices() -> Vec<Device> {
    kiln_testing::devices()
}

/// Channels with different means and deviations.
fn images(device: &Device) -> Tensor<4> {
    let data: Vec<f32> = (0..2 * 6 * 4 * 3)
        .map(|i| {
            ((i * 37 % 101) as f32 / 50.0 - 1.0) * (1.0 + (i / 12 % 6) as f32) + (i / 12 % 6) as f32
        })
        .collect();
    Tensor::from_data(TensorData::new(data, [2, 6, 4, 3]), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn running(layer: &BatchNorm) -> (Vec<f32>, Vec<f32>, i64) {
    let count = layer.num_batches_tracked.as_ref().unwrap().value();
    (
        values(layer.running_mean.as_ref().unwrap().value()),
        values(layer.running_var.as_ref().unwrap().value()),
        count.into_data().iter::<i64>().next().unwrap(),
    )
}

#[test]
fn training_updates_running_statistics_at_once_and_evaluation_leaves_them_alone() {
    for device in devices() {
        let train = device.clone().autodiff();
        let layer = BatchNormConfig::new(6).init(&train);
        let fresh = running(&layer);
        layer.forward(images(&train));
        let once = running(&layer);
        assert_ne!(once.0, fresh.0);
        assert_eq!(once.2, 1);
        let valid = layer.valid();
        valid.forward(images(&device));
        assert_eq!(running(&valid), once);
        layer.forward(images(&train));
        assert_eq!(running(&layer).2, 2);
        assert_eq!(running(&valid), once);
        // Back in training with what it had.
        assert_eq!(running(&valid.train()), once);
    }
}

#[test]
fn a_frozen_layer_uses_its_running_statistics_and_keeps_them() {
    for device in devices() {
        let train = device.clone().autodiff();
        let layer = BatchNormConfig::new(6).init(&train);
        layer.forward(images(&train));
        let expected = values(layer.valid().forward(images(&device)));
        let frozen = NormLayer::Batch(layer.clone()).freeze();
        let NormLayer::Batch(frozen) = frozen else {
            panic!("freezing made another layer");
        };
        let before = running(&frozen);
        let x = images(&train).require_grad();
        let y = frozen.forward(x.clone());
        let tolerance = Tolerance::<f32>::absolute(1e-5);
        let reference = TensorData::new(expected, [2, 6, 4, 3]);
        y.clone()
            .into_data()
            .assert_approx_eq(&reference, tolerance);
        assert_eq!(running(&frozen), before);
        let grads = y.sum().backward();
        assert!(x.grad(&grads).is_some(), "the gradient passes through");
        let weight = frozen.weight.as_ref().map(Param::val).unwrap();
        assert!(weight.grad(&grads).is_none(), "its weight is not trained");
    }
}

#[test]
fn running_statistics_are_not_part_of_the_graph() {
    for device in devices() {
        let device = device.autodiff();
        let layer = BatchNormConfig::new(6).with_momentum(None).init(&device);
        for _ in 0..3 {
            layer.forward(images(&device).require_grad());
        }
        for buffer in [&layer.running_mean, &layer.running_var] {
            let value = buffer.as_ref().unwrap().value();
            assert!(!value.is_require_grad());
            // With a graph behind it this would reach the weight.
            let grads = value.require_grad().sum().backward();
            let weight = layer.weight.as_ref().map(Param::val).unwrap();
            assert!(weight.grad(&grads).is_none());
        }
    }
}

#[test]
fn a_clone_has_statistics_of_its_own() {
    let device = devices().remove(0).autodiff();
    let layer = BatchNormConfig::new(6).init(&device);
    let copy = layer.clone();
    layer.forward(images(&device));
    assert_eq!(running(&copy).2, 0);
    assert_eq!(running(&layer).2, 1);
}

#[test]
fn an_empty_batch_is_counted_and_changes_no_statistics() {
    for device in devices() {
        let device = device.autodiff();
        let layer = BatchNormConfig::new(6).init(&device);
        let (mean, var, _) = running(&layer);
        let y = layer.forward(Tensor::<4>::zeros([0, 6, 4, 3], &device));
        assert_eq!(y.dims(), [0, 6, 4, 3]);
        assert_eq!(running(&layer), (mean, var, 1));
    }
}

#[test]
fn scale_and_shift_are_the_layer_outside_training() {
    for device in devices() {
        let train = device.clone().autodiff();
        let layer = Norm::Batch.init(6, &train).unwrap();
        layer.forward(images(&train));
        let layer = layer.valid();
        let (scale, shift) = layer.scale_and_shift().unwrap();
        let x = images(&device);
        let folded = x.clone() * scale.reshape([1, 6, 1, 1]) + shift.reshape([1, 6, 1, 1]);
        let tolerance = Tolerance::<f32>::absolute(1e-5);
        let y = layer.forward(x).into_data();
        folded.into_data().assert_approx_eq(&y, tolerance);
        for norm in [Norm::Layer, Norm::Instance, Norm::Rms, Norm::None] {
            assert!(norm.init(6, &device).unwrap().scale_and_shift().is_none());
        }
    }
}

#[test]
fn layer_and_rms_normalize_the_channels_of_each_position() {
    for device in devices() {
        let x = images(&device);
        for norm in [Norm::Layer, Norm::Rms] {
            let y = norm.init(6, &device).unwrap().forward(x.clone());
            assert_eq!(y.dims(), [2, 6, 4, 3]);
            let channels = values(y.permute([0, 2, 3, 1]));
            for position in channels.chunks(6) {
                let mean = position.iter().sum::<f32>() / 6.0;
                let square = position.iter().map(|x| x * x).sum::<f32>() / 6.0;
                assert!((square - 1.0).abs() < 1e-3, "{norm}: {square}");
                assert!(norm == Norm::Rms || mean.abs() < 1e-5, "{norm}: {mean}");
            }
        }
    }
}

#[test]
fn zero_init_makes_the_output_zero_and_stays_trainable() {
    for device in devices() {
        let device = device.autodiff();
        for norm in ["batch", "layer", "instance", "group:3", "rms"] {
            let norm: Norm = norm.parse().unwrap();
            let layer = norm.init(6, &device).unwrap().zero_init();
            let y = layer.forward(images(&device));
            assert!(values(y.clone()).iter().all(|&y| y == 0.0), "{norm}");
            let weight = match &layer {
                NormLayer::Batch(layer) => layer.weight.as_ref().map(Param::val),
                NormLayer::Group(layer) => layer.weight.as_ref().map(Param::val),
                _ => continue,
            };
            let grads = y.sum().backward();
            assert!(weight.unwrap().grad(&grads).is_some(), "{norm}");
        }
    }
}

#[test]
fn state_has_the_names_and_shapes_of_pytorch() {
    let device = devices().remove(0);
    let named = |names: &[(&str, &[usize])]| -> Vec<(String, Vec<usize>)> {
        let own = |&(name, shape): &(&str, &[usize])| (name.to_string(), shape.to_vec());
        names.iter().map(own).collect()
    };
    let tracked: &[(&str, &[usize])] = &[
        ("weight", &[6]),
        ("bias", &[6]),
        ("running_mean", &[6]),
        ("running_var", &[6]),
        ("num_batches_tracked", &[]),
    ];
    let batch = Norm::Batch.init(6, &device).unwrap();
    assert_eq!(weights::names(&batch), named(tracked));
    let layer = LayerNormConfig::new([3, 5]).init(&device);
    assert_eq!(
        weights::names(&layer),
        named(&[("weight", &[3, 5]), ("bias", &[3, 5])])
    );
    let layer = LayerNormConfig::new(7).with_bias(false).init(&device);
    assert_eq!(weights::names(&layer), named(&[("weight", &[7])]));
    let rms = RmsNormConfig::new([2, 3, 4]).init(&device);
    assert_eq!(weights::names(&rms), named(&[("weight", &[2, 3, 4])]));
    let instance = InstanceNormConfig::new(6)
        .with_affine(true)
        .with_track_running_stats(true);
    assert_eq!(weights::names(&instance.init(&device)), named(tracked));
    let plain = BatchNormConfig::new(6)
        .with_affine(false)
        .with_track_running_stats(false);
    assert_eq!(weights::names(&plain.init(&device)), named(&[]));
    assert_eq!(
        weights::names(&LocalResponseNormConfig::new(5).init()),
        named(&[])
    );
}

#[test]
fn state_survives_a_file() {
    let folder = std::env::temp_dir().join(format!("kiln-norm-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (i, device) in devices().into_iter().enumerate() {
        let device = device.autodiff();
        let layer = Norm::Batch.init(6, &device).unwrap();
        for _ in 0..3 {
            layer.forward(images(&device));
        }
        let path = folder.join(format!("{i}.safetensors"));
        weights::save(&layer, &path).unwrap();
        let fresh = Norm::Batch.init(6, &device).unwrap();
        let (loaded, _) = weights::Load::new().into_model(fresh, &path).unwrap();
        let (NormLayer::Batch(before), NormLayer::Batch(after)) = (&layer, &loaded) else {
            panic!("another layer");
        };
        assert_eq!(running(before), running(after));
        assert_eq!(running(after).2, 3);
        // And training goes on from there.
        loaded.forward(images(&device));
        assert_eq!(running(after).2, 4);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_setting_is_one_word_and_reads_back() {
    for word in [
        "batch",
        "layer",
        "instance",
        "group:8",
        "group-size:16",
        "rms",
        "none",
    ] {
        let norm: Norm = word.parse().unwrap();
        assert_eq!(norm.to_string(), word);
        let json = serde_json::to_string(&norm).unwrap();
        assert_eq!(json, format!("{word:?}"));
        assert_eq!(serde_json::from_str::<Norm>(&json).unwrap(), norm);
    }
    assert_eq!(Norm::default(), Norm::Batch);
    for word in [
        "",
        "Batch",
        "group",
        "group:",
        "group:0",
        "group:x",
        "batch:2",
        "group-size:-1",
    ] {
        assert_eq!(
            word.parse::<Norm>(),
            Err(NormError::Unknown { given: word.into() })
        );
        assert!(serde_json::from_str::<Norm>(&format!("{word:?}")).is_err());
    }
}

#[test]
fn groups_that_do_not_come_out_even_are_refused_with_others_that_do() {
    let device = devices().remove(0);
    let text = |norm: Norm, channels| norm.init(channels, &device).unwrap_err().to_string();
    assert_eq!(
        text(Norm::Group { num_groups: 3 }, 64),
        "num_groups (3) must divide num_channels (64); try 1, 2 or 4"
    );
    assert_eq!(
        text(Norm::GroupSize { channels: 16 }, 24),
        "groups of 16 channels must fill num_channels (24); try groups of 8, 12 or 24"
    );
    assert!(text(Norm::Batch, 0).contains("1 channel or more"));
    let layer = Norm::GroupSize { channels: 2 }.init(6, &device).unwrap();
    let same = GroupNormConfig::new(3, 6).init(&device);
    let x = images(&device);
    assert_eq!(values(layer.forward(x.clone())), values(same.forward(x)));
}

#[test]
#[should_panic(expected = "expected more than 1 value per channel")]
fn one_value_per_channel_is_refused_in_training() {
    let device = devices().remove(0).autodiff();
    BatchNormConfig::new(3)
        .init(&device)
        .forward(Tensor::<4>::zeros([1, 3, 1, 1], &device));
}

#[test]
#[should_panic(expected = "the last axes of the input must be [4], but its shape is [2, 3]")]
fn a_wrong_shape_is_named() {
    let device = devices().remove(0);
    LayerNormConfig::new(4)
        .init(&device)
        .forward(Tensor::<2>::zeros([2, 3], &device));
}

#[test]
#[should_panic(expected = "num_groups (4) must divide num_channels (6)")]
fn channels_that_groups_do_not_divide_are_refused() {
    GroupNormConfig::new(4, 6).init(&devices().remove(0));
}

#[test]
fn configs_survive_json() {
    let config = LayerNormConfig::new([3, 4]).with_bias(false);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(
        serde_json::from_str::<LayerNormConfig>(&json).unwrap(),
        config
    );
    let config = BatchNormConfig::new(3).with_momentum(None);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(
        serde_json::from_str::<BatchNormConfig>(&json).unwrap(),
        config
    );
}

#[test]
fn what_a_layer_refuses_is_known_before_its_forward_pass() {
    for device in devices().into_iter().take(1) {
        for norm in [
            "batch",
            "layer",
            "instance",
            "group:2",
            "group-size:1",
            "rms",
            "none",
        ] {
            let norm: Norm = norm.parse().unwrap();
            for channels in [1, 4] {
                let Ok(fresh) = norm.init(channels, &device.clone().autodiff()) else {
                    continue;
                };
                for (layer, training) in [
                    (fresh.clone(), true),
                    (fresh.clone().freeze(), true),
                    (fresh.valid(), false),
                ] {
                    let on = match training {
                        true => device.clone().autodiff(),
                        false => device.clone(),
                    };
                    for (batch, side) in [(1, 1), (2, 1), (1, 2)] {
                        let shape = [batch, channels, side, side];
                        let forward = || layer.forward(Tensor::<4>::zeros(shape, &on));
                        let panics =
                            std::panic::catch_unwind(std::panic::AssertUnwindSafe(forward));
                        let refuses = layer.refuses(&shape, training);
                        assert_eq!(refuses, panics.is_err(), "{norm} {shape:?} {training}");
                    }
                }
            }
        }
    }
}
