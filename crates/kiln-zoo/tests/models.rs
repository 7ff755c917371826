//! What every model of the registry does, whatever its family.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Tensor};
use kiln_zoo::weights::{self, Load};
use kiln_zoo::{
    Activation, Backbone, Branch, DenseSkip, LongSkip, Norm, Residual, Settings, Stem, Task,
    ZooError, create, create_segmenter, models, num_params,
};

fn device() -> Device {
    kiln_testing::devices().remove(0)
}

fn settings(input: [usize; 3]) -> Settings {
    Settings {
        input,
        num_classes: 3,
        ..Settings::default()
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn furthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

/// Other running statistics and factors than the initial ones, so that a mix-up shows.
fn formula<M: Module>(model: M) -> M {
    weights::fill(model, |name, shape| {
        Some(kiln_testing::formula::values(name, shape, "t"))
    })
}

#[test]
fn every_listed_name_is_created_with_the_parameters_that_its_summary_counts() {
    let device = device();
    for info in models() {
        let settings = Settings {
            input: info.input,
            num_classes: info.num_classes,
            ..Settings::default()
        };
        let (summary, parameters) = match info.task {
            Task::Classification => {
                let model = create(info.name, &settings, &device).unwrap();
                (model.summary(info.input), num_params(&model))
            }
            Task::Segmentation => {
                let model = create_segmenter(info.name, &settings, &device).unwrap();
                (model.summary(info.input), num_params(&model))
            }
        };
        assert_eq!(summary.parameters(), parameters, "{}", info.name);
        assert_eq!(
            summary,
            info.summarize(info.input, &device).unwrap(),
            "{}",
            info.name
        );
        let output = &summary.layers.last().unwrap().output;
        assert_eq!(output[1], info.num_classes, "{}", info.name);
    }
}

#[test]
fn parameter_counts_are_those_of_the_papers() {
    let count = |name: &str| {
        let info = models().iter().find(|info| info.name == name).unwrap();
        info.summarize(info.input, &device()).unwrap().parameters() as f64 / 1e6
    };
    // He et al. 2015, table 6, and Huang et al. 2016, table 2, in millions.
    for (name, paper, digits) in [
        ("resnet20", 0.27, 0.005),
        ("resnet32", 0.46, 0.005),
        ("resnet44", 0.66, 0.005),
        ("resnet56", 0.85, 0.005),
        ("resnet110", 1.7, 0.05),
        ("densenet-40-12", 1.0, 0.1),
        ("densenet-100-12", 7.0, 0.1),
        ("densenet-100-24", 27.2, 1.0),
        ("densenet-bc-100-12", 0.8, 0.05),
        ("densenet-bc-250-24", 15.3, 0.05),
        ("densenet-bc-190-40", 25.6, 0.05),
    ] {
        assert!(
            (count(name) - paper).abs() < digits,
            "{name}: {} M, {paper} M in the paper",
            count(name)
        );
    }
}

#[test]
fn the_summarys_shapes_are_those_of_the_forward_pass() {
    let device = device();
    // Odd sizes, so that rounding shows.
    for (name, size) in [
        ("cnn", [1, 28, 28]),
        ("resnet18", [3, 65, 47]),
        ("resnet20", [3, 33, 18]),
        ("small-resnet", [3, 31, 35]),
        ("densenet-bc-22-4", [3, 33, 27]),
        ("unet-bilinear", [1, 33, 18]),
        ("unet-resnet20", [1, 33, 18]),
        ("unet-densenet-22-4", [1, 29, 18]),
    ] {
        let [channels, height, width] = size;
        let images = Tensor::zeros([1, channels, height, width], &device);
        let mut seen = Vec::new();
        let mut see = |name: &str, output: kiln_zoo::pass::Output| {
            let shape = match output {
                kiln_zoo::pass::Output::Maps(maps) => maps.dims().to_vec(),
                kiln_zoo::pass::Output::Vectors(vectors) => vectors.dims().to_vec(),
            };
            seen.push((name.to_string(), shape));
        };
        let summary = match create(name, &settings(size), &device) {
            Ok(model) => {
                model.record(images, &mut see);
                model.summary(size)
            }
            Err(ZooError::OtherTask { .. }) => {
                let model = create_segmenter(name, &settings(size), &device).unwrap();
                model.record(images, &mut see);
                model.summary(size)
            }
            Err(error) => panic!("{error}"),
        };
        for layer in &summary.layers {
            // Some names, such as the CNN's pool, stand for more than one call.
            let there = seen
                .iter()
                .any(|(name, shape)| *name == layer.name && *shape == layer.output);
            assert!(there, "{name}: {layer:?}");
        }
    }
}

#[test]
fn every_family_trains_with_every_normalization() {
    let device = device().autodiff();
    for norm in [
        "batch",
        "layer",
        "instance",
        "group:2",
        "group-size:4",
        "rms",
        "none",
    ] {
        for name in [
            "cnn",
            "resnet20",
            "small-resnet",
            "densenet-bc-16-4",
            "unet-resnet20",
        ] {
            let settings = Settings {
                norm: Some(norm.parse().unwrap()),
                activation: Some(Activation::Silu),
                dropout: Some(vec![0.1]),
                ..settings([2, 16, 16])
            };
            let images = Tensor::random([2, 2, 16, 16], Distribution::Normal(0.0, 1.0), &device);
            let gradients = |loss: Tensor<1>| loss.backward();
            let missing = match create(name, &settings, &device) {
                Ok(model) => {
                    let loss = model.forward(images).powi_scalar(2).mean();
                    assert!(
                        loss.clone().into_scalar::<f32>().is_finite(),
                        "{name} {norm}"
                    );
                    without_gradient(&model, &gradients(loss))
                }
                Err(_) => {
                    let model = create_segmenter(name, &settings, &device).unwrap();
                    let loss = model.forward(images).powi_scalar(2).mean();
                    assert!(
                        loss.clone().into_scalar::<f32>().is_finite(),
                        "{name} {norm}"
                    );
                    without_gradient(&model, &gradients(loss))
                }
            };
            assert_eq!(missing, Vec::<String>::new(), "{name} {norm}");
        }
    }
}

/// Trained parameters that a backward pass has not reached, or whose gradient is not finite.
fn without_gradient<M: Module>(model: &M, gradients: &burn::tensor::Gradients) -> Vec<String> {
    struct Missing<'a>(&'a burn::tensor::Gradients, Vec<burn::module::ParamId>);
    impl ModuleVisitor for Missing<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if !value.is_require_grad() {
                return;
            }
            let finite = value
                .grad(self.0)
                .is_some_and(|grad| grad.sum().into_scalar::<f32>().is_finite());
            if !finite {
                self.1.push(param.id);
            }
        }
    }
    let mut missing = Missing(gradients, Vec::new());
    model.visit(&mut missing);
    let names = weights::ids(model);
    let names = names.into_iter().filter(|(_, id)| missing.1.contains(id));
    names.map(|(name, _)| name).collect()
}

