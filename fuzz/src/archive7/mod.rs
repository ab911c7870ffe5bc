//! Archives of the Python module: generated, changed without the key or with it, and imported.

mod generate;
mod layout;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::OnceLock;

use ar7::archive7::{ImportEvent, Imported, OldArchive, OldKind, Unrecorded};
use ar7::{Archive, Error, FileType, Kind, Mode, Transaction};
use tempfile::TempDir;
use uuid::Uuid;

use self::generate::{Expected, Generated, TreeEdit, generate_edited};
use self::layout::{BLOCK, DATA};
use crate::unstructured::Unstructured;

/// Changes an archive of the Python module and imports it. Returns whether that succeeded.
///
/// # Panics
/// If the import of an unchanged archive stores anything else than what the archive holds, if a change that
/// needs no key is not noticed, or if anything but a typed error or an import is the outcome.
pub fn archive7(bytes: &[u8]) -> bool {
    let mut unstructured = Unstructured::new(bytes);
    let (kind, seed) = (unstructured.byte(), u64::from(unstructured.octet()));
    let (mut sealed, mut known, mut trees) = (Vec::new(), Vec::new(), Vec::new());
    while !unstructured.is_over() {
        match unstructured.byte() % 4 {
            0 => sealed.push(unstructured.array::<6>()),
            1 | 2 => known.push(unstructured.array::<8>()),
            _ => trees.push(TreeEdit {
                tree: 1 + unstructured.below(4),
                offset: usize::from(unstructured.octet()) << 16 | unstructured.word(),
                bytes: value(unstructured.array()),
            }),
        }
    }
    let mut generated = generate_edited(kind, seed, &trees);
    let is_honest = known.is_empty() && trees.is_empty();
    for edit in known {
        change(&mut generated.blocks, edit);
    }
    let honest = generated.file();
    let mut file = honest.clone();
    for edit in sealed {
        change_sealed(&mut file, edit);
    }
    let is_changed = file != honest;
    match check_import(&file, &generated, is_honest && !is_changed) {
        Ok(()) => {
            assert!(!is_honest || !is_changed, "a change without the key was not noticed");
            true
        }
        Err(error) => {
            assert!(!is_honest || is_changed, "an unchanged archive was refused: {error}");
            check_error(&error);
            false
        }
    }
}

/// An archive of the Python module that has a tree.
pub(crate) struct OldTree {
    /// Its content.
    pub(crate) file: Vec<u8>,
    /// Its key.
    pub(crate) key: [u8; 32],
    /// The number of entries that an import stores.
    pub(crate) entries: u64,
    /// Whether an import has nothing to report.
    pub(crate) is_all_kept: bool,
}

/// Generates an archive of the Python module that has a tree.
pub(crate) fn old_tree(seed: u64) -> OldTree {
    const FILE_SYSTEM: usize = 3;
    let mut generated = generate_edited(FILE_SYSTEM, seed, &[]);
    let file = generated.file();
    let (entries, is_all_kept) = (generated.entries.len() as u64, generated.lost == 0);
    OldTree { file, key: layout::KEY, entries, is_all_kept }
}

/// Returns one of the values at the bounds of a field, or the bytes themselves.
fn value([how, rest @ ..]: [u8; 5]) -> Vec<u8> {
    let words = [0, 1, 2, -1, -2, i32::MAX, i32::MIN, 21, 248];
    match words.get(usize::from(how)) {
        Some(word) => word.to_be_bytes().to_vec(),
        None => rest[..=usize::from(how % 4)].to_vec(),
    }
}

