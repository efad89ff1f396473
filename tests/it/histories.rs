//! Whole histories: runs, changes and deaths in many orders, each followed by a run in peace. They take minutes;
//! `scripts/test --fast` leaves them out.

mod evolution;
mod simulation;
