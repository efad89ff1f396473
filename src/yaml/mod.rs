//! YAML text to typed data, and all problems at once as `file:line:column`.
//!
//! A text is parsed into a tree whose nodes know their place; typed data are read from the tree. A later
//! check names a problem by its path, and the tree gives the place of that path.

mod cuts;
mod document;
mod fault;
mod flaws;
mod former;
mod guard;
mod hints;
mod lenient;
mod node;
mod place;
mod problem;
mod read;
mod suggest;

pub use document::Document;
pub use former::Renamed;
pub use guard::Guard;
pub use lenient::lenient;
pub use node::{Node, NodeValue};
pub use place::Place;
pub use problem::{Finding, Problem, Problems};
pub use suggest::{is_slip, suggest};
