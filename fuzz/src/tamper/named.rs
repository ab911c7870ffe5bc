//! Named hostile archives: each has a forgery, and the check that must report it.

use ar7_engine::Check;
use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{
    BLOCKS_MAX, BlockRef, DerivationCost, DoubledRef, KeySlot, Label, Position, RedoBlock,
    RedoEntry, Run, StoredStream, StreamLayout, UsedSlot, meta_slot_layout, root,
};
use ar7_engine::store::Access;
use ar7_registry::packs::frame_head_layout;
use ar7_registry::records::{
    Extent, ExtentKey, Extents, Frames, InodeNumber, NameKey, NameRecords, Record, Stored, Streams,
    TreeId,
};
use ar7_registry::tree::testing::page_of;
use ar7_registry::tree::{Page, PageExpectation, TreeNumber, page_layout};
use ar7_registry::{Archive, CreateOptions};

use super::forge::Forger;
use super::hostile::{Reach, exercise};
use super::victim::{open, secret};
use crate::crash::attributes;
use crate::frame_parse::bomb;

/// When a fault must be reported. Verification must report it in any case, if the archive opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Opening,
    Reading,
    Verifying,
}

/// A hostile archive.
struct Hostile {
    name: &'static str,
    when: When,
    checks: &'static [Check],
    forge: fn(&mut Forger),
}

const fn hostile(
    name: &'static str,
    when: When,
    checks: &'static [Check],
    forge: fn(&mut Forger),
) -> Hostile {
    Hostile { name, when, checks, forge }
}

