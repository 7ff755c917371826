use super::*;
use burn::module::{Module, Param};
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::tensor::TensorData;

#[derive(Module, Debug)]
struct Weights {
    w: Param<Tensor<1>>,
}

/// Five steps of an optimizer; `between` may replace it after each. That the steps are PyTorch's is tested where all golden
/// files are compared.
fn run(
    recipe: &OptimizerRecipe,
    device: &Device,
    between: impl Fn(ModuleOptimizer) -> ModuleOptimizer,
) -> Vec<f32> {
    let lr = recipe.learning_rate();
    let mut optim = optimizer(recipe);
    let device = device.clone().autodiff();
    let start = TensorData::from([0.5, -1.0, 2.0, 1e-3]);
    let mut module = Weights {
        w: Param::from_tensor(Tensor::from_data(start, &device)),
    };
    for step in 1..=5 {
        let mut grads = GradientsParams::new();
        let grad = TensorData::from([0.1 * step as f32, -0.2, 3.0 - step as f32, 1e-6]);
        let grad = Tensor::<1>::from_data(grad, &device.clone().inner());
        grads.register(module.w.id, grad);
        module = optim.step(lr, module, grads);
        optim = between(optim);
    }
    module.w.val().try_into_vec_as().unwrap()
}

#[test]
fn state_saved_and_loaded_after_every_step_changes_nothing() {
    let device = kiln_testing::devices().remove(0);
    for text in [
        "name = 'sgd'\nmomentum = 0.9\ndampening = 0.3\nweight_decay = 0.05",
        "name = 'sgd'\nmomentum = 0.9\nnesterov = true",
        "name = 'adam'",
        "name = 'adamw'\nlr = 0.1",
        "name = 'rmsprop'\ncentered = true\nmomentum = 0.5",
    ] {
        let recipe: OptimizerRecipe = toml::from_str(text).unwrap();
        let reload = |optim: ModuleOptimizer| {
            let bytes = optim.to_record().into_bytes().unwrap();
            optimizer(&recipe).load_record(OptimizerRecord::from_bytes(bytes).unwrap())
        };
        let through_files = run(&recipe, &device, reload);
        let forgetful = run(&recipe, &device, |_| optimizer(&recipe));
        assert_eq!(
            through_files,
            run(&recipe, &device, |optim| optim),
            "{text}"
        );
        assert_ne!(through_files, forgetful, "{text} has a state");
    }
}
