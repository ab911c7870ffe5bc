//! However a disk becomes full, everything can be deleted again: each change that takes space leaves the reserve.

use ar7_engine::Class;
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::ArchiveKind;
use ar7_registry::records::{ExtendedAttribute, InodeNumber};
use ar7_registry::{Archive, Names, Result, Stream};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::attributes::ATTRIBUTES;
use crate::common::{assert_verified, create, pattern};

/// Number of changes in a row that find no room until the disk is full.
const REFUSALS: usize = 8;

/// The changes of one run.
struct Run {
    archive: Archive,
    random: ChaCha8Rng,
    /// The names, all in one directory.
    names: Vec<Vec<u8>>,
    made: u64,
    /// Files that are open without a name.
    open: Vec<Stream>,
    /// Whether each commit only adds one file.
    only_adds: bool,
}

/// Begins with an archive of some files, on a disk with `more` blocks behind it.
fn run(seed: u64, more: u32) -> (MemoryDevice, Run) {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let random = ChaCha8Rng::seed_from_u64(seed);
    let only_adds = seed.is_multiple_of(4);
    let (names, open) = (Vec::new(), Vec::new());
    let mut run = Run { archive, random, names, made: 0, open, only_adds };
    for _ in 0..20 * (1 + seed % 40) {
        run.add().unwrap();
        if run.below(3) == 0 {
            run.remove().unwrap();
        }
    }
    run.archive.commit().unwrap();
    let blocks = run.archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap() + more);
    (device, run)
}

impl Run {
    fn below(&mut self, end: usize) -> usize {
        self.random.next_u32() as usize % end
    }

