//! Columns of rows as what they stand for, whatever the engine.
//!
//! Owns saying that a row is none that tribunal has written. It knows no table.

use sqlx::{ColumnIndex, Decode, Row, Type};
use tribunal_core::BlobHash;

/// A hash.
pub(crate) fn hash<'r, R: Row>(row: &'r R, at: usize) -> Result<BlobHash, sqlx::Error>
where
    usize: ColumnIndex<R>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    BlobHash::from_slice(row.try_get::<&[u8], _>(at)?).ok_or_else(|| damaged("hash"))
}

/// A name as what it names.
pub(crate) fn named<'r, T, R: Row>(
    row: &'r R,
    at: usize,
    from_name: impl Fn(&str) -> Option<T>,
) -> Result<T, sqlx::Error>
where
    usize: ColumnIndex<R>,
    Option<&'r str>: Decode<'r, R::Database> + Type<R::Database>,
{
    optional_name(row, at, from_name)?.ok_or_else(|| damaged("name"))
}

/// A name, where there is one, as what it names.
pub(crate) fn optional_name<'r, T, R: Row>(
    row: &'r R,
    at: usize,
    from_name: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, sqlx::Error>
where
    usize: ColumnIndex<R>,
    Option<&'r str>: Decode<'r, R::Database> + Type<R::Database>,
{
    match row.try_get::<Option<&str>, _>(at)? {
        None => Ok(None),
        Some(name) => match from_name(name) {
            None => Err(damaged(&format!("name `{name}`"))),
            known => Ok(known),
        },
    }
}

/// A row that no tribunal has written.
pub(crate) fn damaged(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("the store is damaged: no valid {what}").into())
}
