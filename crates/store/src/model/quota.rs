//! Quota in memory.
//!
//! Owns where a pool's row is kept: as text, like an engine's, so that both forget the same.

use super::Tables;
use crate::quota::{QuotaPool, row::QuotaRow};

// === impl Tables ===

impl Tables {
    /// Changes a pool's row.
    pub(super) fn quota<T>(
        &mut self,
        pool: &QuotaPool,
        now: i64,
        change: impl FnOnce(&mut QuotaRow) -> T,
    ) -> T {
        let kept = self.quotas.get(pool).and_then(|text| QuotaRow::read(text));
        let mut row = kept.unwrap_or_else(|| QuotaRow::new(now));
        let changed = change(&mut row);
        self.quotas.insert(pool.clone(), row.text());
        changed
    }
}
