//! `leaves.parquet`: the columns of `leaves.csv` with their types, for data frames and databases.
//!
//! Owns its form: one row group for a few thousand leaves, every column optional, compressed.

use std::{io, sync::Arc};

use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as PhysicalType, ZstdLevel},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::{Type, TypePtr},
};

use super::{
    Context, Format, LeafRecord,
    file::{AtomicFile, WholeFile},
    leaf_row::{self, COLUMNS, Kind, Row, Value},
};

/// Leaves of a row group.
const GROUP: usize = 4_096;

struct LeavesParquet<'c> {
    context: Context<'c>,
    out: SerializedFileWriter<AtomicFile>,
    rows: Vec<Row>,
}

pub(super) fn open<'c>(
    context: Context<'c>,
    file: AtomicFile,
) -> io::Result<Box<dyn Format + Send + 'c>> {
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let schema = schema().map_err(failed)?;
    let out = SerializedFileWriter::new(file, schema, Arc::new(properties)).map_err(failed)?;
    Ok(Box::new(LeavesParquet { context, out, rows: Vec::new() }))
}

// === impl LeavesParquet ===

impl Format for LeavesParquet<'_> {
    fn node(&mut self, index: usize, leaf: Option<&LeafRecord<'_>>) -> io::Result<()> {
        if let Some(leaf) = leaf {
            self.rows.push(leaf_row::row(&self.context, index, leaf)?);
        }
        if self.rows.len() == GROUP { self.write_rows() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<WholeFile> {
        self.write_rows()?;
        self.out.into_inner().map_err(failed)?.finish()
    }
}

impl LeavesParquet<'_> {
    fn write_rows(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.out.next_row_group().map_err(failed)?;
        for (column, (_, kind)) in COLUMNS.into_iter().enumerate() {
            let values = rows.iter().map(|row| row[column].as_ref());
            match kind {
                Kind::Text => write::<ByteArrayType>(&mut group, values, |value| match value {
                    Value::Text(text) => Some(ByteArray::from(text.as_str())),
                    _ => None,
                }),
                Kind::Integer => write::<Int64Type>(&mut group, values, |value| match value {
                    Value::Integer(number) => Some(*number),
                    _ => None,
                }),
                Kind::Number => write::<DoubleType>(&mut group, values, |value| match value {
                    Value::Number(number) => Some(*number),
                    _ => None,
                }),
                Kind::Flag => write::<BoolType>(&mut group, values, |value| match value {
                    Value::Flag(flag) => Some(*flag),
                    _ => None,
                }),
            }
            .map_err(failed)?;
        }
        group.close().map_err(failed)?;
        Ok(())
    }
}

/// Writes the next column of a row group.
fn write<'v, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, AtomicFile>,
    values: impl Iterator<Item = Option<&'v Value>>,
    of: impl Fn(&Value) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let values: Vec<Option<T::T>> = values.map(|value| value.and_then(&of)).collect();
    let there: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(&values, Some(&there), None)?;
        column.close()?;
    }
    Ok(())
}

fn schema() -> Result<TypePtr, ParquetError> {
    let column = |(name, kind): (&str, Kind)| {
        let (physical, logical) = match kind {
            Kind::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Integer => (PhysicalType::INT64, None),
            Kind::Number => (PhysicalType::DOUBLE, None),
            Kind::Flag => (PhysicalType::BOOLEAN, None),
        };
        let column = Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()?;
        Ok(Arc::new(column))
    };
    let columns: Result<Vec<TypePtr>, ParquetError> = COLUMNS.into_iter().map(column).collect();
    Ok(Arc::new(Type::group_type_builder("leaves").with_fields(columns?).build()?))
}

/// The system's error where there is one.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
