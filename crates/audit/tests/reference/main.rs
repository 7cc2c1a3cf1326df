//! Reference figures: statistics with how they were computed, JudgeEval's published tables, and
//! the metrics of PaperBench's own functions.
//!
//! The data is no part of the project. `TRIBUNAL_DATA` names its folder; without it the tests say
//! so in one line and end.

mod comparison;
mod corrected;
mod intervals;
mod judge_eval;
mod planning;
mod support;
