//! Names and settings turned into configurations.

use burn::tensor::Device;
use kiln_norm::{Norm, NormError};

use crate::memory::{bytes_text, machine_memory};
use crate::pass::{Shapes, product};
use crate::registry::{Settings, ZooError};
use crate::{
    BackboneUNetConfig, CifarDenseNetConfig, Classifier, CnnConfig, DenseNetConfig, MlpConfig,
    ResNetConfig, Segmenter, SmallResNetConfig, Stem, Summary, UNetConfig,
};

/// A classifier, before its settings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Architecture {
    Cnn,
    Mlp,
    ResNet(ResNetConfig),
    SmallResNet([usize; 3]),
    DenseNet(DenseNetConfig),
    CifarDenseNet(CifarDenseNetConfig),
}

/// The encoder of a U-Net.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Encoder {
    /// The U-Net's own, with interpolation in the decoder or without.
    Own {
        bilinear: bool,
    },
    Backbone(Architecture),
}

/// A name in one spelling: lower case, words joined by a hyphen.
pub(crate) fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace(['_', ' '], "-")
}

/// The classifier of a name.
pub(crate) fn classifier(name: &str) -> Option<Architecture> {
    let name = plain(name);
    let resnet = |config: ResNetConfig| Some(Architecture::ResNet(config));
    let densenet = |config: DenseNetConfig| Some(Architecture::DenseNet(config));
    match name.as_str() {
        "cnn" => Some(Architecture::Cnn),
        "mlp" => Some(Architecture::Mlp),
        "resnet18" => resnet(ResNetConfig::resnet18()),
        "resnet34" => resnet(ResNetConfig::resnet34()),
        "resnet50" => resnet(ResNetConfig::resnet50()),
        "resnet101" => resnet(ResNetConfig::resnet101()),
        "resnet152" => resnet(ResNetConfig::resnet152()),
        "resnext50-32x4d" => resnet(ResNetConfig::resnet50().resnext(32, 4)),
        "resnext101-32x8d" => resnet(ResNetConfig::resnet101().resnext(32, 8)),
        "resnext101-64x4d" => resnet(ResNetConfig::resnet101().resnext(64, 4)),
        "wide-resnet50-2" => resnet(ResNetConfig::resnet50().wide(2)),
        "wide-resnet101-2" => resnet(ResNetConfig::resnet101().wide(2)),
        "resnet20" => resnet(ResNetConfig::cifar(3)),
        "resnet32" => resnet(ResNetConfig::cifar(5)),
        "resnet44" => resnet(ResNetConfig::cifar(7)),
        "resnet56" => resnet(ResNetConfig::cifar(9)),
        "resnet110" => resnet(ResNetConfig::cifar(18)),
        "small-resnet" => Some(Architecture::SmallResNet([2, 2, 2])),
        "densenet121" => densenet(DenseNetConfig::densenet121()),
        "densenet161" => densenet(DenseNetConfig::densenet161()),
        "densenet169" => densenet(DenseNetConfig::densenet169()),
        "densenet201" => densenet(DenseNetConfig::densenet201()),
        _ => numbered(&name),
    }
}

/// Families whose names hold their numbers.
fn numbered(name: &str) -> Option<Architecture> {
    if let Some(digits) = name.strip_prefix("small-resnet-") {
        let layers: Option<Vec<usize>> = digits
            .chars()
            .map(|digit| Some(digit.to_digit(10)? as usize))
            .collect();
        let layers = <[usize; 3]>::try_from(layers?).ok()?;
        return layers
            .iter()
            .all(|&n| n > 0)
            .then_some(Architecture::SmallResNet(layers));
    }
    let name = name.strip_prefix("cifar-").unwrap_or(name);
    let (numbers, bottleneck) = match name.strip_prefix("densenet-bc-") {
        Some(numbers) => (numbers, true),
        None => (name.strip_prefix("densenet-")?, false),
    };
    // The growth rate of the paper's small networks where none is given.
    let (depth, growth) = numbers.split_once('-').unwrap_or((numbers, "12"));
    let (depth, growth): (usize, usize) = (depth.parse().ok()?, growth.parse().ok()?);
    let step = if bottleneck { 6 } else { 3 };
    if depth < 4 + step
        || !(depth - 4).is_multiple_of(step)
        || depth > 1000
        || !(1..=512).contains(&growth)
    {
        return None;
    }
    Some(Architecture::CifarDenseNet(match bottleneck {
        true => CifarDenseNetConfig::bc(depth, growth),
        false => CifarDenseNetConfig::plain(depth, growth),
    }))
}

