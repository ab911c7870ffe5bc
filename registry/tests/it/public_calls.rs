//! After any sequence of public calls, `verify` has no findings, and every file has the length of
//! its stream.

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_registry::records::InodeNumber;
use ar7_registry::{Archive, CreateOptions, Error, Mode, Stream, StreamFile};
use proptest::prelude::*;
use uuid::Uuid;

use crate::attributes::ATTRIBUTES;

const ROOT: InodeNumber = InodeNumber::ROOT;
/// A call. Numbers choose among all streams, inodes, handles and names ever created, so that calls
/// also use deleted, renamed and rolled back ones.
#[derive(Debug, Clone)]
enum Call {
    NewStream,
    Open(usize),
    OpenFile(usize, &'static str),
    Close(usize),
    Write { handle: usize, offset: u64, length: usize },
    SetLength { handle: usize, length: u64 },
    AdjustLength { handle: usize, change: i64 },
    Pop(usize),
    Delete(usize),
    Unregister(usize),
    AddFile { directory: usize, name: u8, stream: Option<usize> },
    Replace { inode: usize, stream: Option<usize> },
    AddDirectory { directory: usize, name: u8 },
    AddSymlink { directory: usize, name: u8, length: usize },
    AddLink { directory: usize, name: u8, inode: usize },
    Remove { directory: usize, name: u8 },
    Rename { from: (usize, u8), to: (usize, u8), replace: bool },
    Commit,
    Rollback,
}

fn call() -> impl Strategy<Value = Call> {
    let some = || 0_usize..12;
    let name = || 0_u8..4;
    prop_oneof![
        4 => Just(Call::NewStream),
        3 => some().prop_map(Call::Open),
        2 => (some(), prop::sample::select(vec!["r+", "w", "a", "x"]))
            .prop_map(|(stream, mode)| Call::OpenFile(stream, mode)),
        4 => some().prop_map(Call::Close),
        6 => (some(), 0_u64..9000, 0_usize..9000)
            .prop_map(|(handle, offset, length)| Call::Write { handle, offset, length }),
        3 => (some(), 0_u64..20_000)
            .prop_map(|(handle, length)| Call::SetLength { handle, length }),
        1 => (some(), -3000_i64..3000)
            .prop_map(|(handle, change)| Call::AdjustLength { handle, change }),
        1 => some().prop_map(Call::Pop),
        2 => some().prop_map(Call::Delete),
        1 => some().prop_map(Call::Unregister),
        6 => (some(), name(), prop::option::of(some()))
            .prop_map(|(directory, name, stream)| Call::AddFile { directory, name, stream }),
        3 => (some(), prop::option::of(some()))
            .prop_map(|(inode, stream)| Call::Replace { inode, stream }),
        2 => (some(), name())
            .prop_map(|(directory, name)| Call::AddDirectory { directory, name }),
        1 => (some(), name(), 1_usize..1200)
            .prop_map(|(directory, name, length)| Call::AddSymlink { directory, name, length }),
        2 => (some(), name(), some())
            .prop_map(|(directory, name, inode)| Call::AddLink { directory, name, inode }),
        2 => (some(), name()).prop_map(|(directory, name)| Call::Remove { directory, name }),
        3 => ((some(), name()), (some(), name()), any::<bool>())
            .prop_map(|(from, to, replace)| Call::Rename { from, to, replace }),
        3 => Just(Call::Commit),
        1 => Just(Call::Rollback),
    ]
}

/// A handle that is open for writing.
enum Handle {
    Stream(Stream),
    File(StreamFile),
}

/// An archive, and everything ever created in it.
struct Session {
    archive: Archive,
    handles: Vec<Handle>,
    streams: Vec<Uuid>,
    inodes: Vec<InodeNumber>,
}

fn pick<T: Copy>(all: &[T], number: usize) -> Option<T> {
    number.checked_rem(all.len()).map(|at| all[at])
}

fn byte_name(name: u8) -> [u8; 1] {
    [b'a' + name]
}

impl Session {
    fn new() -> Session {
        let secret = Secret::Key(RawKey::from_bytes([1; 32]));
        let device = Box::new(MemoryDevice::new());
        let archive = Archive::create_device(device, &secret, &CreateOptions::default()).unwrap();
        Session { archive, handles: Vec::new(), streams: Vec::new(), inodes: vec![ROOT] }
    }