#[test]
fn folding_keeps_the_output() {
    let device = device();
    for name in [
        "cnn",
        "resnet20",
        "resnet18",
        "small-resnet",
        "densenet-bc-22-4",
        "densenet121",
    ] {
        let settings = settings([3, 32, 32]);
        let model = formula(create(name, &settings, &device).unwrap());
        let images = Tensor::random([2, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device);
        let plain = values(model.forward(images.clone()));
        let parts = weights::names(&model).len();
        let folded = model.fold();
        assert!(
            weights::names(&folded).len() < parts,
            "{name}: nothing was folded"
        );
        let largest = plain.iter().fold(1.0, |max: f64, x| max.max(x.abs()));
        let off = furthest(&plain, &values(folded.forward(images)));
        assert!(off < 2e-5 * largest, "{name}: {off} of {largest}");
    }
    for name in ["unet-resnet20", "unet-densenet-22-4"] {
        let settings = settings([3, 32, 32]);
        let model = formula(create_segmenter(name, &settings, &device).unwrap());
        let images = Tensor::random([1, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device);
        let plain = values(model.forward(images.clone()));
        let largest = plain.iter().fold(1.0, |max: f64, x| max.max(x.abs()));
        let off = furthest(&plain, &values(model.fold().forward(images)));
        assert!(off < 2e-5 * largest, "{name}: {off} of {largest}");
    }
}

#[test]
fn a_normalization_that_cannot_be_folded_stays() {
    let device = device();
    let settings = Settings {
        norm: Some(Norm::Group { num_groups: 4 }),
        ..settings([3, 32, 32])
    };
    let model = create("resnet20", &settings, &device).unwrap();
    assert_eq!(
        weights::names(&model.clone().fold()),
        weights::names(&model)
    );
}

#[test]
fn a_frozen_backbone_does_not_change_in_a_training_step() {
    let device = device().autodiff();
    for name in ["cnn", "resnet20", "small-resnet", "densenet-bc-22-4", "mlp"] {
        let settings = settings([3, 16, 16]);
        let model = formula(create(name, &settings, &device).unwrap()).freeze_backbone();
        let model = model.with_new_head(5);
        let images = Tensor::random([4, 3, 16, 16], Distribution::Normal(3.0, 1.0), &device);
        let before = everything(&model);
        // What a frozen network computes on a training device is what it computes outside training.
        let training = values(model.features(images.clone()));
        let inference = values(model.valid().features(images.clone().without_autodiff()));
        assert!(furthest(&training, &inference) < 1e-5, "{name}");

        let logits = model.forward(images);
        assert_eq!(logits.dims(), [4, 5]);
        let gradients = logits.powi_scalar(2).mean().backward();
        let trained = trained(&model, &gradients);
        let heads = [
            "fc.weight",
            "fc.bias",
            "fc2.weight",
            "fc2.bias",
            "output.weight",
            "output.bias",
        ];
        assert_eq!(trained.len(), 2, "{name}: {trained:?}");
        assert!(
            trained.iter().all(|name| heads.contains(&name.as_str())),
            "{name}: {trained:?}"
        );
        assert!(
            everything(&model) == before,
            "{name}: running statistics moved"
        );
    }
}

/// The names of parameters that get a gradient.
fn trained<M: Module>(model: &M, gradients: &burn::tensor::Gradients) -> Vec<String> {
    struct Found<'a>(&'a burn::tensor::Gradients, Vec<burn::module::ParamId>);
    impl ModuleVisitor for Found<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.val().grad(self.0).is_some() {
                self.1.push(param.id);
            }
        }
    }
    let mut found = Found(gradients, Vec::new());
    model.visit(&mut found);
    let names = weights::ids(model)
        .into_iter()
        .filter(|(_, id)| found.1.contains(id));
    names.map(|(name, _)| name).collect()
}

