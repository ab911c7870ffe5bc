//! Files whose content is packed.

use ar7_engine::Error as EngineError;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Names;
use super::change::{
    add_as, blank, check_free, delete_content, existing, make_root, new_number, storable,
};
use crate::archive::{HOLE_ONE_IN, State};
use crate::error::{Error, Result};
use crate::records::{ADDRESS_MAX, Attributes, EntryType, Inode, InodeNumber, Inodes};

/// Number of bytes that are copied at a time when a file gets a stream of its own.
const PIECE: usize = 1 << 20;

/// Content that is being packed for one file.
///
/// The transaction owns it until a file gets it. So a handle can be dropped, or be refused where a file was to get the
/// content: the commit then frees it, and so does [`Names::discard_packed`] at once. A commit or a rollback makes the
/// handle stale, and so does a return to a savepoint from before its last change: every use then fails with
/// [`Error::Stale`], except that nothing is left to discard.
#[derive(Debug)]
#[must_use]
pub struct Packed {
    number: InodeNumber,
    slice: u64,
    length: u64,
}

impl Packed {
    /// Returns the number of bytes so far.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Returns whether there are no bytes so far.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Names<'_> {
    /// Begins to pack content for a new file, or for an existing one.
    pub fn begin_packed(&self, existing: Option<InodeNumber>) -> Result<Packed> {
        self.archive.check_kind("naming streams")?;
        self.change(|state| {
            let number = if let Some(number) = existing {
                number
            } else {
                make_root(state)?;
                new_number(state)?
            };
            Ok(Packed { number, slice: state.begin_slice(), length: 0 })
        })
    }

    /// Packs more bytes. Fails with [`Error::Stale`] if other content was packed since the first call, or if the
    /// transaction has ended.
    pub fn append_packed(&self, packed: &mut Packed, bytes: &[u8]) -> Result<()> {
        self.change(|state| {
            let (number, continues) = (packed.number, packed.length > 0);
            packed.extend(state, bytes.len() as u64, |state| state.pack(number, bytes, continues))
        })
    }

