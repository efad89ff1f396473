//! What several tests need.

pub(crate) mod s3;
