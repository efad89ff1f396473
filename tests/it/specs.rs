//! Every spec and replication in the repository is valid and can be planned.
