//! The spec language: the YAML of an API as typed data. `check` validates what the types cannot express.

mod check;
mod embedded;
mod fields;
mod former;
mod forms;
mod language;
mod load;
mod one_or_many;
mod schema;

pub use embedded::EMBEDDED;
pub use fields::Fields;
pub use former::{present_route, route_name};
pub use language::api::*;
pub use language::column::*;
pub use language::connect::*;
pub use language::incremental::*;
pub use language::pages::*;
pub use language::records::*;
pub use language::request::*;
pub use language::responses::*;
pub use language::routes::*;
pub use language::stream::*;
pub use language::value::*;
pub use load::json_schema;
