//! Predicting the class of pictures.

use std::path::Path;

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};
use kiln_data::LabeledImages;
use kiln_data::images::{self, Framing, Invert, SIDE};
use serde::Serialize;

use crate::error::TrainError;
use crate::eval::evaluation::TrainedModel;
use crate::recipe::data::put;
use crate::tasks::network::Network;

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
    /// Predicts the `top` most probable classes of a picture of any size and colour, which is prepared as the run has
    /// recorded: as the pictures of its data were ([`DataInfo::preprocess`](crate::DataInfo::preprocess)). A picture that
    /// has the size of the model's images is taken as it is, so that one of the test images gets the answer that an
    /// evaluation counts.
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
        let (pixels, inverted) = match self.framed {
            true => {
                let framed = images::read_under(
                    picture.as_ref(),
                    Framing::Ink,
                    invert,
                    self.preprocess.rules,
                )?;
                let channels = self.input[0];
                (framed.pixels.repeat(channels), framed.inverted)
            }
            false => {
                let (image, inverted) = self.preprocess.read(picture.as_ref(), invert)?;
                (image.pixels, inverted)
            }
        };
        Ok(Prediction {
            inverted,
            ..self.predict_pixels(&pixels, top)?
        })
    }

    /// Frames every picture from here on as a photographed digit, whatever the run's data set was: the ink is cut out,
    /// fitted into 20×20 pixels and centred by its mass, as the makers of MNIST did it.
    ///
    /// # Errors
    ///
    /// [`TrainError::CannotFrame`] if the model does not take images of 28×28 pixels, [`TrainError::OnlyMasks`] if it
    /// predicts masks.
    pub fn with_framing(mut self) -> Result<Self, TrainError> {
        let input = self.input;
        match self.model {
            Network::Segmenter(_) => Err(TrainError::OnlyMasks),
            Network::Classifier(_) if input[1..] != [SIDE, SIDE] => {
                Err(TrainError::CannotFrame { input })
            }
            Network::Classifier(_) => {
                self.framed = true;
                Ok(self)
            }
        }
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
        let shape = self.input;
        let image = LabeledImages::new(
            "picture",
            self.classes.clone(),
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
        let mut candidates: Vec<Candidate> = std::iter::zip(&self.classes, probabilities)
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
