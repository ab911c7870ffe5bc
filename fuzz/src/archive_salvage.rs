//! A salvage of an archive that an attacker with the key forged, and of which blocks are destroyed. It ends within
//! bounds, the new archive is whole, and the report says what is in it: each byte outside of the listed gaps is from a
//! block of the named stream, at its place.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{
    BLOCK_SIZE, DATA_SIZE, DATA_SIZE_U64, META_SLOTS, Position, RESERVED_BLOCKS, plain,
};
use ar7_engine::store::{OpenOptions, Wreck};
use ar7_registry::records::{EntryType, InodeNumber, TreeId};
use ar7_registry::salvage::{
    Outcome, SalvageObserver, SalvageProgress, SalvageSummary, Salvaged, salvage,
};
use ar7_registry::tree::page_layout;
use ar7_registry::{Archive, CreateOptions, Stream};
use uuid::Uuid;

use crate::archive_forged::{Forgery, golden_of};
use crate::exercise::judge;
use crate::golden::{DEAD_SLICE_BYTES, Golden, OpenedBlock, Part, secret};
use crate::meter::MeteredDevice;
use crate::unstructured::Unstructured;

/// The number of blocks that one salvage may read, and that it may write: many times what an honest archive needs.
const BUDGET: u64 = 100_000;

/// The first byte of an input for the crowded archive.
const CROWDED: usize = 0xe0;

/// The length of the first and last position and the number of blocks in a record.
const RUN: usize = 12;

/// Number of destroyed blocks at most.
const DESTROYED: usize = 8;

/// Salvages a golden archive that `bytes` change. Returns whether a copy of the header opened.
///
/// # Panics
/// If the salvage does more than it may, or if the new archive and the report do not agree.
pub fn archive_salvage(bytes: &[u8]) -> bool {
    let mut unstructured = Unstructured::new(bytes);
    let golden = golden_of(unstructured.byte());
    let destruction = Destruction::new(&mut unstructured);
    let forgery = Forgery::changed(golden, &mut unstructured);
    let places = forgery.places();
    let mut file = forgery.seal();
    destruction.apply(&mut file);
    let exported = destruction.has_exported_header.then(|| golden.header());
    let old = MeteredDevice::new(&file, BUDGET);
    let exported = exported.as_ref().map(|header| &header[..]);
    let opened = Wreck::open_device(Box::new(old), &secret(), exported);
    let Some(wreck) = judge(opened.map_err(ar7_registry::Error::from)) else { return false };
    let left = Left::of(golden, &file, &places);
    check(wreck, &left, file.len() / BLOCK_SIZE);
    true
}

fn check(wreck: Wreck, left: &Left, blocks: usize) {
    let new = MeteredDevice::new(&[], BUDGET);
    let mut report = Report::default();
    let create = |kind| {
        let options = CreateOptions { kind, ..CreateOptions::default() };
        Archive::create_device(Box::new(new.clone()), &secret(), &options)
    };
    let salvaged = salvage(wreck, create, &mut report);
    let summary = salvaged.unwrap_or_else(|error| panic!("the salvage fails: {error}"));
    report.check_counts(&summary);
    let opened = Archive::open_device(Box::new(new.clone()), &secret(), OpenOptions::default());
    let archive = opened.unwrap_or_else(|error| panic!("the new archive: {error}"));
    let mut findings = Vec::new();
    let verified = archive.verify(&mut |found| findings.push(found.to_string()), &mut |_| {});
    assert!(verified.is_ok() && findings.is_empty(), "the new archive: {findings:?}");
    let length = new.to_bytes().len() / BLOCK_SIZE;
    // A salvage packs only files with holes, so what else compresses well takes more blocks than before.
    let unpacked = DEAD_SLICE_BYTES.div_ceil(DATA_SIZE) + 100;
    assert!(length <= 3 * blocks + 600 + unpacked, "{length} blocks from {blocks}");
    report.check_content(&archive, left);
}

/// Which blocks are destroyed, and whether the header was exported before.
struct Destruction {
    blocks: Vec<usize>,
    has_exported_header: bool,
}

