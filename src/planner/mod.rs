//! Decides what a run reads of each stream, and by which route. Estimates numbers of rows and the costs of routes
//! from the figures of earlier runs, and chooses the cheapest routes.

pub(crate) mod cardinality;
pub(crate) mod cost_model;
pub mod decide;
pub mod estimate;
pub(crate) mod first_page;
pub(crate) mod numbers;
pub mod read_plan;
pub mod restart;
