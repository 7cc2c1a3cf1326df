//! `tribunal audit`, by the binary alone.

mod pairing;
mod published;
mod runs;
mod support;
