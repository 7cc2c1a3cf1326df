//! `run.json`: what the run was made of, what came of it, and the files beside it.
//!
//! Owns the manifest, `tribunal.manifest/1`. The spec in it holds hashes and settings; secrets
//! never enter a spec.

use std::{
    io::{self, Write},
    path::Path,
};

use jiff::Timestamp;
use serde::Serialize;
use tribunal_core::RunSpec;

use super::{
    Context, ExportedFile,
    file::{AtomicFile, WholeFile},
};
use crate::document::GradeDocument;

#[derive(Serialize)]
struct Manifest<'c> {
    schema: &'static str,
    /// The version that wrote the files; the one that made the run is in its spec.
    tribunal: &'static str,
    #[serde(flatten)]
    document: GradeDocument,
    created_at: Option<Timestamp>,
    exported_at: Timestamp,
    spec: &'c RunSpec,
    /// The resolved config with the source of each value, as it was when the files were written.
    config: &'c serde_json::Value,
    files: &'c [ExportedFile],
}

pub(super) fn write(
    context: Context<'_>,
    out: &Path,
    files: &[ExportedFile],
    mut file: AtomicFile,
) -> io::Result<WholeFile> {
    let collected = context.collected;
    let manifest = Manifest {
        schema: "tribunal.manifest/1",
        tribunal: env!("CARGO_PKG_VERSION"),
        document: collected.document(Some(out)),
        created_at: Timestamp::from_millisecond(collected.record.created_ms).ok(),
        exported_at: context.now,
        spec: &collected.spec,
        config: &collected.config,
        files,
    };
    serde_json::to_writer_pretty(&mut file, &manifest)?;
    file.write_all(b"\n")?;
    file.finish()
}
