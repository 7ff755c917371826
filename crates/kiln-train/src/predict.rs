//! Predicting the class of pictures.

use std::path::Path;

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};
use kiln_data::LabeledImages;
use kiln_data::images::{self, Framing, Invert, Raster};
use serde::Serialize;

use crate::error::TrainError;
use crate::evaluate::TrainedModel;
use crate::network::Network;
use crate::prepare::put;

/// What a model takes a picture for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The most probable classes, best first.
    pub top: Vec<Candidate>,
    /// Whether dark and light changed places before the model saw the picture.
    pub inverted: bool,
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// The class's name.
    pub class: String,
    /// Its probability (softmax of the logits), 0 to 1.
    pub probability: f64,
}

impl TrainedModel {
    /// Predicts the `top` most probable classes of a PNG or JPEG of any size and colour, which is
    /// brought into the form of the training images first: strokes are cut out and centred as
    /// MNIST's are; pictures of things (Fashion-MNIST) are taken whole. For images of another shape than MNIST's, the
    /// middle of the picture is taken, scaled to cover them.
    ///
    /// # Errors
    ///
    /// If the picture cannot be read, or the model predicts masks.
    pub fn predict(
        &self,
        picture: impl AsRef<Path>,
        invert: Invert,
        top: usize,
    ) -> Result<Prediction, TrainError> {
        let [channels, height, width] = self.info().model.input;
        if [channels, height, width] != [1, 28, 28] {
            let mut picture = Raster::read(picture.as_ref(), Some(channels))?.cover(height, width);
            let inverted = invert == Invert::Yes;
            if inverted {
                picture.pixels.iter_mut().for_each(|p| *p = 255 - *p);
            }
            return Ok(Prediction {
                inverted,
                ..self.predict_pixels(&picture.pixels, top)?
            });
        }
        let framing = match self.info().data.name.as_str() {
            "fashion-mnist" => Framing::Whole,
            _ => Framing::Ink,
        };
        let picture = images::read(picture.as_ref(), framing, invert)?;
        let prediction = self.predict_pixels(&picture.pixels, top)?;
        Ok(Prediction {
            inverted: picture.inverted,
            ..prediction
        })
    }

    /// Predicts the `top` most probable classes of an image of the model's own size, its pixels as
    /// in the training data.
    ///
    /// # Errors
    ///
    /// If the number of pixels is not the model's.
    pub fn predict_pixels(&self, pixels: &[u8], top: usize) -> Result<Prediction, TrainError> {
        let Network::Classifier(model) = &self.model else {
            return Err(TrainError::OnlyMasks);
        };
        let data = &self.info().data;
        let shape = self.info().model.input;
        let image = LabeledImages::new(
            "picture",
            data.classes.clone(),
            shape,
            pixels.to_vec(),
            vec![0],
        );
        let image = image.map_err(|_| TrainError::OtherShape {
            model: format!("{} pixels", shape.iter().product::<usize>()),
            data: format!("{} pixels", pixels.len()),
        })?;
        let image = put(&image, &self.device, self.scaler.as_ref())?;
        let batch = image.batch(Tensor::<1, Int>::zeros([1], &self.device), None);
        let probabilities = softmax(model.forward(batch.images), 1)
            .try_into_vec_as::<f32>()
            .map_err(|error| TrainError::Backend(error.to_string()))?;
        let mut candidates: Vec<Candidate> = std::iter::zip(&data.classes, probabilities)
            .map(|(class, probability)| Candidate {
                class: class.clone(),
                probability: f64::from(probability),
            })
            .collect();
        candidates.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        candidates.truncate(top);
        Ok(Prediction {
            top: candidates,
            inverted: false,
        })
    }
}
