//! The keys of a recipe: what each means, its default and what it allows.

use super::{Epochs, LossRecipe, OptimizerName, Recipe, RecipeError, TaskName};

/// One key of a [`Recipe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The key, with its section: `optimizer.lr`.
    pub key: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What it allows, and its default where that is not a plain value.
    pub allowed: &'static str,
}

const fn field(key: &'static str, meaning: &'static str, allowed: &'static str) -> Field {
    Field {
        key,
        meaning,
        allowed,
    }
}

/// Every key of a [`Recipe`].
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field("task", "what is learned: a class for each image, or for each pixel", "classification or segmentation"),
    field("seed", "seed of the weights, the order of the data, augmentation and dropout", "a whole number from 0 to 9223372036854775807"),
    field("device", "where to train", "auto, or a device as `kiln devices` lists it"),
    field("epochs", "passes over the training data", "a whole number from 1 to 1000000, or auto: as many as show about 120,000 images, 2 to 30"),
    field("batch_size", "images in a training step", "a whole number from 1 to 1048576"),
    field("steps_per_epoch", "training steps in an epoch at most", "a whole number from 1 to 1000000; default: all images once"),
    field("log_every", "steps between two entries of metrics", "a whole number from 1 to 1000000"),
    field("scale", "scaling of the pixels, fitted on the training images alone", "none, standard, minmax, minmax:LOW,HIGH, robust, maxabs, normalize-l1, normalize-l2 or normalize-max"),
    field("clip", "gradient clipping", kiln_clip::ClipError::ALLOWED),
    field("skip_nonfinite", "whether a step whose gradients are not finite is skipped and counted", "true or false"),
    field("grad_health", "steps between two measurements of gradient health", "a whole number; 0: never"),
    field("data.name", "data set", "auto, or a data set as `kiln data list` lists it"),
    field("data.dir", "folder to read the files from", "a path; default: the cache, or a download"),
    field("data.download", "whether missing files may be downloaded", "true or false"),
    field("data.version", "rules by which files become a data set; runs from before there were others have the first", "1 or 2; default 2"),
    field("data.train_len", "at most this many training images, of each class its share", "a whole number from 2 to 2147483647; default: all"),
    field("data.test_len", "at most this many test images, of each class its share", "a whole number from 1 to 2147483647; default: all"),
    field("data.valid_fraction", "share of the training images held out for validation, if a folder has no val beside train and test", "a number from 0 (validate on the test images) to 0.9"),
    field("data.seed", "seed of the digits or shapes that Kiln draws", "a whole number from 0 to 9223372036854775807"),
    field("data.test_fraction", "share of a folder's pictures held out for testing, if it has no train and test in it", "a number above 0, up to 0.9"),
    field("data.split_seed", "seed that chooses them, and train_len and test_len images", "a whole number from 0 to 9223372036854775807"),
    field("data.size", "height and width that the pictures of a folder are scaled to", "two whole numbers from 1 to 65535; default: as they are"),
    field("data.channels", "gray or RGB images, whatever the data are", "1 or 3; default: as the data are"),
    field("data.ignore_value", "value in mask files of pixels to leave out of loss and scores", "a whole number from 0 to 255, and a setting of task = \"segmentation\"; default: none"),
    field("data.crop_size", "height and width of the random parts that are trained on", "two whole numbers from 1 to 65535; default: whole images"),
    field("data.crops_per_image", "how often each training image comes in an epoch, each time augmented anew", "a whole number from 1 to 100000"),
    field("model.name", "model", "a model of the zoo, as `kiln models` lists it"),
    field("model.hidden", "units of the hidden fully connected layers", "a list of positive numbers; default [128]"),
    field("model.channels", "output channels of the cnn's convolutions; of a unet, those of its first level", "a list of two positive numbers, for a unet of one; default [32, 64], unet [64]"),
    field("model.dropout", "dropout probability after the hidden layers", "a list of numbers in [0, 1), one for each layer or one for all; default [0.25]"),
    field("model.norm", "normalization", "batch, layer, instance, group:N, group-size:N, rms or none; default: the model's own"),
    field("model.activation", "nonlinearity", "relu, leaky_relu[:SLOPE], elu, gelu, silu, mish or tanh; default relu"),
    field("model.stem", "first layers of a ResNet or DenseNet", "imagenet, or cifar for small images; default: the model's own"),
    field("model.zero_init", "whether residual blocks start as the identity", "true or false; default false"),
    field("model.bilinear", "whether a U-Net enlarges by interpolation", "true or false; default: the model's own"),
    field("model.weights", "file of weights to begin with", "a .pth, .safetensors or .bpk file, or FILE#KEY for the weights below a key of it, for `kiln train` also a name such as IMAGENET1K_V1; default: weights drawn anew"),
    field("model.allow_head_mismatch", "whether that file may be for other classes", "true or false"),
    field("model.freeze", "whether only the last layer (or a U-Net's decoder) learns", "true or false"),
    field("model.memory_efficient", "whether a DenseNet computes activations twice instead of keeping them", "true or false"),
    field("loss.name", "loss of segmentation", "cross-entropy, bce (two classes, one output) or auto: bce for two classes"),
    field("loss.dice", "weight of the Dice loss beside it", "a number from 0 to 1000"),
    field("optimizer.name", "optimizer", "sgd, adam, adamw or rmsprop"),
    field("optimizer.lr", "learning rate at the top of the schedule", "a positive number up to 1000; default 0.001 (rmsprop 0.01)"),
    field("optimizer.weight_decay", "L2 penalty; for adamw decoupled decay", "a number from 0 to 1000; default 0 (adamw 0.01)"),
    field("optimizer.momentum", "momentum", "a number in [0, 1); default 0"),
    field("optimizer.dampening", "dampening of the momentum", "a number from 0 to 1; default 0"),
    field("optimizer.nesterov", "Nesterov momentum", "true or false; default false"),
    field("optimizer.betas", "decay of the averages of the gradient and of its square", "two numbers in [0, 1); default [0.9, 0.999]"),
    field("optimizer.alpha", "decay of the average of the squared gradient", "a number in [0, 1); default 0.99"),
    field("optimizer.centered", "whether the mean gradient is subtracted", "true or false; default false"),
    field("optimizer.eps", "added to the denominator", "a number from 0 to 1; default 1e-8"),
    field("schedule.name", "learning rate over time", "constant, step or cosine"),
    field("schedule.warmup_epochs", "epochs of linear rise from near zero", "a number from 0 to 1000000; fractions of an epoch count"),
    field("schedule.eta_min", "last learning rate of the cosine", "a number from 0 to the learning rate"),
    field("schedule.step_size", "epochs between two steps", "a whole number from 1 to 1000000"),
    field("schedule.gamma", "factor of one step", "a positive number up to 1"),
    field("augment.shift", "largest random shift, in pixels", "a number from 0 to 10000"),
    field("augment.rotate", "largest random rotation either way, in degrees", "a number from 0 to 180"),
    field("augment.scale", "largest random change of size, relative", "a number from 0 to 0.9"),
    field("augment.elastic", "smooth random displacement, in pixels", "a number from 0 to 1000"),
    field("augment.crop", "pixels around an image that a random crop may reach into", "a whole number from 0 to 1000"),
    field("augment.hflip", "probability to mirror left and right", "a number from 0 to 1"),
    field("augment.vflip", "probability to mirror top and bottom", "a number from 0 to 1"),
    field("augment.cutout", "side of a square that is blanked, in pixels", "a whole number from 0 to 10000"),
    field("augment.mixup", "alpha of mixup: images and labels of a batch mixed in pairs; 0 for none", "a number from 0 to 100, and a setting of task = \"classification\""),
    field("early_stopping.patience", "epochs without a better validation loss before stopping", "a whole number; 0: never stop early"),
    field("early_stopping.min_delta", "how much lower a loss must be to count as better", "a number, at least 0"),
    field("checkpoint.every", "steps between two checkpoints within an epoch", "a whole number; 0: only after each epoch"),
    field("checkpoint.keep", "checkpoints to keep", "a whole number from 1 to 1000"),
];

