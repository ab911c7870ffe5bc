//! A file of arbitrary bytes, or a golden archive changed by an attacker without the key.

use std::sync::OnceLock;

use ar7_engine::crypto::KeyKind;
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{BLOCK_SIZE, Position, RESERVED_BLOCKS};
use ar7_engine::store::OpenOptions;
use ar7_registry::{Archive, Error, Result};

use crate::crash::Content;
use crate::exercise::{Exercises, exercise};
use crate::golden::{Golden, goldens, open_to_write, secret};
use crate::unstructured::Unstructured;

/// The end of the blocks that have a fixed position: the header and the meta slots.
const META_END: usize = RESERVED_BLOCKS as usize * BLOCK_SIZE;

/// Opens `bytes` as a file, or as changes to a golden archive. Returns whether it opened.
///
/// # Panics
/// If any operation on it breaks a promise, or if a changed archive returns content other than what was committed.
pub fn archive_open(bytes: &[u8]) -> bool {
    let mut unstructured = Unstructured::new(bytes);
    let how = unstructured.byte();
    let extracts = how & 0x10 != 0;
    if how % 8 == 7 {
        return exercise(unstructured.rest(), Exercises { extracts, writes: true }).is_read;
    }
    let (as_made, written_to) = &victims()[how % goldens().len()];
    let victim = if how & 0x20 == 0 { as_made } else { written_to };
    let mut file = victim.file.clone();
    while !unstructured.is_over() {
        change(&mut file, victim.before, &mut unstructured);
    }
    check_content(victim.golden, &victim.content, &file);
    exercise(&file, Exercises { extracts, writes: how & 0x40 != 0 }).is_read
}

/// A golden archive, as created or after later writes.
struct Victim {
    golden: &'static Golden,
    file: Vec<u8>,
    /// The file before the later writes.
    before: &'static [u8],
    content: Content,
}

impl Victim {
    fn new(golden: &'static Golden, file: Vec<u8>, before: &'static [u8]) -> Victim {
        let content = content(&file).expect("an archive can be read");
        Victim { golden, file, before, content }
    }
}

/// Returns each golden archive, as created and after later writes.
fn victims() -> &'static [(Victim, Victim)] {
    static VICTIMS: OnceLock<Vec<(Victim, Victim)>> = OnceLock::new();
    let both = |golden: &'static Golden| {
        let later = written_to(golden.bytes).expect("an archive can be written");
        let as_made = Victim::new(golden, golden.bytes.to_vec(), &[]);
        (as_made, Victim::new(golden, later, golden.bytes))
    };
    VICTIMS.get_or_init(|| goldens().iter().map(both).collect())
}

/// Changes the first byte of every stream in place.
fn written_to(bytes: &[u8]) -> Result<Vec<u8>> {
    let (device, archive) = open_to_write(bytes)?;
    for stored in archive.streams(None, usize::MAX)? {
        let mut stream = match archive.open_stream(stored.record.identity) {
            // The target of a symbolic link cannot be opened as a stream.
            Err(Error::StreamIsNamed { .. }) => continue,
            opened => opened?,
        };
        let mut first = [0];
        if stream.read_at(0, &mut first)? == 1 {
            stream.write_at(0, &[!first[0]])?;
        }
    }
    archive.commit()?;
    archive.close()?;
    Ok(device.to_bytes())
}