/// Every value in a model.
fn everything<M: Module>(model: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    weights::write(model, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_head_for_other_classes_starts_anew_over_loaded_weights() {
    let device = device();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet20.safetensors");
    let source = formula(create("resnet20", &settings([3, 32, 32]), &device).unwrap());
    weights::save(&source, &path).unwrap();
    let target = Settings {
        num_classes: 7,
        ..settings([3, 32, 32])
    };
    let fresh = || create("resnet20", &target, &device).unwrap();
    let error = Load::new()
        .into_model(fresh(), &path)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("only the head 'fc' differs: --allow-head-mismatch"),
        "{error}"
    );
    let (model, report) = Load::new()
        .allow_head_mismatch(true)
        .into_model(fresh(), &path)
        .unwrap();
    assert_eq!(report.head_kept, ["fc.weight", "fc.bias"]);
    let images = Tensor::ones([1, 3, 32, 32], &device);
    let features = values(model.features(images.clone()));
    assert_eq!(furthest(&features, &values(source.features(images))), 0.0);
}

#[test]
fn an_encoder_takes_the_weights_of_a_classifier() {
    let device = device();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet20.safetensors");
    let source = formula(create("resnet20", &settings([3, 32, 32]), &device).unwrap());
    weights::save(&source, &path).unwrap();
    let kiln_zoo::Segmenter::BackboneUNet(model) =
        create_segmenter("unet-resnet20", &settings([3, 32, 32]), &device).unwrap()
    else {
        panic!("no U-Net over a backbone");
    };
    let load = Load::new().head("fc").allow_head_mismatch(true);
    let model = model
        .map_backbone(|backbone| match backbone {
            Backbone::ResNet(net) => load
                .into_model(net, &path)
                .map(|(net, _)| Backbone::ResNet(net)),
            _ => panic!("no ResNet"),
        })
        .unwrap();
    let images = Tensor::ones([1, 3, 32, 32], &device);
    let stages = model.features(&mut kiln_zoo::pass::Forward, images.clone());
    let theirs = source.stages(images);
    // The stem has the size of the first stage, which is taken.
    for (ours, theirs) in stages.into_iter().zip(&theirs[1..]) {
        assert_eq!(furthest(&values(ours), &values(theirs.clone())), 0.0);
    }
}

#[test]
fn a_unet_gives_back_any_size() {
    let device = device();
    for [height, width] in [[16, 16], [17, 31], [45, 20]] {
        for name in ["unet-resnet20", "unet-densenet-bc-16-4"] {
            for bilinear in [true, false] {
                let settings = Settings {
                    bilinear: Some(bilinear),
                    num_classes: 1,
                    ..settings([1, height, width])
                };
                let model = create_segmenter(name, &settings, &device).unwrap();
                let logits = model.forward(Tensor::zeros([2, 1, height, width], &device));
                assert_eq!(logits.dims(), [2, 1, height, width], "{name}");
            }
        }
    }
}

#[test]
fn zero_init_makes_every_block_the_identity_at_first() {
    let device = device();
    let stages = |zero_init| {
        let settings = Settings {
            zero_init: Some(zero_init),
            ..settings([3, 16, 16])
        };
        let model = create("resnet20", &settings, &device).unwrap();
        let images = Tensor::random([1, 3, 16, 16], Distribution::Normal(0.0, 1.0), &device);
        model.stages(images)
    };
    let [stem, first, ..] = &stages(true)[..] else {
        panic!("no stages");
    };
    assert_eq!(furthest(&values(stem.clone()), &values(first.clone())), 0.0);
    let [stem, first, ..] = &stages(false)[..] else {
        panic!("no stages");
    };
    assert!(furthest(&values(stem.clone()), &values(first.clone())) > 0.1);
}

#[test]
fn skips_add_concatenate_and_fit() {
    for device in kiln_testing::devices() {
        let x = Tensor::<4>::random([2, 3, 5, 6], Distribution::Normal(0.0, 1.0), &device);
        let double = || Activation::LeakyRelu { slope: 1.0 };
        let sum = Residual::new(double()).forward(x.clone());
        assert!(furthest(&values(sum), &values(x.clone() * 2.0)) < 1e-6);
        let both = Residual::with_shortcut(double(), Activation::Relu).forward(x.clone());
        let relu = burn::tensor::activation::relu(x.clone());
        assert!(furthest(&values(both), &values(x.clone() + relu.clone())) < 1e-6);

        let dense = vec![
            DenseSkip::new(Activation::Relu),
            DenseSkip::new(Activation::Relu),
        ];
        let y = dense.forward(x.clone());
        assert_eq!(y.dims(), [2, 12, 5, 6]);
        assert_eq!(values(y.clone().narrow(1, 0, 3)), values(x.clone()));
        assert_eq!(values(y.clone().narrow(1, 3, 3)), values(relu.clone()));
        assert_eq!(values(y.narrow(1, 9, 3)), values(relu));

        // 5×6 becomes 2×3 and 4×6 again: one row of zeros is added below.
        let pool = burn::nn::pool::MaxPool2dConfig::new([2, 2])
            .with_strides([2, 2])
            .init();
        let up = burn::nn::conv::ConvTranspose2dConfig::new([3, 3], [2, 2])
            .with_stride([2, 2])
            .with_bias(false)
            .init(&device);
        let y = LongSkip::new((pool, up)).forward(x.clone());
        assert_eq!(y.dims(), [2, 6, 5, 6]);
        assert_eq!(values(y.clone().narrow(1, 0, 3)), values(x));
        let last = y.narrow(1, 3, 3).narrow(2, 4, 1);
        assert!(values(last).iter().all(|&x| x == 0.0));
    }
}

#[test]
fn names_are_found_in_any_spelling_and_near_ones_are_offered() {
    let device = device();
    let error = |name: &str| {
        create(name, &settings([3, 64, 64]), &device)
            .unwrap_err()
            .to_string()
    };
    assert!(create("ResNeXt50-32x4d", &settings([3, 64, 64]), &device).is_ok());
    assert!(create("densenet_bc_16_4", &settings([3, 64, 64]), &device).is_ok());
    assert!(
        error("resnt18").contains("did you mean 'resnet18'"),
        "{}",
        error("resnt18")
    );
    assert!(
        error("wide_resnet50").contains("'wide_resnet50_2'"),
        "{}",
        error("wide_resnet50")
    );
    assert!(
        error("vgg").contains("known are cnn, mlp, resnet18"),
        "{}",
        error("vgg")
    );
    assert!(error("densenet-bc-101-12").contains("'densenet-bc-100-12'"));
    assert!(error("unet").contains("unet is a model for segmentation, not for classification"));
    let error = create_segmenter("resnet18", &settings([3, 64, 64]), &device).unwrap_err();
    assert!(error.to_string().contains("such as unet"), "{error}");
}

#[test]
fn settings_that_a_model_cannot_take_are_refused_with_what_it_can() {
    let device = device();
    let base = settings([3, 64, 64]);
    let error =
        |name: &str, settings: &Settings| create(name, settings, &device).unwrap_err().to_string();
    let with = |change: fn(&mut Settings)| {
        let mut settings = base.clone();
        change(&mut settings);
        settings
    };
    let hidden = with(|s| s.hidden = Some(vec![3]));
    assert!(error("resnet18", &hidden).contains("does not have the setting"));
    let stem = with(|s| s.stem = Some(Stem::Cifar));
    assert!(error("small-resnet", &stem).contains("stem"));
    let norm = with(|s| s.norm = Some(Norm::Group { num_groups: 48 }));
    let ZooError::Norm { source, .. } = create("resnet18", &norm, &device).unwrap_err() else {
        panic!("not about the normalization");
    };
    assert!(source.to_string().contains("must divide"), "{source}");
    let small = with(|s| s.input = [3, 8, 8]);
    assert!(error("densenet121", &small).contains("8x8 is too small"));
    let zero = with(|s| {
        s.zero_init = Some(true);
        s.norm = Some(Norm::None);
    });
    assert!(error("resnet18", &zero).contains("zero_init"));
    let dropout = with(|s| s.dropout = Some(vec![1.0]));
    assert!(error("resnet18", &dropout).contains("[0, 1)"));
    let none = with(|s| s.num_classes = 0);
    assert!(error("resnet18", &none).contains("num_classes"));
}

#[test]
fn settings_written_before_there_were_more_of_them_are_read() {
    let old = r#"{"input": [1, 28, 28], "num_classes": 10, "hidden": null, "channels": null, "dropout": null}"#;
    assert_eq!(
        serde_json::from_str::<Settings>(old).unwrap(),
        Settings::default()
    );
    let settings = Settings {
        norm: Some(Norm::Group { num_groups: 8 }),
        activation: Some(Activation::LeakyRelu { slope: 0.1 }),
        stem: Some(Stem::Cifar),
        zero_init: Some(true),
        ..Settings::default()
    };
    let text = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), settings);
    assert!(
        text.contains(r#""norm":"group:8""#) && text.contains(r#""stem":"cifar""#),
        "{text}"
    );
}