/// Pixels along a side of an image: the most that a JPEG has.
const MAX_SIDE: usize = 65_535;
/// Images are counted by `i32` on a device.
const MAX_IMAGES: usize = i32::MAX as usize;

/// The field of a key.
pub(super) fn find(key: &str) -> Result<&'static Field, RecipeError> {
    FIELDS
        .iter()
        .find(|field| field.key == key)
        .ok_or_else(|| RecipeError::UnknownKey { key: key.into() })
}

/// A hint for a key that does not exist: the nearest one, or what its section has.
pub(super) fn near(key: &str) -> String {
    let section = |key: &str| key.split_once('.').map(|(section, _)| section.to_owned());
    // Within a section only the name can be misspelt, and short names look alike.
    let name_alone = key.contains('.') && FIELDS.iter().any(|f| section(f.key) == section(key));
    let allowed = match name_alone {
        true => key.rsplit('.').next().map_or(0, str::len) / 3,
        false => 1 + key.len() / 6,
    };
    let distances = FIELDS
        .iter()
        .map(|f| (strsim::levenshtein(key, f.key), f.key));
    if let Some((distance, near)) = distances.min()
        && distance <= allowed
    {
        return format!("did you mean '{near}'?");
    }
    let section = key.split_once('.').map_or(key, |(section, _)| section);
    let prefix = format!("{section}.");
    let names: Vec<&str> = FIELDS
        .iter()
        .filter_map(|f| f.key.strip_prefix(&prefix))
        .collect();
    match names.is_empty() {
        false => format!("[{section}] has: {}", names.join(", ")),
        true => {
            let all: Vec<&str> = FIELDS.iter().map(|f| f.key).collect();
            format!("known keys: {}", all.join(", "))
        }
    }
}

