//! Clipping against PyTorch, and what PyTorch's numbers do not show: devices, types, accumulation, skipped steps.

use burn::grad_clipping::GradientClippingConfig;
use burn::module::{Module, Param, ParamGroup};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsAccumulator, GradientsParams};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use kiln_clip::{
    AdaptiveGradClip, AgcExclude, AutoClip, ClipGroups, ClipState, GradClip, NormType,
    clip_grad_norm, clip_grad_norm_per_parameter, keep_if_nonfinite, total_norm,
};

#[derive(Module, Debug)]
struct Two {
    a: Param<Tensor<2>>,
    b: Param<Tensor<1>>,
}

fn two(device: &Device) -> Two {
    Two {
        a: Param::from_tensor(Tensor::ones([2, 3], device)),
        b: Param::from_tensor(Tensor::ones([4], device)),
    }
}

/// Gradients of these values throughout.
fn filled(net: &Two, a: f32, b: f32) -> GradientsParams {
    let mut grads = GradientsParams::new();
    grads.register(net.a.id, net.a.val().inner().full_like(a));
    grads.register(net.b.id, net.b.val().inner().full_like(b));
    grads
}

fn read(tensor: Tensor<1>) -> f64 {
    tensor.try_into_vec_as::<f64>().unwrap()[0]
}

fn values<const D: usize>(grads: &GradientsParams, param: &Param<Tensor<D>>) -> Vec<f32> {
    let grad = grads.get::<D>(param.id).unwrap();
    grad.try_into_vec_as::<f32>().unwrap()
}

fn near(got: f64, want: f64, tolerance: f64) {
    assert!(
        (got - want).abs() <= tolerance * want.abs(),
        "{got}, not {want}"
    );
}

#[test]
fn gradients_whose_squares_overflow_or_vanish_have_a_norm() {
    for device in kiln_testing::devices() {
        let net = two(&device);
        for size in [1e30f32, 1e-30] {
            for p in [2.0, 3.0, 0.5] {
                let mut grads = filled(&net, size, size);
                let norm = clip_grad_norm(&mut grads, &net, 1e-31, NormType::new(p).unwrap());
                near(read(norm), f64::from(size) * 10f64.powf(1.0 / p), 1e-5);
            }
            let mut grads = filled(&net, size, -size);
            clip_grad_norm(&mut grads, &net, 1.0, NormType::L2);
            let expected = if size > 1.0 {
                0.1f64.sqrt()
            } else {
                f64::from(size)
            };
            near(values(&grads, &net.a)[0].into(), expected, 1e-5);
        }
    }
}

#[test]
fn f16_and_bf16_gradients_are_summed_in_f32() {
    for device in kiln_testing::devices() {
        for dtype in [FloatDType::F16, FloatDType::BF16] {
            if !device.supports_dtype(DType::from(dtype)) {
                continue;
            }
            // 70,000 values of 16: their squares are over f16's largest number at once, and a sum of ones in bf16
            // stops at 256.
            let net: Param<Tensor<1>> = Param::from_tensor(Tensor::zeros([70_000], &device));
            let mut grads = GradientsParams::new();
            grads.register(
                net.id,
                Tensor::<1>::full([70_000], 16.0, &device).cast(dtype),
            );
            let norm = clip_grad_norm(&mut grads, &net, 70_000f64.sqrt(), NormType::L2);
            assert_eq!(norm.dtype(), DType::F32);
            near(read(norm), 16.0 * 70_000f64.sqrt(), 1e-5);
            let clipped = grads.get::<1>(net.id).unwrap();
            assert_eq!(clipped.dtype(), dtype.into());
            near(
                clipped.try_into_vec_as::<f32>().unwrap()[69_999].into(),
                1.0,
                1e-2,
            );
        }
    }
}

#[test]
fn gradients_on_several_devices_are_clipped_by_one_norm() {
    let devices = kiln_testing::devices();
    let [first, .., last] = &devices[..] else {
        return;
    };
    let mut net = two(first);
    net.b = Param::from_tensor(Tensor::ones([4], last));
    let mut grads = filled(&net, 3.0, 4.0);
    let norm = clip_grad_norm(&mut grads, &net, 1.0, NormType::L2);
    assert_eq!(&norm.device(), first);
    let expected = (6.0f64 * 9.0 + 4.0 * 16.0).sqrt();
    near(read(norm), expected, 1e-6);
    assert_eq!(&grads.get::<1>(net.b.id).unwrap().device(), last);
    near(values(&grads, &net.a)[5].into(), 3.0 / expected, 1e-5);
    near(values(&grads, &net.b)[3].into(), 4.0 / expected, 1e-5);

    let norms = clip_grad_norm_per_parameter(&mut grads, &net, 0.1, NormType::L2);
    near(read(norms.narrow(0, 1, 1)), 8.0 / expected, 1e-5);
    near(values(&grads, &net.a)[5].into(), 0.1 / 6f64.sqrt(), 1e-4);
    near(values(&grads, &net.b)[3].into(), 0.05, 1e-4);
}

