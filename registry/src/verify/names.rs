//! Names and inodes: what is named exists, what exists is named, and all directories hang together.

use std::collections::{BTreeMap, HashMap, HashSet};

use ar7_engine::Check;
use uuid::Uuid;

use super::{Subject, Verifier};
use crate::records::{
    EntryType, Inode, InodeNumber, Inodes, NameKey, NameValue, Names, ReadRecords,
};

/// What the names said, to be compared with the inodes.
#[derive(Default)]
pub(super) struct NameChecks {
    /// Inodes that have a name.
    named: NumberSet,
    /// Further names of inodes that have several.
    further: HashMap<u64, u32>,
    /// Directory of each directory.
    parents: HashMap<u64, u64>,
    /// Streams with the content of an inode.
    streams: HashSet<Uuid>,
}

impl Verifier<'_> {
    pub(super) fn check_names(&mut self) {
        let mut directory = None;
        self.walk::<Names>(&mut |verifier, key, value| {
            verifier.summary.names += 1;
            if directory != Some(key.directory) {
                directory = Some(key.directory);
                verifier.check_directory(key.directory);
            }
            verifier.check_name(key, value);
        });
        self.walk::<Inodes>(&mut |verifier, number, inode| verifier.check_inode(number, &inode));
        self.check_circles();
    }

    /// The inode that names are listed under is a directory.
    fn check_directory(&mut self, number: InodeNumber) {
        match self.snapshot.get::<Inodes>(&number) {
            Ok(Some(inode)) if inode.kind == EntryType::Directory => {}
            Ok(Some(inode)) => {
                let subject = Subject::Inode(number.0);
                self.disagree(subject, Check::Name, "a directory", inode.kind.name());
            }
            Ok(None) => {
                self.disagree(Subject::Inode(number.0), Check::Name, "a directory", "no inode");
            }
            // The page was reported when it was visited.
            Err(_) => {}
        }
    }

    fn check_name(&mut self, key: NameKey, value: NameValue) {
        let NameValue { inode: number, kind } = value;
        let found = self.snapshot.get::<Inodes>(&number);
        let directory = key.directory.0;
        let subject = Subject::Name { directory, name: key.name };
        match found {
            Ok(Some(inode)) if inode.kind != kind => {
                self.disagree(subject.clone(), Check::Name, kind.name(), inode.kind.name());
            }
            Ok(None) => self.disagree(subject.clone(), Check::Name, "an inode", number.0),
            Ok(Some(_)) | Err(_) => {}
        }
        let is_again = self.names.parents.contains_key(&number.0) || number == InodeNumber::ROOT;
        if kind == EntryType::Directory {
            self.names.parents.entry(number.0).or_insert(directory);
        }
        if kind == EntryType::Directory && is_again {
            self.disagree(
                subject,
                Check::Name,
                "one name for a directory, none for the root",
                number.0,
            );
        }
        if !self.names.named.insert(number.0) {
            *self.names.further.entry(number.0).or_default() += 1;
        }
    }

    fn check_inode(&mut self, number: InodeNumber, inode: &Inode) {
        let subject = Subject::Inode(number.0);
        let first = u32::from(self.names.named.contains(number.0) || number == InodeNumber::ROOT);
        let names = first + self.names.further.get(&number.0).copied().unwrap_or(0);
        if names != inode.links && self.unreadable_pages == 0 {
            self.disagree(subject.clone(), Check::Name, inode.links, names);
        }
        let Some(stream) = inode.stream else {
            if inode.kind == EntryType::File && inode.size != 0 {
                self.disagree(subject, Check::Name, "a stream", "none");
            }
            return;
        };
        if !self.names.streams.insert(stream) {
            self.disagree(subject.clone(), Check::Name, "a stream of its own", stream);
        }
        match self.snapshot.stored(stream) {
            Ok(Some(stored)) if stored.record.length != inode.size => {
                self.disagree(subject, Check::Name, inode.size, stored.record.length);
            }
            Ok(None) => self.disagree(subject, Check::Name, "its stream", "none"),
            Ok(Some(_)) | Err(_) => {}
        }
    }

    /// Every directory leads up to the root.
    fn check_circles(&mut self) {
        let parents = std::mem::take(&mut self.names.parents);
        let mut good: HashSet<u64> = HashSet::from([InodeNumber::ROOT.0]);
        for &directory in parents.keys() {
            let (mut at, mut way) = (directory, HashSet::new());
            while !good.contains(&at) && way.insert(at) {
                match parents.get(&at) {
                    Some(&parent) => at = parent,
                    None => break,
                }
            }
            if good.contains(&at) {
                good.extend(way);
            } else if self.unreadable_pages == 0 {
                let subject = Subject::Inode(directory);
                self.disagree(subject, Check::Name, "a way up to the root", "none");
            }
        }
    }
}

/// A set of numbers, most of which follow one another.
#[derive(Default)]
struct NumberSet(BTreeMap<u64, u64>);

impl NumberSet {
    /// Adds a number; false if it is there already.
    fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        let end = self.0.remove(&(number.saturating_add(1))).unwrap_or(number);
        let before = self.0.range(..number).next_back().map(|(&start, &end)| (start, end));
        match before {
            Some((start, last)) if last + 1 == number => self.0.insert(start, end),
            _ => self.0.insert(number, end),
        };
        true
    }

    fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, &last)| last >= number)
    }
}