/// Changes some bytes, swaps blocks, puts back blocks of the file `before`, or truncates the file.
fn change(file: &mut Vec<u8>, before: &[u8], unstructured: &mut Unstructured<'_>) {
    let blocks = file.len() / BLOCK_SIZE;
    let (kind, at) =
        (unstructured.byte() % 8, unstructured.byte().checked_rem(blocks).unwrap_or(0));
    let start = at * BLOCK_SIZE;
    match kind {
        0 if !file.is_empty() => {
            let length =
                (usize::from(unstructured.octet()) << 16 | unstructured.word()) % file.len();
            file.truncate(length);
        }
        1 => file.extend_from_slice(unstructured.take(64)),
        2 | 3 if blocks > 0 => {
            let from = unstructured.byte() % blocks * BLOCK_SIZE;
            file.copy_within(from..from + BLOCK_SIZE, start);
        }
        // A complete older archive is indistinguishable from a valid one, and only the header and the slots determine
        // its age. So they are never put back.
        5 if start >= META_END && start + BLOCK_SIZE <= before.len() => {
            file[start..start + BLOCK_SIZE].copy_from_slice(&before[start..start + BLOCK_SIZE]);
        }
        4 if blocks > 0 => file[start..start + BLOCK_SIZE].fill(unstructured.octet()),
        _ if blocks > 0 => {
            file[start + unstructured.word() % BLOCK_SIZE] ^= unstructured.octet() | 1;
        }
        _ => {}
    }
}

/// Checks that a reader gets the committed content or an error.
fn check_content(golden: &Golden, committed: &Content, file: &[u8]) {
    if let Some(found) = content(file) {
        assert!(!is_pair_lost(golden, file), "opened without one of the pairs of meta slots");
        assert!(found == *committed, "other content than was committed");
    }
}

/// Returns whether both copies of a meta slot are damaged, so that the newest commit may have been lost.
fn is_pair_lost(golden: &Golden, file: &[u8]) -> bool {
    let (blocks, _) = file.as_chunks::<BLOCK_SIZE>();
    let is_bad = |position: u32| {
        let at = usize::try_from(position).expect("a small position");
        let place = Position::at(position);
        blocks.get(at).is_none_or(|block| golden.keys.open(KeyKind::Meta, place, block).is_none())
    };
    (is_bad(1) && is_bad(3)) || (is_bad(2) && is_bad(4))
}

fn content(file: &[u8]) -> Option<Content> {
    let device = Box::new(MemoryDevice::from_bytes(file));
    let archive = Archive::open_device(device, &secret(), OpenOptions::default()).ok()?;
    Content::read(&archive).ok()
}

/// Returns initial inputs: an empty file, the start of a file, each archive unchanged, and a few changes.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        vec![7],
        b"\x07\x89ar7 archive\r\n\x1a\n\0\0\0\x01".to_vec(),
        vec![0x40],
        vec![0x41],
        vec![0x42],
        vec![0x43],
        vec![0x50],
        vec![0x51, 5, 20, 0, 100, 1],
        vec![0x40, 5, 1, 0, 100, 1],
        vec![0x41, 5, 3, 0, 100, 1, 4, 1, 0],
        vec![2, 0, 0, 0, 0x80, 0],
        vec![3, 2, 2, 1],
        vec![0x61, 5, 9, 5, 10],
    ];
    // Each older block put back, in the smallest archive.
    seeds.extend((8..24).map(|position| vec![0x20, 5, position]));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// Tries random changes of files: some open, and most do not.
    fn check_random(cases: u32) {
        let mut random = Random::new(0x6669_6c65);
        let mut opened = 0;
        for case in 0..cases {
            let mut bytes = vec![0; 1 + usize::try_from(random.below(20)).unwrap()];
            random.fill(&mut bytes);
            bytes[0] = bytes[0] & !7 | u8::try_from(case % 5).unwrap();
            opened += u32::from(archive_open(&bytes));
        }
        assert!(opened > cases / 20 && opened < cases, "{opened} of {cases} opened");
    }

    #[test]
    fn any_file_is_accepted_or_rejected() {
        let seeds = seeds().iter().filter(|seed| archive_open(seed)).count();
        assert!(seeds > 3, "{seeds} seeds opened");
        check_random(150);
    }

    #[test]
    #[ignore = "seconds: `cargo xtask proof` runs it"]
    fn many_files_are_accepted_or_rejected() {
        check_random(400);
    }
}
