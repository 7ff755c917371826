//! Pages and pictures, from the files of a run alone.

pub(crate) mod page;
pub(crate) mod plot;
pub(crate) mod plot_health;