#[test]
fn saving_memory_changes_neither_gradients_nor_running_statistics() {
    let device = device().autodiff();
    for (name, size) in [
        ("densenet121", 33),
        ("densenet-bc-40-12", 16),
        ("densenet-22-4", 16),
        ("resnet20", 16),
    ] {
        let settings = settings([3, size, size]);
        let model = formula(create(name, &settings, &device).unwrap());
        let images = Tensor::random([4, 3, size, size], Distribution::Normal(0.0, 1.0), &device);
        let loss = |logits: Tensor<2>| logits.powi_scalar(2).mean();

        let plain = model.clone();
        let expected = loss(plain.forward(images.clone()));
        let expected_loss = expected.clone().into_scalar::<f32>();
        let expected = burn::optim::GradientsParams::from_grads(expected.backward(), &plain);
        let (ours, gradients) = model.backward_saving_memory(images, loss);

        assert!(
            (ours.into_scalar::<f32>() / expected_loss - 1.0).abs() < 1e-5,
            "{name}"
        );
        assert_eq!(gradients.len(), expected.len(), "{name}");
        let mut compare = Compare {
            expected: &expected,
            ours: &gradients,
            worst: 0.0,
            largest: 0.0,
        };
        model.visit(&mut compare);
        assert!(
            compare.worst < 1e-4 * compare.largest,
            "{name}: {} of {}",
            compare.worst,
            compare.largest
        );
        assert!(
            everything(&model) == everything(&plain),
            "{name}: the running statistics differ"
        );
    }
}

struct Compare<'a> {
    expected: &'a burn::optim::GradientsParams,
    ours: &'a burn::optim::GradientsParams,
    worst: f64,
    largest: f64,
}

impl ModuleVisitor for Compare<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(expected) = self.expected.get::<D>(param.id) else {
            return;
        };
        let (expected, ours) = (
            values(expected),
            values(self.ours.get::<D>(param.id).unwrap()),
        );
        self.worst = self.worst.max(furthest(&ours, &expected));
        self.largest = expected
            .iter()
            .fold(self.largest, |max, x| max.max(x.abs()));
    }
}
