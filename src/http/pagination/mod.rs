//! Pagination: computes the next page from the request and the response.

mod guard;
mod link;
mod pager;
mod position;
mod sign;
mod undeclared;

pub use crate::http::pagination::guard::LoopGuard;
pub use crate::http::pagination::pager::Pager;
pub use crate::http::pagination::position::{PageStep, Position, Seen};
