//! What a trained model is worth, and what it says of pictures.

pub(crate) mod class_names;
pub(crate) mod confusion;
pub(crate) mod evaluation;
pub(crate) mod masks;
pub(crate) mod predict;
pub(crate) mod record;
pub(crate) mod samples;
pub(crate) mod test_data;
