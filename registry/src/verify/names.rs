//! Names and inodes: every name has an inode, every inode has a name, and every directory is below
//! the root.

use std::collections::HashMap;

use ar7_engine::Check;
use ar7_engine::format::StoredStream;
use roaring::RoaringTreemap;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::finding::Subject;
use super::verifier::Verifier;
use crate::names::INODE_COUNTER;
use crate::records::{
    EntryType, Inode, InodeNumber, Inodes, NameKey, NameRecords, NameValue, ReadRecords, Streams,
    TreeId, decode_extended, extended_length, reserved_index,
};

/// Facts collected from the names for comparison with the inodes.
#[derive(Default)]
struct NameChecks {
    /// Inodes that have a name.
    named: RoaringTreemap,
    /// Number of names beyond the first, for each inode with several names.
    further: HashMap<u64, u32>,
    /// Directories whose parents lead up to the root.
    below_root: RoaringTreemap,
    /// Directories whose parents do not, or on the path that is being climbed.
    elsewhere: RoaringTreemap,
    /// The highest inode number.
    highest: u64,
    /// Number of bytes in slices.
    sliced: u64,
}

impl Verifier<'_> {
    /// Checks names and inodes. Returns the number of bytes that files have in slices of packed content.
    pub(super) fn check_names(&mut self) -> u64 {
        let mut checks = NameChecks::default();
        let mut directory = None;
        self.walk::<NameRecords>(&mut |verifier, key, value| {
            verifier.summary.names += 1;
            if directory != Some(key.directory) {
                directory = Some(key.directory);
                verifier.check_directory(key.directory);
            }
            verifier.check_name(&mut checks, &key, value);
        });
        self.walk::<Inodes>(&mut |verifier, number, inode| {
            verifier.check_inode(&mut checks, number, &inode);
        });
        let last_assigned = self.snapshot.commit().slot.counters[INODE_COUNTER];
        let highest = checks.highest;
        if highest > InodeNumber::ROOT.0 && last_assigned < highest {
            // The next new inode would get the number of an existing one.
            self.disagree(Subject::Tree(TreeId::Inodes), Check::Name, highest, last_assigned);
        }
        checks.sliced
    }

    /// Checks that an inode with entries is a directory. The root may have no record.
    fn check_directory(&mut self, number: InodeNumber) {
        match self.snapshot.get::<Inodes>(&number) {
            Ok(Some(inode)) if inode.kind == EntryType::Directory => {}
            Ok(Some(inode)) => {
                let subject = Subject::Inode(number.0);
                self.disagree(subject, Check::Name, "a directory", inode.kind.name());
            }
            Ok(None) if number == InodeNumber::ROOT => {}
            Ok(None) => {
                self.disagree(Subject::Inode(number.0), Check::Name, "a directory", "no inode");
            }
            // The walk reports the unreadable page.
            Err(_) => {}
        }
    }

    fn check_name(&mut self, checks: &mut NameChecks, key: &NameKey, value: NameValue) {
        let NameValue { inode: number, kind } = value;
        let found = self.snapshot.get::<Inodes>(&number);
        let directory = key.directory.0;
        let subject = || Subject::Name { directory, name: key.name.clone() };
        if number == InodeNumber::ROOT {
            return self.disagree(subject(), Check::Name, "an inode other than the root", number.0);
        }
        match found {
            Ok(Some(inode)) if inode.kind != kind => {
                self.disagree(subject(), Check::Name, kind.name(), inode.kind.name());
            }
            Ok(Some(Inode { parent: Some(parent), .. })) if parent != key.directory => {
                self.disagree(subject(), Check::Name, "a name in the parent", parent.0);
            }
            Ok(None) => self.disagree(subject(), Check::Name, "an inode", number.0),
            Ok(Some(_)) | Err(_) => {}
        }
        if !checks.named.insert(number.0) {
            let further = checks.further.entry(number.0).or_default();
            *further = further.saturating_add(1);
            if kind == EntryType::Directory {
                let expected = "only one name for the directory";
                self.disagree(subject(), Check::Name, expected, number.0);
            }
        }
    }

    fn check_inode(&mut self, checks: &mut NameChecks, number: InodeNumber, inode: &Inode) {
        checks.highest = checks.highest.max(number.0);
        let subject = Subject::Inode(number.0);
        let first = u32::from(checks.named.contains(number.0) || number == InodeNumber::ROOT);
        let further = checks.further.get(&number.0).copied().unwrap_or(0);
        let names = first.saturating_add(further);
        if names != inode.links && self.unreadable_pages == 0 {
            self.disagree(subject.clone(), Check::Name, inode.links, names);
        }
        if inode.kind == EntryType::Directory && number != InodeNumber::ROOT {
            self.check_climb(checks, number);
        }
        if let Some(stream) = inode.extended.stream() {
            self.check_extended(number, stream);
        }
        if let Some(stream) = inode.stream {
            return self.check_stream_of(number, inode, stream);
        }
        if inode.slice.is_some() {
            checks.sliced = checks.sliced.saturating_add(inode.size);
            return;
        }
        // Nothing else has content. The target of a link without a stream is in the inode.
        let expected = inode.target.as_ref().map_or(0, |target| target.len() as u64);
        if inode.size != expected {
            self.disagree(subject, Check::Name, expected, inode.size);
        }
    }

    /// Checks that the stream of an inode has the inode's length.
    fn check_stream_of(&mut self, number: InodeNumber, inode: &Inode, stream: Uuid) {
        let Some((stored, refers_back)) = self.check_owned(number, stream) else { return };
        let length = stored.record.length;
        if length != inode.size {
            self.disagree(Subject::Inode(number.0), Check::Name, inode.size, length);
        }
        if refers_back {
            self.owners.insert(number.0);
        }
    }

    /// Checks that the extended attributes in a stream can be decoded.
    fn check_extended(&mut self, number: InodeNumber, stream: Uuid) {
        // If it belongs to another inode, it is not read, so that each stream is read once.
        let Some((stored, true)) = self.check_owned(number, stream) else { return };
        self.extended_owners.insert(number.0);
        let decoded = extended_length(stored.record.length).and_then(|length| {
            let mut bytes = Zeroizing::new(vec![0; length]);
            let read = self.snapshot.read_stream(stream)?.read_at(0, &mut bytes);
            // The walk over the streams opens the blocks, and reports one that is unreadable.
            read.map_or(Ok(()), |length| decode_extended(&bytes[..length]).map(drop))
        });
        if let Err(error) = decoded {
            self.find(Subject::Inode(number.0), error);
        }
    }

    /// Checks that a stream of an inode exists and refers back to the inode. So no two inodes share
    /// a stream, which would be deleted with the first of them. Returns the record, and whether it
    /// refers back.
    fn check_owned(&mut self, number: InodeNumber, stream: Uuid) -> Option<(StoredStream, bool)> {
        let subject = Subject::Inode(number.0);
        if reserved_index(stream).is_some() {
            self.disagree(subject, Check::Name, "a stream that is not reserved", stream);
            return None;
        }
        match self.snapshot.get::<Streams>(&stream) {
            Ok(Some(stored)) => {
                let refers_back = stored.inode.is_some_and(|inode| inode.get() == number.0);
                if !refers_back {
                    let expected = "a stream that refers back to the inode";
                    self.disagree(subject, Check::Name, expected, stream);
                }
                Some((stored, refers_back))
            }
            Ok(None) => {
                self.disagree(subject, Check::Name, "an existing stream", stream);
                None
            }
            // The walk reports the unreadable page.
            Err(_) => None,
        }
    }

    /// Checks that the parents of a directory lead up to the root. Each directory is climbed from
    /// once, because a climb ends at a directory whose answer is known.
    fn check_climb(&mut self, checks: &mut NameChecks, directory: InodeNumber) {
        let (mut at, mut path) = (directory, Vec::new());
        let reaches = loop {
            if at == InodeNumber::ROOT || checks.below_root.contains(at.0) {
                break true;
            }
            if !checks.elsewhere.insert(at.0) {
                break false;
            }
            path.push(at.0);
            match self.snapshot.get::<Inodes>(&at) {
                Ok(Some(Inode { parent: Some(parent), .. })) => at = parent,
                Ok(_) => break false,
                // The walk reports the unreadable page.
                Err(_) => break true,
            }
        };
        if reaches {
            for passed in path {
                checks.elsewhere.remove(passed);
                checks.below_root.insert(passed);
            }
        } else {
            let subject = Subject::Inode(directory.0);
            self.disagree(subject, Check::Name, "a path up to the root", "none");
        }
    }
}
