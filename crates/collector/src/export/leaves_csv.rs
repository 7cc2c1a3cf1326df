//! `leaves.csv`: a line a leaf, for spreadsheets and data frames.
//!
//! Owns its form: fields are exact, quoted as RFC 4180 says, nothing is changed for the sake of
//! programs that take text for formulas, and what is not there is empty.

use std::io;

use super::{
    Context, Format, LeafRecord,
    file::{AtomicFile, WholeFile},
    leaf_row::{self, COLUMNS},
};

struct LeavesCsv<'c> {
    context: Context<'c>,
    out: csv::Writer<AtomicFile>,
}

pub(super) fn open<'c>(
    context: Context<'c>,
    file: AtomicFile,
) -> io::Result<Box<dyn Format + Send + 'c>> {
    let mut out = csv::Writer::from_writer(file);
    out.write_record(COLUMNS.map(|(name, _)| name))?;
    Ok(Box::new(LeavesCsv { context, out }))
}

// === impl LeavesCsv ===

impl Format for LeavesCsv<'_> {
    fn node(&mut self, index: usize, leaf: Option<&LeafRecord<'_>>) -> io::Result<()> {
        let Some(leaf) = leaf else {
            return Ok(());
        };
        let row = leaf_row::row(&self.context, index, leaf)?;
        self.out
            .write_record(row.map(|value| value.map_or_else(String::new, |v| v.to_string())))?;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<WholeFile> {
        let file = self.out.into_inner().map_err(|error| error.into_error())?;
        file.finish()
    }
}