#[test]
fn accumulated_gradients_are_clipped_as_their_sum() {
    for device in kiln_testing::devices() {
        let device = device.autodiff();
        let net = LinearConfig::new(3, 2).init(&device);
        let batch = |scale: f32| {
            let x = Tensor::<2>::from_floats([[1.0, -2.0, 0.5], [0.25, 3.0, 1.0]], &device) * scale;
            net.forward(x).square().sum()
        };
        let mut whole = GradientsParams::from_grads((batch(1.0) + batch(2.0)).backward(), &net);
        let mut accumulator = GradientsAccumulator::new();
        for scale in [1.0, 2.0] {
            let grads = GradientsParams::from_grads(batch(scale).backward(), &net);
            accumulator.accumulate(&net, grads);
        }
        let mut parts = accumulator.grads();
        let norms = [&mut whole, &mut parts]
            .map(|grads| read(clip_grad_norm(grads, &net, 0.5, NormType::L2)));
        near(norms[0], norms[1], 1e-6);
        for (a, b) in values(&whole, &net.weight)
            .into_iter()
            .zip(values(&parts, &net.weight))
        {
            near(a.into(), b.into(), 1e-5);
        }
        near(read(total_norm(&parts, &net, NormType::L2)), 0.5, 1e-5);
    }
}

#[test]
fn a_parameter_that_is_held_twice_counts_once() {
    for device in kiln_testing::devices() {
        let net = two(&device);
        let tied = vec![net.clone(), net.clone()];
        let mut grads = filled(&net, 3.0, 4.0);
        let expected = (6.0f64 * 9.0 + 4.0 * 16.0).sqrt();
        near(
            read(total_norm(&grads, &tied, NormType::L2)),
            expected,
            1e-6,
        );
        near(
            read(clip_grad_norm(&mut grads, &tied, 1.0, NormType::L2)),
            expected,
            1e-6,
        );
        near(values(&grads, &net.a)[0].into(), 3.0 / expected, 1e-5);
    }
}

#[test]
fn per_parameter_clipping_equals_burns() {
    for device in kiln_testing::devices() {
        let net = two(&device);
        let mut grads = filled(&net, 3.0, 0.01);
        let burns = GradientClippingConfig::Norm(1.0).init();
        let a = burns.clip_gradient(grads.get::<2>(net.a.id).unwrap());
        clip_grad_norm_per_parameter(&mut grads, &net, 1.0, NormType::L2);
        near(
            values(&grads, &net.a)[0].into(),
            read(a.reshape([6]).narrow(0, 0, 1)),
            1e-6,
        );
        // The other one is short enough.
        assert_eq!(values(&grads, &net.b), [0.01; 4]);
    }
}

#[test]
fn a_step_that_is_not_finite_is_skipped_on_the_device_and_counted() {
    for setting in [
        "none",
        "norm:1",
        "norm:1,inf",
        "param-norm:1",
        "value:0.5",
        "agc:0.1",
        "auto:50",
    ] {
        for device in kiln_testing::devices() {
            let net = two(&device);
            let mut clipper = setting
                .parse::<GradClip>()
                .unwrap()
                .init()
                .unwrap()
                .skip_nonfinite(true);
            for (i, bad) in [0.5, f32::NAN, f32::INFINITY, 0.25].into_iter().enumerate() {
                let mut grads = filled(&net, bad, 1.0);
                let clipped = clipper.clip(&mut grads, &net);
                let skipped = !bad.is_finite();
                assert_eq!(
                    clipped.finite.try_into_vec_as::<i32>().unwrap(),
                    [i32::from(!skipped)]
                );
                assert_eq!(values(&grads, &net.a) == [0.0; 6], skipped, "{setting} {i}");
                assert_eq!(values(&grads, &net.b) == [0.0; 4], skipped, "{setting} {i}");
                assert!(values(&grads, &net.b).iter().all(|v| v.is_finite()));
            }
            assert_eq!(clipper.skipped().unwrap(), 2, "{setting}");
            assert_eq!(clipper.state().unwrap().skipped, 2);
        }
    }
}

