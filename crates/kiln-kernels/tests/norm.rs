//! The kernels against the plain body, which Burn differentiates: uneven shapes, types, layouts, gradients.

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor, TensorData};
use kiln_kernels::{Affine, ChannelSpec, RowSpec, channel_affine, channel_norm, plain, row_norm};

/// Numbers that look random and are the same everywhere.
fn numbers(len: usize, seed: u64, mean: f32, std: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut unit = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    };
    // A sum of three is bell-shaped enough, its deviation 1.
    (0..len)
        .map(|_| mean + std * (unit() + unit() + unit()))
        .collect()
}

fn tensor<const D: usize>(data: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(data.to_vec(), shape), device)
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.clone().into_data().iter::<f64>().collect()
}

/// What a normalization gives: output, mean, variance, gradients of input, weight and bias.
type Results = Vec<(&'static str, Vec<f64>)>;

#[derive(Clone, Copy, Debug)]
enum Spec {
    Rows(RowSpec),
    Channels(ChannelSpec),
}

impl Spec {
    fn params(self) -> usize {
        match self {
            Self::Rows(spec) => spec.params(),
            Self::Channels(spec) => spec.channels,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Params {
    None,
    Weight,
    Both,
}

struct Case<const D: usize> {
    spec: Spec,
    params: Params,
    shape: [usize; D],
    mean: f32,
    std: f32,
    dtype: DType,
    /// Makes the input out of one of `shape`.
    view: fn(Tensor<D>) -> Tensor<D>,
}

impl<const D: usize> Case<D> {
    fn rows(shape: [usize; D], spec: RowSpec, params: Params) -> Self {
        Self {
            spec: Spec::Rows(spec),
            params,
            shape,
            mean: 0.5,
            std: 1.5,
            dtype: DType::F32,
            view: |x| x,
        }
    }

    fn channels(shape: [usize; D], params: Params) -> Self {
        Self {
            spec: Spec::Channels(ChannelSpec::of(&shape, 1e-5)),
            ..Self::rows(shape, RowSpec::rows_of(0, 0, 0.0), params)
        }
    }

    fn run(&self, device: &Device, fused: bool) -> Results {
        let len: usize = self.shape.iter().product();
        let cast = |x: Tensor<D>| match self.dtype {
            DType::F16 => x.cast(FloatDType::F16),
            DType::BF16 => x.cast(FloatDType::BF16),
            _ => x,
        };
        let leaf = tensor(&numbers(len, 1, self.mean, self.std), self.shape, device);
        let leaf = cast(leaf).require_grad();
        let x = (self.view)(leaf.clone());
        let n = self.spec.params();
        let param = |seed, mean| tensor(&numbers(n, seed, mean, 0.3), [n], device).require_grad();
        let (weight, bias) = (param(2, 1.0), param(3, 0.0));
        let used = match self.params {
            Params::None => (None, None),
            Params::Weight => (Some(weight.clone()), None),
            Params::Both => (Some(weight.clone()), Some(bias.clone())),
        };
        let (y, mean, var) = match fused {
            true => {
                let out = match self.spec {
                    Spec::Rows(spec) => row_norm(x, used.0, used.1, spec),
                    Spec::Channels(spec) => channel_norm(x, used.0, used.1, spec),
                };
                (out.output, out.mean, out.var)
            }
            false => {
                let affine = match used {
                    (Some(w), Some(b)) => Affine::Full(w.into_dispatch(), b.into_dispatch()),
                    (Some(w), None) => Affine::Weight(w.into_dispatch()),
                    _ => Affine::None,
                };
                let x = x.into_dispatch();
                let (y, mean, var, _) = match self.spec {
                    Spec::Rows(spec) => plain::row_norm::<Dispatch>(x, affine, spec),
                    Spec::Channels(spec) => plain::channel_norm::<Dispatch>(x, affine, spec),
                };
                (
                    Tensor::from_dispatch(y),
                    Tensor::from_dispatch(mean),
                    Tensor::from_dispatch(var),
                )
            }
        };
        assert_eq!(y.dtype(), self.dtype);
        let g = tensor(&numbers(len, 4, 0.1, 1.0), self.shape, device);
        let g = cast((self.view)(g.clone()).reshape(y.shape()));
        let grads = (y.clone() * g).sum().backward();
        let mut results = vec![
            ("y", values(&y)),
            ("mean", values(&mean)),
            ("var", values(&var)),
            ("dx", values(&leaf.grad(&grads).unwrap())),
        ];
        if self.params != Params::None {
            results.push(("dweight", values(&weight.grad(&grads).unwrap())));
        }
        if self.params == Params::Both {
            results.push(("dbias", values(&bias.grad(&grads).unwrap())));
        }
        results
    }

    /// Every number differs by no more than `tolerance` of the largest of its kind.
    ///
    /// The plain body runs on flex: Burn 0.22.1's mean of one row of 70,001 elements is 5 % off on software Vulkan.
    fn check(&self, tolerance: f64) {
        let reference = self.run(&Device::flex().autodiff(), false);
        for device in kiln_testing::devices() {
            let device = device.autodiff();
            for ((name, ours), (_, plain)) in self.run(&device, true).iter().zip(&reference) {
                assert_eq!(ours.len(), plain.len());
                let top = plain.iter().fold(1.0f64, |top, x| top.max(x.abs()));
                for (i, (a, b)) in ours.iter().zip(plain).enumerate() {
                    assert!(
                        (a - b).abs() <= tolerance * top,
                        "{name}[{i}] is {a}, plain {b}: {:?} {:?} {:?} on {device:?}",
                        self.spec,
                        self.params,
                        self.shape,
                    );
                }
            }
        }
    }
}

const ALL: [Params; 3] = [Params::None, Params::Weight, Params::Both];

#[test]
fn rows_of_any_length_and_number_agree() {
    for (rows, len) in [
        (1, 1),
        (1, 7),
        (3, 31),
        (5, 32),
        (2, 33),
        (7, 64),
        (3, 257),
        (300, 5),
        (1100, 1),
        (2, 5000),
        (9, 4099),
        (1, 70_001),
        (3, 40_000),
    ] {
        for params in ALL {
            let spec = RowSpec::rows_of(rows, len, 1e-5);
            Case::rows([rows, len], spec, params).check(2e-5);
        }
        let spec = RowSpec::rows_of(rows, len, 1e-6).uncentered();
        Case::rows([rows, len], spec, Params::Weight).check(2e-5);
    }
}

#[test]
fn groups_of_channels_agree() {
    for (shape, groups) in [
        ([2, 6, 3, 5], 1),
        ([2, 6, 3, 5], 2),
        ([3, 6, 5, 7], 6),
        ([5, 8, 1, 1], 2),
        ([2, 4, 9, 70], 4),
        ([1, 2, 210, 190], 1),
        ([1, 4, 210, 190], 4),
    ] {
        let [n, c, h, w] = shape;
        for params in ALL {
            let spec = RowSpec::groups_of(n, c, h * w, groups, 1e-5);
            Case::rows(shape, spec, params).check(2e-5);
        }
    }
}

#[test]
fn channels_of_any_span_and_number_agree() {
    for shape in [
        [2, 1, 1, 1],
        [7, 4, 1, 1],
        [300, 130, 1, 1],
        [5, 3, 3, 5],
        [2, 5, 4, 4],
        [33, 17, 7, 7],
        [9, 40, 13, 11],
        [3, 2, 130, 100],
        [1, 1, 200, 190],
        [1, 3, 260, 260],
        [130, 3, 2, 2],
    ] {
        for params in ALL {
            Case::channels(shape, params).check(2e-5);
        }
    }
}

#[test]
fn permuted_and_sliced_inputs_agree() {
    let permuted: fn(Tensor<3>) -> Tensor<3> = |x| x.permute([2, 0, 1]);
    let sliced: fn(Tensor<3>) -> Tensor<3> = |x| x.slice([1..4, 0..6, 2..9]);
    for (view, shape) in [(permuted, [6, 7, 3]), (sliced, [5, 8, 10])] {
        let [n, c, s] = [3, 6, 7];
        for params in ALL {
            Case {
                view,
                ..Case::rows(shape, RowSpec::rows_of(n * c, s, 1e-5), params)
            }
            .check(2e-5);
            Case {
                view,
                ..Case::rows(shape, RowSpec::groups_of(n, c, s, 2, 1e-5), params)
            }
            .check(2e-5);
            let spec = Spec::Channels(ChannelSpec::of(&[n, c, s], 1e-5));
            Case {
                view,
                spec,
                ..Case::channels(shape, params)
            }
            .check(2e-5);
        }
    }
}

#[test]
fn a_large_mean_with_a_small_deviation_keeps_its_digits() {
    // 64 times as far from zero as wide: E[x²] - E[x]² in f32 would lose three digits, the statistics in one read none.
    for params in ALL {
        let spec = RowSpec::rows_of(5, 3000, 1e-5);
        Case {
            mean: 64.0,
            std: 1.0,
            ..Case::rows([5, 3000], spec, params)
        }
        .check(2e-4);
        Case {
            mean: 64.0,
            std: 1.0,
            ..Case::channels([6, 5, 21, 13], params)
        }
        .check(2e-4);
    }
}

#[test]
fn half_precision_accumulates_in_f32() {
    for device in kiln_testing::devices() {
        for (dtype, float, tolerance) in [
            (DType::F16, FloatDType::F16, 2e-3),
            (DType::BF16, FloatDType::BF16, 2e-2),
        ] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            // Far more elements than a half-precision sum can count, around a mean that is not zero.
            let data = numbers(2 * 9000, 5, 3.0, 1.0);
            let wide = tensor(&data, [2, 9000], &device);
            let half = wide.clone().cast(float);
            let exact = half.clone().cast(FloatDType::F32);
            for spec in [
                RowSpec::rows_of(2, 9000, 1e-5),
                RowSpec::rows_of(2, 9000, 1e-5).uncentered(),
            ] {
                let ours = row_norm(half.clone(), None, None, spec);
                assert_eq!(ours.output.dtype(), dtype);
                assert_eq!(ours.mean.dtype(), DType::F32);
                let wide = row_norm(exact.clone(), None, None, spec);
                for (a, b) in values(&ours.output).iter().zip(values(&wide.output)) {
                    assert!(
                        (a - b).abs() <= tolerance * b.abs().max(1.0),
                        "{a} {b} {dtype:?}"
                    );
                }
                for (a, b) in values(&ours.var).iter().zip(values(&wide.var)) {
                    assert!((a - b).abs() <= 1e-4 * b, "{a} {b} {dtype:?}");
                }
            }
        }
    }
}

#[test]
fn gradients_of_half_precision_agree() {
    for device in kiln_testing::devices() {
        if !device.supports_dtype(DType::F16) {
            return;
        }
    }
    for params in ALL {
        let spec = RowSpec::rows_of(4, 37, 1e-5);
        Case {
            dtype: DType::F16,
            ..Case::rows([4, 37], spec, params)
        }
        .check(4e-3);
    }
}

#[test]
fn an_empty_batch_stays_empty() {
    for device in kiln_testing::devices() {
        let device = device.autodiff();
        let x = Tensor::<3>::zeros([0, 4, 5], &device);
        let ones = Tensor::<1>::ones([4], &device);
        let rows = RowSpec::groups_of(0, 4, 5, 2, 1e-5);
        let y = row_norm(x.clone(), Some(ones.clone()), None, rows);
        assert_eq!(y.output.dims(), [0, 4, 5]);
        let channels = ChannelSpec::of(&[0, 4, 5], 1e-5);
        let y = channel_norm(x.clone(), Some(ones.clone()), None, channels);
        assert_eq!(y.output.dims(), [0, 4, 5]);
        assert_eq!(values(&y.mean), [0.0; 4]);
        let y = channel_affine(x, ones.clone(), ones.clone(), ones);
        assert_eq!(y.dims(), [0, 4, 5]);
    }
}

#[test]
fn given_statistics_scale_and_shift_and_are_differentiated() {
    for device in kiln_testing::devices() {
        for shape in [[3, 5, 1], [2, 4, 50], [1, 3, 700]] {
            let (n, c) = (shape.iter().product(), shape[1]);
            let run = |device: &Device| {
                let x = tensor(&numbers(n, 1, 1.0, 2.0), shape, device);
                let p = |seed| tensor(&numbers(c, seed, 1.0, 0.5), [c], device);
                (x, p(2), p(3), p(4))
            };
            let plain = |x: Tensor<3>, m: Tensor<1>, a: Tensor<1>, b: Tensor<1>| {
                let wide = |p: Tensor<1>| p.reshape([1, c, 1]);
                (x - wide(m)) * wide(a) + wide(b)
            };
            let (x, m, a, b) = run(&device);
            let expected = plain(x.clone(), m.clone(), a.clone(), b.clone()).into_data();
            // Once with an input that others hold, once with one that may be written over.
            let shared = channel_affine(x.clone(), m.clone(), a.clone(), b.clone());
            let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-5);
            shared
                .into_data()
                .assert_approx_eq::<f32>(&expected, tolerance);
            let own = channel_affine(x, m, a, b);
            own.into_data()
                .assert_approx_eq::<f32>(&expected, tolerance);

            let (x, m, a, b) = run(&device.clone().autodiff());
            let (x, a) = (x.require_grad(), a.require_grad());
            let grads = |y: Tensor<3>| (y.clone() * y).sum().backward();
            let ours = grads(channel_affine(x.clone(), m.clone(), a.clone(), b.clone()));
            let burn = grads(plain(x.clone(), m.clone(), a.clone(), b.clone()));
            let dx = x.grad(&burn).unwrap().into_data();
            let tolerance = burn::tensor::Tolerance::<f32>::relative(1e-4);
            x.grad(&ours)
                .unwrap()
                .into_data()
                .assert_approx_eq::<f32>(&dx, tolerance);
            // A frozen layer, which only passes the gradient on.
            let fixed = a.clone().detach();
            let frozen = grads(channel_affine(x.clone(), m, fixed, b));
            x.grad(&frozen)
                .unwrap()
                .into_data()
                .assert_approx_eq::<f32>(&dx, tolerance);
            let da = a.grad(&burn).unwrap().into_data();
            a.grad(&ours)
                .unwrap()
                .into_data()
                .assert_approx_eq::<f32>(&da, tolerance);
        }
    }
}

#[test]
fn random_statistics_are_standard() {
    for device in kiln_testing::devices() {
        let x = Tensor::<2>::random([3, 2000], Distribution::Normal(7.0, 3.0), &device);
        let y = row_norm(x, None, None, RowSpec::rows_of(3, 2000, 0.0)).output;
        for row in values(&y).chunks(2000) {
            let mean = row.iter().sum::<f64>() / 2000.0;
            let var = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 2000.0;
            assert!(
                mean.abs() < 1e-5 && (var - 1.0).abs() < 1e-5,
                "{mean} {var}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "does not have 4 rows of 5 elements")]
fn a_wrong_number_of_elements_is_refused() {
    let device = kiln_testing::devices().remove(0);
    let x = Tensor::<2>::zeros([4, 6], &device);
    row_norm(x, None, None, RowSpec::rows_of(4, 5, 1e-5));
}
