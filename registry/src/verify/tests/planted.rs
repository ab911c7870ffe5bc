//! Contradictory records, sealed and committed by a faulty program or by an attacker with the key:
//! each is found and reported. There is one row per fault.

use std::num::NonZeroU64;

use ar7_engine::format::{BlockIndex, Generation, Run, StoredStream, StreamLayout};
use ar7_engine::store::Urgency;

use super::*;
use crate::archive::State;
use crate::names::INODE_COUNTER;
use crate::records::{
    EntryType, Extended, Extent, ExtentKey, Extents, Free, Inode, Inodes, NameKey, NameRecords,
    NameValue, PendingDeletions, ReadRecords, Record, Streams, reserved_identity,
};

/// Inodes of the sample.
const FILE0: InodeNumber = InodeNumber(2);
const FILE1: InodeNumber = InodeNumber(3);
const FILE5: InodeNumber = InodeNumber(7);
const LOG: InodeNumber = InodeNumber(8);

/// A number that no inode has.
const NONE: InodeNumber = InodeNumber(1000);

struct Row {
    fault: &'static str,
    plant: fn(&mut State),
    check: Check,
    is_subject: fn(&Subject) -> bool,
}

fn name(
    state: &mut State,
    directory: InodeNumber,
    name: &[u8],
    inode: InodeNumber,
    kind: EntryType,
) {
    let key = NameKey { directory, name: name.to_vec() };
    put::<NameRecords>(state, &key, &NameValue { inode, kind });
}

fn put<R: Record>(state: &mut State, key: &R::Key, value: &R::Value) {
    state.trees.put::<R>(key, value).unwrap();
}

fn get<R: Record>(state: &State, key: &R::Key) -> R::Value {
    state.trees.get::<R>(key).unwrap().expect("the record exists")
}

fn alter(state: &mut State, number: InodeNumber, change: impl FnOnce(&mut Inode)) {
    let mut inode = get::<Inodes>(state, &number);
    change(&mut inode);
    put::<Inodes>(state, &number, &inode);
}

fn stream_of(state: &State, number: InodeNumber) -> StoredStream {
    let stream = get::<Inodes>(state, &number).stream.unwrap();
    get::<Streams>(state, &stream)
}

/// Makes a directory with inode number `at`, below the root but without a name.
fn directory(state: &mut State, at: u64) -> InodeNumber {
    directory_in(state, at, ROOT)
}

/// Makes a directory with inode number `at` and this parent, but without a name.
fn directory_in(state: &mut State, at: u64, parent: InodeNumber) -> InodeNumber {
    let root = get::<Inodes>(state, &ROOT);
    let inode = Inode { links: 1, parent: Some(parent), ..root };
    put::<Inodes>(state, &InodeNumber(at), &inode);
    let last = state.trees.counter_mut(INODE_COUNTER);
    *last = at.max(*last);
    InodeNumber(at)
}

fn first_extent(state: &State) -> (ExtentKey, Extent) {
    let stream = stream_of(state, LOG).record.identity;
    let key = ExtentKey { stream, first: BlockIndex(0) };
    state.trees.ceiling::<Extents>(&key).unwrap().unwrap()
}

fn second_extent(state: &State) -> (ExtentKey, Extent) {
    let (mut key, _) = first_extent(state);
    key.first = BlockIndex(key.first.get() + 1);
    state.trees.ceiling::<Extents>(&key).unwrap().unwrap()
}

fn run_of_one(state: &State) -> Run {
    Run::single(stream_of(state, FILE0).record.begin.unwrap())
}

