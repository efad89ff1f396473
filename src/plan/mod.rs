//! Spec, replication and connection to a plan: everything resolved, nothing optional.
