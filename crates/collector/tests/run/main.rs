//! Runs in the store in memory, collected, exported and shown.

mod collect;
mod export;
mod paperbench;
mod show;
mod support;
