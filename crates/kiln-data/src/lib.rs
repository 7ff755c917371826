//! Data sets for training.
