//! Between rows and the model.

mod moment;

pub(crate) use moment::Moment;
