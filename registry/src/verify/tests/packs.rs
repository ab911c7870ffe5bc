//! Contradictory records of packed content: each is found and reported. There is one row per fault.

use crate::archive::tests::{ATTRIBUTES, create};
use crate::packs::testing::noise;
use crate::records::{
    ADDRESS_COUNTER, DeadSlices, Frame, Frames, Inode, Inodes, LIVE_COUNTER, PACKED_COUNTER, Pack,
    Packs, ReadRecords, Stored,
};
use crate::working::WorkingTrees;

use super::*;

/// The subject that a finding must have.
enum About {
    Frames,
    Packs,
    /// A pack.
    Pack,
}

/// Makes a small file, and a long one of several frames with a hole, of which the last part is in the second pack.
fn sample() -> Archive {
    let (_, archive) = create(ar7_engine::format::ArchiveKind::Dynamic, 0);
    let names = archive.names();
    let add = |name: &[u8], pieces: &[Vec<u8>]| {
        let mut packed = names.begin_packed(None).unwrap();
        for (number, piece) in pieces.iter().enumerate() {
            if number > 0 {
                names.append_hole(&mut packed, 5000).unwrap();
            }
            names.append_packed(&mut packed, piece).unwrap();
        }
        names.add_packed(ROOT, name, ATTRIBUTES, packed).unwrap();
    };
    add(b"small", &[noise(1, 3000)]);
    add(b"other", &[noise(2, 3000)]);
    add(b"long", &[noise(3, 400_000), noise(4, 100)]);
    archive.commit().unwrap();
    archive
}

fn first(trees: &WorkingTrees) -> (u64, Frame) {
    trees.ceiling::<Frames>(&0).unwrap().unwrap()
}

fn pack(trees: &WorkingTrees) -> (Uuid, Pack) {
    trees.ceiling::<Packs>(&Uuid::nil()).unwrap().unwrap()
}

/// Changes the record of the first frame.
fn frame(trees: &mut WorkingTrees, change: impl FnOnce(&mut Frame)) {
    let (at, mut frame) = first(trees);
    change(&mut frame);
    trees.put::<Frames>(&at, &frame).unwrap();
}

/// Changes where the first frame is stored.
fn stored(trees: &mut WorkingTrees, change: impl FnOnce(&mut Stored)) {
    frame(trees, |frame| change(frame.stored.as_mut().unwrap()));
}

/// Changes the inode of the first file.
fn inode(trees: &mut WorkingTrees, change: impl FnOnce(&mut Inode)) {
    let number = InodeNumber(2);
    let mut inode = trees.get::<Inodes>(&number).unwrap().unwrap();
    change(&mut inode);
    trees.put::<Inodes>(&number, &inode).unwrap();
}

