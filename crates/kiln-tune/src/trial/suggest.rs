use serde::Serialize;

use crate::distribution::{
    CategoricalChoice, CategoricalDistribution, Distribution, FloatDistribution, IntDistribution,
    ParamValue,
};
use crate::error::Result;

/// Where parameters come from: a running [`Trial`](crate::Trial) or a [`FixedTrial`](crate::FixedTrial).
///
/// An objective or a search space written against this trait can be evaluated at given parameters, too.
pub trait Suggest {
    /// Suggests the internal value of a parameter; all other methods come down to this one.
    ///
    /// # Errors
    /// As [`Trial::suggest`](crate::Trial::suggest).
    fn suggest_internal(&mut self, name: &str, distribution: Distribution) -> Result<f64>;

    /// Suggests a value of any distribution.
    ///
    /// # Errors
    /// As [`Trial::suggest`](crate::Trial::suggest).
    fn suggest(&mut self, name: &str, distribution: impl Into<Distribution>) -> Result<ParamValue>
    where
        Self: Sized,
    {
        let distribution = distribution.into();
        let internal = self.suggest_internal(name, distribution.clone())?;
        Ok(distribution.to_external(internal))
    }

    /// Suggests a float of `[low, high]`.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`](crate::Error) when a bound is not finite or `low > high`, and as
    /// [`Trial::suggest`](crate::Trial::suggest).
    fn suggest_float(&mut self, name: &str, low: f64, high: f64) -> Result<f64> {
        self.suggest_internal(name, FloatDistribution::new(low, high)?.into())
    }

    /// Suggests a float of `[low, high]` on a log scale; `low` must be positive.
    ///
    /// # Errors
    /// As [`suggest_float`](Self::suggest_float), and when `low <= 0`.
    fn suggest_float_log(&mut self, name: &str, low: f64, high: f64) -> Result<f64> {
        self.suggest_internal(name, FloatDistribution::with_log(low, high)?.into())
    }

    /// Suggests a float of `low, low + step, ..., high`.
    ///
    /// # Errors
    /// As [`suggest_float`](Self::suggest_float), and when `step <= 0`.
    fn suggest_float_step(&mut self, name: &str, low: f64, high: f64, step: f64) -> Result<f64> {
        self.suggest_internal(name, FloatDistribution::with_step(low, high, step)?.into())
    }

    /// Suggests an integer of `[low, high]`.
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`](crate::Error) when `low > high`, and as
    /// [`Trial::suggest`](crate::Trial::suggest).
    fn suggest_int(&mut self, name: &str, low: i64, high: i64) -> Result<i64> {
        suggest_integer(self, name, IntDistribution::new(low, high)?)
    }

    /// Suggests an integer of `[low, high]` on a log scale; `low` must be at least 1.
    ///
    /// # Errors
    /// As [`suggest_int`](Self::suggest_int), and when `low < 1`.
    fn suggest_int_log(&mut self, name: &str, low: i64, high: i64) -> Result<i64> {
        suggest_integer(self, name, IntDistribution::with_log(low, high)?)
    }

    /// Suggests an integer of `low, low + step, ..., high`.
    ///
    /// # Errors
    /// As [`suggest_int`](Self::suggest_int), and when `step < 1`.
    fn suggest_int_step(&mut self, name: &str, low: i64, high: i64, step: i64) -> Result<i64> {
        suggest_integer(self, name, IntDistribution::with_step(low, high, step)?)
    }

    /// Suggests one of `choices`: strings, bools, numbers, options of them, or serde enums without data.
    ///
    /// ```
    /// use kiln_tune::{Study, Suggest};
    ///
    /// #[derive(Debug, Clone, Copy, serde::Serialize)]
    /// enum Norm { Batch, Group }
    ///
    /// let study = Study::builder().create()?;
    /// let mut trial = study.ask()?;
    /// let norm = trial.suggest_categorical("norm", &[Norm::Batch, Norm::Group])?;
    /// let width = trial.suggest_categorical("width", &[32, 64, 128])?;
    /// # let _: (Norm, i32) = (norm, width);
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`](crate::Error) when there is no choice or a choice is a structure, and as
    /// [`Trial::suggest`](crate::Trial::suggest).
    fn suggest_categorical<T: Serialize + Clone>(&mut self, name: &str, choices: &[T]) -> Result<T>
    where
        Self: Sized,
    {
        let stored: Vec<_> = choices
            .iter()
            .map(CategoricalChoice::from_serialize)
            .collect::<Result<_>>()?;
        let internal = self.suggest_internal(name, CategoricalDistribution::new(stored)?.into())?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (internal as usize).min(choices.len() - 1);
        Ok(choices[index].clone())
    }
}

/// Suggests an integer of a distribution.
pub(crate) fn suggest_integer<S: Suggest + ?Sized>(
    source: &mut S,
    name: &str,
    distribution: IntDistribution,
) -> Result<i64> {
    let internal = source.suggest_internal(name, distribution.into())?;
    Ok(distribution.value(internal))
}
