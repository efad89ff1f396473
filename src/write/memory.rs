//! Target that keeps its tables in memory, for tests.
