//! What a run's folder says of its recipe.

use kiln_data::scale::Scaler;

use super::Recipe;
use crate::error::TrainError;
use crate::run::folder::RunDir;

impl RunDir {
    /// The recipe the run was started with.
    ///
    /// # Errors
    ///
    /// If the file was damaged.
    pub fn recipe(&self) -> Result<Recipe, TrainError> {
        Ok(Recipe::of_run(&self.recipe_file())?)
    }

    /// The scaler as fitted on the training images; none for `scale = "none"`.
    ///
    /// # Errors
    ///
    /// If the file was damaged or is missing.
    pub fn scaler(&self) -> Result<Option<Scaler>, TrainError> {
        if self.recipe()?.scale == "none" {
            return Ok(None);
        }
        Scaler::load(self.scaler_file()?)
            .map(Some)
            .map_err(Into::into)
    }
}
