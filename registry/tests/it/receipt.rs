//! Receipts: an archive passes every receipt ever issued for it, after any later commits. An older
//! copy of the file, and a copy that was written separately, fail every later receipt.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ar7_engine::device::simulated::{SealedBlocks, SimulatedDisk};
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{ArchiveKind, BLOCK_SIZE, Position};
use ar7_engine::store::{Access, OpenOptions, RekeyOptions};
use ar7_registry::{Archive, CreateOptions, Error, Receipt};

use crate::common::{create, open, secret};

/// Makes a new dynamic archive.
fn dynamic() -> (MemoryDevice, Archive) {
    create(ArchiveKind::Dynamic, 0)
}

fn add_stream(archive: &Archive) {
    archive.new_stream().unwrap().append(&[1; 5000]).unwrap();
    archive.commit().unwrap();
}

fn check(device: &MemoryDevice, receipt: &Receipt) -> Result<(), Error> {
    open(device, Access::Read).check_receipt(receipt)
}

fn assert_fork(outcome: &Result<(), Error>) {
    assert!(matches!(outcome, Err(Error::ForkOfReceipt { .. })), "{outcome:?}");
}

fn assert_older(outcome: &Result<(), Error>) {
    assert!(matches!(outcome, Err(Error::OlderThanReceipt { .. })), "{outcome:?}");
}

#[test]
fn an_archive_passes_every_receipt_issued_for_it() {
    let (device, archive) = dynamic();
    let mut given = vec![archive.receipt().unwrap()];
    let mut older = Vec::new();
    add_stream(&archive);
    given.push(archive.receipt().unwrap());
    archive.close().unwrap();
    // More sessions than fit a meta slot. Some commit, some commit nothing, some are killed.
    for session in 0..80 {
        older.push((device.snapshot().to_device(), given.len()));
        let archive = open(&device, Access::Write);
        given.push(archive.receipt().unwrap());
        if session % 40 == 0 {
            add_stream(&archive);
            given.push(archive.receipt().unwrap());
        }
        if session % 3 == 0 {
            drop(archive);
        } else {
            archive.close().unwrap();
            given.push(open(&device, Access::Read).receipt().unwrap());
        }
    }
    for receipt in &given {
        check(&device, receipt).unwrap();
        assert_eq!(receipt.to_string().parse::<Receipt>().unwrap(), *receipt);
    }
    // Each older copy of the file passes the receipts issued before it, and no later one.
    for (device, count) in older.iter().step_by(7) {
        let outcomes = given.iter().map(|receipt| check(device, receipt));
        for (number, outcome) in outcomes.enumerate() {
            match outcome {
                Ok(()) => assert!(number < *count),
                refused => {
                    assert!(number >= *count, "{number} of {count}");
                    assert_older(&refused);
                }
            }
        }
    }
}

#[test]
fn a_separately_written_copy_is_a_fork() {
    let (device, archive) = dynamic();
    add_stream(&archive);
    archive.close().unwrap();
    let before = open(&device, Access::Read).receipt().unwrap();
    let other = device.snapshot().to_device();
    for (device, steps) in [(&device, 1), (&other, 3)] {
        let archive = open(device, Access::Write);
        (0..steps).for_each(|_| add_stream(&archive));
        archive.close().unwrap();
    }
    let [first, second] =
        [&device, &other].map(|device| open(device, Access::Read).receipt().unwrap());
    for device in [&device, &other] {
        check(device, &before).unwrap();
    }
    check(&device, &first).unwrap();
    assert_fork(&check(&other, &first));
    assert_fork(&check(&device, &second));
    // The same holds after later sessions.
    for _ in 0..40 {
        open(&device, Access::Write).close().unwrap();
    }
    check(&device, &first).unwrap();
    assert_fork(&check(&device, &second));
}

/// After a kill at any write, every receipt that was issued before is satisfied, and those of one commit have one code.
#[test]
fn a_commit_has_one_receipt_code_throughout_a_change_of_the_master_key() {
    let disk = SimulatedDisk::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(disk.clone()), &secret(), &options).unwrap();
    add_stream(&archive);
    archive.close().unwrap();
    let (mut medium, begin) = (disk.medium(), disk.log().len());
    let device = || Box::new(disk.clone()) as Box<dyn Device>;
    Archive::rekey_device(&device, &secret(), RekeyOptions::default(), &mut |_, _| {
        ControlFlow::Continue(())
    })
    .unwrap();
    let mut codes = BTreeMap::new();
    let mut issued: Vec<Receipt> = Vec::new();
    for event in &disk.log()[begin..] {
        medium.apply(event);
        let left = SimulatedDisk::with(medium.clone(), &SealedBlocks::default());
        let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
        let archive = Archive::open_device(Box::new(left), &secret(), options).unwrap();
        for receipt in &issued {
            archive.check_receipt(receipt).unwrap();
        }
        // Only if both copies of the meta slot are good.
        let Ok(receipt) = archive.receipt() else { continue };
        let line = receipt.to_string();
        let fields: Vec<&str> = line.split(' ').collect();
        let code = codes.entry(fields[2].to_owned()).or_insert_with(|| {
            issued.push(receipt);
            fields[3].to_owned()
        });
        assert_eq!(code, fields[3], "{}", fields[2]);
    }
    assert!(issued.len() >= 4, "{issued:?}");
}