impl Destruction {
    fn new(unstructured: &mut Unstructured<'_>) -> Destruction {
        let how = unstructured.byte();
        let positions: Vec<u32> = match how % 4 {
            0 | 1 => Vec::new(),
            2 => META_SLOTS.map(Position::get).to_vec(),
            _ => (0..RESERVED_BLOCKS).collect(),
        };
        let at = |position| usize::try_from(position).expect("a small number");
        let mut blocks: Vec<usize> = positions.into_iter().map(at).collect();
        blocks.extend((0..how / 4 % (DESTROYED + 1)).map(|_| unstructured.byte()));
        Destruction { blocks, has_exported_header: how % 2 == 1 }
    }

    fn apply(&self, file: &mut [u8]) {
        let (sealed, _) = file.as_chunks_mut::<BLOCK_SIZE>();
        for &block in &self.blocks {
            let count = sealed.len();
            sealed[block % count].fill(0x55);
        }
    }
}

/// The data of the blocks that open, by stream and index.
struct Left(HashMap<(Uuid, u32), Vec<Vec<u8>>>);

impl Left {
    /// Opens the blocks of a file for the positions for which they were sealed.
    fn of(golden: &Golden, file: &[u8], places: &[(usize, Position)]) -> Left {
        let (sealed, _) = file.as_chunks::<BLOCK_SIZE>();
        let mut left: HashMap<(Uuid, u32), Vec<Vec<u8>>> = HashMap::new();
        for &(position, place) in places {
            let Some(plaintext) = golden.keys.open(KeyKind::Data, place, &sealed[position]) else {
                continue;
            };
            let stream = Uuid::from_bytes(plain::STREAM.array(&plaintext[..]));
            let key = (stream, plain::INDEX.u32(&plaintext[..]));
            left.entry(key).or_default().push(plain::DATA.of(&plaintext[..]).to_vec());
        }
        Left(left)
    }

    /// Returns whether bytes that begin at `begin` in a stream are from its blocks, except for zeros in these gaps.
    fn explains(&self, stream: Uuid, begin: u64, bytes: &[u8], gaps: &[Range<u64>]) -> bool {
        let chunks = bytes.chunks(DATA_SIZE).zip(begin / DATA_SIZE_U64..);
        chunks.into_iter().all(|(chunk, index)| {
            let at = index * DATA_SIZE_U64;
            let is_gap = gaps.iter().any(|gap| gap.contains(&at));
            let blocks = u32::try_from(index).ok().and_then(|index| self.0.get(&(stream, index)));
            let is_left = blocks.is_some_and(|all| all.iter().any(|data| data.starts_with(chunk)));
            is_left || is_gap && chunk.iter().all(|&byte| byte == 0)
        })
    }
}

/// What the salvage reported.
#[derive(Default)]
struct Report {
    items: Vec<Salvaged>,
}

impl SalvageObserver for Report {
    fn salvaged(&mut self, item: Salvaged) {
        self.items.push(item);
    }

