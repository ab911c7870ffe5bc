//! Directories, files and links compared with a model, with arbitrary operations, commits, rollbacks and reopenings.

use std::collections::BTreeMap;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::Timestamp;
use ar7_engine::store::{self, Access};
use ar7_registry::records::{Attributes, EntryType, InodeNumber};
use ar7_registry::{Archive, CreateOptions, Error, Result};

use crate::unstructured::Unstructured;

/// Maximum number of operations.
const OPERATIONS: usize = 80;

/// Few names, so that they collide, and some invalid ones.
const NAMES: [&[u8]; 14] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"\xff",
    b"long name with spaces",
    b"",
    b".",
    b"..",
    b"a/b",
    b"zero\0",
    &[b'n'; 256],
];

/// Names from this index on are invalid.
const GOOD_NAMES: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: EntryType,
    links: u32,
    mode: u32,
    target: Vec<u8>,
}

/// The expected state: nodes by their numbers, and names.
#[derive(Debug, Clone)]
struct Model {
    nodes: BTreeMap<InodeNumber, Node>,
    names: BTreeMap<(InodeNumber, Vec<u8>), InodeNumber>,
}

/// The reason for a rejected operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    NotAName,
    NoEntry,
    NoInode,
    Exists,
    WrongType,
    NotEmpty,
    IntoItself,
}

struct Tree {
    device: MemoryDevice,
    archive: Archive,
    model: Model,
    committed: Model,
    /// All inode numbers that were ever assigned, in order.
    known: Vec<InodeNumber>,
}

/// Applies operations to an archive and to a model of its names as `bytes` direct. Returns the final number of names.
///
/// # Panics
/// If they differ in a result, in an error, or in their content.
pub fn name_ops(bytes: &[u8]) -> usize {
    let mut unstructured = Unstructured::new(bytes);
    let mut tree = Tree::new();
    for _ in 0..OPERATIONS {
        if unstructured.is_over() {
            break;
        }
        tree.operate(&mut unstructured);
    }
    tree.check();
    tree.model.names.len()
}

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([9; 32]))
}

fn attributes(mode: u32) -> Attributes {
    let modified = Timestamp { seconds: 5, nanoseconds: 6 };
    Attributes { mode, uid: 1, gid: 2, modified, origin: None }
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::InvalidName { .. } | Error::NameLength { .. } => Refusal::NotAName,
        Error::NoEntry { .. } => Refusal::NoEntry,
        Error::NoInode { .. } => Refusal::NoInode,
        Error::EntryExists { .. } => Refusal::Exists,
        Error::WrongEntryType { .. } => Refusal::WrongType,
        Error::NotEmpty { .. } => Refusal::NotEmpty,
        Error::IntoItself { .. } => Refusal::IntoItself,
        other => panic!("an honest archive is reported as: {other}"),
    }
}

/// Checks that both succeeded, or that both failed for the same reason.
fn agreed<A, B>(
    what: &str,
    ours: Result<A>,
    model: std::result::Result<B, Refusal>,
) -> Option<(A, B)> {
    match (ours, model) {
        (Ok(ours), Ok(model)) => Some((ours, model)),
        (Err(error), Err(expected)) => {
            assert_eq!(refusal(&error), expected, "{what}: {error}");
            None
        }
        (Ok(_), Err(expected)) => panic!("{what}: expected {expected:?}, found success"),
        (Err(error), Ok(_)) => panic!("{what}: expected success, found {error}"),
    }
}

impl Tree {
    fn new() -> Tree {
        let device = MemoryDevice::new();
        let create = CreateOptions::default();
        let archive = Archive::create_device(Box::new(device.clone()), &secret(), &create);
        let root = Node { kind: EntryType::Directory, links: 1, mode: 0o755, target: Vec::new() };
        let model =
            Model { nodes: BTreeMap::from([(InodeNumber::ROOT, root)]), names: BTreeMap::new() };
        Tree {
            device,
            archive: archive.expect("an archive in memory"),
            committed: model.clone(),
            model,
            known: vec![InodeNumber::ROOT],
        }
    }

