//! Transfer learning: the backbone held still, a head that learns.

use std::collections::BTreeSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Int, Tensor};
use kiln_zoo::{Settings, Task, create, create_segmenter, models, weights};

fn device() -> Device {
    kiln_testing::devices().remove(0).autodiff()
}

fn settings() -> Settings {
    Settings {
        input: [3, 32, 32],
        num_classes: 3,
        ..Settings::default()
    }
}

/// What stands before the last dot of a model's last parameter.
fn head<M: Module>(model: &M) -> String {
    let mut names = weights::names(model).into_iter().map(|(name, _)| name);
    let last = names
        .rfind(|name| !name.ends_with("num_batches_tracked"))
        .unwrap();
    last.rsplit_once('.').unwrap().0.to_owned()
}

/// Gives every convolution and linear layer but the head weights that keep the size of a signal. Drawing those of the
/// largest networks takes long in a debug build; the head is left as it was created, not drawn yet.
fn cheaply_drawn<M: Module>(model: M) -> M {
    struct Constant(BTreeSet<burn::module::ParamId>);
    impl ModuleMapper for Constant {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D == 1 || self.0.contains(&param.id) {
                return param;
            }
            let (shape, device) = (param.lazy_shape(), param.lazy_device());
            let value = 1.0 / (shape.num_elements() / shape[0].max(shape[1])) as f32;
            let id = param.id;
            param.transform_for_load(Tensor::full(shape, value, &device), id)
        }
    }
    let head = head(&model);
    let of_head = weights::ids(&model)
        .into_iter()
        .filter(|(name, _)| name.starts_with(&head))
        .map(|(_, id)| id);
    let mut constant = Constant(of_head.collect());
    model.map(&mut constant)
}

/// Every parameter and buffer as a device tensor of one axis.
fn values<M: Module>(model: &M) -> Vec<(burn::module::ParamId, Tensor<1>)> {
    #[derive(Default)]
    struct Values(Vec<(burn::module::ParamId, Tensor<1>)>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let flat = param.val().without_autodiff().flatten(0, D - 1);
            self.0.push((param.id, flat));
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            let flat = param.val().without_autodiff().float().flatten(0, D - 1);
            self.0.push((param.id, flat));
        }
    }
    let mut values = Values::default();
    model.visit(&mut values);
    values.0
}

/// The names of what differs between two states of a model.
fn changed<M: Module>(before: &M, after: &M) -> BTreeSet<String> {
    let names: Vec<String> = weights::names(after)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let (before, after) = (values(before), values(after));
    assert_eq!((before.len(), names.len()), (after.len(), after.len()));
    let moved = |((_, a), (_, b)): (&(_, Tensor<1>), &(_, Tensor<1>))| {
        (a.clone() - b.clone()).abs().max().into_scalar::<f32>() > 0.0
    };
    let pairs = before.iter().zip(&after).map(moved).zip(names);
    pairs
        .filter_map(|(moved, name)| moved.then_some(name))
        .collect()
}

/// A step of plain gradient descent on the sum of squares of the output.
fn step<M: Module, const D: usize>(
    model: M,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<D>,
) -> (M, M) {
    let device = device();
    // Not symmetric, so that no gradient cancels.
    let images = Tensor::arange(0..3 * 32 * 32, &device).float() / 3072.0;
    let output = forward(&model, images.reshape([1, 3, 32, 32]));
    let loss = (output - 1.0).powi_scalar(2).mean();
    let grads = GradientsParams::from_grads(loss.backward(), &model);
    let before = model.clone();
    (before, SgdConfig::new().init().step(0.5, model, grads))
}

#[test]
fn of_every_frozen_classifier_only_the_new_head_learns() {
    let device = device();
    let classifiers = models()
        .iter()
        .filter(|info| info.task == Task::Classification);
    for (number, info) in classifiers.enumerate() {
        let name = info.name;
        let drawn_anew = |model: kiln_zoo::Classifier| model.with_new_head(5);
        let orders: [&dyn Fn(kiln_zoo::Classifier) -> kiln_zoo::Classifier; 3] = [
            // As `kiln train --set model.freeze=true` has it: the head that the model was created with.
            &|model| model.freeze_backbone(),
            &|model| drawn_anew(model.freeze_backbone()),
            &|model| drawn_anew(model).freeze_backbone(),
        ];
        // The large ones take long in a debug build.
        let small = ["cnn", "mlp", "resnet20", "small-resnet"].contains(&name);
        for (i, order) in orders.into_iter().enumerate() {
            if !small && i != number % orders.len() {
                continue;
            }
            let model = create(name, &settings(), &device).unwrap();
            let head = head(&model);
            let model = order(cheaply_drawn(model));
            let (before, after) = step(model, |model, x| model.forward(x));
            let expected = [format!("{head}.weight"), format!("{head}.bias")];
            assert_eq!(
                changed(&before, &after),
                expected.into(),
                "{name}, order {i}"
            );
        }
    }
}

#[test]
fn of_every_frozen_segmenter_the_new_head_learns_and_the_encoder_does_not() {
    let device = device();
    for info in models()
        .iter()
        .filter(|info| info.task == Task::Segmentation)
    {
        let name = info.name;
        let model = create_segmenter(name, &settings(), &device).unwrap();
        let head = head(&model);
        let model = cheaply_drawn(model).freeze_backbone().with_new_head(2);
        let (before, after) = step(model, |model, x| model.forward(x));
        let changed = changed(&before, &after);
        let in_encoder = |name: &&String| {
            ["inc.", "down", "encoder."]
                .iter()
                .any(|part| name.starts_with(part))
        };
        assert_eq!(changed.iter().find(in_encoder), None, "{name}");
        for parameter in ["weight", "bias"] {
            let parameter = format!("{head}.{parameter}");
            assert!(
                changed.contains(&parameter),
                "{name}: {parameter} did not learn"
            );
        }
    }
}

#[test]
fn freezing_a_clone_leaves_the_original_trainable() {
    for name in ["cnn", "mlp", "resnet20", "small-resnet", "densenet-bc-22-4"] {
        let model = create(name, &settings(), &device()).unwrap();
        let all = weights::ids(&model).len();
        let frozen = model.clone().freeze_backbone();
        let (before, after) = step(model, |model, x| model.forward(x));
        assert!(changed(&before, &after).len() > all / 2, "{name}");
        let (before, after) = step(frozen, |model, x| model.forward(x));
        assert_eq!(changed(&before, &after).len(), 2, "{name}");
    }
}

#[test]
fn a_frozen_densenet_learns_with_less_memory_too() {
    let device = device();
    let model = create("densenet-bc-22-4", &settings(), &device)
        .unwrap()
        .freeze_backbone();
    let images = Tensor::<4>::ones([2, 3, 32, 32], &device);
    let (_, grads) = model.backward_saving_memory(images, |logits| logits.powi_scalar(2).mean());
    let before = model.clone();
    let after = SgdConfig::new().init().step(0.5, model, grads);
    let expected = ["fc.weight", "fc.bias"].map(String::from);
    assert_eq!(changed(&before, &after), expected.into());
}