/// The segmenter of a name.
pub(crate) fn segmenter(name: &str) -> Option<Encoder> {
    let name = plain(name);
    match name.as_str() {
        "unet" | "unet-transposed" => Some(Encoder::Own { bilinear: false }),
        "unet-bilinear" => Some(Encoder::Own { bilinear: true }),
        _ => match classifier(name.strip_prefix("unet-")?)? {
            Architecture::Cnn | Architecture::Mlp => None,
            backbone => Some(Encoder::Backbone(backbone)),
        },
    }
}

/// The largest size of anything: that of a tensor's axis.
const MAX_SIZE: usize = i32::MAX as usize;
/// The largest number of hidden layers.
const MAX_LAYERS: usize = 1000;

/// What of a list is shown in a message.
fn shortened(sizes: &[usize]) -> &[usize] {
    &sizes[..sizes.len().min(8)]
}

/// What may be given to a model, and what was.
struct Check<'a> {
    model: &'a str,
    settings: &'a Settings,
    /// Whether the network is only measured: then it has no normalizations. Weights are not drawn before they are used, so
    /// that such a network takes no memory, however large it is; a normalization has its values at once.
    on_paper: bool,
}

impl<'a> Check<'a> {
    /// Of a network to be measured, after what holds for every model.
    fn new(model: &'a str, settings: &'a Settings) -> Result<Self, ZooError> {
        let check = Self {
            model,
            settings,
            on_paper: true,
        };
        check.common()?;
        Ok(check)
    }

    fn refuse<T>(
        &self,
        setting: &'static str,
        given: &impl std::fmt::Debug,
        allowed: &'static str,
    ) -> Result<T, ZooError> {
        Err(ZooError::Setting {
            model: self.model.into(),
            setting,
            given: format!("{given:?}"),
            allowed,
        })
    }

    /// What holds for every model.
    fn common(&self) -> Result<(), ZooError> {
        let settings = self.settings;
        let out_of_range =
            |sizes: &[usize]| sizes.iter().any(|size| !(1..=MAX_SIZE).contains(size));
        if out_of_range(&settings.input) {
            let allowed = "every size must be positive and at most 2147483647";
            return self.refuse("input", &settings.input, allowed);
        }
        if out_of_range(&[settings.num_classes]) {
            let allowed = "at least 1 and at most 2147483647";
            return self.refuse("num_classes", &settings.num_classes, allowed);
        }
        if let Some(hidden) = &settings.hidden
            && (hidden.len() > MAX_LAYERS || hidden.iter().any(|&units| units > MAX_SIZE))
        {
            let allowed = "at most 1000 layers of at most 2147483647 units";
            return self.refuse("hidden", &shortened(hidden), allowed);
        }
        if let Some(channels) = &settings.channels
            && (channels.len() > MAX_LAYERS || channels.iter().any(|&n| n > MAX_SIZE))
        {
            let allowed = "at most 2147483647 channels for each layer";
            return self.refuse("channels", &shortened(channels), allowed);
        }
        if let Some(hidden) = &settings.hidden
            && hidden.contains(&0)
        {
            return self.refuse("hidden", hidden, "every layer needs at least one unit");
        }
        if let Some(dropout) = &settings.dropout
            && (dropout.is_empty() || dropout.iter().any(|p| !(0.0..1.0).contains(p)))
        {
            return self.refuse("dropout", dropout, "a probability must be in [0, 1)");
        }
        Ok(())
    }

