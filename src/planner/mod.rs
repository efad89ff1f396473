//! Decides what a run reads of each stream and by which route, from what earlier runs have learned: estimated
//! numbers of items, what routes cost, which one is cheapest.

pub(crate) mod cardinality;
pub(crate) mod cost_model;
pub mod decide;
pub mod estimate;
pub(crate) mod first_page;
pub(crate) mod numbers;
pub mod read_plan;
pub mod restart;
