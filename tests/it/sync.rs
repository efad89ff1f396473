//! Runs from end to end against the simulator.
