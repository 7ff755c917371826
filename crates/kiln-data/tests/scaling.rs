//! The scalers against scikit-learn, and what scikit-learn's numbers do not show: chunks, devices, files, errors.

use burn::tensor::{Tensor, TensorData};
use kiln_data::scale::{
    Matrix, MaxAbsScaler, MinMaxScaler, Norm, Normalizer, RobustScaler, Scale, ScaleError, Scaler,
    StandardScaler,
};
use kiln_data::{Digits, LabeledImages, Split};

const NAMES: [&str; 8] = [
    "standard",
    "minmax",
    "minmax:-1,1",
    "robust",
    "maxabs",
    "normalize-l1",
    "normalize-l2",
    "normalize-max",
];

/// Numbers with a mean and a deviation of their own in each column, every 17th missing.
fn numbers(rows: usize, means: &[f64], deviation: f64) -> Matrix {
    let mut state = 1u64;
    let mut unit = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
    };
    let mut data = Vec::new();
    for i in 0..rows * means.len() {
        let value = means[i % means.len()] + deviation * unit();
        data.push(if i % 17 == 16 { f64::NAN } else { value });
    }
    Matrix::new(rows, means.len(), data).unwrap()
}

#[track_caller]
fn close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in std::iter::zip(got, expected) {
        let both_missing = got.is_nan() && expected.is_nan();
        assert!(
            both_missing || (got - expected).abs() <= tolerance,
            "{got} != {expected}"
        );
    }
}

#[test]
fn chunks_of_any_size_give_what_one_fit_gives() {
    let x = numbers(97, &[0.0, 1e8, -5.0], 1.0);
    let test = numbers(9, &[0.5, 1e8, -4.0], 2.0);
    for size in [1, 2, 7, 96] {
        for name in ["standard", "minmax", "maxabs"] {
            let (mut once, mut chunked): (Scaler, Scaler) =
                (name.parse().unwrap(), name.parse().unwrap());
            once.fit(&x).unwrap();
            // A chunk of one row is all missing values in some column now and then.
            for start in (0..x.rows()).step_by(size) {
                chunked
                    .partial_fit(&x.slice(start, x.rows().min(start + size)))
                    .unwrap();
            }
            let expected = once.transform(&test).unwrap();
            let got = chunked.transform(&test).unwrap();
            // An ulp of 1e8 is 1.5e-8; a mean is a sum of roundings of that size.
            close(got.as_slice(), expected.as_slice(), 1e-6);
        }
    }
}

#[test]
fn a_second_fit_forgets_the_first() {
    let (a, b) = (numbers(20, &[3.0], 1.0), numbers(20, &[-100.0], 5.0));
    let mut scaler = StandardScaler::new();
    scaler.fit(&a).unwrap();
    scaler.fit(&b).unwrap();
    let mut fresh = StandardScaler::new();
    fresh.fit(&b).unwrap();
    assert_eq!(scaler, fresh);
}

#[test]
fn a_large_mean_keeps_its_deviation_on_every_device() {
    // f32 has a grid of 8 at 1e8: mean and variance of the rounded numbers are known exactly.
    let values: Vec<f32> = (0..1000)
        .map(|i| 1e8 + [-8.0, 0.0, 8.0, 24.0][i % 4])
        .collect();
    let x = Matrix::new(1000, 1, values.clone()).unwrap();
    for device in kiln_testing::devices() {
        let tensor = Tensor::<2>::from_data(TensorData::new(values.clone(), [1000, 1]), &device);
        let mut scaler = StandardScaler::new();
        scaler.fit(&tensor).unwrap();
        assert_eq!(scaler.mean(), Some(&[1e8 + 6.0][..]));
        assert_eq!(scaler.var(), Some(&[140.0][..]));
        let on_device = scaler
            .transform(&tensor)
            .unwrap()
            .try_into_vec_as::<f64>()
            .unwrap();
        let on_host = scaler.transform(&x).unwrap();
        for (i, got) in on_device.iter().enumerate() {
            let expected = ([-8.0, 0.0, 8.0, 24.0][i % 4] - 6.0) / 140f64.sqrt();
            assert!(
                (got - expected).abs() < 1e-6,
                "{device:?}: {got} != {expected}"
            );
            assert!((f64::from(on_host.row(i)[0]) - expected).abs() < 1e-6);
        }
        let mut chunked = StandardScaler::new();
        for start in (0..1000).step_by(64) {
            chunked
                .partial_fit(&x.slice(start, 1000.min(start + 64)))
                .unwrap();
        }
        close(chunked.var().unwrap(), &[140.0], 1e-6);
    }
}