/// Calls `visit` with every key and value; sections become prefixes.
pub(super) fn flatten(
    prefix: &str,
    table: toml::Table,
    visit: &mut impl FnMut(String, toml::Value) -> Result<(), RecipeError>,
) -> Result<(), RecipeError> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            toml::Value::Table(section) if prefix.is_empty() => {
                flatten(&format!("{key}."), section, visit)?;
            }
            value => visit(key, value)?,
        }
    }
    Ok(())
}

/// A folder or file of a recipe must be text, since a recipe is.
fn validate_paths(recipe: &Recipe) -> Result<(), RecipeError> {
    let paths = [
        ("data.dir", &recipe.data.dir),
        ("model.weights", &recipe.model.weights),
    ];
    for (key, path) in paths {
        if let Some(path) = path
            && path.to_str().is_none()
        {
            return Err(RecipeError::NotUtf8 {
                key: key.into(),
                path: path.clone(),
            });
        }
    }
    Ok(())
}

pub(super) fn validate(recipe: &Recipe) -> Result<(), RecipeError> {
    validate_paths(recipe)?;
    let count = |key, value: usize, min: usize, max: usize| {
        check(key, (min..=max).contains(&value), &value)
    };
    let number =
        |key, value: f64, min: f64, max: f64| check(key, (min..=max).contains(&value), &value);
    // TOML has no larger integer, so a larger seed could not be written to the run.
    check("seed", i64::try_from(recipe.seed).is_ok(), &recipe.seed)?;
    if let Epochs::Count(epochs) = recipe.epochs {
        count("epochs", epochs, 1, 1_000_000)?;
    }
    count("batch_size", recipe.batch_size, 1, 1 << 20)?;
    count(
        "steps_per_epoch",
        recipe.steps_per_epoch.unwrap_or(1),
        1,
        1_000_000,
    )?;
    count("log_every", recipe.log_every, 1, 1_000_000)?;
    let scaler = recipe.scale.parse::<kiln_data::scale::Scaler>();
    check(
        "scale",
        recipe.scale == "none" || scaler.is_ok(),
        &recipe.scale,
    )?;

    let data = &recipe.data;
    count("data.version", data.version.into(), 1, 2)?;
    let channels = data.channels;
    check(
        "data.channels",
        matches!(channels, None | Some(1 | 3)),
        &channels.unwrap_or(0),
    )?;
    let ignored = data.ignore_value;
    let masks = recipe.task == TaskName::Segmentation;
    check(
        "data.ignore_value",
        masks || ignored.is_none(),
        &ignored.unwrap_or(0),
    )?;
    count("data.train_len", data.train_len.unwrap_or(2), 2, MAX_IMAGES)?;
    count("data.test_len", data.test_len.unwrap_or(1), 1, MAX_IMAGES)?;
    number("data.valid_fraction", data.valid_fraction, 0.0, 0.9)?;
    check("data.seed", i64::try_from(data.seed).is_ok(), &data.seed)?;

    let fraction = data.test_fraction;
    check(
        "data.test_fraction",
        fraction > 0.0 && fraction <= 0.9,
        &fraction,
    )?;
    let split_seed = data.split_seed;
    check(
        "data.split_seed",
        i64::try_from(split_seed).is_ok(),
        &split_seed,
    )?;
    for (key, sizes) in [("data.size", data.size), ("data.crop_size", data.crop_size)] {
        if let Some(sizes) = sizes {
            let fits = sizes.iter().all(|size| (1..=MAX_SIDE).contains(size));
            check(key, fits, &sizes)?;
        }
    }
    count("data.crops_per_image", data.crops_per_image, 1, 100_000)?;

    // A classifier is tested on whole images, which must be of the size that it was trained on.
    if recipe.task != TaskName::Segmentation
        && let Some(size) = data.crop_size
    {
        return Err(RecipeError::Value {
            key: "data.crop_size".into(),
            value: format!("{size:?}"),
            allowed:
                "it is a setting of task = \"segmentation\"; augment.crop moves images of any task"
                    .into(),
        });
    }
    let default = LossRecipe::default();
    if recipe.task != TaskName::Segmentation && recipe.loss != default {
        let (key, value) = match recipe.loss.name == default.name {
            true => ("loss.dice", format!("{:?}", recipe.loss.dice)),
            false => ("loss.name", recipe.loss.name.to_string()),
        };
        return Err(RecipeError::Value {
            key: key.into(),
            value,
            allowed: "it is a setting of task = \"segmentation\"".into(),
        });
    }
    number("loss.dice", recipe.loss.dice, 0.0, 1000.0)?;

    let model = &recipe.model;
    for (key, sizes) in [
        ("model.hidden", &model.hidden),
        ("model.channels", &model.channels),
    ] {
        if let Some(sizes) = sizes {
            check(key, sizes.iter().all(|&size| size > 0), sizes)?;
        }
    }
    if let Some(dropout) = &model.dropout {
        let fits = !dropout.is_empty() && dropout.iter().all(|p| (0.0..1.0).contains(p));
        check("model.dropout", fits, dropout)?;
    }

    if model.memory_efficient {
        let is_densenet = model.name.to_lowercase().starts_with("densenet");
        let drops = model.dropout.iter().flatten().any(|&p| p > 0.0);
        let problem = match (is_densenet, drops) {
            (false, _) => Some("it is a setting of DenseNets"),
            (true, true) => {
                Some("dropout would draw other masks the second time; leave model.dropout out")
            }
            (true, false) => None,
        };
        if let Some(problem) = problem {
            return Err(RecipeError::Value {
                key: "model.memory_efficient".into(),
                value: "true".into(),
                allowed: problem.into(),
            });
        }
    }

    validate_optimizer(recipe)?;

    let schedule = &recipe.schedule;
    let lr = recipe.optimizer.learning_rate();
    number("schedule.warmup_epochs", schedule.warmup_epochs, 0.0, 1e6)?;
    number("schedule.eta_min", schedule.eta_min, 0.0, lr)?;
    count("schedule.step_size", schedule.step_size, 1, 1_000_000)?;
    let gamma = schedule.gamma;
    check("schedule.gamma", gamma > 0.0 && gamma <= 1.0, &gamma)?;

    number("augment.shift", recipe.augment.shift, 0.0, 1e4)?;
    number("augment.rotate", recipe.augment.rotate, 0.0, 180.0)?;
    number("augment.scale", recipe.augment.scale, 0.0, 0.9)?;
    number("augment.elastic", recipe.augment.elastic, 0.0, 1000.0)?;
    count("augment.crop", recipe.augment.crop, 0, 1000)?;
    number("augment.hflip", recipe.augment.hflip, 0.0, 1.0)?;
    number("augment.vflip", recipe.augment.vflip, 0.0, 1.0)?;
    count("augment.cutout", recipe.augment.cutout, 0, 10_000)?;
    number("augment.mixup", recipe.augment.mixup, 0.0, 100.0)?;
    let mixes = recipe.augment.mixup > 0.0;
    check(
        "augment.mixup",
        !mixes || recipe.task != TaskName::Segmentation,
        &recipe.augment.mixup,
    )?;
    number(
        "early_stopping.min_delta",
        recipe.early_stopping.min_delta,
        0.0,
        f64::MAX,
    )?;
    count("checkpoint.keep", recipe.checkpoint.keep, 1, 1000)
}

