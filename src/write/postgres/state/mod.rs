//! What weir keeps in tables of its own: states of replications, owners of tables, the ledger.

pub(crate) mod ledger;
pub(crate) mod location;
pub(crate) mod owner;
pub(crate) mod store;