#[test]
fn tensors_are_scaled_as_matrices_are_and_back() {
    let host = numbers(33, &[2.0, -7.0, 0.25, 40.0], 3.0);
    let host32: Vec<f32> = host.as_slice().iter().map(|&v| v as f32).collect();
    let matrix = Matrix::new(33, 4, host32.clone()).unwrap();
    for device in kiln_testing::devices() {
        let x = Tensor::<2>::from_data(TensorData::new(host32.clone(), [33, 4]), &device);
        for name in &NAMES[..5] {
            let mut scaler: Scaler = name.parse().unwrap();
            scaler.fit(&x).unwrap();
            let y = scaler.transform(&x).unwrap();
            let expected: Vec<f64> = scaler
                .transform(&matrix)
                .unwrap()
                .into_vec()
                .iter()
                .map(|&v| v.into())
                .collect();
            close(
                &y.clone().try_into_vec_as::<f64>().unwrap(),
                &expected,
                2e-6,
            );
            let back = scaler.inverse_transform(&y).unwrap();
            let expected: Vec<f64> = host32.iter().map(|&v| v.into()).collect();
            close(&back.try_into_vec_as::<f64>().unwrap(), &expected, 2e-5);
        }
    }
}

#[test]
fn clipping_keeps_missing_values_on_every_device() {
    for device in kiln_testing::devices() {
        let mut scaler = MinMaxScaler::new().clip(true);
        scaler.fit(&Matrix::from_rows([[0.0f32], [10.0]])).unwrap();
        let x = Tensor::<2>::from_floats([[-5.0], [f32::NAN], [5.0], [15.0]], &device);
        let y = scaler
            .transform(&x)
            .unwrap()
            .try_into_vec_as::<f64>()
            .unwrap();
        close(&y, &[0.0, f64::NAN, 0.5, 1.0], 1e-7);
    }
}

#[test]
fn images_are_scaled_per_channel_and_normalized_per_image() {
    for device in kiln_testing::devices() {
        // Two images of 2 channels, 1x3 pixels.
        let values = [
            0.0, 1.0, 2.0, 10.0, 20.0, 30.0, 3.0, 4.0, 5.0, 40.0, 50.0, 60.0f32,
        ];
        let data = TensorData::new(values.to_vec(), [2, 2, 1, 3]);
        let x = Tensor::<4>::from_data(data, &device);
        let mut scaler = MinMaxScaler::new();
        scaler.fit(&x).unwrap();
        assert_eq!(scaler.data_min(), Some(&[0.0, 10.0][..]));
        assert_eq!(scaler.data_max(), Some(&[5.0, 60.0][..]));
        let y = scaler.transform(&x).unwrap();
        assert_eq!(y.dims(), [2, 2, 1, 3]);
        let expected = [0.0, 0.2, 0.4, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.6, 0.8, 1.0];
        close(&y.try_into_vec_as::<f64>().unwrap(), &expected, 1e-6);

        let y = Normalizer::new(Norm::Max).transform(&x).unwrap();
        let expected: Vec<f64> = values
            .iter()
            .enumerate()
            .map(|(i, &v)| f64::from(v) / if i < 6 { 30.0 } else { 60.0 })
            .collect();
        close(&y.try_into_vec_as::<f64>().unwrap(), &expected, 1e-6);
    }
}

