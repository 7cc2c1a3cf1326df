//! Labels in memory.
//!
//! Owns their numbers, which go on over all runs.

use tribunal_core::RunId;

use super::Tables;
use crate::{
    error::StoreError,
    label::{Label, NewLabel},
};

// === impl Tables ===

impl Tables {
    /// Appends the label, made now.
    pub(super) fn append_label(
        &mut self,
        run: &RunId,
        label: NewLabel,
        at_ms: i64,
    ) -> Result<Label, StoreError> {
        label.check()?;
        let seq = self.labelled + 1;
        let label = Label { seq, at_ms, label };
        self.run(run)?.labels.push(label.clone());
        self.labelled = seq;
        Ok(label)
    }
}
