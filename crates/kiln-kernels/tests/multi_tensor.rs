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
