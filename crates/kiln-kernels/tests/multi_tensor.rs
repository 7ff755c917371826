//! The operations on many tensors against their plain bodies, over uneven shapes, layouts and numbers.

use burn::backend::DispatchTensor;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use kiln_kernels::multi_tensor::{norms, plain, scale};

/// Tensors of many sizes: one value, uneven ones, some that take several chunks, transposed, a part of another, a broadcast,
/// a part whose rows lie far apart.
fn tensors(device: &Device, size: f64) -> Vec<DispatchTensor> {
    let random = |n: usize| -> Tensor<1> {
        // Not the device's generator, which tests on other threads draw from.
        let mut state = n as u32;
        let values = (0..n).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f64::from(state) / f64::from(u32::MAX) * 4.0 - 2.0) * size
        });
        let values: Vec<f32> = values.map(|value| value as f32).collect();
        Tensor::from_floats(values.as_slice(), device)
    };
    let mut list: Vec<DispatchTensor> = [1, 2, 7, 15, 17, 257, 1023, 1025, 40_000, 70_001]
        .map(|n| random(n).into_dispatch())
        .to_vec();
    let matrix = random(35).reshape([5, 7]);
    list.push(matrix.clone().transpose().into_dispatch());
    list.push(matrix.clone().slice([1..3, 2..7]).into_dispatch());
    list.push(matrix.slice([0..1, 0..7]).expand([6, 7]).into_dispatch());
    let wide = random(4 * 9 * 16).reshape([4, 9, 16]);
    list.push(wide.slice([0..4, 0..9, 0..12]).into_dispatch());
    list.push(
        random(120)
            .reshape([2, 3, 4, 5])
            .permute([3, 0, 2, 1])
            .into_dispatch(),
    );
    list
}

/// Where the plain bodies run that kernels are compared with: a software GPU's own sums of long rows are not to be relied on.
fn reference() -> Device {
    Device::flex()
}

fn read(tensor: Tensor<1>) -> Vec<f64> {
    tensor.try_into_vec_as::<f64>().unwrap()
}

