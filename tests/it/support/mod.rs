//! What several tests need.

pub(crate) mod book;
pub(crate) mod dice;
pub(crate) mod fake;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod rig;
pub(crate) mod rows;
pub(crate) mod s3;
pub(crate) mod target_contract;
pub(crate) mod truth;
pub(crate) mod user;
pub(crate) mod world;