    fn operate(&mut self, unstructured: &mut Unstructured<'_>) {
        match unstructured.byte() % 20 {
            0..=3 => self.add(unstructured, EntryType::Directory),
            4..=6 => self.add(unstructured, EntryType::File),
            7 => self.add(unstructured, EntryType::Symlink),
            8 | 9 => self.link(unstructured),
            10 | 11 => self.remove(unstructured),
            12 => self.remove_tree(unstructured),
            13..=15 => self.rename(unstructured),
            16 => self.look(unstructured),
            17 => {
                self.archive.commit().expect("a commit in memory");
                self.committed = self.model.clone();
            }
            18 => self.go_back(unstructured),
            _ => self.check(),
        }
    }

    /// Returns any directory that ever existed, most often an existing one, or something else than a directory.
    fn inode(&self, unstructured: &mut Unstructured<'_>) -> InodeNumber {
        let chosen = unstructured.octet();
        if chosen < 80 {
            return InodeNumber::ROOT;
        }
        unstructured.choose(&self.known).copied().unwrap_or(InodeNumber::ROOT)
    }

    fn name(unstructured: &mut Unstructured<'_>) -> &'static [u8] {
        let good = unstructured.octet() < 230;
        NAMES[unstructured.below(if good { GOOD_NAMES } else { NAMES.len() })]
    }

    fn add(&mut self, unstructured: &mut Unstructured<'_>, kind: EntryType) {
        let (directory, name) = (self.inode(unstructured), Tree::name(unstructured));
        let mode = u32::from(unstructured.octet());
        let target = vec![b't'; unstructured.byte() * 4];
        let names = self.archive.names();
        let made = match kind {
            EntryType::Directory => names.make_directory(directory, name, attributes(mode)),
            EntryType::File => names.add_file(directory, name, attributes(mode), None),
            EntryType::Symlink => names.add_symlink(directory, name, attributes(mode), &target),
            kind => names.add_special(directory, name, attributes(mode), kind, None),
        };
        let target = if kind == EntryType::Symlink { target } else { Vec::new() };
        let expected = self.model.check_free(directory, name);
        if let Some((number, ())) = agreed("adding", made, expected) {
            let node = Node { kind, links: 1, mode, target };
            assert!(
                self.model.nodes.insert(number, node).is_none(),
                "an inode number occurs twice"
            );
            self.model.names.insert((directory, name.to_vec()), number);
            self.known.push(number);
        }
    }

    fn link(&mut self, unstructured: &mut Unstructured<'_>) {
        let (directory, name, number) =
            (self.inode(unstructured), Tree::name(unstructured), self.inode(unstructured));
        let linked = self.archive.names().add_link(directory, name, number);
        let expected = self.model.link(directory, name, number);
        agreed("linking", linked, expected);
    }

    fn remove(&mut self, unstructured: &mut Unstructured<'_>) {
        let (directory, name) = (self.inode(unstructured), Tree::name(unstructured));
        let removed = self.archive.names().remove(directory, name);
        agreed("removing", removed, self.model.remove(directory, name));
    }

    fn remove_tree(&mut self, unstructured: &mut Unstructured<'_>) {
        let (directory, name) = (self.inode(unstructured), Tree::name(unstructured));
        let every = [None, Some(2)][unstructured.below(2)];
        let removed = self.archive.names().remove_tree(directory, name, every, &mut |_| true);
        if every.is_some() {
            // Removing a tree commits first.
            self.committed = self.model.clone();
        }
        let expected = self.model.remove_tree(directory, name);
        if let Some((gone, expected)) = agreed("removing a tree", removed, expected) {
            assert_eq!(gone, expected, "the number of removed names");
            if every.is_some() {
                self.committed = self.model.clone();
            }
        }
    }

    fn rename(&mut self, unstructured: &mut Unstructured<'_>) {
        let from = (self.inode(unstructured), Tree::name(unstructured));
        let to = (self.inode(unstructured), Tree::name(unstructured));
        let replace = unstructured.byte().is_multiple_of(2);
        let renamed = self.archive.names().rename(from, to, replace);
        agreed("renaming", renamed, self.model.rename(from, to, replace));
    }

    fn look(&self, unstructured: &mut Unstructured<'_>) {
        let (directory, name) = (self.inode(unstructured), Tree::name(unstructured));
        let names = self.archive.names();
        let found = names.lookup(directory, name).expect("a look").map(|entry| entry.inode);
        let expected = self.model.names.get(&(directory, name.to_vec())).copied();
        assert_eq!(found, expected, "the inode of a name");
        let most = unstructured.byte() % 10;
        let listed = names.list(directory, Some(name), most).expect("a list");
        let listed: Vec<InodeNumber> = listed.into_iter().map(|entry| entry.inode).collect();
        let above = self.model.entries(directory).filter(|(known, _)| known.as_slice() > name);
        let expected: Vec<InodeNumber> = above.take(most).map(|(_, inode)| inode).collect();
        assert_eq!(listed, expected, "the names after a given one");
    }

    fn go_back(&mut self, unstructured: &mut Unstructured<'_>) {
        if unstructured.byte().is_multiple_of(2) {
            self.archive.rollback().expect("a rollback");
        } else {
            self.device = self.device.snapshot().to_device();
            let options =
                store::OpenOptions { access: Access::Write, ..store::OpenOptions::default() };
            let opened = Archive::open_device(Box::new(self.device.clone()), &secret(), options);
            self.archive = opened.expect("the archive opens again");
        }
        self.model = self.committed.clone();
        self.check();
    }

    /// Checks that the archive contains exactly what the model does.
    fn check(&self) {
        let names = self.archive.names();
        for (&number, node) in &self.model.nodes {
            let inode = names.inode(number).expect("a lookup").expect("an existing inode");
            let mode = inode.attributes.mode;
            assert_eq!((inode.kind, inode.links, mode), (node.kind, node.links, node.mode));
            if let Some(target) = &inode.target {
                assert_eq!(*target, node.target, "the target of a link");
            }
            let listed = names.list(number, None, usize::MAX).expect("a list");
            let listed: Vec<(Vec<u8>, InodeNumber)> =
                listed.into_iter().map(|entry| (entry.name, entry.inode)).collect();
            assert!(listed.into_iter().eq(self.model.entries(number)), "the names of {number:?}");
        }
        for number in self.known.iter().filter(|number| !self.model.nodes.contains_key(number)) {
            assert!(names.inode(*number).expect("a lookup").is_none(), "{number:?} still exists");
        }
    }
}

impl Model {
    fn entries(&self, directory: InodeNumber) -> impl Iterator<Item = (Vec<u8>, InodeNumber)> {
        let from = (directory, Vec::new());
        let entries =
            self.names.range(from..).take_while(move |((known, _), _)| *known == directory);
        entries.map(|((_, name), inode)| (name.clone(), *inode))
    }