#[test]
fn without_skipping_a_norm_that_is_not_finite_goes_through_as_in_pytorch() {
    for device in kiln_testing::devices() {
        let net = two(&device);
        let mut clipper = "norm:1".parse::<GradClip>().unwrap().init().unwrap();
        let mut grads = filled(&net, f32::NAN, 1.0);
        clipper.clip(&mut grads, &net);
        assert!(values(&grads, &net.b).iter().all(|v| v.is_nan()));
        assert_eq!(clipper.skipped().unwrap(), 0);
    }
}

#[test]
fn weights_stay_at_a_skipped_step_though_the_optimizer_has_momentum() {
    for device in kiln_testing::devices() {
        let device = device.autodiff();
        let mut net = LinearConfig::new(3, 2).init(&device);
        let mut optim = AdamConfig::new().init();
        let mut clipper = "norm:1"
            .parse::<GradClip>()
            .unwrap()
            .init()
            .unwrap()
            .skip_nonfinite(true);
        let mut seen = vec![net.weight.val().inner().try_into_vec_as::<f32>().unwrap()];
        for scale in [1.0, f32::NAN, 1.0] {
            let x = Tensor::<2>::ones([2, 3], &device) * scale;
            let loss = net.forward(x).square().sum();
            let mut grads = GradientsParams::from_grads(loss.backward(), &net);
            let finite = clipper.clip(&mut grads, &net).finite;
            let before = net.clone();
            net = keep_if_nonfinite(&before, optim.step(0.1, net, grads), &finite);
            assert!(net.weight.is_require_grad() && net.bias.as_ref().unwrap().is_require_grad());
            seen.push(net.weight.val().inner().try_into_vec_as::<f32>().unwrap());
        }
        assert_ne!(seen[0], seen[1]);
        assert_eq!(seen[1], seen[2]);
        assert_ne!(seen[2], seen[3]);
    }
}

#[test]
fn each_group_has_its_own_setting_and_norm_and_the_last_match_counts() {
    for device in kiln_testing::devices() {
        let net = vec![two(&device), two(&device)];
        let mut grads = GradientsParams::new();
        for part in &net {
            grads.register(part.a.id, part.a.val().full_like(3.0));
            grads.register(part.b.id, part.b.val().full_like(4.0));
        }
        let mut clip = ClipGroups::new("norm:1".parse().unwrap())
            .unwrap()
            .group(
                ParamGroup::from_regex(r"^1\.").unwrap(),
                "value:2".parse().unwrap(),
            )
            .unwrap()
            .group(ParamGroup::from_path("1.b"), GradClip::None)
            .unwrap();
        let norms = clip.clip(&mut grads, &net);
        let norms: Vec<f64> = norms
            .into_iter()
            .map(|clipped| read(clipped.norm))
            .collect();
        let expected = (6.0f64 * 9.0 + 4.0 * 16.0).sqrt();
        near(norms[0], expected, 1e-6);
        near(norms[1], 54f64.sqrt(), 1e-6);
        near(norms[2], 8.0, 1e-6);
        near(values(&grads, &net[0].b)[0].into(), 4.0 / expected, 1e-5);
        assert_eq!(values(&grads, &net[1].a), [2.0; 6]);
        assert_eq!(values(&grads, &net[1].b), [4.0; 4]);
        assert_eq!(grads.len(), 4);
        assert!(ClipGroups::new(GradClip::Value { clip_value: -1.0 }).is_err());
    }
}

#[derive(Module, Debug)]
struct Mlp {
    first: Linear,
    head: Linear,
}

