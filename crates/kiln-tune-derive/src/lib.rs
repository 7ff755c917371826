//! `#[derive(SearchSpace)]` for kiln-tune.
