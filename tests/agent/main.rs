//! The agent through its binary: a controller's end talks to `agent attach` as transports do.
#![cfg(test)]
#![cfg(unix)]

mod bench;
mod content;
mod killed;
mod occupied;
mod phases;
mod rollback;
