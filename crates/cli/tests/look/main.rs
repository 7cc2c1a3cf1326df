//! The commands that look at things: `explain`, `evidence` and `judge check`, by the binary alone.

mod evidence;
mod explain;
mod judge;
mod support;
