//! Writes the directories of the new archive, from the root on, and then what no directory names any more.

use std::collections::{HashMap, VecDeque};

use ar7_engine::format::StoredStream;
use uuid::Uuid;

use super::packed::unproven;
use super::rebuilt::Found;
use super::report::Outcome;
use super::restore::{Content, DIRECTORY_MODE, FILE_MODE, Place, Restoring, join, lost_attributes};
use crate::error::Result;
use crate::names::TARGET_MAX;
use crate::records::{
    EXTENDED_MAX, EntryType, Extended, Inode, InodeNumber, Inodes, NameKey, NameRecords, NameValue,
    Streams, decode_extended, validate_name,
};

/// Length in bytes of a path from which on a directory is written to `lost+found`. No system opens a longer one.
const PATH_MAX: usize = 1 << 16;

impl Restoring<'_> {
    /// Writes the entries of every directory.
    pub(super) fn directories(&mut self) -> Result<()> {
        let source = self.source;
        let root = Place { directory: InodeNumber::ROOT, path: Vec::new() };
        self.done.insert(InodeNumber::ROOT.0);
        self.walk(InodeNumber::ROOT, root.clone())?;
        // A directory that no directory names.
        let mut from = Some(0);
        while let Some(key) =
            from.map(|number| NameKey { directory: InodeNumber(number), name: Vec::new() })
        {
            let Some(found) = source.names.records::<NameRecords>(source.pages, &key).next() else {
                break;
            };
            let directory = found.value.0.directory;
            from = directory.0.checked_add(1);
            let inode = source.inodes.get::<Inodes>(source.pages, &directory);
            let is_left_over = inode.is_none() && source.inodes.is_whole;
            if !self.done.contains(directory.0) && !is_left_over {
                self.orphan(directory, inode.as_ref().map(|found| &found.value))?;
            }
        }
        for found in source.inodes.records::<Inodes>(source.pages, &InodeNumber(0)) {
            let (number, inode) = found.value;
            let is_left_over = !found.is_newest && source.names.is_whole;
            if !self.done.contains(number.0) && !is_left_over {
                self.orphan(number, Some(&inode))?;
            }
        }
        if let Some(root) = source.inodes.get::<Inodes>(source.pages, &InodeNumber::ROOT)
            && root.value.kind == EntryType::Directory
        {
            self.archive.names().set_attributes(InodeNumber::ROOT, root.value.attributes)?;
            self.extended(InodeNumber::ROOT, &root.value, InodeNumber::ROOT)?;
        }
        Ok(())
    }

    /// Writes an inode without a name to `lost+found`, and what is below it.
    fn orphan(&mut self, number: InodeNumber, inode: Option<&Inode>) -> Result<()> {
        let place = self.lost_and_found()?;
        let name = self.free_name(&place, orphan_name(number).as_bytes())?;
        let kind = inode.map_or(EntryType::Directory, |inode| inode.kind);
        let parent = inode.and_then(|inode| inode.parent).unwrap_or(number);
        let value = NameValue { inode: number, kind };
        let mut below = VecDeque::new();
        self.entry(parent, &place, (&name, value), false, &mut below)?;
        for (number, place) in below {
            self.walk(number, place)?;
        }
        Ok(())
    }

    /// Writes what is below a directory.
    fn walk(&mut self, directory: InodeNumber, place: Place) -> Result<()> {
        let source = self.source;
        let mut below = VecDeque::from([(directory, place)]);
        while let Some((directory, place)) = below.pop_front() {
            let from = NameKey { directory, name: Vec::new() };
            for found in source.names.records::<NameRecords>(source.pages, &from) {
                let (key, value) = found.value;
                if key.directory != directory {
                    break;
                }
                let is_named = found.is_newest;
                self.entry(directory, &place, (&key.name, value), is_named, &mut below)?;
            }
        }
        Ok(())
    }

    /// Writes an entry, and queues a directory. `is_named` says whether the newest commit gives it this name.
    fn entry(
        &mut self,
        parent: InodeNumber,
        place: &Place,
        (name, value): (&[u8], NameValue),
        is_named: bool,
        below: &mut VecDeque<(InodeNumber, Place)>,
    ) -> Result<()> {
        let (number, path) = (value.inode, join(&place.path, name));
        if validate_name(name).is_err() {
            return self.lose(path);
        }
        if self.ambiguous.contains(number.0) {
            return self.lose(path);
        }
        let Some(found) = self.source.inodes.get::<Inodes>(self.source.pages, &number) else {
            return self.entry_without_inode(place, (name, value), below);
        };
        let inode = found.value;
        if self.done.contains(number.0) {
            let Some(written) = self.numbers.get(&number.0) else { return Ok(()) };
            let (new, mut content) = written.clone();
            if content.outcome == Outcome::Complete && !is_named {
                content.outcome = Outcome::Nameless;
            }
            self.archive.names().add_link(place.directory, name, new)?;
            return self.report(Some(path), inode.stream, content);
        }
        if inode.kind == EntryType::Directory {
            if found.is_newest && inode.parent.is_some_and(|named| named != parent) {
                // The name is older than a move of the directory.
                return Ok(());
            }
            self.done.insert(number.0);
            let (place, name, is_moved) = self.place_of_directory(place, name, number)?;
            let path = join(&place.path, &name);
            let new =
                self.archive.names().make_directory(place.directory, &name, inode.attributes)?;
            below.push_back((number, Place { directory: new, path: path.clone() }));
            let is_complete = self.extended(new, &inode, number)? && is_named && found.is_newest;
            let is_complete = is_complete && !is_moved;
            let outcome = if is_complete { Outcome::Complete } else { Outcome::Nameless };
            return self.report_entry(path, outcome);
        }
        let mut inode = inode;
        if !found.is_newest {
            // The newest commit may have given the file another stream, whose record names the inode.
            if let [stream] = self.owned_by(number)[..] {
                (inode.stream, inode.slice) = (Some(stream), None);
            } else if self.has_newer_content(number, &inode) {
                return self.lose_ambiguous(number, path);
            }
            self.written_streams.extend(inode.stream);
        }
        let Some((new, mut content)) = self.other_entry(place, name, (number, &inode))? else {
            return self.lose(path);
        };
        self.done.insert(number.0);
        let is_own = content.stream.is_some() || inode.stream.is_none();
        let is_complete = is_named && (!is_own || self.extended(new, &inode, number)?);
        if content.outcome == Outcome::Complete && !found.is_newest {
            content.outcome = Outcome::Unproven;
        } else if content.outcome == Outcome::Complete && !is_complete {
            content.outcome = Outcome::Nameless;
        }
        if inode.links > 1 || !self.source.names.is_whole {
            self.numbers.insert(number.0, (new, content.clone()));
        }
        self.report(Some(path), inode.stream, content)
    }

    /// Returns where a directory is written, and whether that is another place than the old one. One with a very long path
    /// goes to `lost+found`: every entry below it is reported with its path, which takes time and memory.
    fn place_of_directory(
        &mut self,
        place: &Place,
        name: &[u8],
        number: InodeNumber,
    ) -> Result<(Place, Vec<u8>, bool)> {
        if place.path.len() < PATH_MAX {
            return Ok((place.clone(), name.to_vec(), false));
        }
        let place = self.lost_and_found()?;
        let name = self.free_name(&place, orphan_name(number).as_bytes())?;
        Ok((place, name, true))
    }

    /// Writes anything but a directory. Returns `None` if nothing of it is left.
    fn other_entry(
        &mut self,
        place: &Place,
        name: &[u8],
        (number, inode): (InodeNumber, &Inode),
    ) -> Result<Option<(InodeNumber, Content)>> {
        let names = self.archive.names();
        let (directory, attributes) = (place.directory, inode.attributes);
        let whole =
            Content { stream: None, length: 0, outcome: Outcome::Complete, gaps: Vec::new() };
        match inode.kind {
            EntryType::Symlink => {
                let source = self.source;
                let target = match (&inode.target, inode.stream) {
                    (Some(target), _) => Some(target.clone()),
                    (None, Some(stream)) => source.read_whole(stream, Some(inode.size), TARGET_MAX),
                    (None, None) => Some(Vec::new()),
                };
                let Some(target) = target else { return Ok(None) };
                let new = names.add_symlink(directory, name, attributes, &target)?;
                Ok(Some((new, whole)))
            }
            EntryType::File => {
                if let Some(stream) = inode.stream
                    && let Some(owner) = self.owner_of(stream)?
                {
                    names.add_link(directory, name, owner)?;
                    let length = inode.size;
                    return Ok(Some((
                        owner,
                        Content { length, outcome: Outcome::Unproven, ..whole },
                    )));
                }
                if let Some(first) = inode.slice {
                    let range = (first, inode.size);
                    return self.packed((directory, name), attributes, number, range).map(Some);
                }
                let content = match inode.stream {
                    Some(stream) => self.content(stream, Some(inode.size))?,
                    None => whole,
                };
                let new = names.add_file(directory, name, attributes, content.stream)?;
                Ok(Some((new, content)))
            }
            kind => {
                let new = names.add_special(directory, name, attributes, kind, inode.device)?;
                Ok(Some((new, whole)))
            }
        }
    }

    /// Writes an entry of which the inode is lost: a directory, or a file whose stream names the inode.
    fn entry_without_inode(
        &mut self,
        place: &Place,
        (name, value): (&[u8], NameValue),
        below: &mut VecDeque<(InodeNumber, Place)>,
    ) -> Result<()> {
        let (number, path) = (value.inode, join(&place.path, name));
        if self.source.inodes.is_whole || self.done.contains(number.0) {
            // The name is older than the removal of the entry.
            return Ok(());
        }
        if value.kind == EntryType::Directory {
            self.done.insert(number.0);
            let attributes = lost_attributes(DIRECTORY_MODE);
            let (place, name, _) = self.place_of_directory(place, name, number)?;
            let path = join(&place.path, &name);
            let new = self.archive.names().make_directory(place.directory, &name, attributes)?;
            below.push_back((number, Place { directory: new, path: path.clone() }));
            return self.report_entry(path, Outcome::Nameless);
        }
        let owned = self.owned_by(number);
        let packed = self.packs.candidates(self.source, number);
        let (named, attributes) = ((place.directory, name), lost_attributes(FILE_MODE));
        let (new, mut content, stream) = match (value.kind, &owned[..], &packed[..]) {
            (EntryType::File, &[stream], []) => {
                let content = self.content(stream, None)?;
                let names = self.archive.names();
                let new = names.add_file(place.directory, name, attributes, content.stream)?;
                (new, content, Some(stream))
            }
            (EntryType::File, [], [one]) => {
                let (new, mut content) =
                    self.packed(named, attributes, number, (one.first, one.length))?;
                unproven(&mut content);
                (new, content, None)
            }
            (EntryType::File, _, [_, ..]) => return self.lose_ambiguous(number, path),
            _ => return self.lose(path),
        };
        self.done.insert(number.0);
        if content.outcome == Outcome::Complete {
            content.outcome = Outcome::Nameless;
        }
        self.numbers.insert(number.0, (new, content.clone()));
        self.report(Some(path), stream, content)
    }

    /// Returns the streams that name an inode of which the newest version is lost.
    fn owned_by(&mut self, number: InodeNumber) -> Vec<Uuid> {
        let source = self.source;
        let owned = self.owned.get_or_insert_with(|| {
            let mut owned: HashMap<u64, Vec<Uuid>> = HashMap::new();
            for found in source.streams.records::<Streams>(source.pages, &Uuid::nil()) {
                let (identity, stored) = found.value;
                let Some(inode) = stored.inode else { continue };
                let inode = InodeNumber(inode.get());
                let known = source.inodes.get::<Inodes>(source.pages, &inode);
                if found.is_newest && known.is_none_or(|known| !known.is_newest) {
                    owned.entry(inode.0).or_default().push(identity);
                }
            }
            owned
        });
        owned.get(&number.0).cloned().unwrap_or_default()
    }

    /// Sets the extended attributes of an entry, whose old number is given. Returns whether none of them are lost.
    fn extended(&mut self, new: InodeNumber, inode: &Inode, number: InodeNumber) -> Result<bool> {
        let attributes = match &inode.extended {
            Extended::None => return Ok(true),
            Extended::Inline(attributes) => attributes.clone(),
            Extended::Stream(stream) => {
                self.written_streams.insert(*stream);
                // Otherwise many inodes could name one stream, of which each gets a copy.
                let is_owned = |found: &Found<StoredStream>| {
                    found.value.inode.is_some_and(|owner| owner.get() == number.0)
                };
                if !self.source.stored(*stream).as_ref().is_some_and(is_owned) {
                    return Ok(false);
                }
                let bytes = self.source.read_whole(*stream, None, EXTENDED_MAX);
                let decoded = bytes.and_then(|bytes| decode_extended(&bytes).ok());
                let Some(attributes) = decoded else { return Ok(false) };
                attributes
            }
        };
        self.archive.names().set_extended_attributes(new, &attributes)?;
        Ok(true)
    }
}

fn orphan_name(number: InodeNumber) -> String {
    format!("inode-{}", number.0)
}