    fn names_of(&self) -> Names<'_> {
        self.archive.names()
    }

    fn new_name(&mut self) -> Vec<u8> {
        self.made += 1;
        // In no order, so that changes touch pages all over the trees.
        let number = self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let length = 16 + self.below(80);
        format!("{number:0length$x}").into_bytes()
    }

    fn any(&mut self) -> Option<(usize, InodeNumber)> {
        if self.names.is_empty() {
            return None;
        }
        let at = self.below(self.names.len());
        let found = self.names_of().lookup(InodeNumber::ROOT, &self.names[at]).unwrap();
        Some((at, found.expect("a file").inode))
    }

    /// Adds a file without content, with content of its own, or with packed content.
    fn add(&mut self) -> Result<()> {
        let (name, length) = (self.new_name(), [100, 3000, 9000, 40_000][self.below(4)]);
        let (content, salt) = (self.below(3), self.made);
        let bytes = pattern(length, usize::try_from(salt).unwrap());
        let names = self.archive.names();
        match content {
            0 => {
                names.add_file(InodeNumber::ROOT, &name, ATTRIBUTES, None)?;
            }
            1 => {
                let mut stream = self.archive.new_stream()?;
                stream.append(&bytes)?;
                let identity = stream.identity();
                stream.close()?;
                names.add_file(InodeNumber::ROOT, &name, ATTRIBUTES, Some(identity))?;
            }
            _ => {
                let mut packed = names.begin_packed(None)?;
                names.append_packed(&mut packed, &bytes)?;
                names.add_packed(InodeNumber::ROOT, &name, ATTRIBUTES, packed)?;
            }
        }
        self.names.push(name);
        Ok(())
    }

    fn rename(&mut self) -> Result<()> {
        let Some((at, _)) = self.any() else { return Ok(()) };
        let to = self.new_name();
        let root = InodeNumber::ROOT;
        self.names_of().rename((root, &self.names[at]), (root, &to), false)?;
        self.names[at] = to;
        Ok(())
    }

    fn set_extended_attributes(&mut self) -> Result<()> {
        let Some((_, number)) = self.any() else { return Ok(()) };
        let value = vec![7; self.below(600)];
        let attribute = ExtendedAttribute::new("user.a", value);
        self.names_of().set_extended_attributes(number, &[attribute])
    }

    /// Writes into a file, or cuts it.
    fn write(&mut self) -> Result<()> {
        let Some((_, number)) = self.any() else { return Ok(()) };
        let offset = self.below(50_000) as u64;
        let is_cut = self.below(3) == 0;
        let names = self.archive.names();
        let inode = names.inode(number)?.expect("an inode");
        if inode.slice.is_some() {
            names.unpack(number)?;
        }
        let Some(stream) = names.inode(number)?.expect("an inode").stream else { return Ok(()) };
        let mut stream = self.archive.open_stream(stream)?;
        if is_cut {
            stream.set_len(offset)?;
        } else {
            stream.write_at(offset, &[9; 5000])?;
        }
        stream.close()
    }

    /// Removes a file that stays open, if it has a stream.
    fn remove_open(&mut self) -> Result<()> {
        let Some((at, number)) = self.any() else { return Ok(()) };
        let inode = self.names_of().inode(number)?.expect("an inode");
        let Some(stream) = inode.stream else { return self.remove() };
        let open = self.archive.open_stream(stream)?;
        self.names_of().remove_open(InodeNumber::ROOT, &self.names[at])?;
        self.names.swap_remove(at);
        self.open.push(open);
        Ok(())
    }

    /// Changes something, and returns to a savepoint before it.
    fn try_out(&mut self) -> Result<()> {
        // A return to a savepoint makes handles stale.
        if !self.open.is_empty() {
            return self.add();
        }
        let point = self.archive.savepoint()?;
        let names = self.names.clone();
        let added = self.add().and_then(|()| self.archive.write_early());
        self.archive.roll_back_to(&point)?;
        self.names = names;
        added
    }

    fn remove(&mut self) -> Result<()> {
        let Some((at, _)) = self.any() else { return Ok(()) };
        let name = self.names.swap_remove(at);
        self.names_of().remove(InodeNumber::ROOT, &name)
    }

    /// Makes one to three changes, and commits. Returns whether there was room.
    fn step(&mut self) -> bool {
        let names = self.names.clone();
        let (changes, kinds) = if self.only_adds { (1, 1) } else { (1 + self.below(3), 12) };
        let made = (0..changes).try_for_each(|_| match self.below(kinds) {
            0..5 => self.add(),
            5 => self.rename(),
            6 => self.set_extended_attributes(),
            7 | 8 => self.write(),
            9 => self.remove_open(),
            10 => self.try_out(),
            _ => self.remove(),
        });
        if self.below(20) == 0 {
            self.open.clear();
        }
        match made.and_then(|()| self.archive.commit()) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.class(), Class::NoSpace, "{error}");
                self.archive.rollback().unwrap();
                // The open files have their names again, or their handles are stale.
                self.open.clear();
                self.names = names;
                false
            }
        }
    }

    fn fill(&mut self) {
        let mut refused = 0;
        while refused < REFUSALS {
            refused = if self.step() { 0 } else { refused + 1 };
        }
    }

    /// Removes any file in a commit of its own.
    fn remove_one(&mut self) {
        if self.below(4) == 0 {
            self.remove_open().unwrap();
        } else {
            self.remove().unwrap();
        }
        if self.below(3) == 0 {
            self.open.clear();
        }
        let refused = self.archive.try_commit().unwrap();
        assert!(refused.is_none(), "{refused:?}, {} are left", self.names.len());
    }
}

fn check(seed: u64, more: u32) {
    let (_device, mut run) = run(seed, more);
    println!("seed {seed}, {more} more blocks");
    // Someone reads the first commit meanwhile.
    let snapshot = seed.is_multiple_of(3).then(|| run.archive.snapshot());
    run.fill();
    // Next to a reader there may be no room even to free what is deleted, but that is no error.
    run.archive.reclaim().unwrap();
    drop(snapshot);
    run.archive.rollback().unwrap();
    run.open.clear();
    for _ in 0..3 {
        // What deletions free is taken again.
        for _ in 0..run.below(20).min(run.names.len()) {
            run.remove_one();
        }
        run.fill();
    }
    while !run.names.is_empty() {
        run.remove_one();
    }
    assert_verified(&run.archive);
}

#[test]
fn a_disk_that_became_full_by_any_changes_leaves_room_to_delete_everything() {
    for seed in 0..4 {
        check(seed, u32::try_from(seed).unwrap() * 7);
    }
}

#[test]
#[ignore = "takes minutes: cargo xtask proof runs it"]
fn many_disks_that_became_full_leave_room_to_delete_everything() {
    for seed in 4..40 {
        check(seed, u32::try_from(seed % 23).unwrap() * 5);
    }
}
