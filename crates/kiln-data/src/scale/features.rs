//! What scalers are fitted on and what they change.

use burn::tensor::{DType, Tensor, TensorData};

use super::linear::{Direction, Linear};
use super::normalizer::Norm;
use super::{Matrix, Real, ScaleError};
use crate::{LabeledImages, MaskedImages};

/// One feature: its values, each with how often it occurs.
pub struct Column {
    values: Vec<f64>,
    /// None: each once.
    counts: Option<Vec<u64>>,
}

impl Column {
    /// Values that are not NaN, with their numbers.
    pub(super) fn present(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let count = |i: usize| self.counts.as_ref().map_or(1.0, |counts| counts[i] as f64);
        let all = self.values.iter().enumerate();
        all.map(move |(i, &value)| (value, count(i)))
            .filter(|(value, count)| !value.is_nan() && *count > 0.0)
    }
}

/// Features in host memory, column by column: what a scaler is fitted on.
pub struct Columns {
    pub(super) rows: usize,
    pub(super) columns: Vec<Column>,
    /// Machine epsilon of the data's own type.
    pub(super) epsilon: f64,
}

impl Columns {
    /// From values row after row.
    fn from_rows(columns: usize, values: impl ExactSizeIterator<Item = f64>, epsilon: f64) -> Self {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        let mut each = vec![Vec::with_capacity(rows); columns];
        for (i, value) in values.enumerate() {
            each[i % columns].push(value);
        }
        let column = |values| Column {
            values,
            counts: None,
        };
        Self {
            rows,
            columns: each.into_iter().map(column).collect(),
            epsilon,
        }
    }

    /// Refuses no data, and values that the scaler does not take.
    pub(super) fn check(&self, scaler: &'static str, nan_allowed: bool) -> Result<(), ScaleError> {
        if self.rows == 0 || self.columns.is_empty() {
            return Err(ScaleError::Empty {
                rows: self.rows,
                columns: self.columns.len(),
            });
        }
        for (column, Column { values, .. }) in self.columns.iter().enumerate() {
            let bad = |v: &f64| v.is_infinite() || v.is_nan() && !nan_allowed;
            if let Some(row) = values.iter().position(bad) {
                return Err(refuse(scaler, row, column, values[row], nan_allowed));
            }
        }
        Ok(())
    }
}

fn refuse(
    scaler: &'static str,
    row: usize,
    column: usize,
    value: f64,
    nan_allowed: bool,
) -> ScaleError {
    ScaleError::Value {
        scaler,
        row,
        column,
        value,
        allowed: match nan_allowed {
            true => "finite numbers, and NaN for a missing value",
            false => "finite numbers only",
        },
    }
}

/// What a scaler can be fitted on.
///
/// Implemented for [`Matrix`], for `Tensor<2>` (rows of features), for `Tensor<4>` (images
/// `[batch, channels, height, width]`: a channel is a feature, a pixel is a sample) and for
/// [`LabeledImages`] and [`MaskedImages`] (as `Tensor<4>`, pixels scaled to `[0, 1]`). Tensors are read from their device:
/// statistics are accumulated in f64 on the host.
pub trait Observations {
    /// The features, column by column.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Device`] if a tensor cannot be read.
    fn columns(&self) -> Result<Columns, ScaleError>;
}

/// What a scaler can transform: [`Matrix`], `Tensor<2>` and `Tensor<4>`, see [`Observations`].
pub trait Features: Observations + Sized {
    /// Number of features.
    fn num_features(&self) -> usize;

    /// Refuses values that the scaler does not take. Tensors are not looked at: that would wait for
    /// their device.
    #[doc(hidden)]
    fn check(&self, scaler: &'static str, nan_allowed: bool) -> Result<(), ScaleError>;

    /// Applies or undoes a linear map per feature.
    #[doc(hidden)]
    fn linear(&self, map: &Linear, direction: Direction) -> Self;

    /// Divides each sample by its norm; an image is one sample.
    #[doc(hidden)]
    fn normalize(&self, norm: Norm) -> Self;
}

impl<T: Real> Observations for Matrix<T> {
    fn columns(&self) -> Result<Columns, ScaleError> {
        let values = self.as_slice().iter().map(|value| value.to_f64());
        let columns = Matrix::columns(self);
        Ok(Columns::from_rows(columns, values, T::EPSILON))
    }
}

impl<T: Real> Features for Matrix<T> {
    fn num_features(&self) -> usize {
        Matrix::columns(self)
    }

    fn check(&self, scaler: &'static str, nan_allowed: bool) -> Result<(), ScaleError> {
        for (i, value) in self.as_slice().iter().enumerate() {
            let value = value.to_f64();
            if value.is_infinite() || value.is_nan() && !nan_allowed {
                let columns = Matrix::columns(self);
                return Err(refuse(scaler, i / columns, i % columns, value, nan_allowed));
            }
        }
        Ok(())
    }

    fn linear(&self, map: &Linear, direction: Direction) -> Self {
        self.map(|column, value| map.apply(direction, column, value))
    }

    fn normalize(&self, norm: Norm) -> Self {
        let norms: Vec<f64> = (0..self.rows())
            .map(|row| norm.of(self.row(row).iter().map(|v| v.to_f64()), T::EPSILON))
            .collect();
        let (mut index, columns) = (0, Matrix::columns(self));
        self.map(|_, value| {
            let norm = norms[index / columns];
            index += 1;
            value / norm
        })
    }
}

fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON,
        _ => f64::from(f32::EPSILON),
    }
}

