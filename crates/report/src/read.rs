//! Graded trees in: runs of a store, and files in PaperBench's format.
//!
//! Owns the reading. It never writes, and what it reads is not judged here.

mod file;
mod run;

pub use self::{
    file::{FileError, graded_file},
    run::{Exhibits, ReadError, leaf, run},
};