    fn check_free(&self, directory: InodeNumber, name: &[u8]) -> std::result::Result<(), Refusal> {
        check_name(name)?;
        let node = self.nodes.get(&directory).ok_or(Refusal::NoInode)?;
        if node.kind != EntryType::Directory {
            return Err(Refusal::WrongType);
        }
        let is_taken = self.names.contains_key(&(directory, name.to_vec()));
        if is_taken { Err(Refusal::Exists) } else { Ok(()) }
    }

    fn found(&self, at: (InodeNumber, &[u8])) -> std::result::Result<InodeNumber, Refusal> {
        self.names.get(&(at.0, at.1.to_vec())).copied().ok_or(Refusal::NoEntry)
    }

    fn link(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
        number: InodeNumber,
    ) -> std::result::Result<(), Refusal> {
        let node = self.nodes.get(&number).ok_or(Refusal::NoInode)?;
        if node.kind == EntryType::Directory {
            return Err(Refusal::WrongType);
        }
        self.check_free(directory, name)?;
        self.nodes.get_mut(&number).expect("the node exists").links += 1;
        self.names.insert((directory, name.to_vec()), number);
        Ok(())
    }

    fn remove(&mut self, directory: InodeNumber, name: &[u8]) -> std::result::Result<(), Refusal> {
        let number = self.found((directory, name))?;
        let is_empty = self.entries(number).next().is_none();
        let node = self.nodes.get_mut(&number).expect("a name of a node");
        if node.kind == EntryType::Directory && !is_empty {
            return Err(Refusal::NotEmpty);
        }
        node.links -= 1;
        if node.links == 0 {
            self.nodes.remove(&number);
        }
        self.names.remove(&(directory, name.to_vec()));
        Ok(())
    }

