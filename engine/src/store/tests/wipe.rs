//! Wiping: afterwards every free block and every block behind the end is blank, except those that a pinned snapshot
//! may read.

use super::*;
use crate::error::Class;
use crate::format::BLOCK_SIZE;

/// An archive with a run of blocks that the next commit frees.
fn world(blocks: u32) -> (MemoryDevice, Arc<Store>, Writer, Run) {
    let (device, store, mut writer) = create();
    if blocks > THIRD_COPIES.start {
        allocate_before_third_copies(&mut writer);
    }
    let run = writer.allocate(blocks, Urgency::Ordinary).unwrap();
    assert_eq!(run.count(), blocks);
    let data = data(9);
    let head = BlockHead::default();
    let jobs: Vec<SealJob<'_>> =
        run.positions().map(|position| SealJob { position, head, data: &data }).collect();
    writer.write_fresh(KeyKind::Data, &jobs).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.free(run);
    (device, store, writer, run)
}

/// Returns the byte that the data of a block repeats, if the block opens.
fn found(device: &MemoryDevice, store: &Store, position: Position) -> Option<u8> {
    let mut bytes: [u8; BLOCK_SIZE] = raw(device, position).try_into().unwrap();
    let opened = store.sealer.open_in_place(KeyKind::Data, position, &mut bytes).ok()?;
    assert_eq!(opened.data[..], data(opened.data[0])[..]);
    Some(opened.data[0])
}

#[test]
fn wiped_free_blocks_are_blank() {
    let (device, store, mut writer, run) = world(600);
    commit(&mut writer, 2).unwrap();
    let step = writer.generation().step;
    // All blocks but the first and the last.
    let (first, rest) = run.split(1);
    let (within, last) = rest.unwrap().split(598);
    assert_eq!(writer.wipe(&[within.unwrap()]).unwrap().blocks, 598);
    assert!(within.unwrap().positions().all(|at| found(&device, &store, at) == Some(0)));
    for kept in [first, last].map(Option::unwrap) {
        assert_eq!(found(&device, &store, kept.start()), Some(9));
        assert_eq!(writer.wipe(&[kept]).unwrap().blocks, 1);
        assert_eq!(found(&device, &store, kept.start()), Some(0));
    }
    assert_eq!(writer.generation().step, step + 3);
    assert_eq!((run.start().get(), run.end()), (THIRD_COPIES.end, writer.block_count()));
    assert_eq!(mark(&store), 2);
}

#[test]
fn a_refused_wipe_seals_nothing() {
    let (device, store, mut writer, run) = world(3);
    commit(&mut writer, 2).unwrap();
    let generation = writer.generation();
    let beyond = Run::single(Position::at(writer.block_count()));
    assert_eq!(writer.wipe(&[run, beyond]).unwrap_err().class(), Class::Damaged);
    assert!(run.positions().all(|at| found(&device, &store, at) == Some(9)));
    // The blocks can be sealed in this step.
    writer.release(run).unwrap();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    assert_eq!(block, BlockRef { position: run.start(), generation });
}

#[test]
fn blocks_that_a_pinned_snapshot_may_read_are_not_wiped() {
    let (device, store, mut writer, run) = world(3);
    let snapshot = store.current();
    commit(&mut writer, 2).unwrap();
    let held = Wiped { blocks: 0, held: 3, oldest: Some(snapshot.slot.number) };
    assert_eq!(writer.wipe(&[run]).unwrap(), held);
    let tail = writer.wipe_tail().unwrap();
    assert!(tail.blocks == 0 && tail.held > 0 && tail.oldest == held.oldest, "{tail:?}");
    assert!(run.positions().all(|at| found(&device, &store, at) == Some(9)));
    drop(snapshot);
    assert_eq!(writer.wipe(&[run]).unwrap(), Wiped { blocks: 3, held: 0, oldest: None });
    assert!(run.positions().all(|at| found(&device, &store, at) == Some(0)));
}

#[test]
fn wiped_blocks_behind_the_end_are_blank() {
    let (device, store, mut writer, _) = world(3);
    commit(&mut writer, 2).unwrap();
    let blocks = u32::try_from(device.length_bytes().unwrap() / 4096).unwrap();
    let behind = writer.block_count()..blocks;
    assert!(behind.len() > 256, "{behind:?}");
    assert_eq!(writer.wipe_tail().unwrap().blocks, behind.len() as u64);
    assert!(behind.map(Position::at).all(|at| found(&device, &store, at) == Some(0)));
}

#[test]
fn a_shredded_file_is_not_an_archive() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    drop(Store::create(&path, &secret(), &CreateOptions::default()).unwrap());
    Store::shred(&path, std::time::Duration::ZERO).unwrap();
    let error = Store::open(&path, &secret(), OpenOptions::default()).unwrap_err();
    assert_eq!(error.class(), Class::Damaged, "{error}");
    assert!(
        Store::shred(&path, std::time::Duration::ZERO).is_err(),
        "the file is not an archive any more"
    );
}
