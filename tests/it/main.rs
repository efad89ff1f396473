//! Tests that look at weir from outside: its layers, its targets, its program.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod airflow;
mod architecture;
mod budget;
mod cli;
mod confluence;
mod docs;
mod faults;
mod files;
mod forecast;
mod going_on;
mod histories;
mod incremental;
mod jira;
mod kills;
mod language;
mod looks;
mod oauth;
mod places;
mod postgres;
mod probed;
mod ranges;
mod reference;
mod routes;
mod sim;
mod sim_change;
mod sim_quota;
mod sim_routes;
mod sling;
mod specs;
mod support;
mod sync;
mod targets;
mod tour;
