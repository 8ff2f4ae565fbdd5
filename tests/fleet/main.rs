//! Links and the engine over scripted agents in this process.

mod engine;
mod link;
mod support;