impl Observations for Tensor<2> {
    fn columns(&self) -> Result<Columns, ScaleError> {
        let [_, columns] = self.dims();
        let epsilon = epsilon(self.dtype());
        let values = self.clone().try_into_vec_as::<f64>();
        let values = values.map_err(|error| ScaleError::Device(error.to_string()))?;
        Ok(Columns::from_rows(columns, values.into_iter(), epsilon))
    }
}

/// A row of per-feature values on the device of `like`.
fn row<const D: usize>(
    values: impl Iterator<Item = f64>,
    like: &Tensor<D>,
    axis: usize,
) -> Tensor<D> {
    let values: Vec<f64> = values.collect();
    let mut shape = [1; D];
    shape[axis] = values.len();
    Tensor::from_data(
        TensorData::new(values, shape),
        (&like.device(), like.dtype()),
    )
}

fn linear<const D: usize>(
    x: &Tensor<D>,
    axis: usize,
    map: &Linear,
    direction: Direction,
) -> Tensor<D> {
    let exact = x.dtype() == DType::F64;
    // The centre is split in two, so that a large mean does not swallow a small deviation.
    let high = |value: f64| match exact {
        true => value,
        false => f64::from(value as f32),
    };
    let row = |values: &mut dyn Iterator<Item = f64>| row(values, x, axis);
    let center_high = row(&mut map.center.iter().map(|&c| high(c)));
    let center_low = row(&mut map.center.iter().map(|&c| c - high(c)));
    let scale = row(&mut map.scale.iter().copied());
    match direction {
        Direction::Forward => {
            let deviation = x.clone() - center_high - center_low;
            let y = match map.multiplies {
                true => deviation * scale + map.low,
                false => deviation / scale,
            };
            match map.clip {
                // Not every device's clamp keeps NaN.
                Some((low, high)) => y.clone().clamp(low, high).mask_where(y.clone().is_nan(), y),
                None => y,
            }
        }
        Direction::Backward => {
            let deviation = match map.multiplies {
                true => (x.clone() - map.low) / scale,
                false => x.clone() * scale,
            };
            deviation + center_low + center_high
        }
    }
}

fn normalize(x: Tensor<2>, norm: Norm) -> Tensor<2> {
    let epsilon = epsilon(x.dtype());
    let magnitudes = x.clone().abs();
    let norms = match norm {
        Norm::L1 => magnitudes.sum_dim(1),
        Norm::Max => magnitudes.max_dim(1),
        Norm::L2 => {
            // Relative to the largest, so that no square overflows or vanishes.
            let largest = magnitudes.clone().max_dim(1);
            let safe = largest
                .clone()
                .mask_fill(largest.clone().equal_elem(0), 1.0);
            let relative = magnitudes / safe;
            (relative.clone() * relative).sum_dim(1).sqrt() * largest
        }
    };
    let tiny = norms.clone().lower_elem(10.0 * epsilon);
    x / norms.mask_fill(tiny, 1.0)
}

impl Features for Tensor<2> {
    fn num_features(&self) -> usize {
        self.dims()[1]
    }

    fn check(&self, _: &'static str, _: bool) -> Result<(), ScaleError> {
        Ok(())
    }

    fn linear(&self, map: &Linear, direction: Direction) -> Self {
        linear(self, 1, map, direction)
    }

    fn normalize(&self, norm: Norm) -> Self {
        normalize(self.clone(), norm)
    }
}

impl Observations for Tensor<4> {
    fn columns(&self) -> Result<Columns, ScaleError> {
        let [batch, channels, height, width] = self.dims();
        let pixels = self.clone().permute([0, 2, 3, 1]);
        pixels.reshape([batch * height * width, channels]).columns()
    }
}

impl Features for Tensor<4> {
    fn num_features(&self) -> usize {
        self.dims()[1]
    }

    fn check(&self, _: &'static str, _: bool) -> Result<(), ScaleError> {
        Ok(())
    }

    fn linear(&self, map: &Linear, direction: Direction) -> Self {
        linear(self, 1, map, direction)
    }

    fn normalize(&self, norm: Norm) -> Self {
        let dims = self.dims();
        let [batch, channels, height, width] = dims;
        let samples = self.clone().reshape([batch, channels * height * width]);
        normalize(samples, norm).reshape(dims)
    }
}

impl Observations for LabeledImages {
    fn columns(&self) -> Result<Columns, ScaleError> {
        Ok(channels_of(self.images(), self.shape()))
    }
}

impl Observations for MaskedImages {
    fn columns(&self) -> Result<Columns, ScaleError> {
        Ok(channels_of(self.images(), self.shape()))
    }
}

/// The channels of 8-bit images `[n, channels, height, width]`, pixels scaled to `[0, 1]`: 256 values each.
pub(crate) fn channels_of(images: &[u8], [channels, height, width]: [usize; 3]) -> Columns {
    let plane = height * width;
    let mut counts = vec![vec![0u64; 256]; channels];
    for (i, pixels) in images.chunks_exact(plane).enumerate() {
        let counts = &mut counts[i % channels];
        pixels.iter().for_each(|&p| counts[usize::from(p)] += 1);
    }
    let column = |counts| Column {
        values: (0..=255).map(|v| f64::from(v) / 255.0).collect(),
        counts: Some(counts),
    };
    Columns {
        rows: images.len() / channels,
        columns: counts.into_iter().map(column).collect(),
        // Batches are f32.
        epsilon: f64::from(f32::EPSILON),
    }
}