    fn remove_tree(
        &mut self,
        directory: InodeNumber,
        name: &[u8],
    ) -> std::result::Result<u64, Refusal> {
        let number = self.found((directory, name))?;
        let mut gone = 1;
        let below: Vec<(Vec<u8>, InodeNumber)> = self.entries(number).collect();
        for (below, _) in below {
            gone += self.remove_tree(number, &below)?;
        }
        self.remove(directory, name).map(|()| gone)
    }

    fn is_below(&self, directory: InodeNumber, inside: InodeNumber) -> bool {
        directory == inside
            || self.entries(directory).any(|(_, inode)| self.is_below(inode, inside))
    }

    fn rename(
        &mut self,
        from: (InodeNumber, &[u8]),
        to: (InodeNumber, &[u8]),
        replace: bool,
    ) -> std::result::Result<(), Refusal> {
        check_name(to.1)?;
        let number = self.found(from)?;
        if from == to {
            return Ok(());
        }
        let parent = self.nodes.get(&to.0).ok_or(Refusal::NoInode)?;
        if parent.kind != EntryType::Directory {
            return Err(Refusal::WrongType);
        }
        let is_directory = self.nodes[&number].kind == EntryType::Directory;
        if is_directory && self.is_below(number, to.0) {
            return Err(Refusal::IntoItself);
        }
        if let Ok(other) = self.found(to) {
            if !replace || self.nodes[&other].kind == EntryType::Directory {
                return Err(Refusal::Exists);
            }
            if is_directory {
                return Err(Refusal::WrongType);
            }
            if other == number {
                return Ok(());
            }
            self.remove(to.0, to.1)?;
        }
        self.names.remove(&(from.0, from.1.to_vec()));
        self.names.insert((to.0, to.1.to_vec()), number);
        Ok(())
    }
}

fn check_name(name: &[u8]) -> std::result::Result<(), Refusal> {
    let is_none = NAMES[GOOD_NAMES..].contains(&name);
    if is_none { Err(Refusal::NotAName) } else { Ok(()) }
}

/// Returns initial inputs: a tree that is moved and removed, links, and rejected operations.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![
            0, 0, 0, 0, 1, 0, 4, 200, 1, 0, 1, 2, 0, 13, 0, 0, 0, 0, 0, 3, 0, 17, 12, 0, 0, 3, 0,
            18, 0,
        ],
        vec![4, 0, 0, 0, 1, 0, 8, 0, 0, 1, 200, 1, 13, 0, 0, 1, 0, 0, 0, 0, 19, 10, 0, 0, 0, 19],
        vec![0, 0, 0, 0, 1, 0, 0, 200, 1, 0, 1, 1, 0, 13, 0, 0, 0, 200, 2, 0, 3, 0, 19],
        vec![7, 0, 0, 4, 1, 200, 4, 0, 0, 4, 1, 0, 4, 0, 255, 9, 1, 0, 16, 0, 0, 0, 9, 19],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_operations_match_a_model() {
        let mut random = Random::new(0x6e61_6d65);
        let mut names = 0;
        for _ in 0..400 {
            let mut bytes = [0; 420];
            random.fill(&mut bytes);
            names += name_ops(&bytes);
        }
        assert!(seeds().iter().all(|seed| name_ops(seed) < 4));
        assert!(names > 2000, "only {names} names");
    }
}
