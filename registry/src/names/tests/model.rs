//! Names agree with a map from paths to files. After any additions, links, moves, removals,
//! commits, rollbacks and reopenings, every path leads to the entry of the map, and the archive
//! verifies clean.

use std::collections::{BTreeMap, BTreeSet};

use ar7_engine::store::{Access, OpenOptions};
use proptest::prelude::*;

use super::*;

/// The entry at a path: a directory, or a file with its number in order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

/// Paths without a leading slash, except the root.
type Model = BTreeMap<String, Node>;

#[derive(Debug, Clone)]
enum Operation {
    MakeDirectory(String),
    AddFile { path: String, content: usize },
    AddLink { from: String, to: String },
    Replace { path: String, content: usize },
    Remove(String),
    RemoveTree { path: String, commit_every: Option<usize> },
    Rename { from: String, to: String, replace: bool },
    Commit,
    Rollback,
    Reopen,
}

/// Returns paths of up to three levels with few names, so that they collide.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => path().prop_map(Operation::MakeDirectory),
        6 => (path(), 0_usize..9000)
            .prop_map(|(path, content)| Operation::AddFile { path, content }),
        3 => (path(), path()).prop_map(|(from, to)| Operation::AddLink { from, to }),
        2 => (path(), 0_usize..9000)
            .prop_map(|(path, content)| Operation::Replace { path, content }),
        3 => path().prop_map(Operation::Remove),
        1 => (path(), prop::option::of(1_usize..3))
            .prop_map(|(path, commit_every)| Operation::RemoveTree { path, commit_every }),
        6 => (path(), path(), any::<bool>())
            .prop_map(|(from, to, replace)| Operation::Rename { from, to, replace }),
        3 => Just(Operation::Commit),
        1 => Just(Operation::Rollback),
        1 => Just(Operation::Reopen),
    ]
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn is_directory(model: &Model, path: &str) -> bool {
    path.is_empty() || model.get(path) == Some(&Node::Directory)
}

fn below<'a>(model: &'a Model, path: &str) -> impl Iterator<Item = &'a String> {
    let prefix = format!("{path}/");
    model.keys().filter(move |key| key.starts_with(&prefix))
}

/// Returns whether a new entry can be made at `path`.
fn is_free(model: &Model, path: &str) -> bool {
    is_directory(model, split(path).0) && !model.contains_key(path)
}

/// The archive under test, and its expected content.
struct Pair {
    archive: Archive,
    model: Model,
    /// Length of each file's content.
    sizes: Vec<usize>,
}

impl Pair {
    /// Applies the operation to both, and checks that it succeeds in both or in neither.
    fn apply(&mut self, operation: &Operation) {
        let done = match operation {
            Operation::MakeDirectory(path) => self.make_directory(path),
            Operation::AddFile { path, content } => self.add_file(path, *content),
            Operation::AddLink { from, to } => self.add_link(from, to),
            Operation::Replace { path, content } => self.replace(path, *content),
            Operation::Remove(path) => self.remove(path),
            Operation::Rename { from, to, replace } => self.rename(from, to, *replace),
            Operation::RemoveTree { path, commit_every } => self.remove_tree(path, *commit_every),
            Operation::Commit | Operation::Rollback | Operation::Reopen => unreachable!(),
        };
        let (expected, found) = done;
        assert_eq!(expected, found.is_ok(), "{operation:?}: {found:?}");
    }

    fn directory(&self, path: &str) -> Result<InodeNumber, Error> {
        Ok(self.archive.names().resolve(path.as_bytes())?.inode)
    }

    fn stream(&self, content: usize) -> Option<uuid::Uuid> {
        let mut stream = (content > 0).then(|| self.archive.new_stream().unwrap())?;
        stream.append(&vec![1; content]).unwrap();
        Some(stream.identity())
    }