/// Changes a block before it is sealed, as one who has the key can.
fn change(blocks: &mut [layout::Plain], [field, at, high, low, bytes @ ..]: [u8; 8]) {
    let number = usize::from(at) % blocks.len();
    let block = &mut blocks[number];
    let word = i32::from_be_bytes(bytes);
    match field % 8 {
        0 => block.previous = word % 128,
        1 => block.next = word % 128,
        2 => block.index = word.unsigned_abs() % 128,
        3 => block.stream = Uuid::from_u128(u128::from(bytes[0] % 8)),
        // The records of the special streams.
        4 => {
            let from_end = 1 + usize::from(high) % 190;
            block.data[DATA - from_end] = low;
        }
        _ => {
            let offset = (usize::from(high) << 8 | usize::from(low)) % (DATA - 4);
            block.data[offset..offset + 4].copy_from_slice(&bytes);
        }
    }
}

/// Changes the file, as one who does not have the key can.
fn change_sealed(file: &mut Vec<u8>, [how, at, other, high, low, bits]: [u8; 6]) {
    let blocks = file.len() / BLOCK;
    if blocks == 0 {
        return;
    }
    let start = |number: u8| usize::from(number) % blocks * BLOCK;
    let (at, other) = (start(at), start(other));
    match how % 6 {
        0 => file.truncate(at),
        1 => file.truncate(at + usize::from(low)),
        2 => file.copy_within(other..other + BLOCK, at),
        3 => {
            let block = file[at..at + BLOCK].to_vec();
            file.copy_within(other..other + BLOCK, at);
            file[other..other + BLOCK].copy_from_slice(&block);
        }
        4 => {
            let block = file[at..at + BLOCK].to_vec();
            file.extend(block);
        }
        _ => file[at + (usize::from(high) << 8 | usize::from(low)) % BLOCK] ^= bits | 1,
    }
}

/// An archive of each kind, in which every import is rolled back.
fn with_transaction<T>(kind: Kind, work: impl FnOnce(&Transaction<'_>) -> T) -> T {
    static ARCHIVES: OnceLock<(TempDir, Vec<Archive>)> = OnceLock::new();
    let (_, archives) = ARCHIVES.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kinds = [Kind::Single, Kind::Fixed, Kind::Dynamic];
        let create = |kind: Kind| {
            let path = folder.path().join(kind.to_string());
            let options = Archive::options().create_new(true).kind(kind);
            options.open(path, &Generated::key()).expect("a new archive")
        };
        let archives = kinds.into_iter().map(create).collect();
        (folder, archives)
    });
    let archive = archives.iter().find(|archive| archive.kind() == kind).expect("every kind");
    let transaction = archive.begin().expect("a transaction");
    let outcome = work(&transaction);
    transaction.roll_back().expect("a usable archive");
    outcome
}

/// Imports a file. If it is honest, checks the outcome.
fn check_import(file: &[u8], generated: &Generated, is_honest: bool) -> Result<(), Error> {
    let unrecorded = if generated.kind == "fixed" { Unrecorded::Fixed } else { Unrecorded::Single };
    let mut old = OldArchive::new(Cursor::new(file), &Generated::key(), unrecorded)?;
    with_transaction(old.kind().new_kind(), |transaction| {
        let mut lost = Vec::new();
        let imported = old.import(transaction, |event| {
            if let ImportEvent::Lost { path, loss } = event {
                lost.push(format!("{}: {loss}", path.display()));
            }
            ControlFlow::Continue(())
        })?;
        for entry in old.entries().filter(|entry| entry.file_type != FileType::Symlink) {
            let metadata = transaction.metadata(&entry.path)?;
            assert_eq!(metadata.file_type, entry.file_type);
        }
        if is_honest {
            assert_eq!(imported.lost, generated.lost, "{lost:#?}");
            check_content(&old, generated, transaction, &imported);
        }
        Ok(())
    })
}

