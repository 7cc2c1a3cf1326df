//! The simulated judge over real HTTP, seen from a client alone.

mod client;
mod faults;
mod labels;
mod limits;
mod protocol;
mod replies;