#[test]
fn a_receipt_of_the_newest_commit_must_match_in_every_field() {
    let (device, archive) = dynamic();
    add_stream(&archive);
    archive.close().unwrap();
    let receipt = open(&device, Access::Read).receipt().unwrap();
    // A forged code with a valid check, which needs no key.
    let line = receipt.to_string();
    let fields: Vec<&str> = line.split(' ').collect();
    let forged = resign(&[fields[0], fields[1], fields[2], &"0".repeat(64), fields[4]].join(" "));
    assert_fork(&check(&device, &forged.parse().unwrap()));
    let (other, other_archive) = dynamic();
    drop(other_archive);
    let refused = check(&other, &receipt);
    assert!(matches!(refused, Err(Error::ReceiptOfAnother { .. })), "{refused:?}");
}

fn resign(body: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let check = Sha256::digest(body.as_bytes());
    let check = u32::from_be_bytes(check[..4].try_into().unwrap());
    format!("{body} {check:08x}")
}

#[test]
fn a_changed_receipt_text_is_rejected() {
    let (_device, archive) = dynamic();
    let line = archive.receipt().unwrap().to_string();
    assert!(line.len() < Receipt::LENGTH_MAX);
    assert_eq!(line.parse::<Receipt>().unwrap().to_string(), line);
    let fields: Vec<&str> = line.split(' ').collect();
    let with = |at: usize, field: &str| {
        let mut changed = fields.clone();
        changed[at] = field;
        resign(&changed[..5].join(" "))
    };
    let upper = fields[1].to_uppercase();
    let mut wrong = vec![
        String::new(),
        line.clone() + " ",
        line.clone() + "\n",
        format!(" {line}"),
        line.replace(' ', "  "),
        line[..line.len() - 1].to_owned(),
        fields[..5].join(" "),
        "x".repeat(100_000),
        with(0, "ar7-receipt-2"),
        with(2, "1.2"),
        with(2, "1.2.0000000000000001"),
        with(2, "+1.2.00000001"),
        with(2, "4294967296.2.00000001"),
        with(2, "1.2.00000001.4"),
        with(3, &fields[3][1..]),
        with(3, &fields[3].to_uppercase().replace(char::is_numeric, "A")),
        with(3, &"+1".repeat(32)),
        with(4, "2026-01-01"),
        with(4, "2026-01-01T00:00:00.5Z"),
        with(4, "2026-01-01T00:00:00+01:00"),
        with(4, "9999-99-99T00:00:00Z"),
    ];
    if upper != fields[1] {
        wrong.push(with(1, &upper));
    }
    // Change each character once.
    for (at, found) in line.char_indices() {
        let other = if found == '1' { '2' } else { '1' };
        let mut changed = line.clone();
        changed.replace_range(at..at + found.len_utf8(), &other.to_string());
        wrong.push(changed);
    }
    for text in wrong {
        let outcome = text.parse::<Receipt>();
        assert!(matches!(outcome, Err(Error::NotAReceipt { .. })), "{text}: {outcome:?}");
    }
    assert!(with(4, "2026-01-01T00:00:00Z").parse::<Receipt>().is_ok());
}

#[test]
fn a_receipt_is_issued_only_for_a_synced_commit() {
    let (device, archive) = dynamic();
    add_stream(&archive);
    let before: Vec<u8> = device.to_bytes();
    add_stream(&archive);
    let newest = archive.receipt().unwrap();
    drop(archive);
    // The state after a kill between the write of the meta slot's first copy and its sync: the
    // second copy in the pair is still the older commit.
    let after = device.to_bytes();
    let is_newest = |at: u32| block(&after, at)[..12] == newest.generation().encode();
    let pair = [[1, 3], [2, 4]].into_iter().find(|pair| is_newest(pair[0]));
    let second = pair.expect("the newest pair")[1];
    device.write(Position::at(second), block(&before, second)).unwrap();
    let reader = open(&device, Access::Read);
    assert!(matches!(reader.receipt(), Err(Error::NotSynced)));
    reader.check_receipt(&newest).unwrap();
    drop(reader);
    let writer = open(&device, Access::Write);
    let receipt = writer.receipt().unwrap();
    writer.check_receipt(&newest).unwrap();
    writer.close().unwrap();
    check(&device, &receipt).unwrap();
}

fn block(image: &[u8], position: u32) -> &[u8] {
    &image[position as usize * BLOCK_SIZE..][..BLOCK_SIZE]
}