    fn progress(&mut self, _: SalvageProgress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Report {
    fn check_counts(&self, summary: &SalvageSummary) {
        let count = |outcome| {
            let items = self.items.iter().filter(|item| item.outcome == outcome).count();
            u64::try_from(items).expect("a number of items")
        };
        let counts = [
            (Outcome::Complete, summary.complete),
            (Outcome::Gaps, summary.gaps),
            (Outcome::Unproven, summary.unproven),
            (Outcome::Nameless, summary.nameless),
            (Outcome::Lost, summary.lost),
        ];
        for (outcome, summed) in counts {
            assert_eq!(count(outcome), summed, "{outcome:?}");
        }
        for item in &self.items {
            let Salvaged { length, outcome, gaps, .. } = item;
            let ends = gaps.iter().map(|gap| gap.start).chain([*length]).skip(1);
            let are_gaps =
                gaps.iter().zip(ends).all(|(gap, next)| gap.start < gap.end && gap.end <= next);
            assert!(are_gaps, "gaps in order within the length: {item:?}");
            let is_whole = matches!(outcome, Outcome::Complete | Outcome::Nameless);
            assert!(!is_whole || gaps.is_empty(), "without gaps: {item:?}");
            assert!(*outcome != Outcome::Gaps || !gaps.is_empty(), "with gaps: {item:?}");
        }
    }

    /// Compares the streams and files of the new archive with the report.
    fn check_content(&self, archive: &Archive, left: &Left) {
        let mut gaps: HashMap<Uuid, Vec<Range<u64>>> = HashMap::new();
        for item in &self.items {
            let of_stream = item.stream.into_iter().flat_map(|_| item.gaps.clone());
            gaps.entry(item.stream.unwrap_or_default()).or_default().extend(of_stream);
        }
        let files = files(archive);
        let is_written = |item: &&Salvaged| item.outcome != Outcome::Lost;
        for item in self.items.iter().filter(is_written) {
            let content = match (&item.path, item.stream) {
                (Some(path), _) => {
                    let found = archive.names().resolve(path);
                    assert!(found.is_ok(), "it is reported, and not there: {item:?}");
                    files.get(path).cloned()
                }
                (None, Some(stream)) => Some(content(&stream_of(archive, stream))),
                (None, None) => None,
            };
            let (Some(content), Some(stream)) = (content, item.stream) else { continue };
            let is_complete = item.outcome == Outcome::Complete;
            let length = u64::try_from(content.len()).expect("a length in memory");
            assert!(!is_complete || length == item.length, "{length} bytes: {item:?}");
            assert!(
                length <= item.length || item.outcome == Outcome::Unproven,
                "{length} bytes: {item:?}"
            );
            // A stream in `lost+found` begins with the first byte that is left.
            let skipped = item.gaps.first().filter(|gap| gap.start == 0).map_or(0, |gap| gap.end);
            let gaps = gaps.get(&stream).map_or(&[][..], Vec::as_slice);
            let is_explained =
                [0, skipped].into_iter().any(|begin| left.explains(stream, begin, &content, gaps));
            assert!(is_explained, "content of another stream or place: {item:?}");
        }
        let is_reported =
            |path: &Vec<u8>| self.items.iter().any(|item| item.path.as_ref() == Some(path));
        for path in files.keys() {
            assert!(is_reported(path), "{} is not reported", path.escape_ascii());
        }
    }
}

fn stream_of(archive: &Archive, identity: Uuid) -> Stream {
    let reserved = usize::try_from(identity.as_u128()).ok().filter(|&index| index < 8);
    let opened = match reserved {
        Some(index) => archive.reserved_stream(index),
        None => archive.read_stream(identity),
    };
    opened.unwrap_or_else(|error| panic!("stream {identity} is reported: {error}"))
}

fn content(stream: &Stream) -> Vec<u8> {
    let length = usize::try_from(stream.len().expect("a length")).expect("a bounded length");
    let mut content = vec![0; length];
    let read = stream.read_at(0, &mut content).expect("the content");
    assert_eq!(read, length);
    content
}

/// Returns the files of the new archive.
fn files(archive: &Archive) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let names = archive.names();
    let mut files = BTreeMap::new();
    let mut waiting = vec![(InodeNumber::ROOT, Vec::new())];
    while let Some((directory, path)) = waiting.pop() {
        for entry in names.list(directory, None, usize::MAX).expect("a directory") {
            let mut path = path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            match entry.kind {
                EntryType::Directory => waiting.push((entry.inode, path)),
                EntryType::File => {
                    let inode = names.inode(entry.inode).expect("a page").expect("an inode");
                    // A file with a hole has no stream. It may be too long to be read here.
                    let stream = inode
                        .stream
                        .map(|stream| archive.read_stream(stream).expect("the content"));
                    files.insert(path, stream.as_ref().map_or(Vec::new(), content));
                }
                _ => {}
            }
        }
    }
    files
}

/// Returns initial inputs: each archive whole, without slots, and without its first blocks; with destroyed blocks of data
/// and pages; with changes of each kind; and a stream whose record names the blocks of another one.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for archive in 0..4 {
        seeds.extend([0, 2, 3].map(|how| vec![archive, how]));
        seeds.extend([10, 17, 24].map(|block| vec![archive, 4, block]));
    }
    seeds.extend([
        vec![0, 0, 4, 3, 1, 1, 0, 2, 6, 1],
        vec![0, 2, 9, 0, 2, 0, 3, 9, 1],
        vec![1, 3, 11, 0, 9, 3, 8],
        vec![0, 0, 12, 4, 6, 5],
        vec![1, 0, 13, 0, 0, 12],
        vec![2, 2, 14, 0, 1, 0, 0],
        vec![0xe0, 0],
        vec![0xe0, 2],
    ]);
    seeds.extend(blocks_of_another_stream());
    seeds
}

