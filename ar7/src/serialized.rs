//! Fields of records in documents of serde.

use std::fmt::{Display, Write as _};
use std::path::Path;

use serde::ser::SerializeMap as _;
use serde::{Serialize as _, Serializer};
use uuid::Uuid;

use crate::path::bytes;

/// Serializes a value as its text.
pub(crate) fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Serializes a UUID as its text.
#[expect(clippy::ref_option, reason = "the signature that serde calls")]
pub(crate) fn optional_uuid<S: Serializer>(
    uuid: &Option<Uuid>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    uuid.map(|uuid| uuid.to_string()).serialize(serializer)
}

/// Serializes a path without loss, as the field `path` and, if the path is not UTF-8, as the field
/// `path_bytes` in hexadecimal. `path` is then approximate.
pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(None)?;
    fields.serialize_entry("path", &path.to_string_lossy())?;
    if path.to_str().is_none() {
        let mut digits = String::new();
        for byte in bytes(path) {
            write!(digits, "{byte:02x}").map_err(serde::ser::Error::custom)?;
        }
        fields.serialize_entry("path_bytes", &digits)?;
    }
    fields.end()
}