/// Made from an archive with a redo list, a stream of several extents, and names.
const SMALL: &[Hostile] = &[
    hostile(
        "a redo list with the header as home location",
        When::Opening,
        &[Check::RedoList],
        |forger| {
            forge_redo(forger, |entries| entries[0].home = Position::at(0));
        },
    ),
    hostile(
        "a redo list with a meta slot as home location",
        When::Opening,
        &[Check::RedoList],
        |forger| {
            forge_redo(forger, |entries| entries[0].home = Position::at(2));
        },
    ),
    hostile(
        "a redo list with a home location beyond the end",
        When::Opening,
        &[Check::RedoList],
        |forger| {
            forge_redo(forger, |entries| entries[0].home = Position::at(BLOCKS_MAX - 1));
        },
    ),
    hostile(
        "a redo list with the header as shadow block",
        When::Opening,
        &[Check::RedoList],
        |forger| {
            forge_redo(forger, |entries| set_shadow(&mut entries[0], 7));
        },
    ),
    hostile(
        "a redo list with a shadow block as home location",
        When::Opening,
        &[Check::RedoList],
        |forger| {
            forge_redo(forger, |entries| {
                let home = entries[0].shadow.expect("a shadow block").position;
                let mut other = RedoEntry { home, ..entries[0] };
                set_shadow(&mut other, 8);
                entries.push(other);
            });
        },
    ),
    hostile("a redo list with a shadow block twice", When::Opening, &[Check::RedoList], |forger| {
        forge_redo(forger, |entries| {
            // Another home location.
            let home = Position::at(if entries[0].home.get() == 8 { 9 } else { 8 });
            let other = RedoEntry { home, ..entries[0] };
            entries.push(other);
        });
    }),
    hostile(
        "a redo list with its own block as home location",
        When::Opening,
        &[Check::RedoList],
        |forger| {
            let head = current(forger, |slot| slot.redo_head).expect("a redo list").position;
            forge_redo(forger, |entries| entries[0].home = head);
        },
    ),
    hostile("a redo list longer than the archive", When::Opening, &[Check::MetaSlot], |forger| {
        forge_slot(forger, |data| meta_slot_layout::REDO_LENGTH.put(data, &[0xff; 4]));
    }),
    hostile("an endless redo list", When::Opening, &[Check::RedoList, Check::Index], |forger| {
        forge_redo_block(forger, |head, block| block.next = Some(head));
        // As many entries as the archive can need.
        forger.change_slot(|slot| slot.redo_length = slot.block_count - 8);
    }),
    hostile("a tree of 255 levels", When::Opening, &[Check::MetaSlot, Check::Root], |forger| {
        forge_root(forger, TreeId::Streams, |bytes| root::DEPTH.put(bytes, &[255]));
    }),
    hostile("a tree with one level too many", When::Reading, &[Check::Index], |forger| {
        forge_root(forger, TreeId::Streams, |bytes| {
            let [depth] = root::DEPTH.array(bytes);
            root::DEPTH.put(bytes, &[depth + 1]);
        });
    }),
    hostile("a root at the header", When::Opening, &[Check::Root, Check::MetaSlot], |forger| {
        forge_root(forger, TreeId::Names, |bytes| bytes[..4].copy_from_slice(&[0; 4]));
    }),
    hostile("a root beyond the end", When::Opening, &[Check::Root, Check::MetaSlot], |forger| {
        forge_root(forger, TreeId::Names, |bytes| bytes[..4].copy_from_slice(&[0, 1, 0, 0]));
    }),
    hostile("the root of another tree", When::Reading, &[Check::Stream], |forger| {
        let other = current(forger, |slot| slot.roots[TreeId::Inodes.index()].block);
        let other = DoubledRef::encode(other);
        forge_root(forger, TreeId::Names, |bytes| root::BLOCK.put(bytes, &other));
    }),
    hostile("more blocks than the file has", When::Opening, &[], |forger| {
        let most = BLOCKS_MAX.to_be_bytes();
        forge_slot(forger, |data| meta_slot_layout::BLOCK_COUNT.put(data, &most));
    }),
    hostile("inline free runs that are in use", When::Verifying, &[Check::FreeMap], |forger| {
        forger.change_slot(|slot| slot.inline_free = vec![run(9, 4)]);
    }),
    hostile("a reserved stream of 2^31 blocks", When::Opening, &[Check::MetaSlot], |forger| {
        let mut stored = StoredStream::empty(uuid::Uuid::from_u128(5));
        (stored.record.count, stored.record.length) = (BLOCKS_MAX, 1 << 42);
        (stored.record.begin, stored.record.end) = (Position::new(9), Position::new(9));
        forge_slot(forger, |data| {
            let at = meta_slot_layout::STREAMS.offset + 5 * StoredStream::SIZE;
            data[at..at + StoredStream::SIZE].copy_from_slice(&stored.encode());
        });
    }),
    hostile("a stream of 2^32 - 1 blocks", When::Reading, STREAM, |forger| {
        forge_stream(forger, |stored| stored.record.count = u32::MAX);
    }),
    hostile("a stream of 2^64 - 1 bytes", When::Reading, STREAM, |forger| {
        forge_stream(forger, |stored| stored.record.length = u64::MAX);
    }),
    hostile("a stream that starts at the header", When::Reading, STREAM, |forger| {
        forge_stream(forger, |stored| stored.record.begin = Some(Position::at(3)));
    }),
    hostile("a stream that starts beyond the end", When::Reading, STREAM, |forger| {
        forge_stream(forger, |stored| stored.record.begin = Some(Position::at(1 << 20)));
    }),
    hostile("a stream over blocks of another", When::Reading, STREAM, |forger| {
        let other = block_of_another(forger);
        forge_stream(forger, |stored| {
            stored.record.begin = Some(other.position);
            stored.layout = StreamLayout::OneRun(other.generation);
        });
    }),
    hostile("a stream without its extents", When::Reading, STREAM, |forger| {
        forge_stream(forger, |stored| stored.layout = StreamLayout::Extents);
    }),
    hostile("extents with a gap", When::Reading, &[Check::Extents], |forger| {
        forge_extent(forger, |key| key.first.0 += 1000, |_| {});
    }),
    hostile("overlapping extents", When::Verifying, &[Check::FreeMap, Check::Extents], |forger| {
        forge_extent(forger, |_| {}, |extent| extent.run = run(extent.run.start().get(), 3));
    }),
    hostile("an extent beyond the end", When::Verifying, &[Check::Record], |forger| {
        forge_extent(forger, |_| {}, |extent| extent.run = run(1 << 20, extent.run.count()));
    }),
    hostile("a chain that loops", When::Reading, LINKS, |forger| {
        let (first, _) = two_blocks(forger);
        forger.change(KeyKind::Data, first, |opened| opened.head.next = Position::new(first));
    }),
    hostile("a chain that leads to the header", When::Reading, LINKS, |forger| {
        let (first, _) = two_blocks(forger);
        forger.change(KeyKind::Data, first, |opened| opened.head.next = Some(Position::at(0)));
    }),
    hostile("a chain with a wrong previous link", When::Reading, LINKS, |forger| {
        let (first, second) = two_blocks(forger);
        forger.change(KeyKind::Data, second, |opened| opened.head.next = Position::new(first));
    }),
    hostile("a block of another stream", When::Reading, &[Check::Stream], |forger| {
        let (first, _) = two_blocks(forger);
        forger.change(KeyKind::Data, first, |opened| opened.head.stream = uuid::Uuid::max());
    }),
    hostile("a block with another index", When::Reading, &[Check::Index], |forger| {
        let (_, second) = two_blocks(forger);
        forger.change(KeyKind::Data, second, |opened| opened.head.index.0 = 7);
    }),
    hostile("a frame that holds more than it states", When::Reading, FRAME, |forger| {
        forge_frame_in_pack(forger, |head, payload| {
            let slices = u64::from(frame_head_layout::SLICES.u16(head));
            let stated = u64::from(frame_head_layout::LENGTH.u32(head)) + 16 * slices;
            *payload = bomb(stated, payload.len());
        });
    }),
    hostile("a frame that states 2^60 bytes", When::Reading, FRAME, |forger| {
        forge_frame_in_pack(forger, |_, payload| *payload = bomb(1 << 60, payload.len()));
    }),
    hostile("a frame of 2^32 - 1 addresses", When::Reading, FRAME, |forger| {
        forge_frame_in_pack(forger, |head, _| frame_head_layout::LENGTH.put(head, &[0xff; 4]));
    }),
    hostile("a frame of 65,535 slices", When::Reading, FRAME, |forger| {
        forge_frame_in_pack(forger, |head, _| frame_head_layout::SLICES.put(head, &[0xff; 2]));
    }),
    hostile("a frame of other addresses", When::Reading, FRAME, |forger| {
        forge_frame_in_pack(forger, |head, _| frame_head_layout::FIRST.put(head, &[0; 8]));
    }),
    hostile("a frame in a pack that is not there", When::Reading, PACK, |forger| {
        forge_frame(forger, |stored| stored.pack = uuid::Uuid::from_u128(7));
    }),
    hostile("a frame beyond the end of its pack", When::Reading, FRAME, |forger| {
        forge_frame(forger, |stored| stored.offset = u32::MAX);
    }),
    hostile("a frame with the longest payload", When::Reading, FRAME, |forger| {
        forge_frame(forger, |stored| stored.length = 393_216);
    }),
    hostile("the name `..`", When::Reading, NAMES, |forger| {
        forge_name(forger, b".-", b"..");
    }),
    hostile("a name with a slash", When::Reading, NAMES, |forger| {
        forge_name(forger, b"a0b", b"a/b");
    }),
    hostile("the name `.`", When::Reading, NAMES, |forger| {
        forge_name(forger, b"-", b".");
    }),
    hostile("a name with a NUL", When::Reading, NAMES, |forger| forge_name(forger, b"\x01", b"\0")),
    hostile("a key that needs 4 TiB to derive", When::Opening, &[Check::KeyDerivation], |forger| {
        forge_costs(forger, 1, u32::MAX, 1);
    }),
    hostile("a key that needs 2^32 passes", When::Opening, &[Check::KeyDerivation], |forger| {
        forge_costs(forger, 1, 8, u32::MAX);
    }),
    hostile(
        "keys whose total cost is too high",
        When::Opening,
        &[Check::KeyDerivation],
        |forger| {
            forge_costs(forger, 7, 1 << 20, 1);
        },
    ),
];