    /// Appends a hole of `length` zeros, which takes no space. Fails as [`Names::append_packed`] does.
    ///
    /// Addresses are never used twice, so a hole may take at most one in 1024 of those that are left. A longer one is
    /// refused with [`EngineError::Full`], which changes nothing.
    pub fn append_hole(&self, packed: &mut Packed, length: u64) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        let next = self.archive.state()?.writing()?.next_address();
        let limit = ADDRESS_MAX.saturating_sub(next) / HOLE_ONE_IN;
        if length > limit {
            return Err(EngineError::Full { what: "length of a hole", limit }.into());
        }
        self.change(|state| packed.extend(state, length, |state| state.pack_hole(length)))
    }

    /// Frees content that no file gets.
    #[expect(clippy::needless_pass_by_value, reason = "nothing can use it afterwards")]
    pub fn discard_packed(&self, packed: Packed) -> Result<()> {
        self.change(|state| match state.finish_slice(packed.slice, packed.length) {
            Ok(slice) if slice.length > 0 => state.free_slice(slice.first, slice.length),
            Ok(_) | Err(Error::Stale) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Adds a file with packed content.
    #[expect(clippy::needless_pass_by_value, reason = "nothing can use it afterwards")]
    pub fn add_packed(
        &self,
        directory: InodeNumber,
        name: &[u8],
        attributes: Attributes,
        packed: Packed,
    ) -> Result<InodeNumber> {
        self.change(|state| {
            let inode = blank(EntryType::File, attributes)?;
            check_free(state, directory, name)?;
            let inode = packed.give_to(state, inode)?;
            add_as(state, directory, name, packed.number, &inode)
        })?;
        Ok(packed.number)
    }

    /// Replaces the content and attributes of the file for which content was packed. The old content is deleted.
    #[expect(clippy::needless_pass_by_value, reason = "nothing can use it afterwards")]
    pub fn replace_with_packed(&self, packed: Packed, attributes: Attributes) -> Result<()> {
        let attributes = storable(attributes)?;
        self.change(|state| {
            let number = packed.number;
            let inode = existing(state, number)?;
            if inode.kind != EntryType::File {
                let (found, needed) = (inode.kind.name(), "a file");
                return Err(Error::WrongEntryType { path: Vec::new(), found, needed });
            }
            state.unfinished_slice(packed.slice, packed.length)?;
            delete_content(state, number, &inode)?;
            let inode = packed.give_to(state, Inode { attributes, ..inode })?;
            state.trees.put::<Inodes>(&number, &inode)?;
            Ok(())
        })
    }

    /// Reads the content of a packed file as the open transaction has it, at most to its end. Returns the number of
    /// bytes.
    pub fn read_packed(&self, number: InodeNumber, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let mut state = self.archive.state()?;
        // What is damaged or has no room changes nothing, so it does not end the transaction.
        let state = state.writing()?;
        let inode = existing(state, number)?;
        if let Some(read) = state.read_overlaid(number, offset, bytes)? {
            return Ok(read);
        }
        let available = inode.size.saturating_sub(offset);
        let Some(first) = inode.slice.filter(|_| available > 0) else { return Ok(0) };
        let wanted = usize::try_from(available).unwrap_or(usize::MAX).min(bytes.len());
        state.read_packed(first + offset, &mut bytes[..wanted])?;
        Ok(wanted)
    }

    /// Writes to a packed file with holes, at an offset or at its end: a gap reads as zeros. Returns false, and changes
    /// nothing, if it is not one: [`Names::unpack`] gives any other packed file a stream.
    ///
    /// The next commit or savepoint packs the file again, which takes room for all of its content. Without it, a savepoint
    /// fails and changes nothing; a commit fails and rolls back. This uses up as many addresses as the file is long, so its
    /// length is limited like that of a hole.
    ///
    /// A write that finds no room changes nothing.
    pub fn write_packed(
        &self,
        number: InodeNumber,
        offset: Option<u64>,
        bytes: &[u8],
    ) -> Result<bool> {
        self.archive.state()?.writing()?.write_packed(number, offset, bytes)
    }

    /// Sets the length of a packed file with holes, as [`Names::write_packed`] writes.
    pub fn set_packed_len(&self, number: InodeNumber, length: u64) -> Result<bool> {
        self.archive.state()?.writing()?.set_packed_length(number, length)
    }

    /// Gives a packed file a stream of its own, so that it can be changed in place. Returns the stream. Holes are filled.
    pub fn unpack(&self, number: InodeNumber) -> Result<Option<Uuid>> {
        let inode = self.inode(number)?.ok_or(Error::NoInode { inode: number.0 })?;
        if inode.slice.is_none() {
            return Ok(inode.stream);
        }
        let mut stream = self.archive.new_stream()?;
        let identity = stream.identity();
        let copied = self.copy_packed(number, &mut stream);
        stream.close()?;
        if let Err(error) = copied {
            self.archive.delete_stream(identity)?;
            return Err(error);
        }
        self.replace_content(number, Some(identity), inode.attributes)?;
        Ok(Some(identity))
    }

    /// Packs a file that has a stream of its own. Its content and its attributes stay as they are. Returns whether the
    /// file was not packed before.
    pub fn pack(&self, number: InodeNumber) -> Result<bool> {
        self.change(|state| {
            let inode = existing(state, number)?;
            let Some(stream) = inode.stream else { return Ok(false) };
            if state.open.get(&stream).is_some_and(|open| open.held) {
                return Err(Error::AlreadyOpen { stream });
            }
            pack_file(state, number, inode, stream)?;
            Ok(true)
        })
    }

    fn copy_packed(&self, number: InodeNumber, stream: &mut crate::stream::Stream) -> Result<()> {
        let (mut piece, mut done) = (Zeroizing::new(vec![0; PIECE]), 0);
        loop {
            let read = self.read_packed(number, done, &mut piece)?;
            if read == 0 {
                return Ok(());
            }
            stream.append(&piece[..read])?;
            done += read as u64;
        }
    }
}

/// Packs a file with the content of its stream, which it loses.
pub(crate) fn pack_file(
    state: &mut State,
    number: InodeNumber,
    inode: Inode,
    stream: Uuid,
) -> Result<()> {
    let mut packed = Packed { number, slice: state.begin_slice(), length: 0 };
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    while packed.length < inode.size {
        let read = state.read_uncommitted(stream, packed.length, &mut piece)?;
        if read == 0 {
            break;
        }
        let continues = packed.length > 0;
        packed.extend(state, read as u64, |state| state.pack(number, &piece[..read], continues))?;
    }
    delete_content(state, number, &inode)?;
    let inode = packed.give_to(state, inode)?;
    state.trees.put::<Inodes>(&number, &inode)?;
    Ok(())
}

impl Packed {
    /// Appends `added` bytes, which `append` packs.
    fn extend(
        &mut self,
        state: &mut State,
        added: u64,
        append: impl FnOnce(&mut State) -> Result<()>,
    ) -> Result<()> {
        state.extend_slice(self.slice, self.length, added, append)?;
        self.length += added;
        Ok(())
    }

    /// Returns the inode with the content.
    fn give_to(&self, state: &mut State, inode: Inode) -> Result<Inode> {
        let slice = state.finish_slice(self.slice, self.length)?;
        let first = (slice.length > 0).then_some(slice.first);
        Ok(Inode { size: slice.length, stream: None, slice: first, ..inode })
    }
}