    fn make_directory(&mut self, path: &str) -> (bool, Result<(), Error>) {
        let expected = is_free(&self.model, path);
        let (parent, name) = split(path);
        let found = self.directory(parent).and_then(|parent| {
            self.archive.names().make_directory(parent, name.as_bytes(), attributes())
        });
        if expected {
            self.model.insert(path.to_owned(), Node::Directory);
        }
        (expected, found.map(drop))
    }

    fn add_file(&mut self, path: &str, content: usize) -> (bool, Result<(), Error>) {
        let expected = is_free(&self.model, path);
        let (parent, name) = split(path);
        let stream = self.stream(content);
        let names = self.archive.names();
        let found = self
            .directory(parent)
            .and_then(|parent| names.add_file(parent, name.as_bytes(), attributes(), stream));
        if expected {
            self.model.insert(path.to_owned(), Node::File(self.sizes.len()));
            self.sizes.push(content);
        } else if let Some(stream) = stream {
            assert!(self.archive.delete_stream(stream).unwrap());
        }
        (expected, found.map(drop))
    }

    fn add_link(&mut self, from: &str, to: &str) -> (bool, Result<(), Error>) {
        let node = self.model.get(from).copied();
        let expected = matches!(node, Some(Node::File(_))) && is_free(&self.model, to);
        let names = self.archive.names();
        let (parent, name) = split(to);
        let found = self
            .directory(from)
            .and_then(|inode| names.add_link(self.directory(parent)?, name.as_bytes(), inode));
        if expected {
            self.model.insert(to.to_owned(), node.unwrap());
        }
        (expected, found)
    }

    fn replace(&mut self, path: &str, content: usize) -> (bool, Result<(), Error>) {
        let node = self.model.get(path).copied();
        let stream = self.stream(content);
        let names = self.archive.names();
        let found = self
            .directory(path)
            .and_then(|inode| names.replace_content(inode, stream, attributes()));
        match (node, stream) {
            (Some(Node::File(file)), _) => self.sizes[file] = content,
            (_, Some(stream)) => assert!(self.archive.delete_stream(stream).unwrap()),
            (_, None) => {}
        }
        (matches!(node, Some(Node::File(_))), found)
    }

    fn remove(&mut self, path: &str) -> (bool, Result<(), Error>) {
        let expected = self.model.contains_key(path) && below(&self.model, path).count() == 0;
        let (parent, name) = split(path);
        let found = self
            .directory(parent)
            .and_then(|parent| self.archive.names().remove(parent, name.as_bytes()));
        if expected {
            self.model.remove(path);
        }
        (expected, found)
    }

    fn remove_tree(&mut self, path: &str, every: Option<usize>) -> (bool, Result<(), Error>) {
        let gone: BTreeSet<String> = below(&self.model, path)
            .cloned()
            .chain(self.model.contains_key(path).then(|| path.to_owned()))
            .collect();
        let (parent, name) = split(path);
        let names = self.archive.names();
        let found = self
            .directory(parent)
            .and_then(|parent| names.remove_tree(parent, name.as_bytes(), every, &mut |_| true));
        if let Ok(removed) = found {
            assert_eq!(removed, gone.len() as u64);
        }
        self.model.retain(|path, _| !gone.contains(path));
        (!gone.is_empty(), found.map(drop))
    }

    fn rename(&mut self, from: &str, to: &str, replace: bool) -> (bool, Result<(), Error>) {
        let node = self.model.get(from).copied();
        let target = self.model.get(to).copied();
        let inside =
            node == Some(Node::Directory) && format!("{to}/").starts_with(&format!("{from}/"));
        let fits = match (node, target) {
            (None, _) | (Some(_), Some(Node::Directory)) => false,
            (Some(_), None) => true,
            (Some(node), Some(Node::File(_))) => replace && node != Node::Directory,
        };
        let is_same_name = from == to && node.is_some();
        let expected = is_same_name || (fits && !inside && is_directory(&self.model, split(to).0));
        let ((from_parent, from_name), (to_parent, to_name)) = (split(from), split(to));
        let names = self.archive.names();
        let found = self.directory(from_parent).and_then(|parent| {
            let to_parent = self.directory(to_parent)?;
            names.rename((parent, from_name.as_bytes()), (to_parent, to_name.as_bytes()), replace)
        });
        // Two names of one file: both stay.
        if expected && node != target {
            let moved: Vec<String> = below(&self.model, from).cloned().collect();
            for path in moved {
                let node = self.model.remove(&path).unwrap();
                self.model.insert(format!("{to}{}", &path[from.len()..]), node);
            }
            self.model.remove(from);
            self.model.insert(to.to_owned(), node.unwrap());
        }
        (expected, found)
    }

