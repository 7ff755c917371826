use super::*;
use burn::module::{Module, Param};
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::tensor::TensorData;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    start: Vec<f32>,
    grads: Vec<Vec<f32>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: toml::Table,
    steps: Vec<Vec<f32>>,
}

/// Written by `optimizers.py` beside it, which runs PyTorch.
fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/optimizers.json")).unwrap()
}

#[derive(Module, Debug)]
struct Weights {
    w: Param<Tensor<1>>,
}

/// Steps a case; `between` may replace the optimizer after each step.
fn run(
    golden: &Golden,
    case: &Case,
    device: &Device,
    between: impl Fn(ModuleOptimizer) -> ModuleOptimizer,
) -> Vec<Vec<f32>> {
    let mut table = case.config.clone();
    table.insert("name".into(), case.name.clone().into());
    let recipe: OptimizerRecipe = table.try_into().unwrap();
    let lr = recipe.learning_rate();
    let mut optim = optimizer(&recipe);
    let device = device.clone().autodiff();
    let start = TensorData::from(&golden.start[..]);
    let mut module = Weights {
        w: Param::from_tensor(Tensor::from_data(start, &device)),
    };
    golden
        .grads
        .iter()
        .map(|grad| {
            let mut grads = GradientsParams::new();
            let grad = TensorData::from(&grad[..]);
            let grad = Tensor::<1>::from_data(grad, &device.clone().inner());
            grads.register(module.w.id, grad);
            module = optim.step(lr, module.clone(), grads);
            optim = between(optim.clone());
            module.w.val().try_into_vec_as().unwrap()
        })
        .collect()
}

#[test]
fn every_step_equals_pytorchs() {
    let golden = golden();
    for device in kiln_testing::devices() {
        for case in &golden.cases {
            let got = run(&golden, case, &device, |optim| optim);
            for (step, (got, expected)) in got.iter().zip(&case.steps).enumerate() {
                for (got, expected) in got.iter().zip(expected) {
                    // A few roundings of f32 in five steps.
                    let tolerance = 2e-6 * expected.abs().max(0.1);
                    assert!(
                        (got - expected).abs() <= tolerance,
                        "{device:?} {} {:?} step {step}: {got} != {expected}",
                        case.name,
                        case.config,
                    );
                }
            }
        }
    }
}

#[test]
fn state_saved_and_loaded_after_every_step_changes_nothing() {
    let golden = golden();
    let device = kiln_testing::devices().remove(0);
    for case in &golden.cases {
        let mut table = case.config.clone();
        table.insert("name".into(), case.name.clone().into());
        let recipe: OptimizerRecipe = table.try_into().unwrap();
        let reload = |optim: ModuleOptimizer| {
            let bytes = optim.to_record().into_bytes().unwrap();
            optimizer(&recipe).load_record(OptimizerRecord::from_bytes(bytes).unwrap())
        };
        let through_files = run(&golden, case, &device, reload);
        assert_eq!(
            through_files,
            run(&golden, case, &device, |optim| optim),
            "{}",
            case.name
        );
    }
}
