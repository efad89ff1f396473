//! The spec language: the YAML of an API as typed data. `check` says what it means.

mod api;
mod check;
mod column;
mod connect;
mod embedded;
mod fields;
mod former;
mod forms;
mod incremental;
mod load;
mod one_or_many;
mod pages;
mod records;
mod request;
mod responses;
mod routes;
mod schema;
mod stream;
mod value;

pub use api::*;
pub use column::*;
pub use connect::*;
pub use embedded::EMBEDDED;
pub use fields::Fields;
pub use former::{present_route, route_name};
pub use incremental::*;
pub use load::json_schema;
pub use pages::*;
pub use records::*;
pub use request::*;
pub use responses::*;
pub use routes::*;
pub use stream::*;
pub use value::*;