/// Made from an archive whose trees have branches.
const CROWDED: &[Hostile] = &[
    hostile(
        "a page that is its own child",
        When::Reading,
        &[Check::Index, Check::FreeMap],
        |forger| {
            forge_child(forger, |root, _| root);
        },
    ),
    hostile("a page that occurs twice as a child", When::Verifying, PAGES, |forger| {
        forge_child(forger, |_, children| children[1]);
    }),
    hostile("a child at the header", When::Reading, &[Check::Root, Check::FreeMap], |forger| {
        let [position, copy] = [7, 6].map(Position::at);
        forge_child(forger, |_, children| DoubledRef { position, copy, ..children[0] });
    }),
    hostile("a child of another generation", When::Reading, &[Check::Generation], |forger| {
        forge_child(forger, |_, children| {
            let mut child = children[0];
            child.generation.step += 1;
            child
        });
    }),
];

const STREAM: &[Check] = &[
    Check::Record,
    Check::Extents,
    Check::Stream,
    Check::Index,
    Check::PreviousLink,
    Check::NextLink,
    Check::Generation,
    Check::Tag,
    Check::Root,
];
const FRAME: &[Check] = &[Check::Frame];
const PACK: &[Check] = &[Check::Frame, Check::Stream, Check::Record];
const LINKS: &[Check] = &[Check::NextLink, Check::PreviousLink];
const NAMES: &[Check] = &[Check::Name, Check::Record];
const PAGES: &[Check] = &[Check::KeyOrder, Check::FreeMap, Check::Page];