    fn inode(&self, number: usize) -> InodeNumber {
        pick(&self.inodes, number).expect("the root")
    }

    /// Returns the stream with this number, or an identity that never existed.
    fn stream(&self, number: usize) -> Uuid {
        pick(&self.streams, number).unwrap_or(Uuid::from_u128(500))
    }

    fn handle(&mut self, number: usize) -> Option<&mut Handle> {
        let at = number.checked_rem(self.handles.len())?;
        self.handles.get_mut(at)
    }

    fn make(&mut self, call: &Call) -> Result<(), Error> {
        match *call {
            Call::NewStream => {
                let stream = self.archive.new_stream()?;
                self.streams.push(stream.identity());
                self.handles.push(Handle::Stream(stream));
            }
            Call::Open(stream) => {
                let stream = self.archive.open_stream(self.stream(stream))?;
                self.handles.push(Handle::Stream(stream));
            }
            Call::OpenFile(stream, mode) => {
                let mode = Mode::parse(mode)?;
                let file = StreamFile::open(&self.archive, self.stream(stream), mode)?;
                self.handles.push(Handle::File(file));
            }
            Call::Close(handle) => {
                if let Some(at) = handle.checked_rem(self.handles.len()) {
                    drop(self.handles.swap_remove(at));
                }
            }
            Call::Write { handle, offset, length } => {
                let bytes = vec![7; length];
                match self.handle(handle) {
                    Some(Handle::Stream(stream)) => stream.write_at(offset, &bytes)?,
                    Some(Handle::File(file)) => file.write_at(offset, &bytes)?,
                    None => {}
                }
            }
            Call::SetLength { handle, length } => match self.handle(handle) {
                Some(Handle::Stream(stream)) => stream.set_len(length)?,
                Some(Handle::File(file)) => file.set_len(length)?,
                None => {}
            },
            Call::AdjustLength { handle, change } => {
                if let Some(Handle::Stream(stream)) = self.handle(handle) {
                    stream.adjust_length(change)?;
                }
            }
            Call::Pop(handle) => {
                if let Some(Handle::Stream(stream)) = self.handle(handle) {
                    stream.pop()?;
                }
            }
            Call::Delete(_) | Call::Unregister(_) | Call::Commit | Call::Rollback => {
                self.make_on_the_archive(call)?;
            }
            _ => self.make_on_names(call)?,
        }
        Ok(())
    }

    fn make_on_the_archive(&self, call: &Call) -> Result<(), Error> {
        match *call {
            Call::Delete(stream) => {
                self.archive.delete_stream(self.stream(stream))?;
            }
            Call::Unregister(stream) => {
                self.archive.registry().unregister(self.stream(stream))?;
            }
            Call::Commit => self.archive.commit()?,
            Call::Rollback => self.archive.rollback()?,
            _ => {}
        }
        Ok(())
    }

