//! Places for bytes: local disk and object stores, how they are reached, and their errors.

pub(crate) mod bucket;
pub(crate) mod cloud;
pub(crate) mod disk;
pub(crate) mod variables;