type Row = (&'static str, About, fn(&mut WorkingTrees));

const ROWS: &[Row] = &[
    ("frames that overlap", About::Frames, |trees| {
        let (at, _) = first(trees);
        let hole = Frame { length: 5, written: 5, live: 5, stored: None };
        trees.put::<Frames>(&(at + 10), &hole).unwrap();
    }),
    ("a frame of a pack without a record", About::Frames, |trees| {
        stored(trees, |stored| stored.pack = Uuid::from_u128(7));
    }),
    ("content without a frame", About::Frames, |trees| {
        let (at, _) = first(trees);
        trees.remove::<Frames>(&at).unwrap();
    }),
    ("a hole that is not there", About::Frames, |trees| {
        let mut from = 0;
        let hole = std::iter::from_fn(|| {
            let found = trees.ceiling::<Frames>(&from).unwrap()?;
            from = found.0 + 1;
            Some(found)
        });
        let (at, _) = hole.into_iter().find(|(_, frame)| frame.stored.is_none()).unwrap();
        trees.remove::<Frames>(&at).unwrap();
    }),
    ("addresses that are used above the next one", About::Frames, |trees| {
        *trees.counter_mut(ADDRESS_COUNTER) -= 1;
    }),
    ("a file of addresses that no frame counts", About::Frames, |trees| {
        inode(trees, |inode| inode.size += 1);
    }),
    ("a dead slice of addresses that no frame counts", About::Frames, |trees| {
        let end = trees.counters()[ADDRESS_COUNTER];
        *trees.counter_mut(ADDRESS_COUNTER) += 9;
        trees.put::<DeadSlices>(&end, &9).unwrap();
    }),
    ("a file at other addresses than its slice", About::Pack, |trees| {
        inode(trees, |inode| inode.slice = inode.slice.map(|first| first + 1));
    }),
    ("a frame with other live addresses", About::Pack, |trees| {
        frame(trees, |frame| frame.live -= 1);
    }),
    ("a frame that was written with other addresses", About::Pack, |trees| {
        frame(trees, |frame| (frame.written, frame.live) = (frame.written - 1, frame.live - 1));
    }),
    ("a frame at another offset", About::Pack, |trees| stored(trees, |stored| stored.offset += 1)),
    ("a frame of another length", About::Pack, |trees| stored(trees, |stored| stored.length -= 1)),
    ("a frame of another method", About::Pack, |trees| {
        stored(trees, |stored| {
            stored.method = match stored.method {
                crate::packs::Method::Raw => crate::packs::Method::Zstd,
                crate::packs::Method::Zstd => crate::packs::Method::Raw,
            };
        });
    }),
    ("a pack that uses other bytes", About::Pack, |trees| {
        let (identity, pack) = pack(trees);
        let pack = Pack { used: pack.used + 1, ..pack };
        trees.put::<Packs>(&identity, &pack).unwrap();
        *trees.counter_mut(PACKED_COUNTER) += 1;
    }),
    ("a pack with other live bytes", About::Pack, |trees| {
        let (identity, pack) = pack(trees);
        trees.put::<Packs>(&identity, &Pack { live: pack.live - 1, ..pack }).unwrap();
        *trees.counter_mut(LIVE_COUNTER) -= 1;
    }),
    ("a pack without a stream", About::Pack, |trees| {
        trees.put::<Packs>(&Uuid::from_u128(7), &Pack { used: 9, live: 9 }).unwrap();
        *trees.counter_mut(PACKED_COUNTER) += 9;
        *trees.counter_mut(LIVE_COUNTER) += 9;
    }),
    ("the stream of a pack without a record", About::Pack, |trees| {
        let (identity, pack) = pack(trees);
        trees.remove::<Packs>(&identity).unwrap();
        *trees.counter_mut(PACKED_COUNTER) -= u64::from(pack.used);
        *trees.counter_mut(LIVE_COUNTER) -= u64::from(pack.live);
    }),
    ("another sum of the used bytes", About::Packs, |trees| {
        *trees.counter_mut(PACKED_COUNTER) += 1;
    }),
    ("another sum of the live bytes", About::Packs, |trees| {
        *trees.counter_mut(LIVE_COUNTER) -= 1;
    }),
];

#[test]
fn contradictory_records_of_packed_content_are_found() {
    let mut missed = Vec::new();
    for (fault, about, plant) in ROWS {
        let archive = sample();
        plant(&mut archive.state().unwrap().writing().unwrap().trees);
        archive.state().unwrap().writing().unwrap().commit().unwrap();
        let mut findings = Vec::new();
        archive.verify(&mut |finding| findings.push(finding), &mut |_| {}).unwrap();
        let is_it = |finding: &Finding| match about {
            About::Frames => finding.subject == Subject::Tree(TreeId::Frames),
            About::Packs => finding.subject == Subject::Tree(TreeId::Packs),
            About::Pack => matches!(finding.subject, Subject::Stream(_)),
        };
        let shown: Vec<String> = findings.iter().map(Finding::to_string).collect();
        if !findings.iter().any(is_it) || shown.len() > 9 {
            missed.push(format!("{fault}: {shown:?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn without_a_fault_in_packed_content_there_is_no_finding() {
    let mut findings = Vec::new();
    sample().verify(&mut |finding| findings.push(finding), &mut |_| {}).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}
