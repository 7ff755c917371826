//! gp
mod acquisition;
mod conditional;
mod lbfgs;
mod optimize;
mod regressor;
mod space;
pub use acquisition::*;
pub use conditional::*;
pub use optimize::maximize;
pub use regressor::*;
pub use space::*;
