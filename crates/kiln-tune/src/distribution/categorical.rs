use super::CategoricalChoice;
use crate::error::{Error, Result};

/// One of some choices; their order matters, because the index is what is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoricalDistribution {
    choices: Vec<CategoricalChoice>,
}

impl CategoricalDistribution {
    /// One of `choices`.
    ///
    /// ```
    /// use kiln_tune::{CategoricalDistribution, Distribution};
    ///
    /// let optimizer: Distribution = CategoricalDistribution::new(["adam", "sgd"])?.into();
    /// assert_eq!(optimizer.to_internal(&"sgd".into())?, 1.0);
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidDistribution`] when there is no choice.
    pub fn new<C: Into<CategoricalChoice>>(choices: impl IntoIterator<Item = C>) -> Result<Self> {
        let choices: Vec<_> = choices.into_iter().map(Into::into).collect();
        if choices.is_empty() {
            return Err(Error::InvalidDistribution(
                "choices must hold at least one element, but got none".to_owned(),
            ));
        }
        Ok(Self { choices })
    }

    /// The choices in their order.
    #[must_use]
    pub fn choices(&self) -> &[CategoricalChoice] {
        &self.choices
    }

    /// The first index whose choice is equal to `value`.
    #[must_use]
    pub fn index_of(&self, value: &CategoricalChoice) -> Option<usize> {
        self.choices.iter().position(|choice| choice == value)
    }

    /// The choice of an internal value, which is truncated to an index.
    #[must_use]
    pub fn choice(&self, internal: f64) -> Option<&CategoricalChoice> {
        if !self.contains(internal) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        self.choices.get(internal as usize)
    }

    #[allow(clippy::cast_precision_loss)]
    pub(super) fn contains(&self, internal: f64) -> bool {
        internal > -1.0 && internal < self.choices.len() as f64
    }
}