/// Checks that a transaction holds exactly what was generated.
fn check_content<R>(
    old: &OldArchive<R>,
    generated: &Generated,
    transaction: &Transaction<'_>,
    imported: &Imported,
) where
    R: std::io::Read + std::io::Seek,
{
    assert_eq!(old.kind().to_string(), generated.kind);
    assert_eq!(old.metadata(), generated.metadata);
    let kept = transaction.archive_metadata().expect("readable metadata");
    assert_eq!(kept, generated.metadata[..generated.metadata.len().min(2048)]);
    assert!(imported.is_closed && imported.stray_blocks == 0, "{imported:?}");
    for (id, content) in &generated.streams {
        let file = transaction.stream(*id, Mode::READ).expect("a stream");
        let mut found = vec![0; content.len() + 1];
        let length = file.read_at(0, &mut found).expect("readable content");
        assert!(found[..length] == content[..], "content of stream {id}");
    }
    let found = stored(transaction);
    let names = |entries: &BTreeMap<String, Expected>| entries.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&generated.entries));
    for (path, expected) in &generated.entries {
        let mut found = found[path].clone();
        if path.starts_with("lost+found") && !path.contains('/') && expected.modified == 0 {
            found.modified = 0;
        }
        assert!(found == *expected, "{path}: {:?}", (found.file_type, found.mode, found.modified));
    }
    let listed = old.entries().count();
    let lost = usize::from(generated.lost > generated.left_out);
    let left_out = usize::try_from(generated.left_out).expect("few links");
    assert_eq!(
        (old.kind() == OldKind::FileSystem, listed),
        (generated.kind == "file system", found.len() - lost + left_out)
    );
}

/// Returns every entry of a transaction.
fn stored(transaction: &Transaction<'_>) -> BTreeMap<String, Expected> {
    let entries = transaction.walk("").expect("a walk").map(|entry| entry.expect("an entry"));
    let stored = entries.map(|entry| {
        let content = match entry.metadata.file_type {
            FileType::Directory => Vec::new(),
            FileType::Symlink => {
                let target = transaction.read_link(&entry.path).expect("a target");
                resolved(&shown(&entry.path), &shown(&target)).into_bytes()
            }
            _ => transaction.read(&entry.path).expect("content"),
        };
        let attributes = entry.metadata.attributes;
        let expected = Expected {
            file_type: entry.metadata.file_type,
            mode: attributes.mode,
            modified: attributes.modified.seconds,
            content,
        };
        (shown(&entry.path), expected)
    });
    stored.collect()
}

/// Returns the path that a relative link leads to.
fn resolved(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop().expect("a link stays inside")),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn shown(path: &Path) -> String {
    path.to_str().expect("a generated name").to_owned()
}

/// Checks that an error is one of those that a hostile archive may cause.
fn check_error(error: &Error) {
    match error {
        Error::Damaged(fault) => {
            assert_ne!(fault.expected, fault.found, "{error}");
        }
        Error::NoBlockOpens { blocks } => assert!(*blocks > 0),
        other => panic!("a hostile archive is reported as: {other:?}"),
    }
}

