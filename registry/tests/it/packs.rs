//! Packed content: any sequence of changes leaves the content of every file as it was written, no block lost, and no
//! pack that nobody needs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use ar7_engine::device::MemoryDevice;
use ar7_engine::format::ArchiveKind;
use ar7_engine::store::Access;
use ar7_registry::compact::{CompactObserver, CompactProgress};
use ar7_registry::packs::Encoding;
use ar7_registry::records::{InodeNumber, TreeId};
use ar7_registry::{Archive, FileContent, Finding, Mode, Savepoint};
use proptest::prelude::*;

use crate::attributes::ATTRIBUTES;
use crate::common::{assert_verified, create, open};

const ROOT: InodeNumber = InodeNumber::ROOT;

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// One byte, many times.
    Text,
    Noise,
    Hole,
}

#[derive(Debug, Clone, Copy)]
enum Losing {
    Discard,
    Drop,
    /// The root has the name already.
    Refuse,
}

#[derive(Debug, Clone)]
enum Step {
    /// Packs content for a new name, or replaces that of an existing one.
    Put {
        name: u8,
        pieces: Vec<(usize, Kind)>,
    },
    /// Packs content that no file gets, because it is discarded, dropped or refused.
    Lose {
        length: usize,
        how: Losing,
    },
    Remove {
        name: u8,
    },
    /// Gives a file a stream of its own, and changes a byte.
    Change {
        name: u8,
        at: usize,
    },
    /// Writes to a packed file with holes, at an offset or at its end.
    Write {
        name: u8,
        at: Option<u64>,
        length: usize,
        kind: Kind,
    },
    SetLength {
        name: u8,
        length: u64,
    },
    /// Packs a file that has a stream of its own.
    Pack {
        name: u8,
    },
    Link {
        from: u8,
        to: u8,
    },
    ReadUncommitted {
        name: u8,
    },
    Commit,
    Rollback,
    Savepoint,
    Return,
    Reopen,
    Reclaim,
    WipeFree,
    Compact(Encoding),
    /// Copies everything to a new archive, and goes on there.
    Copy(Encoding),
    /// Chooses how new content is compressed.
    SetCompression(u64),
}

fn encoding() -> impl Strategy<Value = Encoding> {
    let fixed = prop_oneof![Just(Encoding::Keep), Just(Encoding::Pack)];
    prop_oneof![fixed, choice().prop_map(Encoding::Choose)]
}

/// A choice of compression: automatic, none, or a level.
fn choice() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(2), Just(10)]
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![
        6 => 0_usize..3000,
        3 => 3000_usize..60_000,
        1 => 100_000_usize..900_000,
    ];
    let kind = prop_oneof![3 => Just(Kind::Text), 3 => Just(Kind::Noise), 1 => Just(Kind::Hole)];
    let pieces = prop::collection::vec((length.clone(), kind.clone()), 1..4);
    let at = || prop_oneof![4 => 0_u64..4000, 2 => 0_u64..100_000, 1 => 0_u64..1_000_000];
    prop_oneof![
        12 => (0_u8..12, pieces).prop_map(|(name, pieces)| Step::Put { name, pieces }),
        2 => (1_usize..300_000, prop_oneof![
            Just(Losing::Discard),
            Just(Losing::Drop),
            Just(Losing::Refuse),
        ]).prop_map(|(length, how)| Step::Lose { length, how }),
        5 => (0_u8..12).prop_map(|name| Step::Remove { name }),
        1 => (0_u8..12, any::<prop::sample::Index>())
            .prop_map(|(name, at)| Step::Change { name, at: at.index(1 << 20) }),
        8 => (0_u8..12, prop::option::weighted(0.8, at()), length, kind)
            .prop_map(|(name, at, length, kind)| Step::Write { name, at, length, kind }),
        3 => (0_u8..12, at()).prop_map(|(name, length)| Step::SetLength { name, length }),
        1 => (0_u8..12).prop_map(|name| Step::Pack { name }),
        1 => (0_u8..12, 0_u8..12).prop_map(|(from, to)| Step::Link { from, to }),
        2 => (0_u8..12).prop_map(|name| Step::ReadUncommitted { name }),
        4 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        1 => Just(Step::Savepoint),
        1 => Just(Step::Return),
        1 => Just(Step::Reopen),
        1 => Just(Step::Reclaim),
        1 => Just(Step::WipeFree),
        1 => encoding().prop_map(Step::Compact),
        1 => encoding().prop_map(Step::Copy),
        1 => choice().prop_map(Step::SetCompression),
    ]
}

