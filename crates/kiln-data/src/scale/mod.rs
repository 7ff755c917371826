//! Feature scaling, equal to scikit-learn's: min-max, standard, robust, max-abs and per-sample.
//!
//! A scaler is fitted on training data and then changes any data in the same way, so that test data are never
//! fitted. [`Scale`] is what four of them have in common; [`Normalizer`] needs no fitting; [`Scaler`] is any of
//! the five, by name or from the JSON file that a trained model keeps beside it.
//!
//! They take a [`Matrix`] in host memory, a `Tensor<2>` of rows, or a `Tensor<4>` of images, whose features
//! are their channels; tensors stay on their device. Matrices are scaled by scikit-learn's own operations in
//! f64 and rounded once. Tensors of f32 are scaled in f32, with the centre split in two numbers, so that values
//! near 1e8 keep their deviations.
//!
//! One thing differs from scikit-learn on purpose: a chunk in which a feature is NaN throughout adds nothing to
//! it, where scikit-learn's `partial_fit` makes the feature's statistics NaN for good. So chunks always give what
//! one `fit` gives.
//!
//! ```
//! use kiln_data::scale::{Matrix, Scale, Scaler, StandardScaler};
//!
//! let train = Matrix::from_rows([[1.0, 200.0], [3.0, 400.0]]);
//! let mut scaler = StandardScaler::new();
//! scaler.fit(&train)?;
//! let test = Matrix::from_rows([[5.0, 300.0]]);
//! assert_eq!(scaler.transform(&test)?.row(0), [3.0, 0.0]);
//!
//! let folder = tempfile::tempdir()?;
//! let file = folder.path().join("scaler.json");
//! Scaler::from(scaler).save(&file)?;
//! assert_eq!(Scaler::load(&file)?.transform(&test)?.row(0), [3.0, 0.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod features;
mod floats;
mod linear;
mod matrix;
mod maxabs;
mod minmax;
mod normalizer;
mod robust;
mod scaler;
mod standard;

pub use error::ScaleError;
pub use features::{Columns, Features, Observations};
pub use matrix::{Matrix, Real};
pub use maxabs::MaxAbsScaler;
pub use minmax::MinMaxScaler;
pub use normalizer::{Norm, Normalizer};
pub use robust::RobustScaler;
pub use scaler::Scaler;
pub use standard::StandardScaler;

use linear::{Direction, Linear};

/// A scaler that is fitted: [`MinMaxScaler`], [`StandardScaler`], [`RobustScaler`], [`MaxAbsScaler`].
pub trait Scale: Sized {
    /// The scaler's name, as scikit-learn spells it.
    const NAME: &'static str;
    /// Whether it can be fitted in chunks.
    const INCREMENTAL: bool = true;

    /// Fits to data, forgetting what it was fitted on before.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Empty`], [`ScaleError::Value`] for an infinite value, [`ScaleError::Device`] if a tensor
    /// cannot be read. The scaler is unchanged then.
    fn fit(&mut self, x: &impl Observations) -> Result<(), ScaleError> {
        let data = x.columns()?;
        data.check(Self::NAME, true)?;
        self.forget();
        self.observe(&data)
    }

    /// Fits to one more chunk of data. Any chunks give what one [`fit`](Self::fit) to all rows gives.
    ///
    /// # Errors
    ///
    /// As [`fit`](Self::fit), and [`ScaleError::Features`] for another number of features than before,
    /// [`ScaleError::NotIncremental`] for the [`RobustScaler`].
    fn partial_fit(&mut self, x: &impl Observations) -> Result<(), ScaleError> {
        if !Self::INCREMENTAL {
            return Err(ScaleError::NotIncremental { scaler: Self::NAME });
        }
        let data = x.columns()?;
        data.check(Self::NAME, true)?;
        if let Some(fitted) = self.num_features() {
            check_features(Self::NAME, fitted, data.columns.len())?;
        }
        self.observe(&data)
    }

    /// Scales data.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Unfitted`], [`ScaleError::Features`], or [`ScaleError::Value`] if a matrix holds an infinite
    /// value (tensors are not looked at).
    fn transform<X: Features>(&self, x: &X) -> Result<X, ScaleError> {
        self.map(x, Direction::Forward)
    }

    /// Undoes [`transform`](Self::transform), except what clipping cut off.
    ///
    /// # Errors
    ///
    /// As [`transform`](Self::transform).
    fn inverse_transform<X: Features>(&self, x: &X) -> Result<X, ScaleError> {
        self.map(x, Direction::Backward)
    }

    /// [`fit`](Self::fit), then [`transform`](Self::transform) the same data.
    ///
    /// # Errors
    ///
    /// As [`fit`](Self::fit).
    fn fit_transform<X: Features>(&mut self, x: &X) -> Result<X, ScaleError> {
        self.fit(x)?;
        self.transform(x)
    }

    /// Number of features it was fitted on, or none.
    fn num_features(&self) -> Option<usize>;

    #[doc(hidden)]
    fn forget(&mut self);
    #[doc(hidden)]
    fn observe(&mut self, data: &Columns) -> Result<(), ScaleError>;
    #[doc(hidden)]
    fn linear(&self) -> Option<Linear>;
    #[doc(hidden)]
    fn check_settings(&self) -> Result<(), ScaleError> {
        Ok(())
    }
    #[doc(hidden)]
    fn check_state(&self) -> Result<(), String> {
        Ok(())
    }
    #[doc(hidden)]
    fn map<X: Features>(&self, x: &X, direction: Direction) -> Result<X, ScaleError> {
        let unfitted = ScaleError::Unfitted { scaler: Self::NAME };
        let linear = self.linear().ok_or(unfitted)?;
        check_features(Self::NAME, linear.center.len(), x.num_features())?;
        x.check(Self::NAME, true)?;
        Ok(x.linear(&linear, direction))
    }
}

fn check_features(scaler: &'static str, fitted: usize, given: usize) -> Result<(), ScaleError> {
    match fitted == given {
        true => Ok(()),
        false => Err(ScaleError::Features {
            scaler,
            fitted,
            given,
        }),
    }
}

/// One for what is too small to divide by.
fn handle_zeros(scale: f64, epsilon: f64) -> f64 {
    match scale < 10.0 * epsilon {
        true => 1.0,
        false => scale,
    }
}
