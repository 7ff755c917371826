//! What gradients tell, on gradients made to tell it.

use burn::module::Param;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use kiln_clip::{Diagnosis, GradHealth, LayerHealth, Verdict};

fn layers(count: usize, device: &Device) -> Vec<Linear> {
    let layer = |_| LinearConfig::new(4, 4).with_bias(false).init(device);
    (0..count).map(layer).collect()
}

fn measure(net: &[Linear], norm: impl Fn(usize) -> f32) -> GradHealth {
    let net = net.to_vec();
    let mut grads = GradientsParams::new();
    for (i, layer) in net.iter().enumerate() {
        grads.register(layer.weight.id, layer.weight.val().full_like(norm(i) / 4.0));
    }
    GradHealth::measure(&grads, &net).read().unwrap()
}

#[test]
fn a_layers_numbers_are_those_of_its_gradient() {
    for device in kiln_testing::devices() {
        let param: Param<Tensor<2>> = Param::from_tensor(Tensor::full([2, 4], 0.5, &device));
        let mut grads = GradientsParams::new();
        let values = [[3.0, 0.0, 1e-9, 4.0], [0.0, 0.0, 0.0, 0.0]];
        grads.register(param.id, Tensor::<2>::from_floats(values, &device));
        let health = GradHealth::measure(&grads, &vec![param.clone()])
            .read()
            .unwrap();
        let expected = LayerHealth {
            name: "0".into(),
            rank: 2,
            values: 8,
            grad_norm: Some(5.0),
            weight_norm: Some(2f64.sqrt()),
            zero: 0.625,
            tiny: 0.125,
            nonfinite: 0.0,
            dead_units: 0.5,
        };
        let got = &health.layers[0];
        assert!((got.weight_norm.unwrap() - 2f64.sqrt()).abs() < 1e-6);
        assert!((got.ratio().unwrap() - 5.0 / 2f64.sqrt()).abs() < 1e-5);
        assert_eq!(
            LayerHealth {
                weight_norm: expected.weight_norm,
                ..got.clone()
            },
            expected
        );

        grads.register(
            param.id,
            Tensor::<2>::from_floats(
                [[f32::NAN, 1.0, 2.0, 3.0], [f32::INFINITY, 0.0, 0.0, 1.0]],
                &device,
            ),
        );
        let health = GradHealth::measure(&grads, &vec![param]).read().unwrap();
        assert_eq!(
            (health.layers[0].grad_norm, health.layers[0].nonfinite),
            (None, 0.25)
        );
        assert_eq!(health.total_norm(), None);
        assert_eq!(health.diagnosis().verdict, Verdict::Nonfinite);
        let json = serde_json::to_string(&health).unwrap();
        assert_eq!(serde_json::from_str::<GradHealth>(&json).unwrap(), health);
    }
}

#[test]
fn the_diagnosis_names_what_it_sees_and_where() {
    let device = kiln_testing::devices().remove(0);
    let net = layers(5, &device);
    let says = |norm: &dyn Fn(usize) -> f32| measure(&net, norm).diagnosis().to_string();
    assert_eq!(
        says(&|i| 10f32.powi(i as i32 * 2 - 8)),
        "vanishing: the gradient that reaches 0.weight is 1.0e8 times weaker than at 4.weight; try residual connections, \
         ReLU instead of sigmoid or tanh, normalization, or He or Xavier initialization"
    );
    assert!(says(&|i| 10f32.powi(-(i as i32))).starts_with(
        "exploding: the gradient grows 1.0e4 times from 4.weight to 0.weight; try residual connections"
    ));
    assert!(says(&|_| 1e5).starts_with("exploding: the gradient of "));
    assert!(
        says(&|i| if i == 2 { 0.0 } else { 1.0 })
            .starts_with("dead: 100 % of the units of 2.weight have no gradient; ")
    );
    assert_eq!(
        says(&|i| 1.0 + i as f32),
        "fine: the gradient norm of the 5 layers lies between 1.00e0 and 5.00e0"
    );
}

#[test]
fn a_run_is_judged_by_its_second_half_and_a_leap_by_all_of_it() {
    let device = kiln_testing::devices().remove(0);
    let net = layers(3, &device);
    let vanishing = |_: usize| measure(&net, |i| 10f32.powi(i as i32 * 3 - 6));
    let fine = |size: f32| measure(&net, |_| size);
    let mut run: Vec<GradHealth> = (0..4).map(vanishing).collect();
    run.extend((0..6).map(|_| fine(1.0)));
    assert_eq!(Diagnosis::of(&run).verdict, Verdict::Fine);
    run.extend((0..9).map(vanishing));
    assert_eq!(Diagnosis::of(&run).verdict, Verdict::Vanishing);

    let mut run: Vec<GradHealth> = (0..10).map(|_| fine(0.1)).collect();
    run[7] = fine(50.0);
    let diagnosis = Diagnosis::of(&run);
    assert_eq!(diagnosis.verdict, Verdict::Exploding);
    assert!(
        diagnosis
            .text
            .contains("leaps to 8.66e1, 500 times its median"),
        "{diagnosis}"
    );
    // The first step's norm is often large; it has only fallen since.
    run[7] = fine(0.1);
    run[0] = fine(50.0);
    assert_eq!(Diagnosis::of(&run).verdict, Verdict::Fine);
    assert_eq!(Diagnosis::of(&[]).verdict, Verdict::Fine);
}