#[test]
fn agc_clips_the_outputs_of_a_linear_layer_and_leaves_the_last_layer_alone() {
    for device in kiln_testing::devices() {
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device);
        let net = Mlp {
            first: linear(3, 2),
            head: linear(2, 2),
        };
        let grads_of = || {
            let mut grads = GradientsParams::new();
            for layer in [&net.first, &net.head] {
                grads.register(layer.weight.id, layer.weight.val().full_like(7.0));
                let bias = layer.bias.as_ref().unwrap();
                grads.register(bias.id, bias.val().full_like(7.0));
            }
            grads
        };
        let length = |tensor: Tensor<2>| -> Vec<f32> {
            tensor.square().sum_dim(0).sqrt().try_into_vec_as().unwrap()
        };
        let agc = AdaptiveGradClip::new(0.01, 1e-3).unwrap();
        let mut grads = grads_of();
        agc.clip(&mut grads, &net);
        // Burn's weight is [in, out], so an output's norm runs over axis 0.
        let limits = length(net.first.weight.val());
        for (got, weight) in length(grads.get(net.first.weight.id).unwrap())
            .into_iter()
            .zip(limits)
        {
            near(got.into(), 0.01 * f64::from(weight), 1e-5);
        }
        assert!(values(&grads, net.first.bias.as_ref().unwrap())[0] < 0.1);
        assert_eq!(values(&grads, &net.head.weight), [7.0; 4]);
        assert_eq!(values(&grads, net.head.bias.as_ref().unwrap()), [7.0; 2]);

        let mut grads = grads_of();
        let group = ParamGroup::from_predicate("first");
        agc.exclude(AgcExclude::Group(group)).clip(&mut grads, &net);
        assert_eq!(values(&grads, &net.first.weight), [7.0; 6]);
        assert!(values(&grads, &net.head.weight)[0] < 0.1);
    }
}

/// `numpy.percentile` of linear interpolation.
fn percentile(seen: &[f64], q: f64) -> f64 {
    let mut sorted = seen.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() - 1) as f64 * q / 100.0;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[test]
fn autoclip_clips_to_the_percentile_of_all_norms_also_after_it_was_saved() {
    for device in kiln_testing::devices() {
        let net = two(&device);
        for q in [0.0, 10.0, 37.5, 100.0] {
            let mut clip = GradClip::Auto { percentile: q }.init().unwrap();
            let mut seen = Vec::new();
            // More than there is room for at first on the CPU; a software GPU needs seconds for each new size.
            let steps = 300;
            for step in 0..steps {
                let size = ((step * 37 % 101) as f32).exp2().log2() / 10.0 + 0.1;
                let mut grads = filled(&net, size, size);
                let norm = read(clip.clip(&mut grads, &net).norm);
                near(norm, f64::from(size) * 10f64.sqrt(), 1e-5);
                seen.push(norm);
                let expected = percentile(&seen, q).min(norm);
                near(
                    f64::from(values(&grads, &net.b)[0]) * 10f64.sqrt(),
                    expected,
                    2e-5,
                );
                if step == 100 {
                    // A run that goes on from a checkpoint.
                    let text = serde_json::to_string(&clip.state().unwrap()).unwrap();
                    let state: ClipState = serde_json::from_str(&text).unwrap();
                    assert_eq!(state, clip.state().unwrap());
                    clip = GradClip::Auto { percentile: q }
                        .init()
                        .unwrap()
                        .with_state(state);
                }
            }
            assert_eq!(clip.state().unwrap().history.len(), steps);
        }
    }
}

#[test]
fn autoclip_forgets_norms_that_are_not_finite() {
    for device in kiln_testing::devices() {
        let net = two(&device);
        let mut clip = AutoClip::new(50.0).unwrap();
        for size in [f32::NAN, 1.0, f32::INFINITY, 3.0] {
            clip.clip(&mut filled(&net, size, size), &net);
        }
        let history = clip.history().unwrap();
        assert_eq!(history.len(), 2);
        near(history[1].into(), 3.0 * 10f64.sqrt(), 1e-6);
        assert!(AutoClip::new(-1.0).is_err() && AutoClip::new(f64::NAN).is_err());
    }
}

#[test]
fn no_gradient_at_all_has_the_norm_0() {
    for device in kiln_testing::devices() {
        let net = two(&device);
        let mut grads = GradientsParams::new();
        assert_eq!(
            read(clip_grad_norm(&mut grads, &net, 1.0, NormType::L2)),
            0.0
        );
        assert_eq!(
            clip_grad_norm_per_parameter(&mut grads, &net, 1.0, NormType::L2).dims(),
            [0]
        );
        for setting in ["norm:1", "value:1", "agc:0.01", "auto:10", "none"] {
            let mut clipper = setting.parse::<GradClip>().unwrap().init().unwrap();
            assert_eq!(read(clipper.clip(&mut grads, &net).norm), 0.0);
        }
        // A gradient without values counts for nothing.
        let empty: Param<Tensor<1>> = Param::from_tensor(Tensor::zeros([0], &device));
        grads.register(empty.id, Tensor::<1>::zeros([0], &device));
        assert_eq!(
            read(clip_grad_norm(&mut grads, &empty, 1.0, NormType::L2)),
            0.0
        );
    }
}