#[test]
fn huge_values_have_a_finite_norm_and_tiny_ones_stay() {
    for device in kiln_testing::devices() {
        let x = Tensor::<2>::from_floats([[3e30, -4e30], [1e-8, 0.0], [0.0, 0.0]], &device);
        let y = Normalizer::new(Norm::L2)
            .transform(&x)
            .unwrap()
            .try_into_vec_as::<f64>()
            .unwrap();
        close(&y, &[0.6, -0.8, 1e-8, 0.0, 0.0, 0.0], 1e-6);
    }
}

#[test]
fn eight_bit_images_are_fitted_as_their_pixels_would_be() {
    let digits = Digits::new(3).generate(Split::Train, 50);
    let pixels = digits
        .images()
        .iter()
        .map(|&p| f64::from(p) / 255.0)
        .collect();
    let matrix = Matrix::new(digits.images().len(), 1, pixels).unwrap();
    let test = Matrix::from_rows([[0.0], [0.5], [1.0]]);
    for name in &NAMES[..5] {
        let (mut images, mut values): (Scaler, Scaler) =
            (name.parse().unwrap(), name.parse().unwrap());
        images.fit(&digits).unwrap();
        values.fit(&matrix).unwrap();
        let (got, expected) = (
            images.transform(&test).unwrap(),
            values.transform(&test).unwrap(),
        );
        close(got.as_slice(), expected.as_slice(), 1e-12);
    }
    let colour = LabeledImages::new(
        "c",
        vec!["a".into()],
        [2, 1, 2],
        vec![0, 255, 51, 102],
        vec![0],
    );
    let mut scaler = MaxAbsScaler::new();
    scaler.fit(&colour.unwrap()).unwrap();
    assert_eq!(scaler.max_abs(), Some(&[1.0, 0.4][..]));
}

