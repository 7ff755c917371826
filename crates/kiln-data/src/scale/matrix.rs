//! [`Matrix`]: rows of features in host memory.

use std::fmt;
use std::path::Path;

use super::ScaleError;

/// A floating-point type of a [`Matrix`]: `f32` or `f64`.
pub trait Real: Copy + fmt::Debug + Send + Sync + sealed::Sealed + 'static {
    /// The distance from 1 to the next larger number, which says below what a range counts as zero.
    const EPSILON: f64;
    /// Without rounding.
    fn to_f64(self) -> f64;
    /// Rounded once.
    fn from_f64(value: f64) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Real for f32 {
    const EPSILON: f64 = f32::EPSILON as f64;
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    const EPSILON: f64 = f64::EPSILON;
    fn to_f64(self) -> f64 {
        self
    }
    fn from_f64(value: f64) -> Self {
        value
    }
}

/// Rows of features in host memory, `[rows, columns]`, row after row. NaN stands for a missing value.
///
/// ```
/// use kiln_data::scale::Matrix;
///
/// let x = Matrix::from_rows([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]);
/// assert_eq!((x.rows(), x.columns()), (3, 2));
/// assert_eq!(x.row(1), [2.0, 20.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix<T = f64> {
    rows: usize,
    columns: usize,
    data: Vec<T>,
}

impl<T: Real> Matrix<T> {
    /// Takes values row after row.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Shape`] if there are not `rows * columns` values.
    pub fn new(rows: usize, columns: usize, data: Vec<T>) -> Result<Self, ScaleError> {
        match rows.checked_mul(columns) == Some(data.len()) {
            true => Ok(Self {
                rows,
                columns,
                data,
            }),
            false => Err(ScaleError::Shape {
                values: data.len(),
                rows,
                columns,
            }),
        }
    }

    /// Takes rows of equal length.
    pub fn from_rows<const N: usize>(rows: impl IntoIterator<Item = [T; N]>) -> Self {
        let data: Vec<T> = rows.into_iter().flatten().collect();
        Self {
            rows: data.len().checked_div(N).unwrap_or(0),
            columns: N,
            data,
        }
    }

    /// Number of rows (samples).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (features).
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The features of one row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row(&self, index: usize) -> &[T] {
        &self.data[index * self.columns..][..self.columns]
    }

    /// All values, row after row.
    pub fn as_slice(&self) -> &[T] {
        &self.data
    }

    /// Gives up the values without a copy.
    pub fn into_vec(self) -> Vec<T> {
        self.data
    }

    /// Rows `start..end` as a matrix of their own.
    ///
    /// # Panics
    ///
    /// If the range reaches past the end.
    pub fn slice(&self, start: usize, end: usize) -> Self {
        Self {
            rows: end - start,
            columns: self.columns,
            data: self.data[start * self.columns..end * self.columns].to_vec(),
        }
    }

    /// Every value changed by `change`, which gets its column too.
    pub(super) fn map(&self, mut change: impl FnMut(usize, f64) -> f64) -> Self {
        let columns = self.columns;
        let values = self.data.iter().enumerate();
        Self {
            data: values
                .map(|(i, value)| T::from_f64(change(i % columns, value.to_f64())))
                .collect(),
            ..*self
        }
    }
}

impl Matrix<f64> {
    /// Reads a table of numbers: cells separated by commas, one row a line. The first line may be a
    /// header; an empty cell or `NaN` is a missing value.
    ///
    /// # Errors
    ///
    /// [`ScaleError::Io`], [`ScaleError::NotANumber`] with line and column, [`ScaleError::Ragged`], or
    /// [`ScaleError::Empty`] if there is no row.
    ///
    /// ```
    /// use kiln_data::scale::Matrix;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("flowers.csv");
    /// std::fs::write(&path, "length,width\n5.1,3.5\n4.9,\n")?;
    /// let x = Matrix::read_csv(&path)?;
    /// assert_eq!(x.row(0), [5.1, 3.5]);
    /// assert!(x.row(1)[1].is_nan());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_csv(path: impl AsRef<Path>) -> Result<Self, ScaleError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| ScaleError::Io {
            action: "read",
            path: path.into(),
            source,
        })?;
        let number = |cell: &str| match cell.trim() {
            "" => Some(f64::NAN),
            cell => cell.parse::<f64>().ok(),
        };
        let (mut data, mut columns, mut rows) = (Vec::new(), 0, 0);
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let cells: Vec<&str> = line.split(',').collect();
            let is_header = columns == 0 && cells.iter().all(|cell| number(cell).is_none());
            if columns == 0 {
                columns = cells.len();
            }
            if is_header {
                continue;
            }
            if cells.len() != columns {
                return Err(ScaleError::Ragged {
                    path: path.into(),
                    line: index + 1,
                    expected: columns,
                    found: cells.len(),
                });
            }
            for (column, cell) in cells.iter().enumerate() {
                data.push(number(cell).ok_or_else(|| ScaleError::NotANumber {
                    path: path.into(),
                    line: index + 1,
                    column: column + 1,
                    cell: cell.trim().into(),
                })?);
            }
            rows += 1;
        }
        if rows == 0 {
            return Err(ScaleError::Empty { rows, columns });
        }
        Self::new(rows, columns, data)
    }
}
