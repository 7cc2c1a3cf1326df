//! `tribunal audit`, by the binary alone.

mod labels;
mod pairing;
mod published;
mod runs;
mod support;
