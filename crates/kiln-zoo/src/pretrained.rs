//! Weights that their publishers trained.

use crate::architecture::plain;

/// A published weight file of a model.
///
/// All of them are torchvision's, for the 1000 classes of ImageNet. An image is made for them by resizing its shorter side
/// to [`resize`](Self::resize) pixels (bilinear), cutting the central [`CROP`](Self::CROP)² out, scaling to `[0, 1]`, and
/// standardizing each channel with [`MEAN`](Self::MEAN) and [`STD`](Self::STD).
///
/// ```
/// use kiln_zoo::Pretrained;
/// let weights = Pretrained::of("resnet50");
/// assert_eq!(weights.len(), 2);
/// assert_eq!(weights[1].name, "IMAGENET1K_V2");
/// assert_eq!(weights[1].url(), "https://download.pytorch.org/models/resnet50-11ad3fa6.pth");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pretrained {
    /// The model.
    pub model: &'static str,
    /// torchvision's name of the weights.
    pub name: &'static str,
    /// The first eight hexadecimal digits of the file's SHA-256, which its name holds.
    pub sha256_prefix: &'static str,
    /// Share of ImageNet's validation images classified correctly at first guess, in percent, as torchvision reports it.
    pub accuracy: f64,
    /// To how many pixels the shorter side of an image is resized.
    pub resize: usize,
}

impl Pretrained {
    /// Mean of the red, green and blue of ImageNet's images.
    pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// Their standard deviation.
    pub const STD: [f32; 3] = [0.229, 0.224, 0.225];
    /// Height and width of the central part of the resized image.
    pub const CROP: usize = 224;
    /// Where the files are.
    pub const ADDRESS: &'static str = "https://download.pytorch.org/models";

    /// The weights that there are for a model, in whatever spelling of its name; none for many.
    pub fn of(model: &str) -> Vec<&'static Pretrained> {
        let model = plain(model);
        ALL.iter()
            .filter(|weights| plain(weights.model) == model)
            .collect()
    }

    /// The file's name.
    pub fn file_name(&self) -> String {
        format!("{}-{}.pth", self.model, self.sha256_prefix)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("{}/{}", Self::ADDRESS, self.file_name())
    }
}

macro_rules! rows {
    ($($model:literal $name:literal $sha256:literal $accuracy:literal $resize:literal)*) => {
        &[$(Pretrained {
            model: $model,
            name: $name,
            sha256_prefix: $sha256,
            accuracy: $accuracy,
            resize: $resize,
        }),*]
    };
}

/// From torchvision 0.29 (`torchvision/models/resnet.py`, `densenet.py`).
#[rustfmt::skip]
const ALL: &[Pretrained] = rows! {
    "resnet18" "IMAGENET1K_V1" "f37072fd" 69.758 256
    "resnet34" "IMAGENET1K_V1" "b627a593" 73.314 256
    "resnet50" "IMAGENET1K_V1" "0676ba61" 76.13 256
    "resnet50" "IMAGENET1K_V2" "11ad3fa6" 80.858 232
    "resnet101" "IMAGENET1K_V1" "63fe2227" 77.374 256
    "resnet101" "IMAGENET1K_V2" "cd907fc2" 81.886 232
    "resnet152" "IMAGENET1K_V1" "394f9c45" 78.312 256
    "resnet152" "IMAGENET1K_V2" "f82ba261" 82.284 232
    "resnext50_32x4d" "IMAGENET1K_V1" "7cdf4587" 77.618 256
    "resnext50_32x4d" "IMAGENET1K_V2" "1a0047aa" 81.198 232
    "resnext101_32x8d" "IMAGENET1K_V1" "8ba56ff5" 79.312 256
    "resnext101_32x8d" "IMAGENET1K_V2" "110c445d" 82.834 232
    "resnext101_64x4d" "IMAGENET1K_V1" "173b62eb" 83.246 232
    "wide_resnet50_2" "IMAGENET1K_V1" "95faca4d" 78.468 256
    "wide_resnet50_2" "IMAGENET1K_V2" "9ba9bcbe" 81.602 232
    "wide_resnet101_2" "IMAGENET1K_V1" "32ee1156" 78.848 256
    "wide_resnet101_2" "IMAGENET1K_V2" "d733dc28" 82.51 232
    "densenet121" "IMAGENET1K_V1" "a639ec97" 74.434 256
    "densenet161" "IMAGENET1K_V1" "8d451a50" 77.138 256
    "densenet169" "IMAGENET1K_V1" "b2777c0a" 75.6 256
    "densenet201" "IMAGENET1K_V1" "c1103571" 76.896 256
};