/// Creates every named hostile archive and examines it. Returns the names, if each archive was reported as expected.
///
/// # Panics
/// If an archive makes the code under test panic or exceed its bounds.
pub fn named_hostile(image: &[u8]) -> Result<Vec<&'static str>, String> {
    let crowded = crowded();
    let (mut names, mut wrong) = (Vec::new(), Vec::new());
    for (image, list) in [(image, SMALL), (&crowded[..], CROWDED)] {
        for hostile in list {
            let mut forger = Forger::new(image);
            (hostile.forge)(&mut forger);
            let reach = exercise(&forger.image);
            match hostile.check(&reach) {
                Ok(()) => names.push(hostile.name),
                Err(what) => wrong.push(format!("{}: {what}", hostile.name)),
            }
        }
    }
    if wrong.is_empty() { Ok(names) } else { Err(wrong.join("\n")) }
}

impl Hostile {
    fn check(&self, reach: &Reach) -> Result<(), String> {
        let has_expected = |found: &[Check]| found.iter().any(|check| self.checks.contains(check));
        let is_as_expected = match self.when {
            When::Opening if self.checks.is_empty() => reach.truncated,
            When::Opening => has_expected(&reach.opening),
            When::Reading => has_expected(&reach.reading) && has_expected(&reach.verifying),
            When::Verifying => has_expected(&reach.verifying),
        };
        if is_as_expected {
            Ok(())
        } else {
            Err(format!("{reach:?}, expected {:?} when {:?}", self.checks, self.when))
        }
    }
}

fn run(start: u32, count: u32) -> Run {
    Run::new(Position::at(start), count).expect("a run")
}

/// Returns a value from the current commit's meta slot.
fn current<T>(forger: &Forger, of: fn(&ar7_engine::format::MetaSlot) -> T) -> T {
    let archive = open(&forger.image, Access::Read).expect("it opens");
    let snapshot = archive.snapshot();
    of(&snapshot.commit().slot)
}

/// Changes the entries in the first block of the redo list, and its length.
fn forge_redo(forger: &mut Forger, change: impl FnOnce(&mut Vec<RedoEntry>)) {
    let mut length = 0;
    forge_redo_block(forger, |_, block| {
        change(&mut block.entries);
        length = u32::try_from(block.entries.len()).expect("a few");
    });
    forger.change_slot(|slot| slot.redo_length = length);
}

/// Changes both copies of the first block of the redo list, to which `change` also gets the reference.
fn forge_redo_block(forger: &mut Forger, change: impl FnOnce(DoubledRef, &mut RedoBlock)) {
    let (head, blocks) = current(forger, |slot| (slot.redo_head, slot.block_count));
    let head = head.expect("a redo list");
    let opened = forger.open(KeyKind::Meta, head.position.get()).expect("its first block");
    let mut block = RedoBlock::decode(head.position, &opened.data, blocks).expect("its entries");
    change(head, &mut block);
    for copy in head.copies() {
        forger.change(KeyKind::Meta, copy.position.get(), |opened| opened.data = block.encode());
    }
}

fn set_shadow(entry: &mut RedoEntry, position: u32) {
    let shadow = entry.shadow.as_mut().expect("a shadow block");
    shadow.position = Position::at(position);
}

/// Changes the bytes of the current commit's meta slot, which may become invalid.
fn forge_slot(forger: &mut Forger, change: impl FnOnce(&mut [u8])) {
    let (newest, _) = forger.newest_slot();
    forger.change(KeyKind::Meta, newest, |opened| change(&mut opened.data[..]));
}

