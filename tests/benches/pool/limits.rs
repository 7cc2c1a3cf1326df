//! How much of a provider's limit is used, and how many calls are rejected on the way.
//!
//! The simulated judge keeps the limit and counts; it runs in a process of its own.

use tribunal_e2e::{SimProcess, number};

use crate::{measure::used, table::Table, workload::Workload};

pub(crate) fn measure(workload: &Workload, table: &mut Table) {
    let _ = (workload, table, number, used, SimProcess::start);
}
