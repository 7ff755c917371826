//! Convolution, pooling, ReLU and Adam against Burn's own operations, over uneven shapes, layouts and options.

use burn::tensor::module::conv2d as burn_conv2d;
use burn::tensor::module::max_pool2d as burn_max_pool2d;
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, FloatDType, Tensor, activation};
use kiln_kernels::{AdamStep, adam, conv2d, max_pool2d, plain_adam, relu};

/// Numbers that need no generator of the device, which tests on other threads draw from.
fn random<const D: usize>(shape: [usize; D], seed: u32, device: &Device) -> Tensor<D> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let values = (0..shape.iter().product::<usize>()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    });
    let values: Vec<f32> = values.collect();
    Tensor::<1>::from_floats(values.as_slice(), device).reshape(shape)
}

fn assert_near<const D: usize>(what: &str, got: Tensor<D>, want: Tensor<D>) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let [got, want] = [got, want].map(|t| t.try_into_vec_as::<f64>().unwrap());
    let scale = want.iter().fold(1.0f64, |a, v| a.max(v.abs()));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let near = (got - want).abs() <= 2e-6 * scale;
        assert!(
            near,
            "{what}, value {i}: {got}, not {want} (largest {scale})"
        );
    }
}

/// Output and the gradients of image, weight and bias.
type Results = (Tensor<4>, [Tensor<4>; 2], Option<Tensor<1>>);

fn run(
    conv: fn(Tensor<4>, Tensor<4>, Option<Tensor<1>>, ConvOptions<2>) -> Tensor<4>,
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    options: &ConvOptions<2>,
) -> Results {
    let [x, weight] = [x, weight].map(|t| t.clone().require_grad());
    let bias = bias.map(|b| b.clone().require_grad());
    let y = conv(x.clone(), weight.clone(), bias.clone(), options.clone());
    let upstream = random(y.dims(), 9, &y.device()).cast(y.dtype());
    let grads = (y.clone() * upstream).sum().backward();
    let of = |t: &Tensor<4>| t.grad(&grads).expect("tracked");
    (
        y.inner(),
        [of(&x), of(&weight)],
        bias.map(|b| b.grad(&grads).expect("tracked")),
    )
}

fn assert_as_burn(x: Tensor<4>, weight: Tensor<4>, options: ConvOptions<2>) {
    let device = x.device();
    let [out, ..] = weight.dims();
    let bias = random([out], 3, &device).cast(x.dtype());
    for bias in [Some(&bias), None] {
        let what = |part| {
            let bias = bias.is_some();
            format!(
                "{part} of {:?} * {:?}, {options:?}, bias {bias}, {device:?}",
                x.dims(),
                weight.dims()
            )
        };
        let got = run(conv2d, &x, &weight, bias, &options);
        let want = run(burn_conv2d, &x, &weight, bias, &options);
        assert_near(&what("output"), got.0, want.0);
        let [dx, dw] = got.1;
        let [want_dx, want_dw] = want.1;
        assert_near(&what("gradient of x"), dx, want_dx);
        assert_near(&what("gradient of the weight"), dw, want_dw);
        if let (Some(got), Some(want)) = (got.2, want.2) {
            assert_near(&what("gradient of the bias"), got, want);
        }
    }
}

#[test]
fn output_and_gradients_are_those_of_burn() {
    // Images, weights, stride, padding, dilation.
    type Case = ([usize; 4], [usize; 4], [usize; 2], [usize; 2], [usize; 2]);
    let cases: [Case; 16] = [
        ([2, 1, 28, 28], [8, 1, 3, 3], [1, 1], [1, 1], [1, 1]),
        ([3, 5, 9, 7], [4, 5, 3, 3], [1, 1], [0, 0], [1, 1]),
        ([2, 3, 23, 21], [6, 3, 7, 7], [2, 2], [3, 3], [1, 1]),
        ([1, 4, 8, 8], [3, 4, 1, 1], [1, 1], [0, 0], [1, 1]),
        ([7, 6, 5, 4], [5, 6, 1, 1], [1, 1], [0, 0], [1, 1]),
        ([2, 4, 9, 9], [3, 4, 1, 1], [2, 2], [0, 0], [1, 1]),
        ([2, 4, 9, 9], [3, 4, 1, 1], [1, 1], [1, 1], [1, 1]),
        ([2, 2, 11, 13], [3, 2, 3, 5], [1, 2], [2, 1], [2, 1]),
        ([2, 2, 12, 12], [3, 2, 3, 3], [3, 3], [1, 1], [3, 2]),
        // A kernel wider than the image, and padding wider than the kernel's reach.
        ([1, 2, 2, 3], [2, 2, 5, 5], [1, 1], [2, 2], [1, 1]),
        ([1, 1, 1, 1], [2, 1, 3, 3], [2, 2], [4, 4], [1, 1]),
        // As wide as the image, so that columns are the plane shifted, in one tile and in several.
        ([2, 3, 9, 8], [4, 3, 3, 3], [1, 1], [2, 2], [2, 2]),
        ([1, 30, 50, 45], [7, 30, 5, 3], [1, 1], [1, 1], [1, 1]),
        // Small images, so that a tile takes several; the last takes fewer.
        ([37, 8, 3, 3], [16, 8, 3, 3], [1, 1], [1, 1], [1, 1]),
        // Several tiles for one image, and a weight gradient cut by channels.
        ([2, 40, 40, 40], [48, 40, 3, 3], [1, 1], [1, 1], [1, 1]),
        ([3, 72, 7, 7], [130, 72, 3, 3], [2, 2], [1, 1], [1, 1]),
    ];
    for device in kiln_testing::devices() {
        let device = device.autodiff();
        for (x, weight, stride, padding, dilation) in cases {
            // Convolutions of another backend are Burn's on both sides: a few will do.
            if device != Device::flex().autodiff() && x[1] * x[2] * x[3] > 200 {
                continue;
            }
            let options = ConvOptions::new(stride, padding, dilation, 1);
            assert_as_burn(random(x, 1, &device), random(weight, 2, &device), options);
        }
    }
}