/// The content of each name. Names of one file share a number.
#[derive(Debug, Clone, Default)]
struct Model {
    names: BTreeMap<u8, usize>,
    files: BTreeMap<usize, Vec<u8>>,
    next: usize,
}

impl Model {
    fn remove(&mut self, name: u8) {
        let Some(file) = self.names.remove(&name) else { return };
        if !self.names.values().any(|other| *other == file) {
            self.files.remove(&file);
        }
    }
}

struct Undisturbed;

impl CompactObserver for Undisturbed {
    fn damaged(&mut self, finding: Finding) {
        panic!("{finding}");
    }

    fn progress(&mut self, _: CompactProgress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

struct Run {
    device: MemoryDevice,
    archive: Archive,
    now: Model,
    committed: Model,
    savepoint: Option<(Savepoint, Model)>,
    seed: u64,
}

impl Run {
    fn new() -> Run {
        let (device, archive) = create(ArchiveKind::Dynamic, 0);
        let (now, committed) = (Model::default(), Model::default());
        Run { device, archive, now, committed, savepoint: None, seed: 1 }
    }

    /// Returns bytes that repeat, or do not.
    fn bytes(&mut self, length: usize, kind: Kind) -> Vec<u8> {
        self.seed += 1;
        let mut state = self.seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        let first = next();
        match kind {
            Kind::Text => vec![first; length],
            Kind::Noise => (0..length).map(|_| next()).collect(),
            Kind::Hole => vec![0; length],
        }
    }

    fn inode(&self, name: u8) -> Option<InodeNumber> {
        self.archive.names().lookup(ROOT, &[b'a' + name]).unwrap().map(|entry| entry.inode)
    }

    fn put(&mut self, name: u8, pieces: &[(usize, Kind)]) {
        let existing = self.inode(name);
        let archive = self.archive.clone();
        let names = archive.names();
        let mut packed = names.begin_packed(existing).unwrap();
        let mut whole = Vec::new();
        for &(length, kind) in pieces {
            let bytes = self.bytes(length, kind);
            match kind {
                Kind::Hole => names.append_hole(&mut packed, length as u64).unwrap(),
                _ => names.append_packed(&mut packed, &bytes).unwrap(),
            }
            whole.extend(bytes);
        }
        assert_eq!(packed.len(), whole.len() as u64);
        if let Some(file) = self.now.names.get(&name) {
            names.replace_with_packed(packed, ATTRIBUTES).unwrap();
            self.now.files.insert(*file, whole);
        } else {
            names.add_packed(ROOT, &[b'a' + name], ATTRIBUTES, packed).unwrap();
            self.now.next += 1;
            self.now.names.insert(name, self.now.next);
            self.now.files.insert(self.now.next, whole);
        }
    }

    fn step(&mut self, step: &Step) {
        let archive = self.archive.clone();
        let names = archive.names();
        match step {
            Step::Put { name, pieces } => self.put(*name, pieces),
            Step::Lose { length, how } => self.lose(*length, *how),
            Step::Remove { name } => {
                if self.now.names.contains_key(name) {
                    names.remove(ROOT, &[b'a' + name]).unwrap();
                    self.now.remove(*name);
                }
            }
            Step::Change { name, at } => self.change(*name, *at),
            Step::Write { name, at, length, kind } => self.write(*name, *at, *length, *kind),
            Step::SetLength { name, length } => self.set_length(*name, *length),
            Step::Pack { name } => self.pack(*name),
            Step::Link { from, to } => {
                if let Some(&file) = self.now.names.get(from)
                    && !self.now.names.contains_key(to)
                {
                    names.add_link(ROOT, &[b'a' + to], self.inode(*from).unwrap()).unwrap();
                    self.now.names.insert(*to, file);
                }
            }
            Step::ReadUncommitted { name } => self.read_uncommitted(*name),
            Step::Commit => {
                archive.commit().unwrap();
                self.was_committed();
            }
            Step::Rollback => {
                archive.rollback().unwrap();
                self.now = self.committed.clone();
                self.savepoint = None;
            }
            Step::Savepoint => {
                self.savepoint = Some((archive.savepoint().unwrap(), self.now.clone()));
            }
            Step::Return => {
                if let Some((point, model)) = &self.savepoint {
                    archive.roll_back_to(point).unwrap();
                    self.now = model.clone();
                }
            }
            Step::Reopen => self.reopen(),
            Step::Reclaim => {
                archive.reclaim().unwrap();
                self.was_committed();
                let found = archive.statistics().unwrap();
                assert!(found.dead_bytes * 4 <= found.packed_bytes, "{found:?}");
            }
            Step::WipeFree => {
                archive.wipe_free(&mut |_| {}).unwrap();
                self.was_committed();
                assert_eq!(archive.statistics().unwrap().dead_bytes, 0);
            }
            Step::Compact(encoding) => self.compact(*encoding),
            Step::Copy(encoding) => self.copy(*encoding),
            Step::SetCompression(choice) => archive.set_compression(*choice).unwrap(),
        }
    }

    fn lose(&mut self, length: usize, how: Losing) {
        let bytes = self.bytes(length, Kind::Noise);
        let archive = self.archive.clone();
        let names = archive.names();
        let mut packed = names.begin_packed(None).unwrap();
        names.append_packed(&mut packed, &bytes).unwrap();
        match (how, self.now.names.keys().next()) {
            (Losing::Discard, _) => names.discard_packed(packed).unwrap(),
            (Losing::Refuse, Some(taken)) => {
                names.add_packed(ROOT, &[b'a' + taken], ATTRIBUTES, packed).unwrap_err();
            }
            (Losing::Drop | Losing::Refuse, _) => drop(packed),
        }
    }

    fn pack(&self, name: u8) {
        let names = self.archive.names();
        let Some(number) = self.inode(name) else { return };
        let had_stream = names.inode(number).unwrap().unwrap().stream.is_some();
        assert_eq!(names.pack(number).unwrap(), had_stream);
        assert!(names.inode(number).unwrap().unwrap().stream.is_none());
    }

    fn compact(&mut self, encoding: Encoding) {
        self.archive.commit().unwrap();
        self.archive.compact_as(encoding, Duration::ZERO, &mut Undisturbed).unwrap();
        self.was_committed();
    }

    fn copy(&mut self, encoding: Encoding) {
        self.archive.commit().unwrap();
        let (device, new) = create(ArchiveKind::Dynamic, 0);
        self.archive.copy_as(encoding, &new, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(new.statistics().unwrap().dead_bytes, 0);
        (self.device, self.archive) = (device, new);
        self.was_committed();
    }

    fn was_committed(&mut self) {
        self.committed = self.now.clone();
        self.savepoint = None;
        self.check();
    }

    fn change(&mut self, name: u8, at: usize) {
        let Some(file) = self.now.names.get(&name) else { return };
        let Some(stream) = self.archive.names().unpack(self.inode(name).unwrap()).unwrap() else {
            return;
        };
        let bytes = self.now.files.get_mut(file).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1;
        let mode = Mode::parse("r+").unwrap();
        let mut stream = self.archive.open_stream_in(stream, mode).unwrap();
        stream.write_at(at as u64, &bytes[at..=at]).unwrap();
        stream.close().unwrap();
    }

    fn write(&mut self, name: u8, at: Option<u64>, length: usize, kind: Kind) {
        let Some(number) = self.inode(name) else { return };
        let bytes = self.bytes(length, kind);
        if self.archive.names().write_packed(number, at, &bytes).unwrap() {
            let content = self.now.files.get_mut(&self.now.names[&name]).unwrap();
            let at = at.map_or(content.len(), |at| usize::try_from(at).unwrap());
            let end = at + bytes.len();
            content.resize(content.len().max(end), 0);
            content[at..end].copy_from_slice(&bytes);
            self.read_uncommitted(name);
        }
    }

    fn set_length(&mut self, name: u8, length: u64) {
        let Some(number) = self.inode(name) else { return };
        if self.archive.names().set_packed_len(number, length).unwrap() {
            let content = self.now.files.get_mut(&self.now.names[&name]).unwrap();
            content.resize(usize::try_from(length).unwrap(), 0);
            assert_eq!(self.archive.names().inode(number).unwrap().unwrap().size, length);
            self.read_uncommitted(name);
        }
    }

    fn read_uncommitted(&self, name: u8) {
        let Some(file) = self.now.names.get(&name) else { return };
        let (expected, number) = (&self.now.files[file], self.inode(name).unwrap());
        if self.archive.names().inode(number).unwrap().unwrap().slice.is_some() {
            let mut found = vec![0; expected.len() + 1];
            let read = self.archive.names().read_packed(number, 0, &mut found).unwrap();
            assert!(found[..read] == expected[..], "{read} of {} bytes", expected.len());
        }
    }

    /// Ends the process, and begins another one.
    fn reopen(&mut self) {
        self.savepoint = None;
        let closed = std::mem::replace(&mut self.archive, Run::new().archive);
        drop(closed);
        self.archive = open(&self.device, Access::Write);
        self.now = self.committed.clone();
        self.check();
    }

    /// Checks the last commit.
    fn check(&self) {
        assert_verified(&self.archive);
        let snapshot = self.archive.snapshot();
        let found = snapshot.list(ROOT, None, 100).unwrap();
        assert_eq!(found.len(), self.committed.names.len());
        for entry in found {
            let expected = &self.committed.files[&self.committed.names[&(entry.name[0] - b'a')]];
            let inode = snapshot.inode(entry.inode).unwrap().unwrap();
            assert_eq!(inode.size, expected.len() as u64);
            let Some(content) = snapshot.read_file(&inode).unwrap() else { continue };
            let mut bytes = vec![0; expected.len()];
            assert_eq!(content.read_at(0, &mut bytes).unwrap(), bytes.len());
            assert!(bytes == *expected, "other bytes");
            let middle = bytes.len() / 2;
            let mut part = [0; 100];
            let read = content.read_at(middle as u64, &mut part).unwrap();
            assert!(part[..read] == expected[middle..middle + read], "other bytes in the middle");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_changes_leave_the_content_as_it_was_written(steps in prop::collection::vec(step(), 1..40)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.step(&Step::Commit);
        for name in 0..12 {
            run.step(&Step::Remove { name });
        }
        run.archive.reclaim().unwrap();
        run.committed = run.now.clone();
        run.check();
        let roots = &run.archive.snapshot().commit().slot.roots.clone();
        for tree in [TreeId::Frames, TreeId::Packs, TreeId::DeadSlices, TreeId::Streams] {
            prop_assert_eq!(roots[tree.index()].entries, 0, "{:?}", tree);
        }
    }
}

#[test]
fn a_file_with_holes_is_changed_where_it_is_written() {
    let mut run = Run::new();
    let pieces = [(200_000, Kind::Noise), (40 << 20, Kind::Hole), (200_000, Kind::Noise)];
    run.put(0, &pieces);
    run.put(1, &[(200_000, Kind::Noise)]);
    run.step(&Step::Commit);
    let before = run.archive.statistics().unwrap();
    for at in [None, Some(100_000), Some(20 << 20), Some(20 << 20), Some(60 << 20)] {
        run.write(0, at, 5000, Kind::Noise);
    }
    let number = run.inode(1).unwrap();
    assert!(!run.archive.names().write_packed(number, Some(0), b"a").unwrap(), "no hole");
    run.step(&Step::Commit);
    assert_eq!(run.now.files[&1].len(), (60 << 20) + 5000);
    let after = run.archive.statistics().unwrap();
    assert_eq!((before.streams, after.streams), (0, 0));
    let live = |found: &ar7_registry::Statistics| found.packed_bytes - found.dead_bytes;
    assert!(live(&after) < live(&before) + 4 * 6000, "{before:?} {after:?}");
    let number = run.inode(0).unwrap();
    let error = run.archive.names().set_packed_len(number, 1 << 60).unwrap_err();
    assert!(error.to_string().contains("length of a file with holes"), "{error}");
    assert!(run.archive.names().write_packed(number, Some(1 << 60), b"a").is_err());
    // What is refused, or writes nothing, changes nothing: the content stays at its addresses.
    assert!(run.archive.names().write_packed(number, Some(5), b"").unwrap());
    run.read_uncommitted(0);
    let first = |run: &Run| run.archive.names().inode(number).unwrap().unwrap().slice;
    let before = first(&run);
    run.step(&Step::Commit);
    assert_eq!(first(&run), before);
    run.set_length(0, 0);
    run.step(&Step::Commit);
}

#[test]
fn many_changes_of_one_file_are_packed_before_they_take_much_memory() {
    let mut run = Run::new();
    run.put(0, &[(8 << 20, Kind::Hole)]);
    let number = run.inode(0).unwrap();
    let first = |run: &Run| run.archive.names().inode(number).unwrap().unwrap().slice;
    let before = first(&run);
    let content = run.now.files.get_mut(&1).unwrap();
    for at in (0..200_000).step_by(2) {
        assert!(run.archive.names().write_packed(number, Some(at), b"a").unwrap());
        content[usize::try_from(at).unwrap()] = b'a';
    }
    assert_ne!(first(&run), before, "at new addresses");
    run.read_uncommitted(0);
    run.step(&Step::Commit);
}

#[test]
fn small_files_share_frames_and_become_smaller() {
    let mut run = Run::new();
    for name in 0..12 {
        run.put(name, &[(3000, Kind::Text)]);
    }
    run.step(&Step::Commit);
    let statistics = run.archive.statistics().unwrap();
    assert_eq!((statistics.streams, statistics.packs), (0, 1));
    let snapshot = run.archive.snapshot();
    let inode = snapshot.inode(run.inode(3).unwrap()).unwrap().unwrap();
    let content = snapshot.read_file(&inode).unwrap().unwrap();
    assert!(matches!(content, FileContent::Packed(_)));
    assert!(statistics.packed_bytes < 1000, "{statistics:?}");
    assert!(snapshot.streams(None).next().is_none());
}

#[test]
fn a_wipe_notices_the_smallest_deletion() {
    let mut run = Run::new();
    run.put(0, &[(200_000, Kind::Text)]);
    run.put(1, &[(1, Kind::Noise)]);
    run.step(&Step::Commit);
    run.step(&Step::Remove { name: 1 });
    run.step(&Step::Commit);
    assert!(run.archive.statistics().unwrap().dead_bytes > 0);
    let before = run.archive.statistics().unwrap().commit;
    run.step(&Step::WipeFree);
    assert!(run.archive.statistics().unwrap().commit > before, "the frame is moved");
}

/// Where a frame begins a block, what is before it may be shorter than the zeros that a reader looks for.
#[test]
fn a_gap_in_a_pack_has_any_length() {
    for rest in 0..8 {
        let mut run = Run::new();
        run.archive.set_compression(1).unwrap();
        // The head and the table of one slice take 40 bytes.
        run.put(0, &[(2 * 4008 - 40 - rest, Kind::Noise)]);
        // Reading it completes the frame.
        run.read_uncommitted(0);
        run.put(1, &[(100_000, Kind::Noise)]);
        run.step(&Step::Commit);
        run.step(&Step::Remove { name: 0 });
        run.step(&Step::WipeFree);
        run.step(&Step::Reopen);
    }
}

#[test]
fn a_hole_takes_no_space_and_not_too_many_addresses() {
    let run = Run::new();
    let names = run.archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    names.append_packed(&mut packed, b"before").unwrap();
    names.append_hole(&mut packed, 1 << 50).unwrap();
    names.append_packed(&mut packed, b"after").unwrap();
    let number = names.add_packed(ROOT, b"sparse", ATTRIBUTES, packed).unwrap();
    run.archive.commit().unwrap();
    let snapshot = run.archive.snapshot();
    let inode = snapshot.inode(number).unwrap().unwrap();
    assert!(snapshot.stored_bytes(&inode).unwrap() < 300);
    let content = snapshot.read_file(&inode).unwrap().unwrap();
    assert_eq!(content.len(), 6 + (1 << 50) + 5);
    assert_eq!(content.hole_at(0).unwrap(), 0);
    assert_eq!(content.hole_at(6).unwrap(), 1 << 50);
    assert_eq!(content.hole_at(6 + (1 << 49)).unwrap(), 1 << 49);
    assert_eq!(content.hole_at(6 + (1 << 50)).unwrap(), 0);
    let mut bytes = [1; 8];
    assert_eq!(content.read_at(3 + (1 << 50), &mut bytes).unwrap(), 8);
    assert_eq!(&bytes, b"\0\0\0after");
    assert_verified(&run.archive);
    // What would take too many addresses is refused, and changes nothing.
    let mut packed = names.begin_packed(None).unwrap();
    for length in [1 << 54, u64::MAX - 5] {
        assert!(names.append_hole(&mut packed, length).is_err());
    }
    names.remove(ROOT, b"sparse").unwrap();
    run.archive.reclaim().unwrap();
    assert_eq!(run.archive.statistics().unwrap().packs, 0);
    assert_verified(&run.archive);
}