/// Changes the bytes of a root.
fn forge_root(forger: &mut Forger, tree: TreeId, change: impl FnOnce(&mut [u8])) {
    forge_slot(forger, |data| {
        let roots = meta_slot_layout::ROOTS.of_mut(data);
        change(&mut roots[tree.index() * root::SIZE..][..root::SIZE]);
    });
}

fn roots(forger: &Forger) -> Vec<DoubledRef> {
    current(forger, |slot| slot.roots.iter().filter_map(|root| root.block).collect())
}

/// Replaces bytes of a key or of a value with others of the same length.
fn replace(forger: &mut Forger, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len(), "records of one length");
    let live = roots(forger);
    let mut all = live.iter().map(|block| block.position.get()).chain(8..forger.blocks());
    let found = all.find_map(|position| {
        let mut found = ForgedPage::open(forger, position)?;
        let is_found = found.replace(from, to);
        is_found.then_some(found)
    });
    found.expect("a page that holds it").seal(forger);
}

/// The cells of a page, to change them.
struct ForgedPage {
    position: u32,
    expect: PageExpectation,
    cells: Vec<(Vec<u8>, Vec<u8>)>,
}

impl ForgedPage {
    /// Opens the first copy of a page, or none if there is another block.
    fn open(forger: &Forger, position: u32) -> Option<ForgedPage> {
        let data = forger.open(KeyKind::Registry, position)?.data;
        let tree = TreeNumber(data[page_layout::TREE.offset]);
        let expect = PageExpectation { tree, level: data[page_layout::LEVEL.offset] };
        let page = Page::parse(Position::at(position), &data, expect).ok()?;
        let cells = (0..page.count()).map(|at| (page.key(at).to_vec(), page.value(at).to_vec()));
        Some(ForgedPage { position, expect, cells: cells.collect() })
    }

    /// Replaces bytes where they occur first. Returns whether they do.
    fn replace(&mut self, from: &[u8], to: &[u8]) -> bool {
        for part in self.cells.iter_mut().flat_map(|(key, value)| [key, value]) {
            if let Some(at) = part.windows(from.len()).position(|window| window == from) {
                part[at..at + to.len()].copy_from_slice(to);
                return true;
            }
        }
        false
    }

    fn seal(self, forger: &mut Forger) {
        let data = page_of(self.expect, &self.cells);
        forger.change(KeyKind::Registry, self.position, |opened| {
            opened.data.copy_from_slice(&data[..]);
        });
    }
}

/// Returns the longest stream of one run.
fn one_run(forger: &Forger) -> StoredStream {
    let archive = open(&forger.image, Access::Read).expect("it opens");
    let streams = archive.streams(None, 100).expect("streams");
    let of_one =
        streams.into_iter().filter(|stored| matches!(stored.layout, StreamLayout::OneRun(_)));
    let longest = of_one.max_by_key(|stored| stored.record.count).expect("a stream of one run");
    assert!(longest.record.count > 2, "a stream of three blocks");
    longest
}

/// Returns the first block of another stream.
fn block_of_another(forger: &Forger) -> BlockRef {
    let not = one_run(forger).record.identity;
    let archive = open(&forger.image, Access::Read).expect("it opens");
    let streams = archive.streams(None, 100).expect("streams");
    let mut others = streams.iter().filter(|stored| stored.record.identity != not);
    let found = others.find_map(|stored| {
        let position = stored.record.begin?;
        let opened = forger.open(KeyKind::Data, position.get())?;
        Some(BlockRef { position, generation: opened.generation })
    });
    found.expect("another stream")
}

fn forge_stream(forger: &mut Forger, change: impl FnOnce(&mut StoredStream)) {
    let stored = one_run(forger);
    let mut forged = stored.clone();
    change(&mut forged);
    replace(forger, &Streams::encode_value(&stored), &Streams::encode_value(&forged));
}

fn forge_extent(
    forger: &mut Forger,
    change_key: impl FnOnce(&mut ExtentKey),
    change: impl FnOnce(&mut Extent),
) {
    let root = current(forger, |slot| slot.roots[TreeId::Extents.index()].block);
    let position = root.expect("streams of several extents").position.get();
    let mut page = ForgedPage::open(forger, position).expect("a page");
    let (key, value) = page.cells.last_mut().expect("a page has cells");
    let mut forged_key = Extents::decode_key(key).expect("its key");
    let mut forged = Extents::decode_value(key, value).expect("an extent");
    change_key(&mut forged_key);
    change(&mut forged);
    (*key, *value) = (Extents::encode_key(&forged_key), Extents::encode_value(&forged));
    page.seal(forger);
}