#[test]
fn a_saved_scaler_comes_back_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scaler.json");
    // The last column holds nothing but NaN.
    let mut x = numbers(30, &[1.0 / 3.0, 1e8, 1e-9], 0.1).into_vec();
    x.iter_mut().skip(2).step_by(3).for_each(|v| *v = f64::NAN);
    let x = Matrix::new(30, 3, x).unwrap();
    for name in NAMES {
        let mut scaler: Scaler = name.parse().unwrap();
        scaler.fit(&x).unwrap();
        scaler.save(&path).unwrap();
        let loaded = Scaler::load(&path).unwrap();
        assert_eq!(loaded.to_json(), scaler.to_json());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn unfitted_use_is_an_error() {
    let x = Matrix::from_rows([[1.0]]);
    for name in &NAMES[..5] {
        let scaler: Scaler = name.parse().unwrap();
        let error = scaler.transform(&x).unwrap_err();
        assert!(matches!(error, ScaleError::Unfitted { .. }), "{error}");
        assert!(matches!(
            scaler.inverse_transform(&x),
            Err(ScaleError::Unfitted { .. })
        ));
    }
}

#[test]
fn another_number_of_features_is_an_error_that_gives_both() {
    let mut scaler = StandardScaler::new();
    scaler.fit(&numbers(5, &[0.0, 1.0], 1.0)).unwrap();
    let other = numbers(5, &[0.0, 1.0, 2.0], 1.0);
    let expected = "StandardScaler was fitted on 2 features, but the data have 3";
    assert_eq!(scaler.transform(&other).unwrap_err().to_string(), expected);
    assert_eq!(
        scaler.partial_fit(&other).unwrap_err().to_string(),
        expected
    );
    assert!(scaler.fit(&other).is_ok());
    let device = kiln_testing::devices().remove(0);
    let image = Tensor::<4>::zeros([1, 4, 2, 2], &device);
    assert!(
        scaler
            .transform(&image)
            .unwrap_err()
            .to_string()
            .ends_with("the data have 4")
    );
}

#[test]
fn values_that_no_scaler_takes_are_named_by_row_and_feature() {
    let x = Matrix::from_rows([[1.0, 2.0], [3.0, f64::INFINITY]]);
    let mut scaler = MinMaxScaler::new();
    let error = scaler.fit(&x).unwrap_err().to_string();
    assert!(
        error.starts_with("row 1, feature 1 is inf; MinMaxScaler takes finite numbers"),
        "{error}"
    );
    assert_eq!(scaler.data_min(), None);
    let x = Matrix::from_rows([[1.0, f64::NAN]]);
    let error = Normalizer::default().transform(&x).unwrap_err().to_string();
    assert!(
        error.contains("Normalizer takes finite numbers only"),
        "{error}"
    );
    let empty = Matrix::<f64>::new(0, 3, vec![]).unwrap();
    assert!(matches!(scaler.fit(&empty), Err(ScaleError::Empty { .. })));
    assert!(Matrix::new(2, 2, vec![1.0; 3]).is_err());
}

#[test]
fn settings_out_of_range_and_wrong_names_are_refused() {
    assert!(MinMaxScaler::new().feature_range(1.0, 1.0).is_err());
    assert!(MinMaxScaler::new().feature_range(0.0, f64::NAN).is_err());
    assert!(RobustScaler::new().quantile_range(60.0, 40.0).is_err());
    let wide = RobustScaler::new().quantile_range(0.0, 100.0).unwrap();
    assert!(wide.unit_variance(true).is_err());
    let error = RobustScaler::new()
        .partial_fit(&Matrix::from_rows([[1.0]]))
        .unwrap_err();
    assert!(error.to_string().contains("call fit"), "{error}");
    for name in [
        "Standard",
        "minmax:1",
        "minmax:2,1",
        "minmax:0,1,2",
        "standard:0,1",
        "",
    ] {
        assert!(name.parse::<Scaler>().is_err(), "{name}");
    }
    let error = Scaler::from(Normalizer::default())
        .inverse_transform(&Matrix::from_rows([[1.0]]))
        .unwrap_err();
    assert!(matches!(error, ScaleError::NoInverse { .. }));
}

#[test]
fn damaged_files_are_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scaler.json");
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let error = Scaler::load(&path).unwrap_err();
        assert!(matches!(error, ScaleError::NotAScaler { .. }), "{error}");
        error.to_string()
    };
    refused("mean 3, std 4");
    refused("{\"scaler\": \"StandardScaler\", \"with_mean\": true");
    assert!(refused("{\"scaler\": \"StdScaler\"}").contains("StdScaler"));
    let mut scaler: Scaler = "standard".parse().unwrap();
    scaler.fit(&numbers(5, &[0.0, 1.0], 1.0)).unwrap();
    let json = scaler.to_json().replace('\n', " ");
    let wrong = json.replace("\"mean\": [", "\"mean\": [\"many\", ");
    assert!(refused(&wrong).contains("many"));
    assert!(refused(&json.replace("\"mean\": [", "\"mean\": [1.0, ")).contains("length"));
    let minmax = "{\"scaler\": \"MinMaxScaler\", \"feature_range\": [3, 1], \"clip\": false, \"state\": null}";
    assert!(refused(minmax).contains("feature_range"));
    assert!(matches!(
        Scaler::load(folder.path().join("none")),
        Err(ScaleError::Io { .. })
    ));
}

#[test]
fn tables_that_are_not_numbers_are_refused_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.csv");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Matrix::read_csv(&path)
    };
    assert_eq!(
        read("a,b\n1,2\n\n3,4\n").unwrap().as_slice(),
        [1.0, 2.0, 3.0, 4.0]
    );
    assert_eq!(read("1,2\n").unwrap().rows(), 1);
    let error = read("a,b\n1,2\n3,red\n").unwrap_err().to_string();
    assert!(
        error.contains("line 3, column 2: \"red\" is not a number"),
        "{error}"
    );
    assert!(matches!(
        read("1,2\n3\n"),
        Err(ScaleError::Ragged { line: 2, .. })
    ));
    assert!(matches!(read("a,b\n"), Err(ScaleError::Empty { .. })));
    assert!(matches!(read(""), Err(ScaleError::Empty { .. })));
    // Not text at all.
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    assert!(matches!(
        Matrix::read_csv(&path),
        Err(ScaleError::Io { .. })
    ));
}