    fn make_on_names(&mut self, call: &Call) -> Result<(), Error> {
        let names = self.archive.names();
        match *call {
            Call::AddFile { directory, name, stream } => {
                let stream = stream.map(|stream| self.stream(stream));
                let (directory, name) = (self.inode(directory), byte_name(name));
                let inode = names.add_file(directory, &name, ATTRIBUTES, stream)?;
                self.inodes.push(inode);
            }
            Call::Replace { inode, stream } => {
                let stream = stream.map(|stream| self.stream(stream));
                names.replace_content(self.inode(inode), stream, ATTRIBUTES)?;
            }
            Call::AddDirectory { directory, name } => {
                let (directory, name) = (self.inode(directory), byte_name(name));
                self.inodes.push(names.make_directory(directory, &name, ATTRIBUTES)?);
            }
            Call::AddSymlink { directory, name, length } => {
                let (directory, name) = (self.inode(directory), byte_name(name));
                let inode = names.add_symlink(directory, &name, ATTRIBUTES, &vec![b't'; length])?;
                self.inodes.push(inode);
                self.streams.extend(names.inode(inode)?.and_then(|inode| inode.stream));
            }
            Call::AddLink { directory, name, inode } => {
                names.add_link(self.inode(directory), &byte_name(name), self.inode(inode))?;
            }
            Call::Remove { directory, name } => {
                names.remove(self.inode(directory), &byte_name(name))?;
            }
            Call::Rename { from, to, replace } => {
                let from_name = byte_name(from.1);
                let to_name = byte_name(to.1);
                let from = (self.inode(from.0), &from_name[..]);
                names.rename(from, (self.inode(to.0), &to_name[..]), replace)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks the open transaction and the last commit: each file has the length of its stream, and
    /// the stream refers back to it.
    fn check_sizes(&self) {
        let (names, registry) = (self.archive.names(), self.archive.registry());
        for &number in &self.inodes {
            let Some(inode) = names.inode(number).unwrap() else { continue };
            let Some(stream) = inode.stream else { continue };
            let stored = registry.search(stream).unwrap().expect("the stream of an inode");
            assert_eq!(stored.record.length, inode.size, "inode {}", number.0);
            assert_eq!(stored.inode.map(std::num::NonZeroU64::get), Some(number.0));
        }
    }

    fn check_verifies(&self) {
        let mut findings = Vec::new();
        let mut report =
            |finding: ar7_registry::verify::Finding| findings.push(finding.to_string());
        self.archive.verify(&mut report, &mut |_| {}).unwrap();
        assert_eq!(findings, Vec::<String>::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn after_any_sequence_of_public_calls_the_archive_verifies_clean(
        calls in prop::collection::vec(call(), 1..80),
    ) {
        let mut session = Session::new();
        for call in &calls {
            // A call may be refused, but must not fail for any other reason.
            if let Err(Error::Engine(error)) = session.make(call) {
                prop_assert!(
                    matches!(error, ar7_engine::Error::OutOfBounds { .. }),
                    "{:?}: {}", call, error
                );
            }
            session.check_sizes();
            if matches!(call, Call::Commit) {
                session.check_verifies();
            }
        }
        session.archive.commit().unwrap();
        session.check_verifies();
    }
}

#[test]
fn a_stream_is_the_content_of_one_file() {
    let session = Session::new();
    let (archive, names) = (&session.archive, session.archive.names());
    let mut stream = archive.new_stream().unwrap();
    stream.append(b"one").unwrap();
    let identity = stream.identity();
    let file = names.add_file(ROOT, b"log", ATTRIBUTES, Some(identity)).unwrap();
    let other = names.add_file(ROOT, b"other", ATTRIBUTES, None).unwrap();
    stream.append(b" and two").unwrap();
    assert_eq!(names.inode(file).unwrap().unwrap().size, 11);
    stream.close().unwrap();
    let is_named = |outcome: Result<(), Error>| {
        let expected = (identity, file.0);
        let Err(Error::StreamIsNamed { stream, inode }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((stream, inode), expected);
    };
    is_named(names.add_file(ROOT, b"again", ATTRIBUTES, Some(identity)).map(drop));
    is_named(names.replace_content(other, Some(identity), ATTRIBUTES));
    is_named(archive.delete_stream(identity).map(drop));
    archive.commit().unwrap();
    archive.open_stream(identity).unwrap().append(b", and three").unwrap();
    archive.commit().unwrap();
    assert_eq!(names.inode(file).unwrap().unwrap().size, 22);
    session.check_verifies();
    names.remove(ROOT, b"log").unwrap();
    archive.commit().unwrap();
    assert!(!archive.delete_stream(identity).unwrap());
    session.check_verifies();
}

#[test]
fn the_target_of_a_symbolic_link_cannot_be_written() {
    let session = Session::new();
    let names = session.archive.names();
    let link = names.add_symlink(ROOT, b"link", ATTRIBUTES, &[b't'; 600]).unwrap();
    session.archive.commit().unwrap();
    let target = names.inode(link).unwrap().unwrap().stream.expect("a long target");
    let opened = session.archive.open_stream(target).map(drop);
    assert!(matches!(opened, Err(Error::StreamIsNamed { inode, .. }) if inode == link.0));
    let open = StreamFile::open(&session.archive, target, Mode::parse("w").unwrap()).map(drop);
    assert!(matches!(open, Err(Error::StreamIsNamed { .. })));
}
