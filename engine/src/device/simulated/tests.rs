//! Checks the simulated disk against its documentation for each kind of crash.

use super::*;

fn block(byte: u8) -> [u8; BLOCK_SIZE] {
    [byte; BLOCK_SIZE]
}

/// Reads the first byte of a block. `None` if the file ends before it.
fn first_byte(medium: &Medium, position: u32) -> Option<u8> {
    let disk = SimulatedDisk::with(medium.clone(), &SealedBlocks::default());
    let mut bytes = block(0xff);
    disk.read(Position::at(position), &mut bytes).ok().map(|()| bytes[0])
}

fn disk_of_four() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.grow(4).unwrap();
    for position in 0..4 {
        disk.write(Position::at(position), &block(1)).unwrap();
    }
    disk.sync().unwrap();
    disk
}

#[test]
fn a_power_cut_keeps_any_version_of_an_unsynced_block() {
    let disk = disk_of_four();
    disk.write(Position::at(2), &block(2)).unwrap();
    disk.write(Position::at(2), &block(3)).unwrap();
    let medium = disk.medium();
    assert_eq!(medium.uncertain(), [Uncertain { position: 2, versions: 3 }]);
    for (number, byte) in [(0, 1), (1, 2), (2, 3)] {
        let left = medium.after_power_cut(&Cut { length: 0, kept: vec![Kept::Whole(number)] });
        assert_eq!(first_byte(&left, 2), Some(byte));
        assert_eq!(left.uncertain(), []);
    }
    let torn = Kept::Torn { older: 0, newer: 2, sectors: 0b1000_0000 };
    let left = medium.after_power_cut(&Cut { length: 0, kept: vec![torn] }).to_bytes();
    assert_eq!((left[2 * BLOCK_SIZE], left[3 * BLOCK_SIZE - 1]), (1, 3));
}

#[test]
fn the_length_is_kept_or_lost_independently_of_the_blocks() {
    let disk = disk_of_four();
    disk.grow(6).unwrap();
    disk.write(Position::at(5), &block(5)).unwrap();
    let medium = disk.medium();
    assert_eq!(medium.lengths(), 2);
    let lost = medium.after_power_cut(&Cut { length: 0, kept: vec![Kept::Whole(1)] });
    assert_eq!((lost.length(), first_byte(&lost, 5)), (4, None));
    let kept = medium.after_power_cut(&Cut { length: 1, kept: vec![Kept::Whole(0)] });
    assert_eq!((kept.length(), first_byte(&kept, 5)), (6, Some(0)));
    disk.sync().unwrap();
    disk.shrink(5).unwrap();
    let medium = disk.medium();
    assert_eq!(first_byte(&medium, 5), None);
    let lost = medium.after_power_cut(&Cut { length: 0, kept: vec![Kept::Whole(0)] });
    assert_eq!((lost.length(), first_byte(&lost, 5)), (6, Some(5)));
}

#[test]
fn a_cut_off_block_reads_as_zeros_when_the_file_grows_again() {
    let disk = disk_of_four();
    disk.shrink(3).unwrap();
    disk.grow(4).unwrap();
    assert_eq!(first_byte(&disk.medium(), 3), Some(0));
    disk.sync().unwrap();
    assert_eq!(first_byte(&disk.medium(), 3), Some(0));
}

#[test]
fn a_failed_sync_leaves_pages_that_read_as_written_but_are_not_on_disk() {
    let disk = disk_of_four();
    disk.plan(DiskFault::SyncFails, 0);
    disk.write(Position::at(1), &block(2)).unwrap();
    disk.write(Position::at(3), &block(2)).unwrap();
    disk.sync().unwrap_err();
    assert!(disk.all_fired());
    disk.sync().unwrap();
    let medium = disk.medium();
    assert_eq!(medium.uncertain(), []);
    assert_eq!((first_byte(&medium, 1), first_byte(&medium, 3)), (Some(2), Some(2)));
    let left = medium.after_power_cut(&Cut::default());
    assert_eq!((first_byte(&left, 1), first_byte(&left, 3)), (Some(1), Some(2)));
    disk.write(Position::at(1), &block(2)).unwrap();
    disk.sync().unwrap();
    assert_eq!(first_byte(&disk.medium().after_power_cut(&Cut::default()), 1), Some(2));
}

