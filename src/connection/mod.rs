//! Named access to APIs, databases and stores: finds and reads the definitions of connections.
//!
//! A connection is a set of properties. weir looks for its definition in this order: an environment variable
//! of its name, a file of variables such as `.env`, the connections file, and a replication's `env`. This
//! module reads only files that a property names (`file:`). It never reads the environment: callers
//! pass it in.

mod definition;
mod elsewhere;
mod entry;
mod env_file;
mod fields;
mod find;
mod kind;
mod origin;
mod place;
mod reference;
mod saved;
mod schema;
mod shown;

pub use definition::{Connection, LOCAL};
pub use elsewhere::{Elsewhere, Outside, elsewhere_in, elsewhere_in_file};
pub use entry::mapping_in;
pub use env_file::{EnvFile, Environment};
pub use fields::{api_fields, lacking_fields};
pub use find::Connections;
pub use kind::ConnectionKind;
pub use origin::{Context, Origin};
pub use place::Base;
pub use reference::{Reference, interpolated};
pub use saved::file::{exposed, stored};
pub use saved::property::{FileLock, lock};
pub use saved::store::{remove, save};
pub use schema::json_schema;
pub use shown::{is_access, shown_name, without_login};
