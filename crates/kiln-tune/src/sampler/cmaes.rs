//! CMA-ES.
mod distribution;
mod learning_rate;
mod margin;
mod warm_start;
pub use distribution::{Constants, Covariance, Distribution, default_population_size};
pub use learning_rate::LearningRate;
pub use margin::{Grid, Margin};
pub use warm_start::promising_distribution;
