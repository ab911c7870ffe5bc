//! Makes hostile archives by writing unchecked records to the trees.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use ar7::uuid::Uuid;
use ar7_engine::crypto::{KeyKind, RawKey, SealJob, Secret};
use ar7_engine::format::{
    BlockHead, BlockIndex, DoubledRef, Generation, Position, ROOTS, Root, Timestamp,
};
use ar7_engine::store::{CreateOptions, SlotUpdate, Store, Writer};
use ar7_registry::records::{
    Attributes, EntryType, Inode, InodeNumber, Inodes, NameKey, NameRecords, NameValue, Record,
    TreeId,
};
use ar7_registry::tree::{Page, PageExpectation, PageSpace, PageStore, Tree};

use crate::common::STARTING;

/// An archive under construction.
pub(crate) struct Forge {
    space: Space,
    names: Tree,
    inodes: Tree,
    last_inode: u64,
}

struct Space {
    writer: Writer,
    /// The page of each copy.
    pages: HashMap<Position, Arc<Page>>,
    near: u64,
}

impl Forge {
    /// Creates an archive that opens with the key of [`crate::common::Bench`].
    pub(crate) fn new(path: &Path) -> Forge {
        let secret = Secret::Key(RawKey::from_bytes([7; 32]));
        let (_, writer) =
            Store::create(path, &secret, &CreateOptions::default()).expect("an archive");
        let mut forge = Forge {
            space: Space { writer, pages: HashMap::new(), near: 0 },
            names: Tree::open(TreeId::Names.number(), Root::default()),
            inodes: Tree::open(TreeId::Inodes.number(), Root::default()),
            last_inode: 0,
        };
        forge.inode(InodeNumber::ROOT.0, &root());
        forge
    }

    pub(crate) fn inode(&mut self, number: u64, inode: &Inode) {
        self.last_inode = self.last_inode.max(number);
        let key = Inodes::encode_key(&InodeNumber(number));
        let value = Inodes::encode_value(inode);
        self.inodes.insert(&mut self.space, &key, &value).expect("a record");
    }

    pub(crate) fn name(&mut self, directory: u64, name: &[u8], inode: u64, kind: EntryType) {
        let key = NameKey { directory: InodeNumber(directory), name: name.to_vec() };
        let value = NameValue { inode: InodeNumber(inode), kind };
        let (key, value) = (NameRecords::encode_key(&key), NameRecords::encode_value(&value));
        self.names.insert(&mut self.space, &key, &value).expect("a record");
    }

    /// Commits and closes the archive.
    pub(crate) fn finish(self) {
        let Forge { mut space, mut names, mut inodes, last_inode } = self;
        let mut roots = [Root::default(); ROOTS];
        roots[TreeId::Names.index()] = names.flush(&mut space).expect("pages");
        roots[TreeId::Inodes.index()] = inodes.flush(&mut space).expect("pages");
        space.seal();
        let Space { mut writer, near, .. } = space;
        let slot = writer.store().current().slot.clone();
        let redo = writer.write_redo_list().expect("no redo list");
        let inline_free = writer.drain_pool().iter().collect();
        let mut counters = slot.counters;
        (counters[0], counters[1]) = (last_inode, near);
        let update = SlotUpdate {
            roots,
            inline_free,
            reserved_streams: slot.reserved_streams,
            counters,
            metadata: Vec::new(),
            sessions_recorded: false,
            redo,
        };
        writer.commit(update).expect("a commit");
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        writer.finish().expect("closed");
    }
}

impl Space {
    fn seal(&mut self) {
        const PAGES: u128 = 0x6172_3700_0000_0000_8000_0000_0000_0000;
        let pages = self.pages.iter();
        let pages: Vec<_> = pages.map(|(&at, page)| (at, page, page.to_data())).collect();
        let jobs: Vec<SealJob<'_>> = pages
            .iter()
            .map(|(position, page, data)| SealJob {
                position: *position,
                head: BlockHead {
                    index: BlockIndex(u32::from(page.level())),
                    stream: Uuid::from_u128(PAGES + u128::from(page.tree().0)),
                    ..BlockHead::default()
                },
                data,
            })
            .collect();
        self.writer.write_fresh(KeyKind::Registry, &jobs).expect("sealed");
    }
}

impl PageStore for Space {
    fn load(&self, at: DoubledRef, _: PageExpectation) -> ar7_registry::Result<Arc<Page>> {
        Ok(Arc::clone(&self.pages[&at.position]))
    }
}

impl PageSpace for Space {
    fn allocate(&mut self, pages: u32) -> ar7_registry::Result<Vec<[Position; 2]>> {
        let count = usize::try_from(pages).expect("few pages");
        Ok(self.writer.allocate_twice(count)?)
    }

    fn generation(&self) -> Generation {
        self.writer.generation()
    }

    fn store(&mut self, at: DoubledRef, page: Arc<Page>) -> ar7_registry::Result<()> {
        self.near += u64::from(at.is_near());
        for copy in at.copies() {
            self.pages.insert(copy.position, Arc::clone(&page));
        }
        Ok(())
    }

    fn release(&mut self, _: DoubledRef) {}
}

/// Returns the root directory.
fn root() -> Inode {
    blank(EntryType::Directory)
}

/// Returns a directory whose parent is the inode with this number.
pub(crate) fn directory(parent: u64) -> Inode {
    Inode { parent: Some(InodeNumber(parent)), ..blank(EntryType::Directory) }
}

/// Returns a file of this length, but without a stream.
pub(crate) fn file(size: u64) -> Inode {
    Inode { size, ..blank(EntryType::File) }
}

/// Returns a symbolic link.
pub(crate) fn link(target: &[u8]) -> Inode {
    let size = target.len() as u64;
    Inode { size, target: Some(target.to_vec()), ..blank(EntryType::Symlink) }
}

fn blank(kind: EntryType) -> Inode {
    let modified = Timestamp::default();
    Inode::new(kind, Attributes { mode: 0o755, uid: 0, gid: 0, modified, origin: None })
}