    /// Lists the archive in batches of two entries, and compares them with the model.
    fn compare(&self) {
        let names = self.archive.names();
        let mut found = BTreeMap::new();
        let mut waiting = vec![(String::new(), ROOT)];
        while let Some((path, directory)) = waiting.pop() {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let page = names.list(directory, after.as_deref(), 2).unwrap();
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for entry in page {
                    let name = String::from_utf8(entry.name).unwrap();
                    let path = format!("{path}/{name}").trim_start_matches('/').to_owned();
                    if entry.kind == EntryType::Directory {
                        waiting.push((path.clone(), entry.inode));
                    }
                    found.insert(path, entry.inode);
                }
            }
        }
        let paths: Vec<&String> = self.model.keys().collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), paths);
        for (path, node) in &self.model {
            let inode = names.inode(found[path]).unwrap().unwrap();
            let (kind, size, links) = match node {
                Node::Directory => (EntryType::Directory, 0, 1),
                Node::File(file) => {
                    let links = self.model.values().filter(|other| *other == node).count();
                    (EntryType::File, self.sizes[*file] as u64, u32::try_from(links).unwrap())
                }
            };
            assert_eq!((inode.kind, inode.size, inode.links), (kind, size, links), "{path}");
        }
    }

    /// Checks that there is no extra name, inode or stream, and that the archive verifies clean.
    fn check_committed(&self) {
        let files: BTreeSet<usize> = self
            .model
            .values()
            .filter_map(|node| if let Node::File(file) = node { Some(*file) } else { None })
            .collect();
        let streams = files.iter().filter(|&&file| self.sizes[file] > 0).count();
        let statistics = self.archive.statistics().unwrap();
        assert_eq!(statistics.streams, streams as u64);
        assert_eq!(statistics.names, self.model.len() as u64);
        let mut findings = Vec::new();
        self.archive
            .verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {})
            .unwrap();
        assert_eq!(findings, Vec::<String>::new());
    }
}

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([1; 32]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn names_agree_with_a_map_of_paths(operations in prop::collection::vec(operation(), 1..80)) {
        let device = MemoryDevice::new();
        let options = CreateOptions::default();
        let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
        let mut pair = Pair { archive, model: Model::new(), sizes: Vec::new() };
        let mut committed = (pair.model.clone(), pair.sizes.clone());
        for operation in &operations {
            match operation {
                Operation::Commit => {
                    pair.archive.commit().unwrap();
                    committed = (pair.model.clone(), pair.sizes.clone());
                    pair.check_committed();
                }
                Operation::Rollback => {
                    pair.archive.rollback().unwrap();
                    (pair.model, pair.sizes) = committed.clone();
                }
                Operation::Reopen => {
                    let Pair { archive, .. } = pair;
                    archive.close().unwrap();
                    let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
                    let archive =
                        Archive::open_device(Box::new(device.clone()), &secret(), options).unwrap();
                    let (model, sizes) = committed.clone();
                    pair = Pair { archive, model, sizes };
                }
                Operation::RemoveTree { commit_every: Some(_), .. } => {
                    // The removal commits in batches, and so commits earlier changes too.
                    pair.apply(operation);
                    pair.archive.commit().unwrap();
                    committed = (pair.model.clone(), pair.sizes.clone());
                }
                other => pair.apply(other),
            }
            pair.compare();
        }
        pair.archive.commit().unwrap();
        pair.check_committed();
    }
}