#[test]
fn groups_other_types_and_asymmetric_padding_are_served_too() {
    for device in kiln_testing::devices() {
        let device = device.autodiff();
        let [x, weight] = [[2, 4, 6, 5], [4, 4, 3, 3]];
        let (x, weight) = (random(x, 1, &device), random(weight, 2, &device));
        let grouped = weight.clone().slice([0..4, 0..2]);
        assert_as_burn(
            x.clone(),
            grouped,
            ConvOptions::new([1, 1], [1, 1], [1, 1], 2),
        );
        let uneven = ConvOptions::new_with_padding([1, 1], [(0, 1), (2, 1)], [1, 1], 1);
        assert_as_burn(x.clone(), weight.clone(), uneven);
        let doubled = |t: Tensor<4>| t.cast(FloatDType::F64);
        let options = ConvOptions::new([2, 2], [1, 1], [1, 1], 1);
        assert_as_burn(doubled(x), doubled(weight), options);
    }
}

#[test]
fn images_and_weights_need_not_be_contiguous() {
    for device in kiln_testing::devices() {
        let device = device.autodiff();
        let x = random([6, 5, 2, 4], 1, &device)
            .permute([2, 3, 1, 0])
            .slice([0..2, 1..4]);
        let weight = random([3, 3, 3, 5], 2, &device).permute([3, 0, 2, 1]);
        assert_as_burn(x, weight, ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
    }
}

#[test]
fn a_tensor_that_is_not_tracked_gets_no_gradient() {
    for device in kiln_testing::devices() {
        let device = device.autodiff();
        let (x, weight) = (
            random([1, 2, 4, 4], 1, &device),
            random([2, 2, 3, 3], 2, &device),
        );
        let weight = weight.require_grad();
        let y = conv2d(
            x.clone(),
            weight.clone(),
            None,
            ConvOptions::new([1, 1], [1, 1], [1, 1], 1),
        );
        let grads = y.sum().backward();
        assert!(x.grad(&grads).is_none() && weight.grad(&grads).is_some());
    }
}

#[test]
fn nan_in_an_image_reaches_the_pixels_that_see_it_and_no_other() {
    for device in kiln_testing::devices() {
        let mut values = [1.0f32; 25];
        values[0] = f32::NAN;
        let x = Tensor::<1>::from_floats(values, &device).reshape([1, 1, 5, 5]);
        let weight = Tensor::<4>::ones([1, 1, 3, 3], &device);
        let y = conv2d(x, weight, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
        let y = y.try_into_vec_as::<f32>().unwrap();
        let nan: Vec<usize> = (0..25).filter(|&i| y[i].is_nan()).collect();
        assert_eq!(nan, [0, 1, 5, 6]);
    }
}

/// The output of an operation on one tensor, and the gradient.
fn with_gradient(x: &Tensor<4>, op: impl Fn(Tensor<4>) -> Tensor<4>) -> [Tensor<4>; 2] {
    let x = x.clone().require_grad();
    let y = op(x.clone());
    let upstream = random(y.dims(), 9, &y.device()).cast(y.dtype());
    let grads = (y.clone() * upstream).sum().backward();
    [y.inner(), x.grad(&grads).expect("tracked")]
}

/// Few different values, so that windows have equal ones.
fn coarse(shape: [usize; 4], device: &Device) -> Tensor<4> {
    (random(shape, 5, device) * 3.0).round()
}

#[test]
fn maximum_pooling_is_burns_also_where_values_are_equal() {
    let of = |kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]| {
        let options = MaxPoolOptions::new(kernel).with_stride(stride);
        options.with_padding_pairs(padding.map(|p| (p, p)))
    };
    let cases = [
        ([3, 5, 8, 6], of([2, 2], [2, 2], [0, 0])),
        ([3, 5, 9, 7], of([2, 2], [2, 2], [0, 0])),
        ([2, 3, 11, 12], of([3, 3], [2, 2], [1, 1])),
        ([1, 2, 5, 7], of([3, 2], [1, 3], [1, 0])),
        ([1, 1, 4, 4], of([4, 4], [4, 4], [2, 2])),
        ([70, 64, 4, 4], of([2, 2], [2, 2], [0, 0])),
        (
            [1, 2, 7, 7],
            of([3, 3], [2, 2], [0, 0]).with_dilation([2, 2]),
        ),
        (
            [1, 2, 6, 6],
            of([3, 3], [2, 2], [0, 0]).with_ceil_mode(true),
        ),
        (
            [1, 2, 6, 6],
            of([3, 3], [2, 2], [0, 0]).with_padding_pairs([(0, 1), (1, 0)]),
        ),
    ];
    for device in kiln_testing::devices() {
        let device = device.autodiff();
        for (shape, options) in &cases {
            for x in [random(*shape, 4, &device), coarse(*shape, &device)] {
                let got = with_gradient(&x, |x| max_pool2d(x, options.clone()));
                let want = with_gradient(&x, |x| burn_max_pool2d(x, options.clone()));
                for (i, (got, want)) in got.into_iter().zip(want).enumerate() {
                    let part = ["output", "gradient"][i];
                    assert_near(
                        &format!("{part} of {shape:?}, {options:?}, {device:?}"),
                        got,
                        want,
                    );
                }
            }
        }
    }
}

#[test]
fn the_maximum_of_a_window_with_nan_is_nan_and_takes_its_gradient_on_flex() {
    for device in kiln_testing::devices() {
        // Burn's own pooling loses NaN on some backends.
        if device != Device::flex() {
            continue;
        }
        let device = device.autodiff();
        for (size, kernel) in [(2, 2), (3, 3)] {
            let mut values = vec![1.0f32; size * size];
            values[1] = f32::NAN;
            let x = Tensor::<1>::from_floats(values.as_slice(), &device);
            let x = x.reshape([1, 1, size, size]).require_grad();
            let y = max_pool2d(x.clone(), MaxPoolOptions::new([kernel, kernel]));
            let grads = y.clone().sum().backward();
            assert!(y.into_scalar::<f32>().is_nan());
            let dx = x.grad(&grads).unwrap().try_into_vec_as::<f32>().unwrap();
            let at: Vec<usize> = (0..dx.len()).filter(|&i| dx[i] != 0.0).collect();
            assert_eq!(at, [1], "{device:?}");
        }
    }
}

#[test]
fn relu_is_burns_and_keeps_nan() {
    for device in kiln_testing::devices() {
        let device = device.autodiff();
        for x in [
            random([2, 3, 7, 5], 1, &device),
            coarse([3, 20, 30, 31], &device),
        ] {
            let got = with_gradient(&x, relu);
            let want = with_gradient(&x, activation::relu);
            for (got, want) in got.into_iter().zip(want) {
                assert_near(&format!("{device:?}"), got, want);
            }
        }
        let x = Tensor::<1>::from_floats([f32::NAN, -0.0, f32::NEG_INFINITY, 3.0], &device);
        let y = relu(x).try_into_vec_as::<f32>().unwrap();
        assert!(y[0].is_nan() && y[1..] == [0.0, 0.0, 3.0], "{y:?}");
    }
}

#[test]
fn a_tensor_that_someone_holds_is_not_written_over() {
    for device in kiln_testing::devices() {
        let values = |t: &Tensor<4>| t.clone().try_into_vec_as::<f32>().unwrap();
        let x: Tensor<4> = random([1, 1, 3, 4], 1, &device);
        let before = values(&x);
        let _ = relu(x.clone());
        let moments = [x.clone(), x.clone().square()];
        let step = AdamStep {
            betas: [0.9, 0.99],
            size: 0.1,
            eps: 1e-8,
            l2: 0.1,
            keep: 0.9,
        };
        let _ = adam(x.clone(), x.clone(), Some(moments.clone()), step);
        assert_eq!(values(&x), before);
        assert_eq!(values(&moments[1]), values(&x.square()));
    }
}

#[test]
fn steps_of_adam_are_those_of_tensor_operations() {
    for device in kiln_testing::devices() {
        let steps = [(0.0, 1.0), (0.1, 1.0), (0.0, 0.9)];
        for (l2, keep) in steps {
            let step = AdamStep {
                betas: [0.8, 0.95],
                size: 0.01,
                eps: 1e-6,
                l2,
                keep,
            };
            // More values than a thread takes at once, and another layout.
            let weight: Tensor<2> = random([150, 130], 1, &device).transpose();
            let (mut a, mut b) = ((weight.clone(), None), (weight, None));
            for seed in 2..5 {
                let grad: Tensor<2> = random([130, 150], seed, &device);
                let (weight, moments) = adam(a.0, grad.clone(), a.1, step);
                a = (weight, Some(moments));
                let (weight, moments) = plain_adam(b.0, grad, b.1, step);
                b = (weight, Some(moments));
            }
            let what = format!("l2 {l2}, keep {keep}, {device:?}");
            assert_near(&what, a.0, b.0);
            for (a, b) in a.1.unwrap().into_iter().zip(b.1.unwrap()) {
                assert_near(&what, a, b);
            }
        }
    }
}
