//! What several tests need.

pub(crate) mod rig;
pub(crate) mod s3;
