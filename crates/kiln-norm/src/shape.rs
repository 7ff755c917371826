//! The shape that a layer normalizes over.

use serde::{Deserialize, Serialize};

/// The trailing axes that a layer normalizes over: one length or several.
///
/// ```
/// use kiln_norm::NormalizedShape;
///
/// assert_eq!(NormalizedShape::from(64).as_slice(), [64]);
/// assert_eq!(NormalizedShape::from([3, 5]).as_slice(), [3, 5]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NormalizedShape(Vec<usize>);

impl NormalizedShape {
    /// The lengths of the axes, outermost first.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// How many elements are normalized together.
    pub fn num_elements(&self) -> usize {
        self.0.iter().product()
    }

    /// The number of rows in an input of `shape`.
    ///
    /// # Panics
    ///
    /// If the trailing axes of `shape` are not this shape.
    pub(crate) fn rows_of(&self, layer: &str, shape: &[usize]) -> usize {
        let outer = shape.len().checked_sub(self.0.len());
        match outer {
            Some(outer) if shape[outer..] == self.0 => shape[..outer].iter().product(),
            _ => panic!(
                "{layer}: the last axes of the input must be {:?}, but its shape is {shape:?}",
                self.0
            ),
        }
    }

    pub(crate) fn check(&self, layer: &str) {
        assert!(
            !self.0.is_empty() && self.0.iter().all(|&n| n > 0),
            "{layer}: normalized_shape must have one axis or more, each of length 1 or more, but it is {:?}",
            self.0
        );
    }
}

impl From<usize> for NormalizedShape {
    fn from(len: usize) -> Self {
        Self(vec![len])
    }
}

impl<const N: usize> From<[usize; N]> for NormalizedShape {
    fn from(shape: [usize; N]) -> Self {
        Self(shape.to_vec())
    }
}

impl From<&[usize]> for NormalizedShape {
    fn from(shape: &[usize]) -> Self {
        Self(shape.to_vec())
    }
}

impl From<Vec<usize>> for NormalizedShape {
    fn from(shape: Vec<usize>) -> Self {
        Self(shape)
    }
}
