//! The extended attributes of an entry of the source.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use ar7_registry::records::{ExtendedAttribute, extended_length_with};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::fs::walk::{Attributed, Source};

/// The extended attributes of an entry, as far as they can be read and stored.
#[derive(Debug, Default)]
pub(super) struct Extended {
    /// In ascending order of their names.
    pub(super) attributes: Vec<ExtendedAttribute>,
    /// Why the first of the others is missing.
    pub(super) missing: Option<Error>,
}

impl Extended {
    /// Reads the attributes of an entry. Their memory is bounded by what an archive can store of one entry.
    pub(super) fn read(source: &dyn Source, entry: Attributed<'_>) -> Extended {
        let mut names = match source.attribute_names(entry) {
            Ok(names) => names,
            Err(error) if has_no_attributes(&error) => return Extended::default(),
            Err(error) => {
                let missing = Some(failed("list the extended attributes", error));
                return Extended { missing, ..Extended::default() };
            }
        };
        names.sort_unstable();
        let (mut extended, mut length) = (Extended::default(), 0);
        for name in names {
            let value = source.attribute(entry, &name).map_err(|error| failed("read", error));
            let added = value.and_then(|value| extended.add(&name, value, length));
            match added {
                Ok(longer) => length = longer,
                Err(error) => {
                    let (name, cause) = (name.into(), Arc::new(error));
                    extended.missing.get_or_insert(Error::InAttribute { name, cause });
                }
            }
        }
        extended
    }

    /// Returns whether the entry has no attributes.
    pub(super) fn is_empty(&self) -> bool {
        self.attributes.is_empty() && self.missing.is_none()
    }

    /// Adds an attribute to a set of `length` bytes. Returns its new length.
    fn add(&mut self, name: &OsString, value: Option<Vec<u8>>, length: usize) -> Result<usize> {
        // It was removed after the names were listed.
        let Some(value) = value else { return Ok(length) };
        let attribute = ExtendedAttribute::new(name.clone().into_vec(), value);
        let length = extended_length_with(length, &attribute)?;
        self.attributes.push(attribute);
        Ok(length)
    }
}

fn failed(operation: &'static str, error: io::Error) -> Error {
    Error::Io { operation, path: None, source: Arc::new(error) }
}

/// Returns whether an error means that the file system has no extended attributes, or none that this user may see.
fn has_no_attributes(error: &io::Error) -> bool {
    let without = [
        Errno::OPNOTSUPP,
        Errno::NOSYS,
        Errno::INVAL,
        Errno::PERM,
        Errno::ACCESS,
        Errno::NOENT,
        Errno::NOTTY,
    ];
    error.kind() == io::ErrorKind::Unsupported
        || without.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