fn validate_optimizer(recipe: &Recipe) -> Result<(), RecipeError> {
    use OptimizerName::{Adam, AdamW, RmsProp, Sgd};
    let optimizer = &recipe.optimizer;
    let belongs = |key: &str, given: Option<String>, owners: &[OptimizerName]| {
        let Some(value) = given.filter(|_| !owners.contains(&optimizer.name)) else {
            return Ok(());
        };
        let owners: Vec<&str> = owners.iter().map(|&owner| name(owner)).collect();
        Err(RecipeError::Value {
            key: key.into(),
            value,
            allowed: format!(
                "it is a setting of {}, not of {}",
                owners.join(" and "),
                name(optimizer.name)
            ),
        })
    };
    fn text<T: std::fmt::Debug>(value: &Option<T>) -> Option<String> {
        value.as_ref().map(|value| format!("{value:?}"))
    }
    belongs(
        "optimizer.momentum",
        text(&optimizer.momentum),
        &[Sgd, RmsProp],
    )?;
    belongs("optimizer.dampening", text(&optimizer.dampening), &[Sgd])?;
    belongs("optimizer.nesterov", text(&optimizer.nesterov), &[Sgd])?;
    belongs("optimizer.betas", text(&optimizer.betas), &[Adam, AdamW])?;
    belongs("optimizer.alpha", text(&optimizer.alpha), &[RmsProp])?;
    belongs("optimizer.centered", text(&optimizer.centered), &[RmsProp])?;
    belongs(
        "optimizer.eps",
        text(&optimizer.eps),
        &[Adam, AdamW, RmsProp],
    )?;

    let range = |key, value: Option<f64>, fits: fn(f64) -> bool| match value {
        Some(value) => check(key, fits(value), &value),
        None => Ok(()),
    };
    range("optimizer.lr", optimizer.lr, |v| v > 0.0 && v <= 1000.0)?;
    range("optimizer.weight_decay", optimizer.weight_decay, |v| {
        (0.0..=1000.0).contains(&v)
    })?;
    range("optimizer.momentum", optimizer.momentum, |v| {
        (0.0..1.0).contains(&v)
    })?;
    range("optimizer.dampening", optimizer.dampening, |v| {
        (0.0..=1.0).contains(&v)
    })?;
    range("optimizer.alpha", optimizer.alpha, |v| {
        (0.0..1.0).contains(&v)
    })?;
    range("optimizer.eps", optimizer.eps, |v| (0.0..=1.0).contains(&v))?;
    if let Some(betas) = optimizer.betas {
        let fits = betas.iter().all(|beta| (0.0..1.0).contains(beta));
        check("optimizer.betas", fits, &betas)?;
    }
    let momentum = optimizer.momentum.unwrap_or(0.0);
    let dampening = optimizer.dampening.unwrap_or(0.0);
    if optimizer.nesterov == Some(true) && (momentum == 0.0 || dampening != 0.0) {
        return Err(RecipeError::Value {
            key: "optimizer.nesterov".into(),
            value: "true".into(),
            allowed: "Nesterov momentum needs a momentum and no dampening".into(),
        });
    }
    Ok(())
}

fn name(optimizer: OptimizerName) -> &'static str {
    match optimizer {
        OptimizerName::Sgd => "sgd",
        OptimizerName::Adam => "adam",
        OptimizerName::AdamW => "adamw",
        OptimizerName::RmsProp => "rmsprop",
    }
}

fn check(key: &str, fits: bool, value: &impl std::fmt::Debug) -> Result<(), RecipeError> {
    match fits {
        true => Ok(()),
        false => Err(RecipeError::Value {
            key: key.into(),
            value: format!("{value:?}").to_lowercase(),
            allowed: find(key)?.allowed.into(),
        }),
    }
}