/// Returns initial inputs: each kind unchanged, and a few with each kind of change.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..4).map(|kind| vec![kind, 1]).collect();
    let changes: [&[u8]; 12] = [
        &[0, 5, 3, 0, 0, 100, 1],
        &[0, 0, 2, 0, 0, 0, 0],
        &[0, 1, 2, 0, 0, 9, 0],
        &[0, 2, 3, 4, 0, 0, 0],
        &[0, 3, 3, 4, 0, 0, 0],
        &[0, 4, 2, 0, 0, 0, 0],
        &[1, 1, 3, 0, 0, 0, 0, 0, 3],
        &[1, 3, 2, 0, 0, 1, 0, 0, 0],
        &[1, 4, 0, 33, 9, 0, 0, 0, 0],
        &[3, 0, 0, 0, 1, 2],
        &[3, 3, 0, 0, 30, 3],
        &[3, 1, 0, 0, 21, 200, 7],
    ];
    for (number, change) in (0..).zip(changes) {
        seeds.push([&[3 - number % 2, number], change].concat());
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::generate::generate;
    use super::*;
    use crate::Random;

    #[test]
    fn every_generated_archive_is_imported_with_every_name_time_and_byte() {
        for seed in 0..20 {
            for kind in 0..4 {
                let mut generated = generate(kind, seed);
                let file = generated.file();
                check_import(&file, &generated, true)
                    .unwrap_or_else(|error| panic!("kind {kind}, seed {seed}: {error}"));
            }
        }
    }

    #[test]
    fn a_stream_that_was_cut_before_a_crash_is_imported_as_far_as_it_goes() {
        let mut generated = generate(2, 5);
        // The archive was not closed: the trash has one block more than its record says.
        let end = DATA - 2 * 38;
        let count = end + 24;
        let trash = Uuid::nil();
        let last = generated.blocks.iter().skip(1).filter(|block| block.stream == trash).count();
        let data = &mut generated.blocks[0].data;
        data[count..count + 4].copy_from_slice(&u32::try_from(last + 1).unwrap().to_be_bytes());
        let is_third =
            |block: &layout::Plain| block.stream > Uuid::from_u128(7) && block.index == 2;
        let cut = generated.blocks.iter().find(|block| is_third(block)).expect("a long stream");
        let (stream, before) = (cut.stream, usize::try_from(cut.previous).unwrap());
        let closed = generated.file();
        generated.blocks[before].next = -1;
        let file = generated.file();
        let open = |file: Vec<u8>| {
            OldArchive::new(Cursor::new(file), &Generated::key(), Unrecorded::Single).unwrap()
        };
        assert!(!open(closed).is_closed());
        let mut old = open(file);
        with_transaction(Kind::Dynamic, |transaction| {
            let mut lost = Vec::new();
            let imported = old.import(transaction, |event| {
                if let ImportEvent::Lost { path, .. } = event {
                    lost.push(path.to_path_buf());
                }
                ControlFlow::Continue(())
            });
            let imported = imported.expect("an import");
            assert!(!imported.is_closed && imported.stray_blocks > 0, "{imported:?}");
            assert_eq!(lost, [std::path::PathBuf::from(stream.to_string())]);
            let file = transaction.stream(stream, Mode::READ).expect("the stream");
            let content = &generated.streams[&stream];
            let mut found = vec![0; content.len() + 1];
            assert_eq!(file.read_at(0, &mut found).expect("its content"), 2 * DATA);
            assert!(found[..2 * DATA] == content[..2 * DATA]);
        });
    }

    #[test]
    fn every_change_without_the_key_is_noticed_and_every_other_one_ends_well() {
        const CASES: u32 = 150;
        let mut random = Random::new(0x6f6c_6437);
        let mut imported = 0;
        for case in 0..CASES {
            let mut bytes = vec![0; 3 + usize::try_from(random.below(24)).unwrap()];
            random.fill(&mut bytes);
            bytes[0] = [2, 3, 3, 3, 0, 1][case as usize % 6];
            imported += u32::from(archive7(&bytes));
        }
        for seed in seeds() {
            archive7(&seed);
        }
        assert!(imported > CASES / 50 && imported < CASES / 2, "{imported} of {CASES} imported");
    }

    #[test]
    fn a_flipped_bit_in_any_block_is_damage() {
        for (kind, seed) in [(0, 3), (1, 1), (2, 5), (3, 8)] {
            let mut generated = generate(kind, seed);
            let honest = generated.file();
            let mut random = Random::new(seed);
            let blocks = honest.len() / BLOCK;
            // Few, because each takes an import. The first and the last are among them.
            for block in (0..blocks).step_by(blocks.div_ceil(6)).chain([blocks - 1]) {
                let mut file = honest.clone();
                let offset = usize::try_from(random.below(BLOCK as u64)).unwrap();
                file[block * BLOCK + offset] ^= 1 << random.below(8);
                let refused = check_import(&file, &generated, false).expect_err("a flipped bit");
                assert!(matches!(refused, Error::Damaged(_)), "{refused}");
                check_error(&refused);
            }
        }
    }
}
