//! What `put` and `cat` work on: the content of an entry, or a bare stream.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ar7_registry::records::{EntryType, Inode};
use ar7_registry::{Archive, RESERVED_STREAMS, Stream};
use uuid::Uuid;

use crate::exit::Failure;
use crate::session::Session;
use crate::walk::find;

/// Bytes that are read or written at a time.
pub(crate) const CHUNK: usize = 4 << 20;

/// Opens a bare stream: `0` to `7` is a reserved one, anything else a UUID. In a writer it is open for writing.
pub(crate) fn bare_stream(session: &Session, text: &str) -> Result<Stream, Failure> {
    let archive: &Archive = &session.archive;
    let opened = match text.parse::<usize>() {
        Ok(index) if index < RESERVED_STREAMS => archive.reserved_stream(index),
        _ => {
            let unknown = |_| Failure::NotAStream { text: text.to_owned() };
            archive.open_stream(Uuid::parse_str(text).map_err(unknown)?)
        }
    };
    opened.map_err(session.named())
}

/// The inode of a file, or that the entry is none.
pub(crate) fn file_inode(session: &Session, name: &OsStr) -> Result<Inode, Failure> {
    let path = name.as_bytes();
    let inode = find(&session.archive, path)?.inode;
    match inode.kind {
        EntryType::File => Ok(inode),
        other => {
            let found = other.name();
            Err(Failure::EntryType { path: path.to_vec(), found, needed: "a file" })
        }
    }
}