#[test]
fn norms_equal_those_of_the_plain_body() {
    for device in kiln_testing::devices() {
        for p in [1.0, 2.0, 3.0, 0.5, f64::INFINITY] {
            for size in [1.0, 1e25, 1e-25] {
                let tensors = tensors(&device, size);
                let got = read(norms(&tensors, p));
                let want = read(plain::norms(&self::tensors(&reference(), size), p));
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    let near = (got - want).abs() <= 1e-5 * want;
                    assert!(
                        near,
                        "{device:?}, p {p}, {size}, tensor {i}: {got}, not {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_value_that_is_not_finite_is_seen_wherever_it_is() {
    for device in kiln_testing::devices() {
        for p in [1.0, 2.0, 3.0, f64::INFINITY] {
            for (bad, place) in [
                (f32::NAN, 0),
                (f32::NAN, 33_000),
                (f32::INFINITY, 20),
                (f32::NEG_INFINITY, 39_999),
            ] {
                let mut values = vec![1.0f32; 40_000];
                values[place] = bad;
                let tensor = Tensor::<1>::from_floats(values.as_slice(), &device).into_dispatch();
                let fine = Tensor::<1>::ones([3], &device).into_dispatch();
                let got = read(norms(&[tensor, fine], p));
                assert_eq!(
                    got[0].is_nan(),
                    bad.is_nan(),
                    "{device:?}, p {p}, {bad}: {got:?}"
                );
                assert!(!got[0].is_finite() && got[1].is_finite(), "{got:?}");
            }
        }
    }
}

#[test]
fn products_equal_those_of_the_plain_body() {
    for device in kiln_testing::devices() {
        let count = tensors(&device, 1.0).len();
        let each: Vec<f32> = (0..count)
            .map(|i| [0.5, 1.0, 0.0, f32::NAN][i % 4])
            .collect();
        for factors in [vec![0.3], vec![0.0], vec![1.0], each] {
            let factors = Tensor::<1>::from_floats(factors.as_slice(), &device);
            for zero in [false, true] {
                let got = scale(tensors(&device, 1.0), &factors, zero);
                let factors = factors.clone().to_device(&reference());
                let want = plain::scale(tensors(&reference(), 1.0), &factors, zero);
                for (i, (got, want)) in got.into_iter().zip(want).enumerate() {
                    let (got, want) = (read(plain::flat(got)), read(plain::flat(want)));
                    assert_eq!(got.len(), want.len());
                    for (got, want) in got.into_iter().zip(want) {
                        let same = got == want || got.is_nan() && want.is_nan();
                        assert!(same, "{device:?}, tensor {i}: {got}, not {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_factor_of_0_clears_what_is_not_finite_only_when_asked() {
    for device in kiln_testing::devices() {
        for zero in [false, true] {
            let bad = Tensor::<1>::from_floats([f32::NAN, f32::INFINITY, 1.0], &device);
            let factor = Tensor::<1>::zeros([1], &device);
            let got = read(plain::flat(
                scale(vec![bad.into_dispatch()], &factor, zero).remove(0),
            ));
            assert_eq!(got[0].is_nan(), !zero);
            assert_eq!(got[1].is_nan(), !zero);
            assert_eq!(got[2], 0.0);
        }
    }
}

/// Sizes of a network's gradients, small ones most of them.
fn sizes() -> Vec<usize> {
    (0..203).map(|i| (i * i * 7) % 97 + 1).collect()
}

fn numbered(n: usize, i: usize) -> Vec<f32> {
    (0..n)
        .map(|k| ((k * 31 + i * 17) % 41) as f32 - 20.0)
        .collect()
}

#[test]
fn hundreds_of_tensors_keep_their_places() {
    for device in kiln_testing::devices() {
        let list = || -> Vec<DispatchTensor> {
            let sizes = sizes().into_iter().enumerate();
            let tensor = |(i, n)| Tensor::<1>::from_floats(numbered(n, i).as_slice(), &device);
            sizes.map(|pair| tensor(pair).into_dispatch()).collect()
        };
        let got = read(norms(&list(), 2.0));
        for (i, n) in sizes().into_iter().enumerate() {
            let values = numbered(n, i).into_iter().map(f64::from);
            let want = values.map(|v| v * v).sum::<f64>().sqrt();
            assert!(
                (got[i] - want).abs() <= 1e-6 * want,
                "{i}: {} {want}",
                got[i]
            );
        }
        let factors: Vec<f32> = (0..sizes().len()).map(|i| i as f32 * 0.5).collect();
        let factors = Tensor::from_floats(factors.as_slice(), &device);
        for (i, scaled) in scale(list(), &factors, false).into_iter().enumerate() {
            let want = numbered(sizes()[i], i).into_iter();
            let want: Vec<f64> = want.map(|v| f64::from(v) * i as f64 * 0.5).collect();
            assert_eq!(read(plain::flat(scaled)), want, "{i}");
        }
    }
}

#[test]
fn long_tensors_take_many_parts() {
    for device in kiln_testing::devices() {
        // More parts than a workgroup has threads, in loads of one value and of four.
        for n in [700_001, 2_200_000] {
            let values = numbered(n, 3);
            let tensor = Tensor::<1>::from_floats(values.as_slice(), &device).into_dispatch();
            for p in [1.0, 2.0, f64::INFINITY] {
                let values = values.iter().map(|&v| f64::from(v).abs());
                let want = match p {
                    1.0 => values.sum(),
                    2.0 => values.map(|v| v * v).sum::<f64>().sqrt(),
                    _ => values.fold(0.0, f64::max),
                };
                let got = read(norms(std::slice::from_ref(&tensor), p))[0];
                // The plain body on ndarray adds one value after another; the kernels are far closer.
                assert!((got - want).abs() <= 1e-4 * want, "{n} {p}: {got} {want}");
            }
            let factor = Tensor::from_floats([0.5], &device);
            let scaled = read(plain::flat(scale(vec![tensor], &factor, false).remove(0)));
            let wrong = (0..n).find(|&i| scaled[i] != f64::from(values[i]) * 0.5);
            assert_eq!(wrong, None, "{n}");
        }
    }
}

#[test]
fn half_precision_is_summed_and_multiplied_in_f32() {
    for device in kiln_testing::devices() {
        for (dtype, float) in [
            (DType::F16, FloatDType::F16),
            (DType::BF16, FloatDType::BF16),
        ] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            // 300 squares of 256 are more than f16 holds.
            let large = || Tensor::<1>::full([300], 256.0, &device).cast(float);
            let odd = || Tensor::<1>::from_floats([3.0, -4.0, 0.0], &device).cast(float);
            let single = Tensor::<1>::from_floats([2.0], &device);
            let list = [
                large().into_dispatch(),
                odd().into_dispatch(),
                single.into_dispatch(),
            ];
            for (p, want) in [(1.0, [76_800.0, 7.0, 2.0]), (2.0, [4434.05, 5.0, 2.0])] {
                let got = norms(&list, p);
                assert_eq!(got.dtype(), DType::F32);
                for (got, want) in read(got).into_iter().zip(want) {
                    assert!((got - want).abs() < 1e-5 * want, "{dtype:?} {got} {want}");
                }
            }
            // Not 0, as 1e-9 would be in f16.
            let factor = Tensor::<1>::from_floats([1e-9], &device);
            let wide = Tensor::<1>::full([5], 32_768.0, &device).cast(float);
            let scaled = scale(vec![wide.into_dispatch()], &factor, true).remove(0);
            let scaled = plain::flat(scaled);
            assert_eq!(scaled.dtype(), dtype);
            for value in read(scaled) {
                assert!((value - 3.277e-5).abs() < 2e-7, "{dtype:?} {value}");
            }
        }
    }
}

#[test]
fn a_tensor_that_someone_holds_stays_as_it_is_and_one_without_values_too() {
    for device in kiln_testing::devices() {
        let half = Tensor::<1>::from_floats([0.5], &device);
        let held = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0], &device);
        let free = Tensor::<1>::from_floats([8.0, 6.0, 4.0, 2.0], &device);
        let twice = Tensor::<2>::from_floats([[1.0, -1.0, 3.0]], &device).into_dispatch();
        let list = vec![
            held.clone().into_dispatch(),
            free.into_dispatch(),
            twice.clone(),
            twice,
            Tensor::<2>::zeros([3, 0], &device).into_dispatch(),
        ];
        let scaled = scale(list, &half, false).into_iter();
        let scaled: Vec<Vec<f64>> = scaled.map(|t| read(plain::flat(t))).collect();
        assert_eq!(read(held), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(scaled[0], [0.5, 1.0, 1.5, 2.0]);
        assert_eq!(scaled[1], [4.0, 3.0, 2.0, 1.0]);
        assert_eq!(scaled[2], [0.5, -0.5, 1.5]);
        assert_eq!(scaled[3], scaled[2]);
        assert!(scaled[4].is_empty());
    }
}

#[test]
fn the_same_tensors_give_the_same_bits() {
    for device in kiln_testing::devices() {
        let list = tensors(&device, 1.0);
        let first = read(norms(&list, 2.0));
        for _ in 0..3 {
            assert_eq!(read(norms(&list, 2.0)), first, "{device:?}");
        }
    }
}

#[test]
fn zeros_and_the_extremes_of_f32_have_norms() {
    for device in kiln_testing::devices() {
        let of = |values: [f32; 4]| Tensor::<1>::from_floats(values, &device).into_dispatch();
        let list = [
            of([0.0; 4]),
            of([1e38, -1e38, 0.0, 0.0]),
            of([2e-38; 4]),
            of([1e38, 1e-38, 0.0, 0.0]),
        ];
        for (p, want) in [
            (1.0, [0.0, 2e38, 8e-38, 1e38]),
            (2.0, [0.0, 1.414_213_6e38, 4e-38, 1e38]),
            (3.0, [0.0, 1.259_921e38, 3.174_802e-38, 1e38]),
            (f64::INFINITY, [0.0, 1e38, 2e-38, 1e38]),
        ] {
            for (i, (got, want)) in read(norms(&list, p)).into_iter().zip(want).enumerate() {
                let near = (got - want).abs() <= 1e-5 * want;
                assert!(near, "{device:?}, p {p}, tensor {i}: {got}, not {want}");
            }
        }
    }
}
