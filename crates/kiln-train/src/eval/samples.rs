//! What a classifier says of some test images, with the images: `samples.json`, for the report.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Int, Tensor};
use kiln_data::{DeviceDataset, LabeledImages};
use kiln_zoo::Classifier;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::eval::evaluation::EVAL_BATCH;
use crate::report::plot::encode;
use crate::run::files::write_json;

const FILE: &str = "samples.json";
/// Images looked at: enough to find mistakes, few enough to cost little beside the evaluation.
const LOOKED_AT: usize = 1000;
/// Right answers shown, and wrong ones.
const SHOWN: usize = 12;

/// One image and what the model says of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The image as PNG, in base64.
    pub(crate) png: String,
    pub(crate) truth: String,
    pub(crate) answer: String,
    /// The probability that the model gives its answer.
    pub(crate) probability: f64,
}

/// Writes the first right answers and the most confident wrong ones among the first test images.
pub(crate) fn write(
    model: &Classifier,
    on_device: &DeviceDataset,
    images: &LabeledImages,
    classes: &[String],
    folder: &Path,
) -> Result<(), TrainError> {
    let backend = |error: &dyn std::fmt::Display| TrainError::Backend(error.to_string());
    let device = on_device.device();
    let len = on_device.len().min(LOOKED_AT);
    let mut said: Vec<(usize, usize, f64)> = Vec::new();
    for start in (0..len).step_by(EVAL_BATCH) {
        let end = len.min(start + EVAL_BATCH);
        let indices = Tensor::<1, Int>::arange(start as i64..end as i64, (&device, DType::I32));
        let batch = on_device.batch(indices, None);
        let (probability, answer) = softmax(model.forward(batch.images), 1).max_dim_with_indices(1);
        let probability = probability.try_into_vec_as::<f32>();
        let answer = answer.try_into_vec_as::<i64>();
        let answer = answer.map_err(|error| backend(&error))?;
        let probability = probability.map_err(|error| backend(&error))?;
        let both = std::iter::zip(answer, probability).enumerate();
        said.extend(both.map(|(i, (answer, p))| (start + i, answer as usize, f64::from(p))));
    }
    let truth = |image: usize| usize::from(images.labels()[image]);
    let (right, mut wrong): (Vec<_>, Vec<_>) = said
        .into_iter()
        .partition(|&(image, answer, _)| truth(image) == answer);
    wrong.sort_by(|a, b| b.2.total_cmp(&a.2));
    let chosen = right
        .into_iter()
        .take(SHOWN)
        .chain(wrong.into_iter().take(SHOWN));
    let samples = chosen.map(|(image, answer, probability)| {
        Ok(Sample {
            png: png(images, image)?,
            truth: classes[truth(image)].clone(),
            answer: classes[answer].clone(),
            probability,
        })
    });
    let samples: Vec<Sample> = samples.collect::<Result<_, TrainError>>()?;
    write_json(&folder.join(FILE), &samples)
}

/// The samples of a run; none where it has no such file.
pub(crate) fn read(folder: &Path) -> Result<Vec<Sample>, TrainError> {
    let path = folder.join(FILE);
    match path.is_file() {
        true => crate::run::files::read_json(&path),
        false => Ok(Vec::new()),
    }
}

fn png(images: &LabeledImages, image: usize) -> Result<String, TrainError> {
    let [channels, height, width] = images.shape();
    let plane = height * width;
    let pixels = &images.images()[image * channels * plane..][..channels * plane];
    let rgb: Vec<u8> = (0..plane)
        .flat_map(|at| {
            [0, 1, 2].map(|channel: usize| pixels[channel.min(channels - 1) * plane + at])
        })
        .collect();
    let png = encode(&rgb, width as u32, height as u32);
    Ok(STANDARD.encode(png.map_err(|error| TrainError::Plot(error.to_string()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_becomes_a_picture_of_its_size() {
        let classes = vec!["a".to_string()];
        let pixels: Vec<u8> = (0..24).collect();
        for channels in [1, 3] {
            let shape = [channels, 2, 24 / 2 / channels / 2 * 2];
            let len: usize = shape.iter().product();
            let images = LabeledImages::new(
                "test",
                classes.clone(),
                shape,
                pixels[..len].into(),
                vec![0],
            )
            .unwrap();
            let bytes = STANDARD.decode(png(&images, 0).unwrap()).unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
                .read_info()
                .unwrap();
            let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut rgb).unwrap();
            let plane = shape[1] * shape[2];
            let last = channels - 1;
            assert_eq!(rgb.len(), plane * 3);
            assert_eq!(
                rgb[3..6],
                [1, (last.min(1) * plane + 1) as u8, (last * plane + 1) as u8]
            );
        }
    }
}
