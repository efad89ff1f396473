//! Tests that break what weir takes for granted.

mod state;
