//! [`Scaler`]: any scaler, by name or from a file.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    Features, MaxAbsScaler, MinMaxScaler, Norm, Normalizer, Observations, RobustScaler, Scale,
    ScaleError, StandardScaler,
};

/// Any of the scalers, as a recipe names it and a run keeps it.
///
/// | name | scaler |
/// |---|---|
/// | `standard` | [`StandardScaler`] |
/// | `minmax`, `minmax:-1,1` | [`MinMaxScaler`] onto `[0, 1]`, or onto the range given |
/// | `robust` | [`RobustScaler`] |
/// | `maxabs` | [`MaxAbsScaler`] |
/// | `normalize-l1`, `normalize-l2`, `normalize-max` | [`Normalizer`] |
///
/// ```
/// use kiln_data::scale::{Matrix, Scaler};
///
/// let mut scaler: Scaler = "minmax:-1,1".parse()?;
/// scaler.fit(&Matrix::from_rows([[0.0], [10.0]]))?;
/// assert_eq!(scaler.transform(&Matrix::from_rows([[5.0]]))?.as_slice(), [0.0]);
/// assert!("minimax".parse::<Scaler>().is_err());
/// # Ok::<(), kiln_data::scale::ScaleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "scaler")]
pub enum Scaler {
    /// Maps ranges.
    MinMaxScaler(MinMaxScaler),
    /// Mean 0, variance 1.
    StandardScaler(StandardScaler),
    /// Median 0, distance of the quartiles 1.
    RobustScaler(RobustScaler),
    /// Largest absolute value 1.
    MaxAbsScaler(MaxAbsScaler),
    /// Each sample has norm 1.
    Normalizer(Normalizer),
}

/// Calls a method of whichever scaler it is; the normalizer has an answer of its own.
macro_rules! each {
    ($self:expr, $scaler:ident => $call:expr, $normalizer:pat => $other:expr) => {
        match $self {
            Scaler::MinMaxScaler($scaler) => $call,
            Scaler::StandardScaler($scaler) => $call,
            Scaler::RobustScaler($scaler) => $call,
            Scaler::MaxAbsScaler($scaler) => $call,
            Scaler::Normalizer($normalizer) => $other,
        }
    };
}

impl Scaler {
    /// Fits to data; the normalizer has nothing to fit.
    ///
    /// # Errors
    ///
    /// As [`Scale::fit`].
    pub fn fit(&mut self, x: &impl Observations) -> Result<(), ScaleError> {
        each!(self, scaler => scaler.fit(x), _ => Ok(()))
    }

    /// Fits to one more chunk of data.
    ///
    /// # Errors
    ///
    /// As [`Scale::partial_fit`].
    pub fn partial_fit(&mut self, x: &impl Observations) -> Result<(), ScaleError> {
        each!(self, scaler => scaler.partial_fit(x), _ => Ok(()))
    }

    /// Scales data.
    ///
    /// # Errors
    ///
    /// As [`Scale::transform`].
    pub fn transform<X: Features>(&self, x: &X) -> Result<X, ScaleError> {
        each!(self, scaler => scaler.transform(x), normalizer => normalizer.transform(x))
    }

    /// Undoes [`transform`](Self::transform).
    ///
    /// # Errors
    ///
    /// As [`Scale::inverse_transform`], and [`ScaleError::NoInverse`] for the normalizer.
    pub fn inverse_transform<X: Features>(&self, x: &X) -> Result<X, ScaleError> {
        each!(self, scaler => scaler.inverse_transform(x), _ => {
            Err(ScaleError::NoInverse { scaler: Normalizer::NAME })
        })
    }

    /// Number of features it was fitted on; none if it is not fitted or needs no fitting.
    pub fn num_features(&self) -> Option<usize> {
        each!(self, scaler => scaler.num_features(), _ => None)
    }

