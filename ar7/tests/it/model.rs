//! Random calls of the public interface, compared with a model in memory: each call has the outcome
//! that the model has, each commit has the model's content and verifies clean, and a snapshot that
//! is held stays as it was. A transaction that returns to a savepoint has the content that the model had
//! there.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::PathBuf;

use ar7::{
    Archive, Device, Entry, Error, ExtendedAttribute, FileType, Mode, Savepoint, Snapshot, Special,
    Transaction,
};
use proptest::prelude::*;

use crate::common::{assert_verified, create, key, pattern};

/// A path of at most three components, each of three names.
fn path() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    prop::collection::vec(name(), 1..4).prop_map(|parts| parts.join("/"))
}

#[derive(Debug, Clone)]
enum Call {
    Write(String, usize, usize),
    Change {
        path: String,
        mode: &'static str,
        offset: u64,
        length: usize,
        end: Option<u64>,
    },
    CreateDirectory(String),
    CreateDirectories(String),
    Rename(String, String),
    Remove(String),
    RemoveAll(String),
    Link(String, String),
    Symlink(String, usize),
    Special(String, Special),
    /// Sets extended attributes with values of these lengths.
    Extend(String, Vec<usize>),
    SetMetadata(u8),
    Savepoint,
    /// Drops the savepoint with this number modulo their count.
    DropSavepoint(usize),
    /// Returns to one.
    Return(usize),
}

fn special() -> impl Strategy<Value = Special> {
    let device = Device { major: 8, minor: 1 };
    prop::sample::select(vec![
        Special::Fifo,
        Special::Socket,
        Special::CharacterDevice(device),
        Special::BlockDevice(device),
    ])
}

/// Returns lengths of extended attributes that fit into the inode, or do not.
fn lengths() -> impl Strategy<Value = Vec<usize>> {
    let length = prop_oneof![3 => 0_usize..100, 1 => 200_usize..300, 1 => 300_usize..9000];
    prop::collection::vec(length, 0..4)
}

/// Returns extended attributes with values of these lengths, in ascending order of their names.
fn attributes(lengths: &[usize]) -> Vec<ExtendedAttribute> {
    let named = |(at, &length): (usize, &usize)| {
        ExtendedAttribute::new(format!("user.{at}"), pattern(length, at))
    };
    lengths.iter().enumerate().map(named).collect()
}

