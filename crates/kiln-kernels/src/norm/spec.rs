//! How an array is cut into rows or channels.

/// The rows of an array, and which weight serves which element.
///
/// Element `j` of row `r` has the weight with index `(r % groups) * chunks + j / span`:
///
/// | layer | rows | groups | chunks | span |
/// |---|---|---|---|---|
/// | LayerNorm, RMSNorm over `L` elements | the rest | 1 | `L` | 1 |
/// | GroupNorm of `[N, C, S]` into `G` groups | `N * G` | `G` | `C / G` | `S` |
/// | InstanceNorm of `[N, C, S]` | `N * C` | `C` | 1 | `S` |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowSpec {
    /// How many rows the array has.
    pub rows: usize,
    /// After how many rows the weights repeat.
    pub groups: usize,
    /// How many weights a row has.
    pub chunks: usize,
    /// How many consecutive elements share a weight.
    pub span: usize,
    /// Added to the variance.
    pub eps: f64,
    /// Whether the mean is subtracted. Without it (RMSNorm) `var` is the mean square.
    pub centered: bool,
}

impl RowSpec {
    /// Rows of `len` elements, one weight for each.
    pub fn rows_of(rows: usize, len: usize, eps: f64) -> Self {
        Self {
            rows,
            groups: 1,
            chunks: len,
            span: 1,
            eps,
            centered: true,
        }
    }

    /// The groups of channels of `[batch, channels, ...]` with `span` elements after these axes.
    ///
    /// # Panics
    ///
    /// If `groups` does not divide `channels`.
    pub fn groups_of(batch: usize, channels: usize, span: usize, groups: usize, eps: f64) -> Self {
        assert!(
            groups > 0 && channels.is_multiple_of(groups),
            "groups ({groups}) must divide channels ({channels})"
        );
        Self {
            rows: batch * groups,
            groups,
            chunks: channels / groups,
            span,
            eps,
            centered: true,
        }
    }

    /// The same rows without subtracting the mean.
    pub fn uncentered(self) -> Self {
        Self {
            centered: false,
            ..self
        }
    }

    /// How many elements a row has.
    #[allow(clippy::len_without_is_empty)] // It is a length, not a container.
    pub fn len(&self) -> usize {
        self.chunks * self.span
    }

    /// How many weights there are.
    pub fn params(&self) -> usize {
        self.groups * self.chunks
    }
}

/// The channels of an array `[batch, channels, ...]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelSpec {
    /// How many samples there are.
    pub batch: usize,
    /// How many channels a sample has.
    pub channels: usize,
    /// How many elements a channel of a sample has.
    pub span: usize,
    /// Added to the variance.
    pub eps: f64,
}

impl ChannelSpec {
    /// The channels of a shape `[batch, channels, ...]`.
    ///
    /// # Panics
    ///
    /// If the shape has less than two axes.
    pub fn of(shape: &[usize], eps: f64) -> Self {
        Self {
            batch: shape[0],
            channels: shape[1],
            span: shape[2..].iter().product(),
            eps,
        }
    }

    /// How many elements a channel has in the whole batch.
    pub fn count(&self) -> usize {
        self.batch * self.span
    }
}