    /// Whether it can be applied to data of `features` features.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Unfitted`] or [`ScaleError::Features`].
    pub fn check(&self, features: usize) -> Result<(), ScaleError> {
        fn fitted<S: Scale>(scaler: &S, features: usize) -> Result<(), ScaleError> {
            let unfitted = ScaleError::Unfitted { scaler: S::NAME };
            super::check_features(S::NAME, scaler.num_features().ok_or(unfitted)?, features)
        }
        each!(self, scaler => fitted(scaler, features), _ => Ok(()))
    }

    /// Means and deviations such that `(x - mean) / std` is what it does, per feature; none for one that clips or
    /// looks at a whole sample, or is not fitted.
    pub(crate) fn mean_and_std(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        let linear = each!(self, scaler => scaler.linear(), _ => None)?;
        linear.mean_and_std()
    }

    /// Writes it as JSON, under another name first, so that the file is whole or not there.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ScaleError> {
        let path = path.as_ref();
        let mut text = self.to_json();
        text.push('\n');
        let temporary = path.with_added_extension(format!("partial-{}", std::process::id()));
        let written =
            std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
        written.map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            ScaleError::Io {
                action: "write",
                path: path.into(),
                source,
            }
        })
    }

    /// Reads what [`save`](Self::save) wrote; the numbers come back exactly.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Io`], or [`ScaleError::NotAScaler`] if the file is not JSON, has something else than numbers
    /// where numbers belong, or settings that no scaler takes.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ScaleError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| ScaleError::Io {
            action: "read",
            path: path.into(),
            source,
        })?;
        let not = |problem: String| ScaleError::NotAScaler {
            path: path.into(),
            problem,
        };
        let scaler: Self = serde_json::from_str(&text).map_err(|error| not(error.to_string()))?;
        each!(&scaler, s => s.check_settings(), _ => Ok(())).map_err(|e| not(e.to_string()))?;
        each!(&scaler, s => s.check_state(), _ => Ok(())).map_err(not)?;
        Ok(scaler)
    }

    /// It as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain values always have a JSON form")
    }
}

impl FromStr for Scaler {
    type Err = ScaleError;

    fn from_str(text: &str) -> Result<Self, ScaleError> {
        let unknown = || ScaleError::UnknownName { given: text.into() };
        let (name, range) = match text.split_once(':') {
            Some((name, range)) => (name, Some(range)),
            None => (text, None),
        };
        if let Some(range) = range {
            let bounds: Vec<f64> = range
                .split(',')
                .map_while(|bound| bound.trim().parse().ok())
                .collect();
            return match (name, &bounds[..], range.split(',').count()) {
                ("minmax", &[low, high], 2) => {
                    Ok(MinMaxScaler::new().feature_range(low, high)?.into())
                }
                _ => Err(unknown()),
            };
        }
        Ok(match name {
            "standard" => StandardScaler::new().into(),
            "minmax" => MinMaxScaler::new().into(),
            "robust" => RobustScaler::new().into(),
            "maxabs" => MaxAbsScaler::new().into(),
            "normalize-l1" => Normalizer::new(Norm::L1).into(),
            "normalize-l2" => Normalizer::new(Norm::L2).into(),
            "normalize-max" => Normalizer::new(Norm::Max).into(),
            _ => return Err(unknown()),
        })
    }
}

impl fmt::Display for Scaler {
    /// Its name, as scikit-learn spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn name<S: Scale>(_: &S) -> &'static str {
            S::NAME
        }
        f.write_str(each!(self, scaler => name(scaler), _ => Normalizer::NAME))
    }
}

macro_rules! from {
    ($($name:ident),*) => {$(
        impl From<$name> for Scaler {
            fn from(scaler: $name) -> Self {
                Self::$name(scaler)
            }
        }
    )*};
}

from!(
    MinMaxScaler,
    StandardScaler,
    RobustScaler,
    MaxAbsScaler,
    Normalizer
);
