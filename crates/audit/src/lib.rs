//! Judge against human: how far apart they are, in which direction, what that does to a score,
//! and how sure all of it is.
//!
//! Owns pairing and statistics. Pure: bytes and numbers in, numbers out; no file, no network, no
//! clock, no terminal.

pub mod metric;