#[test]
fn planned_faults_fire_after_their_countdown() {
    let disk = disk_of_four();
    disk.plan(DiskFault::WriteFails, 1);
    disk.write(Position::at(0), &block(2)).unwrap();
    disk.write(Position::at(1), &block(2)).unwrap_err();
    disk.write(Position::at(2), &block(2)).unwrap();
    disk.plan(DiskFault::WriteIsShort, 0);
    disk.write(Position::at(3), &block(2)).unwrap_err();
    let bytes = disk.medium().to_bytes();
    let at = |block: usize| (bytes[block * BLOCK_SIZE], bytes[(block + 1) * BLOCK_SIZE - 1]);
    assert_eq!([at(0), at(1), at(2), at(3)], [(2, 2), (1, 1), (2, 2), (2, 1)]);
    disk.plan(DiskFault::WriteIsLost, 0);
    disk.write(Position::at(0), &block(9)).unwrap();
    disk.plan(DiskFault::WriteIsMisplaced(1), 0);
    disk.write(Position::at(0), &block(8)).unwrap();
    let medium = disk.medium();
    assert_eq!((first_byte(&medium, 0), first_byte(&medium, 1)), (Some(2), Some(8)));
    disk.plan(DiskFault::NoSpace, 0);
    assert!(matches!(disk.grow(9), Err(Error::NoSpace { .. })));
    disk.grow(9).unwrap();
    disk.set_capacity(Some(9));
    assert!(matches!(disk.grow(10), Err(Error::NoSpace { .. })));
    disk.make_unreadable(2);
    disk.read(Position::at(2), &mut block(0)).unwrap_err();
    assert!(disk.all_fired());
}

#[test]
fn applying_the_log_reproduces_the_medium() {
    let disk = disk_of_four();
    disk.mark(7);
    disk.write(Position::at(2), &block(4)).unwrap();
    disk.shrink(3).unwrap();
    let mut medium = Medium::default();
    for event in disk.log() {
        medium.apply(&event);
    }
    assert_eq!(medium.number(), disk.medium().number());
    assert_ne!(medium.number(), disk_of_four().medium().number());
    assert!(disk.log().iter().any(|event| event.kind() == EventKind::Mark(7)));
}

#[test]
fn medium_numbers_distinguish_seen_from_durable_content() {
    let disk = disk_of_four();
    let synced = disk.medium();
    assert!(synced.is_certain());
    disk.write(Position::at(2), &block(1)).unwrap();
    assert_eq!(disk.medium().number(), synced.number(), "writing the same bytes changes nothing");
    disk.write(Position::at(2), &block(2)).unwrap();
    disk.write(Position::at(2), &block(1)).unwrap();
    assert!(!disk.medium().is_certain());
    assert_eq!(disk.medium().seen_number(), synced.seen_number());
    assert_ne!(disk.medium().number(), synced.number());
    assert_ne!(synced.with_corruption(2, 5, 1).seen_number(), synced.seen_number());
}

#[test]
fn a_nonce_or_generation_repeated_with_other_bytes_is_recorded() {
    let write = |disk: &SimulatedDisk, position: u32, nonce: [u8; 24], data: u8| {
        let mut bytes = block(data);
        bytes[..24].copy_from_slice(&nonce);
        disk.write(Position::at(position), &bytes).unwrap();
        disk.sealed().repeated().map(|repeated| repeated.nonce)
    };
    let first = [1; 24];
    let mut same_generation = first;
    same_generation[20] = 9;
    let disk = SimulatedDisk::new();
    disk.grow(16).unwrap();
    assert_eq!(write(&disk, 8, first, 1), None);
    assert_eq!(write(&disk, 8, first, 1), None, "the same bytes may be written again");
    assert_eq!(write(&disk, 9, first, 1), None, "the same bytes may be copied");
    assert_eq!(write(&disk, 10, same_generation, 2), None, "a generation may cover many positions");
    assert_eq!(write(&disk, 0, first, 2), None, "the header is not sealed");
    assert_eq!(disk.sealed().nonces(), 2);
    let other = SimulatedDisk::with(disk.medium(), &disk.sealed());
    assert_eq!(write(&other, 8, same_generation, 2), Some(false));
    let other = SimulatedDisk::with(disk.medium(), &disk.sealed());
    assert_eq!(write(&other, 11, first, 2), Some(true));
    assert_eq!(disk.sealed().repeated(), None);
}
