//! Runs a plan: slices, queues, fetch, decode, write.
