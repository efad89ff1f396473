//! One replication from start to report.
