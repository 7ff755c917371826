//! Study and trial: define-by-run hyperparameter optimization.