/// Changes where the first frame is.
fn forge_frame(forger: &mut Forger, change: impl FnOnce(&mut Stored)) {
    let root = current(forger, |slot| slot.roots[TreeId::Frames.index()].block);
    let position = root.expect("packed content").position.get();
    let mut page = ForgedPage::open(forger, position).expect("a page");
    let decoded = |(key, value): &(Vec<u8>, Vec<u8>)| Frames::decode_value(key, value).ok();
    let at = page.cells.iter().position(|cell| decoded(cell).is_some_and(|it| it.stored.is_some()));
    let cell = &mut page.cells[at.expect("a frame in a pack")];
    let mut frame = decoded(cell).expect("a frame");
    change(frame.stored.as_mut().expect("in a pack"));
    cell.1 = Frames::encode_value(&frame);
    page.seal(forger);
}

/// Changes the head of the first frame in a pack, and what follows it, which keeps its length.
fn forge_frame_in_pack(forger: &mut Forger, change: impl FnOnce(&mut [u8], &mut Vec<u8>)) {
    let mut all = 8..forger.blocks();
    let position = all.find(|&position| {
        let opened = forger.open(KeyKind::Data, position);
        opened.is_some_and(|opened| opened.data.starts_with(b"fram"))
    });
    forger.change(KeyKind::Data, position.expect("a pack"), |opened| {
        let (head, rest) = opened.data.split_at_mut(frame_head_layout::SIZE);
        let stored = usize::try_from(frame_head_layout::STORED.u32(head)).expect("a short frame");
        let mut payload = rest[..stored].to_vec();
        change(head, &mut payload);
        rest[..stored].copy_from_slice(&payload);
    });
}

/// Returns the positions of the first two blocks of a stream.
fn two_blocks(forger: &Forger) -> (u32, u32) {
    let begin = one_run(forger).record.begin.expect("it has blocks").get();
    (begin, begin + 1)
}

/// Replaces a name with one that has the same length and sort order.
fn forge_name(forger: &mut Forger, from: &[u8], to: &[u8]) {
    let directory = InodeNumber::ROOT;
    let key = |name: &[u8]| NameRecords::encode_key(&NameKey { directory, name: name.to_vec() });
    replace(forger, &key(from), &key(to));
}

fn forge_costs(forger: &mut Forger, slots: usize, memory_kib: u32, passes: u32) {
    forger.change_header(|header| {
        for slot in &mut header.slots[1..=slots] {
            *slot = KeySlot::Used(Box::new(UsedSlot {
                cost: Some(DerivationCost { memory_kib, passes, lanes: 1 }),
                salt: [1; 32],
                label: Label::default(),
                commitment: [2; 32],
                nonce: [3; 24],
                wrapped: [4; 48],
            }));
        }
    });
}

/// Replaces the first child of the root of the names.
fn forge_child(forger: &mut Forger, choose: impl FnOnce(DoubledRef, &[DoubledRef]) -> DoubledRef) {
    let root = current(forger, |slot| slot.roots[TreeId::Names.index()].block).expect("names");
    let opened = forger.open(KeyKind::Registry, root.position.get()).expect("the root");
    let expect = PageExpectation { tree: TreeId::Names.number(), level: 1 };
    let page = Page::parse(root.position, &opened.data, expect);
    let page = page.expect("a branch");
    let children: Vec<DoubledRef> = (0..page.count()).map(|cell| page.child_block(cell)).collect();
    let chosen = choose(root, &children);
    let from = DoubledRef::encode(Some(children[0]));
    replace(forger, &from, &DoubledRef::encode(Some(chosen)));
}

/// Returns an archive with enough names that its trees have branches.
fn crowded() -> Vec<u8> {
    let device = ar7_engine::device::MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options);
    let archive = archive.expect("a new archive");
    let root = archive.names().resolve(b"").expect("the root").inode;
    for number in 0..400 {
        let name = format!("{number:04}, a file with a longer name that no other one begins with");
        let added = archive.names().add_file(root, name.as_bytes(), attributes(), None);
        added.expect("a file");
    }
    archive.commit().expect("a commit");
    archive.close().expect("closed");
    device.to_bytes()
}
