//! Tuning a judge: candidates raced on leaves that humans graded, and believed only as far as a sealed
//! test set shows.
//!
//! Owns which leaf is asked of which candidate next, and what the answers say. Pure: it asks nobody,
//! reads no file and knows no clock. Every step is a function of the answers so far, so that a tuning
//! which was killed goes on by asking the same function again.
//!
//! [`split`] seals the test papers, [`noise`] says what can be seen at all, [`race()`] drops candidates
//! on the development leaves, [`final_test`] compares the winner with the baseline once.

pub mod answer;
pub mod disagree;
pub mod document;
pub mod final_test;
pub mod labels;
pub mod noise;
pub mod pareto;
pub mod power;
pub mod race;
pub mod sample;
pub mod score;
pub mod specific;
pub mod split;
pub mod tuning;

mod lead;
mod random;

pub use answer::{Answer, Table, Wanted};
pub use labels::{Label, Labels};
pub use race::{Raced, Rules, race};
pub use split::Split;
pub use tuning::{Entry, Step, Tuning};
