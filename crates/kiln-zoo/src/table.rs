//! The registry's rows.

use crate::registry::{ModelInfo, Task};

macro_rules! rows {
    ($($name:literal $task:ident $input:tt $classes:literal $source:literal $url:literal $summary:literal)*) => {
        &[$(ModelInfo {
            name: $name,
            summary: $summary,
            task: Task::$task,
            input: $input,
            num_classes: $classes,
            source: $source,
            url: $url,
        }),*]
    };
}

#[rustfmt::skip]
pub(crate) const MODELS: &[ModelInfo] = rows! {
    "cnn" Classification [1, 28, 28] 10 "LeCun et al. 1998, Gradient-Based Learning" "http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf"
        "LeNet-like: two 3x3 convolutions with normalization and pooling, one hidden layer"
    "mlp" Classification [1, 28, 28] 10 "Rumelhart et al. 1986, Back-Propagating Errors" "https://doi.org/10.1038/323533a0"
        "multilayer perceptron with dropout"
    "resnet18" Classification [3, 224, 224] 1000 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 18 layers, basic blocks"
    "resnet34" Classification [3, 224, 224] 1000 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 34 layers, basic blocks"
    "resnet50" Classification [3, 224, 224] 1000 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 50 layers, bottleneck blocks"
    "resnet101" Classification [3, 224, 224] 1000 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 101 layers, bottleneck blocks"
    "resnet152" Classification [3, 224, 224] 1000 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 152 layers, bottleneck blocks"
    "resnext50_32x4d" Classification [3, 224, 224] 1000 "Xie et al. 2016, Aggregated Residual Transformations" "https://arxiv.org/abs/1611.05431"
        "ResNeXt of 50 layers, 32 groups of 4 channels"
    "resnext101_32x8d" Classification [3, 224, 224] 1000 "Xie et al. 2016, Aggregated Residual Transformations" "https://arxiv.org/abs/1611.05431"
        "ResNeXt of 101 layers, 32 groups of 8 channels"
    "resnext101_64x4d" Classification [3, 224, 224] 1000 "Xie et al. 2016, Aggregated Residual Transformations" "https://arxiv.org/abs/1611.05431"
        "ResNeXt of 101 layers, 64 groups of 4 channels"
    "wide_resnet50_2" Classification [3, 224, 224] 1000 "Zagoruyko and Komodakis 2016, Wide Residual Networks" "https://arxiv.org/abs/1605.07146"
        "ResNet of 50 layers, bottlenecks twice as wide"
    "wide_resnet101_2" Classification [3, 224, 224] 1000 "Zagoruyko and Komodakis 2016, Wide Residual Networks" "https://arxiv.org/abs/1605.07146"
        "ResNet of 101 layers, bottlenecks twice as wide"
    "resnet20" Classification [3, 32, 32] 10 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 20 layers for CIFAR, shortcuts without parameters"
    "resnet32" Classification [3, 32, 32] 10 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 32 layers for CIFAR, shortcuts without parameters"
    "resnet44" Classification [3, 32, 32] 10 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 44 layers for CIFAR, shortcuts without parameters"
    "resnet56" Classification [3, 32, 32] 10 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 56 layers for CIFAR, shortcuts without parameters"
    "resnet110" Classification [3, 32, 32] 10 "He et al. 2015, Deep Residual Learning" "https://arxiv.org/abs/1512.03385"
        "ResNet of 110 layers for CIFAR, shortcuts without parameters"
    "small-resnet" Classification [3, 32, 32] 10 "yunjey/pytorch-tutorial, deep_residual_network" "https://github.com/yunjey/pytorch-tutorial"
        "residual network of a tutorial, blocks 2, 2, 2"
    "densenet121" Classification [3, 224, 224] 1000 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet of 121 layers"
    "densenet161" Classification [3, 224, 224] 1000 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet of 161 layers"
    "densenet169" Classification [3, 224, 224] 1000 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet of 169 layers"
    "densenet201" Classification [3, 224, 224] 1000 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet of 201 layers"
    "densenet-40-12" Classification [3, 32, 32] 10 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet for CIFAR, depth 40, growth rate 12"
    "densenet-100-12" Classification [3, 32, 32] 10 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet for CIFAR, depth 100, growth rate 12"
    "densenet-100-24" Classification [3, 32, 32] 10 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet for CIFAR, depth 100, growth rate 24"
    "densenet-bc-40-12" Classification [3, 32, 32] 10 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet-BC for CIFAR, depth 40, growth rate 12"
    "densenet-bc-100-12" Classification [3, 32, 32] 10 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet-BC for CIFAR, depth 100, growth rate 12"
    "densenet-bc-190-40" Classification [3, 32, 32] 10 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet-BC for CIFAR, depth 190, growth rate 40"
    "densenet-bc-250-24" Classification [3, 32, 32] 10 "Huang et al. 2016, Densely Connected Networks" "https://arxiv.org/abs/1608.06993"
        "DenseNet-BC for CIFAR, depth 250, growth rate 24"
    "unet" Segmentation [3, 224, 224] 2 "Ronneberger et al. 2015, U-Net" "https://arxiv.org/abs/1505.04597"
        "U-Net, enlarging by transposed convolution"
    "unet-bilinear" Segmentation [3, 224, 224] 2 "Ronneberger et al. 2015, U-Net" "https://arxiv.org/abs/1505.04597"
        "U-Net, enlarging by interpolation"
    "unet-resnet18" Segmentation [3, 224, 224] 2 "Ronneberger et al. 2015, U-Net" "https://arxiv.org/abs/1505.04597"
        "U-Net with resnet18 as encoder"
    "unet-resnet34" Segmentation [3, 224, 224] 2 "Ronneberger et al. 2015, U-Net" "https://arxiv.org/abs/1505.04597"
        "U-Net with resnet34 as encoder"
    "unet-resnet50" Segmentation [3, 224, 224] 2 "Ronneberger et al. 2015, U-Net" "https://arxiv.org/abs/1505.04597"
        "U-Net with resnet50 as encoder"
    "unet-resnet101" Segmentation [3, 224, 224] 2 "Ronneberger et al. 2015, U-Net" "https://arxiv.org/abs/1505.04597"
        "U-Net with resnet101 as encoder"
    "unet-densenet121" Segmentation [3, 224, 224] 2 "Ronneberger et al. 2015, U-Net" "https://arxiv.org/abs/1505.04597"
        "U-Net with densenet121 as encoder"
    "unet-densenet169" Segmentation [3, 224, 224] 2 "Ronneberger et al. 2015, U-Net" "https://arxiv.org/abs/1505.04597"
        "U-Net with densenet169 as encoder"
    "unet-resnet20" Segmentation [3, 32, 32] 2 "Ronneberger et al. 2015, U-Net" "https://arxiv.org/abs/1505.04597"
        "U-Net with resnet20 as encoder, for small images"
};