    /// Settings that this model does not have.
    fn without(&self, names: &[&str]) -> Result<(), ZooError> {
        let settings = self.settings;
        for &name in names {
            let allowed = "this model does not have the setting; leave it out";
            match name {
                "hidden" if settings.hidden.is_some() => {
                    return self.refuse("hidden", &settings.hidden.as_ref(), allowed);
                }
                "channels" if settings.channels.is_some() => {
                    return self.refuse("channels", &settings.channels.as_ref(), allowed);
                }
                "norm" if settings.norm.is_some() => {
                    return self.refuse("norm", &settings.norm.map(|n| n.to_string()), allowed);
                }
                "stem" if settings.stem.is_some() => {
                    return self.refuse("stem", &settings.stem, allowed);
                }
                "zero_init" if settings.zero_init.is_some() => {
                    return self.refuse("zero_init", &settings.zero_init, allowed);
                }
                "bilinear" if settings.bilinear.is_some() => {
                    return self.refuse("bilinear", &settings.bilinear, allowed);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// One probability for a model that has one place for dropout, or one for all places.
    fn dropout(&self, default: f64) -> Result<f64, ZooError> {
        match self.settings.dropout.as_deref() {
            None => Ok(default),
            Some(&[probability]) => Ok(probability),
            Some(dropout) => self.refuse("dropout", &dropout, "give one probability"),
        }
    }

    fn norm(&self) -> Norm {
        match self.on_paper {
            true => Norm::None,
            false => self.settings.norm.unwrap_or_default(),
        }
    }

    fn normed<T>(&self, model: Result<T, NormError>) -> Result<T, ZooError> {
        model.map_err(|source| ZooError::Norm {
            model: self.model.into(),
            source,
        })
    }

    /// That something is left of the image at the end, and that the parameters fit into memory.
    fn fits(&self, shapes: Shapes) -> Result<(), ZooError> {
        let model = self.model.to_owned();
        if let Some(layer) = shapes.too_small() {
            let [_, height, width] = self.settings.input;
            return Err(ZooError::TooSmall {
                model,
                height,
                width,
                layer: layer.into(),
            });
        }
        if let Some(layer) = shapes.too_large() {
            let what =
                format!("the sizes of '{layer}' multiply to more than a number of 64 bits holds");
            return Err(ZooError::TooLarge { model, what });
        }
        let summary = Summary::new(self.settings.input, shapes);
        let bytes = (summary.parameters() as u64).saturating_mul(4);
        let memory = machine_memory().unwrap_or(isize::MAX as u64);
        if bytes > memory || summary.macs() == u64::MAX {
            let what = format!(
                "its {} parameters take {}, and this machine has {} of memory",
                summary.parameters(),
                bytes_text(bytes),
                bytes_text(memory)
            );
            return Err(ZooError::TooLarge { model, what });
        }
        Ok(())
    }
}

impl Architecture {
    pub(crate) fn create(
        self,
        model: &str,
        settings: &Settings,
        device: &Device,
    ) -> Result<Classifier, ZooError> {
        let mut check = Check::new(model, settings)?;
        let [channels, height, width] = settings.input;
        let mut shapes = Shapes::default();
        let sketch = self.clone().build(&check, device)?;
        sketch.pass(&mut shapes, [1, channels, height, width]);
        check.fits(shapes)?;
        check.on_paper = false;
        self.build(&check, device)
    }

    fn build(self, check: &Check, device: &Device) -> Result<Classifier, ZooError> {
        let settings = check.settings;
        let [in_channels, _, _] = settings.input;
        let num_classes = settings.num_classes;
        let activation = settings.activation.unwrap_or_default();
        let norm = check.norm();
        match self {
            Self::Cnn => {
                check.without(&["stem", "zero_init", "bilinear"])?;
                let config = cnn(check)?;
                Ok(Classifier::Cnn(check.normed(config.init(device))?))
            }
            Self::Mlp => {
                check.without(&["channels", "norm", "stem", "zero_init", "bilinear"])?;
                Ok(Classifier::Mlp(mlp(check)?.init(device)))
            }
            Self::ResNet(config) => {
                check.without(&["hidden", "channels", "bilinear"])?;
                let config = ResNetConfig {
                    num_classes,
                    in_channels,
                    norm,
                    activation,
                    stem: settings.stem.unwrap_or(config.stem),
                    zero_init_residual: settings.zero_init.unwrap_or(config.zero_init_residual),
                    drop_rate: check.dropout(config.drop_rate)?,
                    ..config
                };
                if config.zero_init_residual && norm == Norm::None && !check.on_paper {
                    let allowed =
                        "there is no normalization to start at zero; leave it out or set a norm";
                    return check.refuse("zero_init", &true, allowed);
                }
                Ok(Classifier::ResNet(check.normed(config.init(device))?))
            }
            Self::SmallResNet(layers) => {
                check.without(&["hidden", "channels", "stem", "zero_init", "bilinear"])?;
                let config = SmallResNetConfig {
                    layers,
                    in_channels,
                    norm,
                    activation,
                    drop_rate: check.dropout(0.0)?,
                    ..SmallResNetConfig::new(num_classes)
                };
                Ok(Classifier::SmallResNet(check.normed(config.init(device))?))
            }
            Self::DenseNet(config) => {
                check.without(&["hidden", "channels", "zero_init", "bilinear"])?;
                let config = DenseNetConfig {
                    num_classes,
                    in_channels,
                    norm,
                    activation,
                    stem: settings.stem.unwrap_or(Stem::ImageNet),
                    drop_rate: check.dropout(config.drop_rate)?,
                    ..config
                };
                Ok(Classifier::DenseNet(check.normed(config.init(device))?))
            }
            Self::CifarDenseNet(config) => {
                check.without(&["hidden", "channels", "stem", "zero_init", "bilinear"])?;
                let config = CifarDenseNetConfig {
                    num_classes,
                    in_channels,
                    norm,
                    activation,
                    drop_rate: check.dropout(config.drop_rate)?,
                    ..config
                };
                Ok(Classifier::CifarDenseNet(
                    check.normed(config.init(device))?,
                ))
            }
        }
    }
}

impl Encoder {
    pub(crate) fn create(
        self,
        model: &str,
        settings: &Settings,
        device: &Device,
    ) -> Result<Segmenter, ZooError> {
        let mut check = Check::new(model, settings)?;
        let [channels, height, width] = settings.input;
        let mut shapes = Shapes::default();
        let sketch = self.clone().build(&check, device)?;
        sketch.pass(&mut shapes, [1, channels, height, width]);
        check.fits(shapes)?;
        check.on_paper = false;
        self.build(&check, device)
    }

    fn build(self, check: &Check, device: &Device) -> Result<Segmenter, ZooError> {
        let settings = check.settings;
        check.without(&["hidden"])?;
        let [in_channels, _, _] = settings.input;
        let num_classes = settings.num_classes;
        let activation = settings.activation.unwrap_or_default();
        let norm = check.norm();
        let drop_rate = check.dropout(0.0)?;
        Ok(match self {
            Self::Own { bilinear } => {
                check.without(&["stem", "zero_init"])?;
                let width = match settings.channels.as_deref() {
                    None => UNetConfig::new(num_classes).width,
                    Some(&[width]) if width > 0 && width.is_multiple_of(2) => width,
                    Some(channels) => {
                        let allowed = "give one even number, the channels of the first level";
                        return check.refuse("channels", &channels, allowed);
                    }
                };
                let config = UNetConfig {
                    in_channels,
                    width,
                    bilinear: settings.bilinear.unwrap_or(bilinear),
                    norm,
                    activation,
                    drop_rate,
                    ..UNetConfig::new(num_classes)
                };
                Segmenter::UNet(check.normed(config.init(device))?)
            }
            Self::Backbone(backbone) => {
                check.without(&["channels"])?;
                // These two are the decoder's.
                let encoder = Settings {
                    bilinear: None,
                    dropout: None,
                    ..settings.clone()
                };
                let encoder = Check {
                    settings: &encoder,
                    ..*check
                };
                let backbone = backbone.build(&encoder, device)?.into_backbone();
                let backbone = backbone.expect("a network of stages");
                let config = BackboneUNetConfig {
                    bilinear: settings.bilinear.unwrap_or(true),
                    norm,
                    activation,
                    drop_rate,
                    ..BackboneUNetConfig::new(num_classes)
                };
                Segmenter::BackboneUNet(check.normed(config.init(backbone, in_channels, device))?)
            }
        })
    }
}

fn cnn(check: &Check) -> Result<CnnConfig, ZooError> {
    let settings = check.settings;
    let mut config = CnnConfig::new(settings.input, settings.num_classes);
    let [_, height, width] = settings.input;
    if height < 4 || width < 4 {
        let allowed = "an image must have at least 4x4 pixels, since it is halved twice";
        return check.refuse("input", &settings.input, allowed);
    }
    if let Some(channels) = &settings.channels {
        config.channels = match channels[..] {
            [c1, c2] if c1 > 0 && c2 > 0 => [c1, c2],
            _ => return check.refuse("channels", channels, "give two positive numbers"),
        };
    }
    if let Some(hidden) = &settings.hidden {
        config.hidden = match hidden[..] {
            [units] => units,
            _ => return check.refuse("hidden", hidden, "give one positive number"),
        };
    }
    config.dropout = check.dropout(config.dropout)?;
    config.norm = check.norm();
    config.activation = settings.activation.unwrap_or_default();
    Ok(config)
}

fn mlp(check: &Check) -> Result<MlpConfig, ZooError> {
    let settings = check.settings;
    let mut config = MlpConfig::new(product(&settings.input), settings.num_classes);
    if let Some(hidden) = &settings.hidden {
        config.hidden = hidden.clone();
    }
    if let Some(dropout) = &settings.dropout {
        let allowed = "give one probability, or one for each hidden layer";
        if dropout.len() > 1 && dropout.len() != config.hidden.len() {
            return check.refuse("dropout", dropout, allowed);
        }
        config.dropout = dropout.clone();
    }
    config.activation = settings.activation.unwrap_or_default();
    Ok(config)
}
