//! Names and inodes: every name has an inode, every inode has a name, and every directory is below
//! the root.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU64;

use ar7_engine::Check;
use roaring::RoaringTreemap;
use uuid::Uuid;

use super::finding::Subject;
use super::verifier::Verifier;
use crate::names::INODE_COUNTER;
use crate::records::{
    EntryType, Inode, InodeNumber, Inodes, NameKey, NameRecords, NameValue, ReadRecords, Streams,
    TreeId, reserved_index,
};

/// Facts collected from the names for comparison with the inodes.
#[derive(Default)]
struct NameChecks {
    /// Inodes that have a name.
    named: RoaringTreemap,
    /// Number of names beyond the first, for each inode with several names.
    further: HashMap<u64, u32>,
    /// The parent of each directory.
    parents: HashMap<u64, u64>,
    /// The highest inode number.
    highest: u64,
}

impl Verifier<'_> {
    pub(super) fn check_names(&mut self) {
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
        self.check_cycles(&checks.parents);
        let last_assigned = self.snapshot.commit().slot.counters[INODE_COUNTER];
        let highest = checks.highest;
        if highest > InodeNumber::ROOT.0 && last_assigned < highest {
            // The next new inode would get the number of an existing one.
            self.disagree(Subject::Tree(TreeId::Inodes), Check::Name, highest, last_assigned);
        }
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
            Ok(None) => self.disagree(subject(), Check::Name, "an inode", number.0),
            Ok(Some(_)) | Err(_) => {}
        }
        if kind == EntryType::Directory {
            // Only the first name determines the parent.
            match checks.parents.entry(number.0) {
                Entry::Vacant(vacant) => {
                    vacant.insert(directory);
                }
                Entry::Occupied(_) => {
                    self.disagree(
                        subject(),
                        Check::Name,
                        "only one name for the directory",
                        number.0,
                    );
                }
            }
        }
        if !checks.named.insert(number.0) {
            let further = checks.further.entry(number.0).or_default();
            *further = further.saturating_add(1);
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
        if let Some(stream) = inode.stream {
            return self.check_content(number, inode, stream);
        }
        // A directory has no content. The target of a link without a stream is in the inode.
        let expected = inode.target.as_ref().map_or(0, |target| target.len() as u64);
        if inode.size != expected {
            self.disagree(subject, Check::Name, expected, inode.size);
        }
    }

    /// Checks that the stream of an inode has the inode's length and refers back to the inode. So
    /// no two inodes share a stream, which would be deleted with the first of them.
    fn check_content(&mut self, number: InodeNumber, inode: &Inode, stream: Uuid) {
        let subject = Subject::Inode(number.0);
        if reserved_index(stream).is_some() {
            return self.disagree(subject, Check::Name, "a stream that is not reserved", stream);
        }
        match self.snapshot.get::<Streams>(&stream) {
            Ok(Some(stored)) => {
                let (length, named) = (stored.record.length, stored.inode.map(NonZeroU64::get));
                if length != inode.size {
                    self.disagree(subject.clone(), Check::Name, inode.size, length);
                }
                if named == Some(number.0) {
                    self.owners.insert(number.0);
                } else {
                    self.disagree(
                        subject,
                        Check::Name,
                        "a stream that refers back to the inode",
                        stream,
                    );
                }
            }
            Ok(None) => self.disagree(subject, Check::Name, "an existing stream", stream),
            // The walk reports the unreadable page.
            Err(_) => {}
        }
    }

    /// Checks that every directory is below the root.
    fn check_cycles(&mut self, parents: &HashMap<u64, u64>) {
        if self.unreadable_pages > 0 {
            return;
        }
        let mut directories: Vec<u64> = parents.keys().copied().collect();
        directories.sort_unstable();
        // Each directory is visited once. Those on the current path count as unreachable until the
        // root is found.
        let mut reaches: HashMap<u64, bool> = HashMap::from([(InodeNumber::ROOT.0, true)]);
        for &directory in &directories {
            let (mut at, mut path) = (Some(directory), Vec::new());
            let reached = loop {
                let Some(here) = at else { break false };
                if let Some(&known) = reaches.get(&here) {
                    break known;
                }
                reaches.insert(here, false);
                path.push(here);
                at = parents.get(&here).copied();
            };
            if reached {
                reaches.extend(path.into_iter().map(|passed| (passed, true)));
            }
        }
        for directory in directories {
            if !reaches[&directory] {
                let subject = Subject::Inode(directory);
                self.disagree(subject, Check::Name, "a path up to the root", "none");
            }
        }
    }
}