/// Returns the changes that make the record of a stream name the run of blocks of another stream, in both copies of its
/// page.
fn blocks_of_another_stream() -> Option<Vec<u8>> {
    let golden = golden_of(CROWDED);
    let pages: Vec<&OpenedBlock> = golden.of_part(Part::Page).collect();
    let is_leaf = |page: &OpenedBlock| {
        let data = page.data();
        usize::from(page_layout::TREE.of(data)[0]) == TreeId::Streams.index()
            && page_layout::LEVEL.of(data)[0] == 0
    };
    let newest = pages.iter().filter(|page| is_leaf(page)).map(|page| page.generation).max()?;
    let page = pages.iter().find(|page| is_leaf(page) && page.generation == newest)?;
    let (cells, data) = (page.cells(), page.data());
    let (first, second) = two_of_one_generation(&cells, data)?;
    // Begin, end and number of blocks come first.
    let record = record_offset(data);
    let run = &data[cells[second].0 + record..][..RUN];
    let length = &data[cells[first].0 + record..][RUN..16];
    let octet = |number: usize| u8::try_from(number).ok();
    let (record, cell) = (octet(record)?, octet(first)?);
    let mut seed = vec![octet(CROWDED)?, 0];
    for (number, _) in pages.iter().enumerate().filter(|(_, copy)| copy.data() == data) {
        seed.extend([4, octet(number)?, cell, 3, record, 7]);
        seed.extend([run, length].concat());
    }
    Some(seed)
}

/// Returns the offset of the record in a cell of the tree of streams, after the rest of the key and its length.
fn record_offset(data: &[u8]) -> usize {
    2 + size_of::<Uuid>() - usize::from(page_layout::PREFIX.of(data)[0])
}

/// Returns the cells of two streams of one run each that were sealed together.
fn two_of_one_generation(cells: &[(usize, usize)], data: &[u8]) -> Option<(usize, usize)> {
    // Flags and generation follow the rest of the stream record.
    let run = |&(at, _): &(usize, usize)| {
        let flags = &data[at + record_offset(data) + 22..][..13];
        (flags[0] == 1 && flags[1..] != [0; 12]).then_some(flags)
    };
    (0..cells.len()).find_map(|first| {
        let is_like = |&second: &usize| {
            second != first
                && run(&cells[first]).is_some()
                && run(&cells[first]) == run(&cells[second])
        };
        Some((first, (0..cells.len()).find(is_like)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// Salvages random archives, at least half of which open.
    fn check_random(cases: u32) {
        let mut random = Random::new(0x7361_6c76);
        let mut opened = 0;
        for _ in 0..cases {
            let mut bytes = vec![0; 3 + usize::try_from(random.below(24)).unwrap()];
            random.fill(&mut bytes);
            opened += u32::from(archive_salvage(&bytes));
        }
        assert!(opened > cases / 2, "{opened} of {cases} opened");
    }

    #[test]
    fn any_forged_and_damaged_archive_is_salvaged_and_reported() {
        for seed in seeds() {
            assert!(archive_salvage(&seed), "{seed:?}");
        }
        check_random(40);
    }

    #[test]
    #[ignore = "seconds: `cargo xtask proof` runs it"]
    fn many_forged_and_damaged_archives_are_salvaged_and_reported() {
        check_random(100);
    }

    #[test]
    fn a_record_that_names_blocks_of_another_stream_is_among_the_seeds() {
        let seed = blocks_of_another_stream().expect("two streams of one generation");
        let golden = golden_of(CROWDED);
        let forged = Forgery::changed(golden, &mut Unstructured::new(&seed[2..])).seal();
        let (before, _) = golden.bytes.as_chunks::<BLOCK_SIZE>();
        let (after, _) = forged.as_chunks::<BLOCK_SIZE>();
        let changed = before.iter().zip(after).filter(|(before, after)| before != after).count();
        assert_eq!(changed, 2, "both copies of the page");
    }
}
