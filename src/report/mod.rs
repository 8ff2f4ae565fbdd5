//! What people and programs see of a run: consumers of events, and the only room that formats for people.

mod error;
mod style;
mod table;
pub mod text;

pub use error::{error, error_json};
pub use style::Screen;
pub use table::{Column, Table};