const NAMES: &[Row] = &[
    Row {
        fault: "a name whose inode is missing",
        plant: |state| name(state, ROOT, b"x", NONE, EntryType::File),
        check: Check::Name,
        is_subject: |subject| matches!(subject, Subject::Name { directory: 1, name } if name == b"x"),
    },
    Row {
        fault: "a name that no entry may have",
        plant: |state| name(state, ROOT, b"a/b", FILE0, EntryType::File),
        check: Check::Name,
        is_subject: |subject| matches!(subject, Subject::Page { tree: TreeId::Names, .. }),
    },
    Row {
        fault: "a name in a missing directory",
        plant: |state| name(state, NONE, b"x", FILE0, EntryType::File),
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(1000),
    },
    Row {
        fault: "a name in a file",
        plant: |state| name(state, FILE1, b"x", FILE0, EntryType::File),
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE1.0),
    },
    Row {
        fault: "a name with another type than its inode",
        plant: |state| name(state, ROOT, b"file0", FILE0, EntryType::Symlink),
        check: Check::Name,
        is_subject: |subject| matches!(subject, Subject::Name { name, .. } if name == b"file0"),
    },
    Row {
        fault: "more names than the inode counts",
        plant: |state| name(state, ROOT, b"x", FILE0, EntryType::File),
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "fewer names than the inode counts",
        plant: |state| alter(state, FILE0, |inode| inode.links = 2),
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "an inode without a name",
        plant: |state| {
            directory(state, 50);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(50),
    },
    Row {
        fault: "a directory with two names",
        plant: |state| {
            let directory = directory(state, 50);
            name(state, ROOT, b"x", directory, EntryType::Directory);
            name(state, ROOT, b"y", directory, EntryType::Directory);
            alter(state, directory, |inode| inode.links = 2);
        },
        check: Check::Name,
        is_subject: |subject| matches!(subject, Subject::Name { name, .. } if name == b"y"),
    },
    Row {
        fault: "a name of the root",
        plant: |state| name(state, ROOT, b"x", ROOT, EntryType::Directory),
        check: Check::Name,
        is_subject: |subject| matches!(subject, Subject::Name { name, .. } if name == b"x"),
    },
    Row {
        fault: "a cycle of directories",
        plant: |state| {
            let one = directory_in(state, 50, InodeNumber(51));
            let two = directory_in(state, 51, one);
            name(state, one, b"x", two, EntryType::Directory);
            name(state, two, b"y", one, EntryType::Directory);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(50),
    },
    Row {
        fault: "a directory below a cycle",
        plant: |state| {
            let one = directory_in(state, 60, InodeNumber(61));
            let two = directory_in(state, 61, one);
            let below = directory_in(state, 50, one);
            name(state, one, b"x", two, EntryType::Directory);
            name(state, two, b"y", one, EntryType::Directory);
            name(state, one, b"z", below, EntryType::Directory);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(50),
    },
    Row {
        fault: "a directory in another one than its parent",
        plant: |state| {
            let (one, two) = (directory(state, 50), directory(state, 51));
            name(state, ROOT, b"x", one, EntryType::Directory);
            name(state, one, b"y", two, EntryType::Directory);
        },
        check: Check::Name,
        is_subject: |subject| matches!(subject, Subject::Name { directory: 50, name } if name == b"y"),
    },
    Row {
        fault: "a directory whose parent is missing",
        plant: |state| {
            let directory = directory_in(state, 50, NONE);
            name(state, NONE, b"x", directory, EntryType::Directory);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(50),
    },
    Row {
        fault: "a directory whose parent is a file",
        plant: |state| {
            let directory = directory_in(state, 50, FILE0);
            name(state, FILE0, b"x", directory, EntryType::Directory);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(50),
    },
    Row {
        fault: "an inode counter that is too low",
        plant: |state| *state.trees.counter_mut(INODE_COUNTER) = LOG.0 - 1,
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Tree(TreeId::Inodes),
    },
];

const CONTENT: &[Row] = &[
    Row {
        fault: "two files with one stream",
        plant: |state| {
            let before = get::<Inodes>(state, &FILE1);
            alter(state, FILE0, |inode| {
                (inode.stream, inode.size) = (before.stream, before.size);
            });
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "a stream whose inode refers to another stream, visited first",
        plant: |state| {
            let mut stored = stream_of(state, FILE0);
            stored.record.identity = Uuid::from_u128(500);
            (stored.record.length, stored.record.count) = (0, 0);
            (stored.record.begin, stored.record.end) = (None, None);
            stored.layout = StreamLayout::OneRun(Generation::default());
            put::<Streams>(state, &stored.record.identity.clone(), &stored);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "a stream whose inode refers to another stream, visited last",
        plant: |state| {
            let mut stored = stream_of(state, FILE0);
            stored.record.identity = Uuid::max();
            (stored.record.length, stored.record.count) = (0, 0);
            (stored.record.begin, stored.record.end) = (None, None);
            stored.layout = StreamLayout::OneRun(Generation::default());
            put::<Streams>(state, &stored.record.identity.clone(), &stored);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Stream(Uuid::max()),
    },
    Row {
        fault: "a stream whose inode is missing",
        plant: |state| {
            let identity = Uuid::from_u128(500);
            let inode = NonZeroU64::new(NONE.0);
            let stored = StoredStream { inode, ..StoredStream::empty(identity) };
            put::<Streams>(state, &identity, &stored);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Stream(Uuid::from_u128(500)),
    },
    Row {
        fault: "a file whose stream refers to no inode",
        plant: |state| {
            let stored = StoredStream { inode: None, ..stream_of(state, FILE0) };
            put::<Streams>(state, &stored.record.identity.clone(), &stored);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "a file whose stream is missing",
        plant: |state| alter(state, FILE0, |inode| inode.stream = Some(Uuid::from_u128(500))),
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "a file with a reserved stream",
        plant: |state| {
            alter(state, FILE0, |inode| {
                (inode.stream, inode.size) = (Some(reserved_identity(5)), 0);
            });
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "a file with another length than its stream",
        plant: |state| alter(state, FILE0, |inode| inode.size += 1),
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "a file with a length and no stream",
        plant: |state| alter(state, FILE0, |inode| inode.stream = None),
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "a link with another length than its target",
        plant: |state| {
            let link = directory(state, 50);
            name(state, ROOT, b"x", link, EntryType::Symlink);
            alter(state, link, |inode| {
                (inode.kind, inode.target) = (EntryType::Symlink, Some(b"target".to_vec()));
                (inode.parent, inode.size) = (None, 5);
            });
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(50),
    },
    Row {
        fault: "a fifo with a length",
        plant: |state| {
            let fifo = directory(state, 50);
            name(state, ROOT, b"x", fifo, EntryType::Fifo);
            alter(state, fifo, |inode| {
                (inode.kind, inode.parent, inode.size) = (EntryType::Fifo, None, 5);
            });
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(50),
    },
];

/// Makes the content of `FILE1` a stream of extended attributes of the inode `owner`, with this
/// length.
fn give_attributes(state: &mut State, owner: InodeNumber, length: u64) -> Uuid {
    let mut stored = stream_of(state, FILE1);
    let stream = stored.record.identity;
    stored.inode = NonZeroU64::new(owner.0);
    stored.record.length = length;
    put::<Streams>(state, &stream, &stored);
    alter(state, FILE1, |inode| (inode.stream, inode.size) = (None, 0));
    stream
}

const EXTENDED: &[Row] = &[
    Row {
        fault: "extended attributes whose stream is missing",
        plant: |state| {
            let extended = Extended::Stream(Uuid::from_u128(500));
            alter(state, FILE0, |inode| inode.extended = extended);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "extended attributes in a reserved stream",
        plant: |state| {
            let extended = Extended::Stream(reserved_identity(5));
            alter(state, FILE0, |inode| inode.extended = extended);
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "extended attributes in the content of another file",
        plant: |state| {
            let stream = stream_of(state, FILE1).record.identity;
            alter(state, FILE0, |inode| inode.extended = Extended::Stream(stream));
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "two inodes with one stream of extended attributes",
        plant: |state| {
            let stream = give_attributes(state, FILE0, 10_000);
            for number in [FILE0, FILE5] {
                alter(state, number, |inode| inode.extended = Extended::Stream(stream));
            }
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE5.0),
    },
    Row {
        fault: "extended attributes that cannot be decoded",
        plant: |state| {
            let stream = give_attributes(state, FILE0, 10_000);
            alter(state, FILE0, |inode| inode.extended = Extended::Stream(stream));
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "extended attributes in an empty stream",
        plant: |state| {
            let stream = give_attributes(state, FILE0, 0);
            alter(state, FILE0, |inode| inode.extended = Extended::Stream(stream));
        },
        check: Check::Name,
        is_subject: |subject| *subject == Subject::Inode(FILE0.0),
    },
    Row {
        fault: "a second stream that refers to an inode with content",
        plant: |state| {
            give_attributes(state, FILE0, 10_000);
        },
        check: Check::Name,
        is_subject: |subject| matches!(subject, Subject::Stream(_) | Subject::Inode(2)),
    },
];

const STREAMS: &[Row] = &[
    Row {
        fault: "an extent whose stream is missing",
        plant: |state| {
            let extent = Extent { run: run_of_one(state), generation: Generation::default() };
            let key = ExtentKey { stream: Uuid::from_u128(500), first: BlockIndex(0) };
            put::<Extents>(state, &key, &extent);
        },
        check: Check::Extents,
        is_subject: |subject| *subject == Subject::Stream(Uuid::from_u128(500)),
    },
    Row {
        fault: "an extent of a stream of one run",
        plant: |state| {
            let StoredStream { record, layout, .. } = stream_of(state, FILE0);
            let StreamLayout::OneRun(generation) = layout else { panic!("{layout:?}") };
            let key = ExtentKey { stream: record.identity, first: BlockIndex(0) };
            let run = Run::new(record.begin.unwrap(), record.count).unwrap();
            put::<Extents>(state, &key, &Extent { run, generation });
        },
        check: Check::Extents,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
    Row {
        fault: "an extent beyond the end",
        plant: |state| {
            let (key, extent) = first_extent(state);
            let first = BlockIndex(stream_of(state, LOG).record.count);
            put::<Extents>(state, &ExtentKey { first, ..key }, &extent);
        },
        check: Check::Extents,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
    Row {
        fault: "a gap between extents",
        plant: |state| {
            let (key, _) = second_extent(state);
            state.trees.remove::<Extents>(&key).unwrap();
        },
        check: Check::Extents,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
    Row {
        fault: "overlapping extents",
        plant: |state| {
            let (key, extent) = first_extent(state);
            let run = extent.run.split(2).1.unwrap();
            let first = BlockIndex(2);
            put::<Extents>(state, &ExtentKey { first, ..key }, &Extent { run, ..extent });
        },
        check: Check::Extents,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
    Row {
        fault: "a stream without its extents",
        plant: |state| {
            let stream = stream_of(state, LOG).record.identity;
            let from = ExtentKey { stream, first: BlockIndex(0) };
            while let Some((key, _)) = state.trees.ceiling::<Extents>(&from).unwrap() {
                state.trees.remove::<Extents>(&key).unwrap();
            }
        },
        check: Check::Extents,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
    Row {
        fault: "a record with another last position than the extents",
        plant: |state| {
            let mut stored = stream_of(state, LOG);
            let end = stored.record.end.unwrap().get();
            stored.record.end = Some(Position::at(end - 1));
            put::<Streams>(state, &stored.record.identity.clone(), &stored);
        },
        check: Check::Record,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
    Row {
        fault: "a record with another first position than the extents",
        plant: |state| {
            let mut stored = stream_of(state, LOG);
            let begin = stored.record.begin.unwrap().get();
            stored.record.begin = Some(Position::at(begin + 1));
            put::<Streams>(state, &stored.record.identity.clone(), &stored);
        },
        check: Check::Record,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
    Row {
        fault: "a stream with the identity of a reserved one",
        plant: |state| {
            let identity = reserved_identity(6);
            put::<Streams>(state, &identity, &StoredStream::empty(identity));
        },
        check: Check::Record,
        is_subject: |subject| *subject == Subject::Stream(reserved_identity(6)),
    },
    Row {
        fault: "a stream with another stream's blocks",
        plant: |state| {
            let (mut stored, other) = (stream_of(state, FILE0), stream_of(state, FILE1));
            (stored.record.begin, stored.record.end) = (other.record.begin, other.record.end);
            stored.layout = other.layout;
            put::<Streams>(state, &stored.record.identity.clone(), &stored);
        },
        check: Check::FreeMap,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
    Row {
        fault: "a run that exceeds the archive",
        plant: |state| {
            let mut stored = stream_of(state, FILE0);
            let begin = stored.record.begin.unwrap();
            stored.record.count = 2_000_000_000;
            stored.record.end = begin.checked_add(stored.record.count - 1);
            put::<Streams>(state, &stored.record.identity.clone(), &stored);
        },
        check: Check::FreeMap,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
    Row {
        fault: "a run that is one block too short",
        plant: |state| {
            let mut stored = stream_of(state, FILE0);
            stored.record.count -= 1;
            stored.record.length = 5000;
            stored.record.end = stored.record.end.map(|end| Position::at(end.get() - 1));
            put::<Streams>(state, &stored.record.identity.clone(), &stored);
        },
        check: Check::NextLink,
        is_subject: |subject| matches!(subject, Subject::Block { index: 1, .. }),
    },
    Row {
        fault: "a live stream that is also a pending deletion",
        plant: |state| {
            let stored = stream_of(state, LOG);
            put::<PendingDeletions>(state, &stored.record.identity.clone(), &stored);
        },
        check: Check::Extents,
        is_subject: |subject| matches!(subject, Subject::Stream(_)),
    },
];

const SPACE: &[Row] = &[
    Row {
        fault: "a block that is both used and free",
        plant: |state| {
            // The highest free run, because the commit takes the lowest ones for its pages.
            let last = stream_of(state, FILE5).record.end.unwrap();
            put::<Free>(state, &last, &Run::single(last));
        },
        check: Check::FreeMap,
        is_subject: |subject| matches!(subject, Subject::Blocks(_)),
    },
    Row {
        fault: "a block that is neither used nor free",
        plant: |state| {
            state.trees.allocate(1, Urgency::Ordinary).unwrap();
        },
        check: Check::FreeMap,
        is_subject: |subject| matches!(subject, Subject::Blocks(_)),
    },
];

/// Plants the fault in the sample, commits, and returns the findings of verification.
fn findings_after(plant: fn(&mut State)) -> Vec<Finding> {
    let device = sample();
    let archive = open(&device, Access::Write).unwrap();
    plant(archive.state().unwrap().writing().unwrap());
    archive.commit().unwrap();
    drop(archive);
    verify(&device).unwrap().1
}

#[test]
fn contradictory_records_are_found() {
    for row in [NAMES, CONTENT, EXTENDED, STREAMS, SPACE].into_iter().flatten() {
        let findings = findings_after(row.plant);
        let is_named = findings.iter().any(|finding| {
            let check = match &finding.error {
                Error::Engine(EngineError::Damaged(fault) | EngineError::Tampered(fault)) => {
                    Some(fault.check)
                }
                _ => None,
            };
            check == Some(row.check) && (row.is_subject)(&finding.subject)
        });
        let shown: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(is_named, "{}: {shown:#?}", row.fault);
        assert!(shown.len() < 16, "{}: {shown:#?}", row.fault);
    }
}

#[test]
fn without_a_planted_fault_there_is_no_finding() {
    let findings = findings_after(|_| {});
    assert!(findings.is_empty(), "{findings:?}");
}

/// The blocks on both sides of the gap refer to blocks that no extent names. That is not their fault.
#[test]
fn a_missing_extent_is_no_finding_about_the_blocks_around_it() {
    let findings = findings_after(|state| {
        let (key, _) = second_extent(state);
        state.trees.remove::<Extents>(&key).unwrap();
    });
    let shown: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(!findings.is_empty());
    let is_of_block = |finding: &Finding| matches!(finding.subject, Subject::Block { .. });
    assert!(!findings.iter().any(is_of_block), "{shown:#?}");
}

/// Each block is opened once, even if many streams claim it.
#[test]
fn the_work_of_verification_does_not_grow_with_the_claims_of_records() {
    let device = sample();
    let archive = open(&device, Access::Write).unwrap();
    {
        let mut state = archive.state().unwrap();
        let state = state.writing().unwrap();
        let stored = stream_of(state, FILE0);
        for number in 100..1100 {
            let mut claim = stored.clone();
            claim.record.identity = Uuid::from_u128(number);
            put::<Streams>(state, &claim.record.identity.clone(), &claim);
        }
    }
    archive.commit().unwrap();
    drop(archive);
    let (summary, findings) = verify(&device).unwrap();
    assert!(summary.data_blocks < summary.blocks, "{summary:?}");
    assert!(findings.len() >= 1000);
}