fn call() -> impl Strategy<Value = Call> {
    let modes = || prop::sample::select(vec!["r", "r+", "w", "w+", "a", "a+", "x", "x+"]);
    prop_oneof![
        6 => (path(), 0_usize..9000, 0_usize..50).prop_map(|(path, length, salt)| {
            Call::Write(path, if length < 500 { 0 } else { length }, salt)
        }),
        6 => (path(), modes(), 0_u64..9000, 0_usize..9000, prop::option::of(0_u64..9000)).prop_map(
            |(path, mode, offset, length, end)| Call::Change { path, mode, offset, length, end }
        ),
        3 => path().prop_map(Call::CreateDirectory),
        3 => path().prop_map(Call::CreateDirectories),
        4 => (path(), path()).prop_map(|(from, to)| Call::Rename(from, to)),
        2 => path().prop_map(Call::Remove),
        1 => path().prop_map(Call::RemoveAll),
        2 => (path(), path()).prop_map(|(existing, new)| Call::Link(existing, new)),
        1 => (path(), 1_usize..1200).prop_map(|(path, length)| Call::Symlink(path, length)),
        1 => (path(), special()).prop_map(|(path, special)| Call::Special(path, special)),
        4 => (path(), lengths()).prop_map(|(path, lengths)| Call::Extend(path, lengths)),
        1 => any::<u8>().prop_map(Call::SetMetadata),
        4 => Just(Call::Savepoint),
        1 => (0_usize..100).prop_map(Call::DropSavepoint),
        3 => (0_usize..100).prop_map(Call::Return),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    RollBack,
    Drop,
    CommitAndReopen,
}

fn transactions() -> impl Strategy<Value = Vec<(Vec<Call>, End)>> {
    let end = prop_oneof![
        6 => Just(End::Commit), 1 => Just(End::RollBack), 1 => Just(End::Drop),
        1 => Just(End::CommitAndReopen),
    ];
    prop::collection::vec((prop::collection::vec(call(), 1..24), end), 1..6)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// With the content.
    File(Vec<u8>),
    Directory,
    Symlink(String),
    Special(Special),
}

impl Kind {
    fn file_type(&self) -> FileType {
        match self {
            Kind::File(_) => FileType::File,
            Kind::Directory => FileType::Directory,
            Kind::Symlink(_) => FileType::Symlink,
            Kind::Special(Special::Fifo) => FileType::Fifo,
            Kind::Special(Special::Socket) => FileType::Socket,
            Kind::Special(Special::CharacterDevice(_)) => FileType::CharacterDevice,
            Kind::Special(_) => FileType::BlockDevice,
        }
    }
}

/// What all names of an entry share.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: Kind,
    /// The lengths of the extended attributes.
    extended: Vec<usize>,
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Model {
    /// The number of the node of each path.
    paths: BTreeMap<String, usize>,
    nodes: Vec<Node>,
    metadata: Vec<u8>,
}

type Outcome = Result<(), ErrorKind>;

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

impl Model {
    fn kind(&self, path: &str) -> Option<&Kind> {
        self.paths.get(path).map(|&number| &self.nodes[number].kind)
    }

    fn content(&mut self, number: usize) -> &mut Vec<u8> {
        let Kind::File(content) = &mut self.nodes[number].kind else { panic!("not a file") };
        content
    }

    /// Adds an entry at an unused path. Returns its number.
    fn add(&mut self, path: &str, kind: Kind) -> usize {
        self.nodes.push(Node { kind, extended: Vec::new() });
        self.paths.insert(path.to_owned(), self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// Returns the number of the entry at a path.
    fn existing(&self, path: &str) -> Result<usize, ErrorKind> {
        self.check_parents(path)?;
        self.paths.get(path).copied().ok_or(ErrorKind::NotFound)
    }

    /// Fails unless every directory above `path` exists.
    fn check_parents(&self, path: &str) -> Outcome {
        for (at, _) in path.match_indices('/') {
            match self.kind(&path[..at]) {
                Some(Kind::Directory) => {}
                Some(_) => return Err(ErrorKind::NotADirectory),
                None => return Err(ErrorKind::NotFound),
            }
        }
        Ok(())
    }

    fn check_free(&self, path: &str) -> Outcome {
        self.check_parents(path)?;
        if self.paths.contains_key(path) { Err(ErrorKind::AlreadyExists) } else { Ok(()) }
    }

    /// Returns the number of the file at a path.
    fn file_at(&self, path: &str) -> Result<Option<usize>, ErrorKind> {
        self.check_parents(path)?;
        match self.kind(path) {
            Some(Kind::File(_)) => Ok(self.paths.get(path).copied()),
            Some(Kind::Directory) => Err(ErrorKind::IsADirectory),
            Some(Kind::Symlink(_) | Kind::Special(_)) => Err(ErrorKind::InvalidInput),
            None => Ok(None),
        }
    }

    fn file_or_new(&mut self, path: &str) -> Result<usize, ErrorKind> {
        match self.file_at(path)? {
            Some(number) => Ok(number),
            None => Ok(self.add(path, Kind::File(Vec::new()))),
        }
    }

    fn change(&mut self, path: &str, mode: Mode, (offset, bytes): (u64, &[u8])) -> Outcome {
        match self.file_at(path)? {
            Some(_) if mode.needs_new() => return Err(ErrorKind::AlreadyExists),
            None if !mode.creates() => return Err(ErrorKind::NotFound),
            _ => {}
        }
        let number = self.file_or_new(path)?;
        let content = self.content(number);
        if mode.truncates() {
            content.clear();
        }
        if !mode.writable() {
            return Err(ErrorKind::PermissionDenied);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let offset = if mode.appends() { content.len() } else { usize::try_from(offset).unwrap() };
        let end = offset + bytes.len();
        content.resize(content.len().max(end), 0);
        content[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Outcome {
        self.check_parents(from)?;
        self.check_parents(to)?;
        let number = self.existing(from)?;
        if from == to {
            return Ok(());
        }
        let is_directory = self.nodes[number].kind == Kind::Directory;
        if is_directory && is_below(to, from) {
            return Err(ErrorKind::InvalidInput);
        }
        match self.kind(to) {
            Some(Kind::Directory) => return Err(ErrorKind::AlreadyExists),
            Some(_) if is_directory => return Err(ErrorKind::NotADirectory),
            // Two names of one entry.
            Some(_) if self.paths.get(to) == Some(&number) => return Ok(()),
            _ => {}
        }
        let is_moved = |path: &String| path == from || is_below(path, from);
        let moved: Vec<String> = self.paths.keys().filter(|path| is_moved(path)).cloned().collect();
        for path in moved {
            let number = self.paths.remove(&path).unwrap();
            self.paths.insert(format!("{to}{}", &path[from.len()..]), number);
        }
        Ok(())
    }

    fn remove(&mut self, path: &str, with_all_below: bool) -> Outcome {
        self.existing(path)?;
        let is_below = |other: &String| is_below(other, path);
        if !with_all_below && self.paths.keys().any(is_below) {
            return Err(ErrorKind::DirectoryNotEmpty);
        }
        self.paths.retain(|other, _| other != path && !is_below(other));
        Ok(())
    }

    fn make(&mut self, call: &Call) -> Outcome {
        match call {
            Call::Write(path, length, salt) => {
                let number = self.file_or_new(path)?;
                *self.content(number) = pattern(*length, *salt);
            }
            Call::Change { path, mode, offset, length, end } => {
                let mode = mode.parse().unwrap();
                self.change(path, mode, (*offset, &pattern(*length, 3)))?;
                if let Some(end) = end {
                    let number = self.file_at(path)?.unwrap();
                    self.content(number).resize(usize::try_from(*end).unwrap(), 0);
                }
            }
            Call::CreateDirectory(path) => {
                self.check_free(path)?;
                self.add(path, Kind::Directory);
            }
            Call::CreateDirectories(path) => {
                let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
                for end in ends {
                    match self.kind(&path[..end]) {
                        None => drop(self.add(&path[..end], Kind::Directory)),
                        Some(Kind::Directory) => {}
                        Some(_) => return Err(ErrorKind::NotADirectory),
                    }
                }
            }
            Call::Rename(from, to) => self.rename(from, to)?,
            Call::Remove(path) => self.remove(path, false)?,
            Call::RemoveAll(path) => self.remove(path, true)?,
            Call::Link(existing, new) => {
                let number = self.existing(existing)?;
                if self.nodes[number].kind == Kind::Directory {
                    return Err(ErrorKind::IsADirectory);
                }
                self.check_free(new)?;
                self.paths.insert(new.clone(), number);
            }
            Call::Symlink(path, length) => {
                self.check_free(path)?;
                self.add(path, Kind::Symlink("t".repeat(*length)));
            }
            Call::Special(path, special) => {
                self.check_free(path)?;
                self.add(path, Kind::Special(*special));
            }
            Call::Extend(path, lengths) => {
                let number = self.existing(path)?;
                self.nodes[number].extended.clone_from(lengths);
            }
            Call::SetMetadata(byte) => self.metadata = vec![*byte; 9],
            Call::Savepoint | Call::DropSavepoint(_) | Call::Return(_) => {}
        }
        Ok(())
    }
}

fn make(transaction: &Transaction<'_>, call: &Call) -> Result<(), Error> {
    match call {
        Call::Write(path, length, salt) => {
            let content = pattern(*length, *salt);
            let written = transaction.write(path, &content[..])?;
            assert_eq!(written, content.len() as u64);
        }
        Call::Change { path, mode, offset, length, end } => {
            let mut file = transaction.open(path, mode.parse()?)?;
            file.write_at(*offset, &pattern(*length, 3))?;
            if let Some(end) = end {
                file.set_len(*end)?;
            }
            // What was written can be read at once, through any file.
            let mut content = Vec::new();
            let length = file.len()?;
            transaction.open(path, Mode::READ)?.read_to_end(&mut content)?;
            assert_eq!(content.len() as u64, length);
        }
        Call::CreateDirectory(path) => transaction.create_directory(path)?,
        Call::CreateDirectories(path) => transaction.create_directories(path)?,
        Call::Rename(from, to) => transaction.rename(from, to)?,
        Call::Remove(path) => transaction.remove(path)?,
        Call::RemoveAll(path) => {
            assert!(transaction.remove_all(path)? > 0);
        }
        Call::Link(existing, new) => transaction.link(existing, new)?,
        Call::Symlink(path, length) => transaction.symlink("t".repeat(*length), path)?,
        Call::Special(path, special) => transaction.create_special(path, *special)?,
        Call::Extend(path, lengths) => {
            transaction.set_extended_attributes(path, &attributes(lengths))?;
        }
        Call::SetMetadata(byte) => transaction.set_archive_metadata(&[*byte; 9])?,
        Call::Savepoint | Call::DropSavepoint(_) | Call::Return(_) => {}
    }
    Ok(())
}

/// What has names and content: a commit, or an open transaction.
trait View {
    fn entries(&self) -> ar7::Result<Vec<Entry>>;
    fn content(&self, path: &str) -> ar7::Result<Vec<u8>>;
    fn target(&self, path: &str) -> ar7::Result<PathBuf>;
    fn extended(&self, path: &str) -> ar7::Result<Vec<ExtendedAttribute>>;
    fn metadata(&self) -> ar7::Result<Vec<u8>>;
}

impl View for Snapshot {
    fn entries(&self) -> ar7::Result<Vec<Entry>> {
        self.walk("")?.collect()
    }

    fn content(&self, path: &str) -> ar7::Result<Vec<u8>> {
        self.read(path)
    }

    fn target(&self, path: &str) -> ar7::Result<PathBuf> {
        self.read_link(path)
    }

    fn extended(&self, path: &str) -> ar7::Result<Vec<ExtendedAttribute>> {
        self.extended_attributes(path)
    }

    fn metadata(&self) -> ar7::Result<Vec<u8>> {
        Ok(self.archive_metadata().to_vec())
    }
}

impl View for Transaction<'_> {
    fn entries(&self) -> ar7::Result<Vec<Entry>> {
        self.walk("")?.collect()
    }

    fn content(&self, path: &str) -> ar7::Result<Vec<u8>> {
        self.read(path)
    }

    fn target(&self, path: &str) -> ar7::Result<PathBuf> {
        self.read_link(path)
    }

    fn extended(&self, path: &str) -> ar7::Result<Vec<ExtendedAttribute>> {
        self.extended_attributes(path)
    }

    fn metadata(&self) -> ar7::Result<Vec<u8>> {
        self.archive_metadata()
    }
}

/// Compares a commit or a transaction with the model.
fn check(view: &impl View, model: &Model) {
    let entries = view.entries().unwrap();
    assert_eq!(view.metadata().unwrap(), model.metadata);
    let found: Vec<&PathBuf> = entries.iter().map(|entry| &entry.path).collect();
    let mut expected: Vec<PathBuf> = model.paths.keys().map(PathBuf::from).collect();
    // The order of a walk compares component by component, as that of paths.
    expected.sort();
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
    for entry in &entries {
        let path = entry.path.to_str().unwrap();
        let (number, metadata) = (model.paths[path], &entry.metadata);
        let Node { kind, extended } = &model.nodes[number];
        assert_eq!(metadata.file_type, kind.file_type(), "{path}");
        let links = model.paths.values().filter(|&&other| other == number);
        assert_eq!(metadata.links as usize, links.count(), "{path}");
        assert_eq!(view.extended(path).unwrap(), attributes(extended), "{path}");
        assert_eq!(metadata.has_extended_attributes, !extended.is_empty(), "{path}");
        match kind {
            Kind::File(content) => {
                assert_eq!(metadata.len, content.len() as u64, "{path}");
                assert_eq!(view.content(path).unwrap(), *content, "{path}");
            }
            Kind::Symlink(target) => assert_eq!(view.target(path).unwrap(), PathBuf::from(target)),
            Kind::Directory | Kind::Special(_) => assert_eq!(metadata.len, 0, "{path}"),
        }
        let device = match kind {
            Kind::Special(Special::CharacterDevice(device) | Special::BlockDevice(device)) => {
                Some(*device)
            }
            _ => None,
        };
        assert_eq!(metadata.device, device, "{path}");
    }
}

/// Makes the calls of one transaction. Returns the model of its end.
fn run(transaction: &Transaction<'_>, calls: &[Call], committed: &Model) -> Model {
    let mut model = committed.clone();
    let mut points: Vec<(Savepoint<'_>, Model)> = Vec::new();
    for call in calls {
        let expected = model.make(call);
        let found = make(transaction, call).map_err(|error| error.kind());
        assert_eq!(found, expected, "{call:?}");
        match call {
            Call::Savepoint => points.push((transaction.savepoint().unwrap(), model.clone())),
            Call::DropSavepoint(number) if !points.is_empty() => {
                points.remove(number % points.len());
            }
            Call::Return(number) if !points.is_empty() => {
                let index = number % points.len();
                points[index].0.roll_back().unwrap();
                model.clone_from(&points[index].1);
                for (gone, _) in points.drain(index + 1..) {
                    assert!(matches!(gone.roll_back(), Err(Error::NoSavepoint)));
                }
                check(transaction, &model);
            }
            _ => {}
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_have_the_outcome_of_the_model(transactions in transactions()) {
        let (_folder, path, mut archive) = create();
        let mut committed = Model::default();
        let mut held = (archive.snapshot().unwrap(), committed.clone());
        for (calls, end) in transactions {
            let transaction = archive.begin().unwrap();
            let model = run(&transaction, &calls, &committed);
            match end {
                End::Commit | End::CommitAndReopen => {
                    transaction.commit().unwrap();
                    committed = model;
                }
                End::RollBack => transaction.roll_back().unwrap(),
                End::Drop => drop(transaction),
            }
            check(&archive.snapshot().unwrap(), &committed);
            assert_verified(&archive);
            check(&held.0, &held.1);
            if end == End::CommitAndReopen {
                drop(held);
                drop(archive);
                archive = Archive::options().write(true).open(&path, &key()).unwrap();
                held = (archive.snapshot().unwrap(), committed.clone());
            }
        }
        drop(held);
        archive.close().unwrap();
        check(&Archive::open(&path, &key()).unwrap().snapshot().unwrap(), &committed);
    }
}

/// A reader that fails after some bytes.
struct Failing(usize);

impl io::Read for Failing {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::new(ErrorKind::ConnectionReset, "the source is gone"));
        }
        let length = bytes.len().min(self.0);
        bytes[..length].fill(1);
        self.0 -= length;
        Ok(length)
    }
}

#[test]
fn a_write_whose_source_fails_leaves_the_file_as_it_was() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("kept", &b"before"[..]).unwrap();
    for length in [0, 10, 100_000, 3 << 20] {
        for path in ["kept", "new"] {
            let failed = transaction.write(path, Failing(length)).unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::ConnectionReset);
        }
    }
    assert_eq!(transaction.read("kept").unwrap(), b"before");
    assert!(!transaction.exists("new").unwrap());
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    assert_eq!(snapshot.streams().unwrap().count(), 1);
    assert_verified(&archive);
}

#[test]
fn a_file_written_through_std_io_reads_back() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    let content = pattern(300_000, 9);
    let mut file = transaction.open("file", Mode::CREATE_NEW.plus()).unwrap();
    for part in content.chunks(777) {
        file.write_all(part).unwrap();
    }
    drop(file);
    transaction.commit().unwrap();
    assert_eq!(archive.snapshot().unwrap().read("file").unwrap(), content);
}
