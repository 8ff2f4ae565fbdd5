//! Windows paths as a type on every system, paths inside a component, and patterns over them.

mod drives;
mod patterns;
mod relative;
mod windows;

pub use drives::Drives;
pub use patterns::PathPatterns;
pub use relative::{RelPath, windows_name_problem};
pub use windows::{Place, WinPath};
