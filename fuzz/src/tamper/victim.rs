//! The archive under attack, and the attacker's copies of its history.

use std::collections::HashMap;
use std::fmt;

use ar7_engine::crypto::{KeyKind, RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{
    ArchiveKind, BLOCK_SIZE, Data, Generation, META_SLOTS, MetaSlot, Position, meta_slot_layout,
};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::records::TreeId;
use ar7_registry::{Archive, CreateOptions, Finding, Receipt, Result, Subject};

use super::forge::Forger;
use crate::crash::{Content, Operation, add_empty_file, make_directory, set_size};

/// The kind of archive under attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VictimKind {
    /// One stream.
    Single,
    /// A fixed set of streams.
    Fixed,
    /// Any number of streams and names.
    Dynamic,
}

impl VictimKind {
    /// All kinds.
    pub const ALL: [VictimKind; 3] = [VictimKind::Single, VictimKind::Fixed, VictimKind::Dynamic];
}

/// A committed state.
pub struct State {
    /// The bytes of the file.
    pub image: Vec<u8>,
    /// The content.
    pub content: Content,
    /// A receipt for the state.
    pub receipt: Receipt,
}

/// The purpose of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The header or its copy.
    Header,
    /// A meta slot.
    Slot,
    /// One of the two blank reserved blocks.
    Blank,
    /// A block that is read: of a stream, of the registry (two copies), or of the redo list. Faults are reported at its position.
    Live {
        /// The kind of key that it is sealed under.
        kind: KeyKind,
        /// The position at which faults are reported: the home location of a shadow block, otherwise the block itself.
        reported_at: u32,
        /// Whether reading the content needs it. The trees of sessions, deletions, free blocks and packs are not needed.
        is_read: bool,
    },
    /// A free block, or a home location whose newest version is in a shadow block.
    Unused,
}

/// An archive under attack.
pub struct Victim {
    /// The kind.
    pub kind: VictimKind,
    /// Every committed state, in order; the last is the current one.
    pub states: Vec<State>,
    /// A copy that was written to separately, with the same number of commits.
    pub fork: State,
    /// Another archive under the same key.
    pub stranger: State,
    pub(super) parts: Vec<Part>,
    /// The block count of the current commit; the file may be longer.
    pub(super) block_count: u32,
    /// Both copies of the only block of the redo list.
    pub(super) redo: [u32; 2],
    /// The other copy of each copy of a page.
    twins: HashMap<u32, u32>,
    /// Every block that was ever sealed in this archive.
    sealed: HashMap<Vec<u8>, Sealed>,
    /// Numbers of the commits whose meta slots the attacker may have kept.
    numbers: HashMap<Generation, u64>,
}

/// How an authentic block was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    /// The kind of its key.
    pub(super) kind: KeyKind,
    /// The position that it was sealed for.
    pub(super) place: u32,
}

impl fmt::Debug for Victim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} archive of {} blocks", self.kind, self.block_count)
    }
}

impl Victim {
    /// Creates an archive with a history: streams of one run and of several extents, appended to, overwritten and
    /// deleted; packed files, with a hole, replaced and removed; reused blocks; names; a changed header; content that looks like pages and slots; several sessions; and
    /// finally a redo list that is not empty.
    ///
    /// # Panics
    /// If that fails.
    pub fn new(kind: VictimKind) -> Victim {
        let mut maker = Maker::new(kind);
        maker.make_history();
        maker.close();
        let mut fork = Maker {
            device: MemoryDevice::from_bytes(&maker.device.to_bytes()),
            content: maker.content.clone(),
            ..Maker::new(kind)
        };
        // Both begin the same session, each with its own salt.
        maker.end(1);
        fork.end(2);
        let fork = fork.states.pop().expect("a state of the fork");
        let mut stranger = Maker::new(kind);
        stranger.make_history();
        let stranger = stranger.states.pop().expect("a state of another archive");
        let states = maker.states;
        let slot = newest_slot(states.last().expect("a state"));
        let redo = slot.redo_head.expect("a redo list").copies().map(|copy| copy.position.get());
        let (parts, sealed, numbers) = (Vec::new(), HashMap::new(), HashMap::new());
        let (block_count, twins) = (slot.block_count, HashMap::new());
        let mut victim = Victim {
            kind,
            states,
            fork,
            stranger,
            parts,
            block_count,
            redo,
            twins,
            sealed,
            numbers,
        };
        victim.numbers =
            victim.known_states().flat_map(|state| commit_numbers(&state.image)).collect();
        let moved: Vec<u32> = (8..victim.blocks())
            .filter_map(|position| victim.reported_at(position).filter(|at| *at != position))
            .collect();
        let known = victim.known_states().flat_map(|state| sealed_blocks(&state.image, &moved));
        victim.sealed = known.collect();
        victim.parts = (0..victim.blocks()).map(|position| victim.part(position)).collect();
        victim.twins = victim.twins();
        victim.check_parts();
        victim
    }

    /// Returns the current state.
    ///
    /// # Panics
    /// Never: there is always one.
    pub fn now(&self) -> &State {
        self.states.last().expect("there is always a state")
    }

    /// Returns the number of blocks in the file.
    ///
    /// # Panics
    /// Never: the file is small.
    pub fn blocks(&self) -> u32 {
        u32::try_from(self.now().image.len() / BLOCK_SIZE).expect("a small archive")
    }

    /// Returns every state that the attacker may have kept; the copy's state is the last.
    pub(super) fn known_states(&self) -> impl Iterator<Item = &State> {
        self.states.iter().chain([&self.fork])
    }

    /// Returns how a block was sealed, if it was ever sealed in this archive.
    pub(super) fn genuine(&self, bytes: &[u8]) -> Option<Sealed> {
        self.sealed.get(bytes).copied()
    }

    /// Returns which block a finding is about, if it is a blank block, a shadow block, or a copy of the header, of a
    /// meta slot or of a block of the redo list.
    pub(super) fn copy_of(&self, finding: &Finding) -> Option<u32> {
        let found = match &finding.subject {
            Subject::Header(position) | Subject::MetaSlot(position) => *position,
            Subject::Page { position, .. } => return Some(position.get()),
            Subject::Blocks(run) => run.start(),
            _ => return None,
        };
        let found = found.get();
        (found < 8 || self.redo.contains(&found) || self.is_shadow(found)).then_some(found)
    }

    /// Returns whether neither copy of the block of the redo list is as committed.
    pub(super) fn is_redo_lost(&self, image: &[u8]) -> bool {
        self.redo.iter().all(|&copy| block(image, copy) != block(&self.now().image, copy))
    }

    /// Returns whether the other copy of this copy of a page is as committed.
    pub(super) fn has_good_twin(&self, image: &[u8], position: u32) -> bool {
        let twin = self.twins.get(&position);
        twin.is_some_and(|&twin| block(image, twin) == block(&self.now().image, twin))
    }

    fn twins(&self) -> HashMap<u32, u32> {
        let forger = Forger::new(&self.now().image);
        let is_page = |part: &Part| matches!(part, Part::Live { kind: KeyKind::Registry, .. });
        let pages = (0..).zip(&self.parts).filter(|(_, part)| is_page(part));
        let twin = |(position, _): (u32, &Part)| {
            let page = forger.open(KeyKind::Registry, position).expect("a page opens");
            Some((position, forger.copy_of_page(position, &page)?))
        };
        pages.filter_map(twin).collect()
    }

    /// Returns the home location of a shadow block.
    fn home_of(&self, position: u32) -> Option<u32> {
        match self.parts[usize::try_from(position).ok()?] {
            Part::Live { reported_at, .. } => Some(reported_at).filter(|home| *home != position),
            _ => None,
        }
    }

    /// Returns whether a block is a shadow block.
    pub(super) fn is_shadow(&self, position: u32) -> bool {
        self.home_of(position).is_some()
    }

    /// Returns whether a block is the home location of a shadow block.
    pub(super) fn is_redirected(&self, position: u32) -> bool {
        (0..self.blocks()).any(|shadow| self.home_of(shadow) == Some(position))
    }

    /// Returns the number of the commit with this generation.
    pub(super) fn number(&self, generation: Generation) -> u64 {
        self.numbers[&generation]
    }

    /// Returns the position at which verification reports that a block was overwritten.
    fn reported_at(&self, position: u32) -> Option<u32> {
        let mut image = self.now().image.clone();
        block_mut(&mut image, position).fill(0xa5);
        match open(&image, Access::Read) {
            Ok(archive) => {
                let mut found = None;
                let mut note = |finding: Finding| found = found.or(position_of(&finding.error));
                archive.verify(&mut note, &mut |_| {}).expect("verification ends");
                found
            }
            Err(error) => position_of(&error),
        }
    }

    /// Determines the purpose of a block by overwriting it.
    fn part(&self, position: u32) -> Part {
        match position {
            0 | 7 => Part::Header,
            1..=4 => Part::Slot,
            5 | 6 => Part::Blank,
            _ => match self.reported_at(position) {
                None => Part::Unused,
                Some(reported_at) => {
                    let sealed = self.genuine(block(&self.now().image, position));
                    let kind = sealed.expect("a block that is used opens").kind;
                    let is_read = kind != KeyKind::Registry || self.is_of_read_tree(position);
                    Part::Live { kind, reported_at, is_read }
                }
            },
        }
    }

    /// Returns whether reading the content needs the tree of this page.
    fn is_of_read_tree(&self, page: u32) -> bool {
        let opened = Forger::new(&self.now().image).open(KeyKind::Registry, page);
        let stream = opened.expect("a page opens").head.stream;
        let unread = [
            TreeId::Sessions,
            TreeId::PendingDeletions,
            TreeId::Free,
            TreeId::Packs,
            TreeId::DeadSlices,
        ];
        !unread.iter().any(|tree| stream.as_bytes().ends_with(&[tree.number().0]))
    }

    /// Checks that the purposes found agree with the archive's own statistics.
    fn check_parts(&self) {
        let archive = open(&self.now().image, Access::Read).expect("it opens");
        let summary = archive.verify(&mut |finding| panic!("{finding}"), &mut |_| {});
        let summary = summary.expect("verified");
        let count = |kind: KeyKind| {
            let is = |part: &&Part| matches!(part, Part::Live { kind: of, .. } if *of == kind);
            self.parts.iter().filter(is).count() as u64
        };
        assert_eq!(count(KeyKind::Data), summary.data_blocks, "blocks of streams");
        assert_eq!(count(KeyKind::Registry), 2 * summary.pages, "both copies of pages");
        assert_eq!(self.twins.len() as u64, 2 * summary.pages, "both copies of pages");
        assert_eq!(count(KeyKind::Meta), 2, "both copies of a block of the redo list");
        let moved = |position: u32| {
            self.parts.iter().any(
                |part| matches!(part, Part::Live { reported_at, .. } if *reported_at == position),
            )
        };
        let unused = (0..).zip(&self.parts).filter(|(position, part)| {
            **part == Part::Unused && !moved(*position) && *position < self.block_count
        });
        assert_eq!(unused.count() as u64, summary.free_blocks, "free blocks");
    }
}

/// Returns all sealed blocks, each sealed for its own position or for one of those in `moved`.
fn sealed_blocks(image: &[u8], moved: &[u32]) -> Vec<(Vec<u8>, Sealed)> {
    let forger = Forger::new(image);
    let sealed = |position: u32| {
        let mut places = [position].into_iter().chain(moved.iter().copied());
        let found =
            places.find_map(|place| Some(Sealed { kind: forger.kind_at(position, place)?, place }));
        Some((block(image, position).to_vec(), found?))
    };
    (0..forger.blocks()).filter_map(sealed).collect()
}

/// Returns generations and numbers of the commits in the meta slots.
fn commit_numbers(image: &[u8]) -> Vec<(Generation, u64)> {
    let forger = Forger::new(image);
    let opened = META_SLOTS.into_iter().filter_map(|at| forger.open(KeyKind::Meta, at.get()));
    let commit = |data: &Data| {
        let generation = Generation::decode(meta_slot_layout::GENERATION.array(data));
        (generation, meta_slot_layout::NUMBER.u64(data))
    };
    opened.map(|opened| commit(&opened.data)).collect()
}

fn newest_slot(state: &State) -> MetaSlot {
    let archive = open(&state.image, Access::Read).expect("it opens");
    archive.snapshot().commit().slot.clone()
}

/// Returns the secret of every archive here.
pub(super) fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([0x5c; 32]))
}

/// Opens the bytes of a file.
pub(super) fn open(image: &[u8], access: Access) -> Result<Archive> {
    open_on(&MemoryDevice::from_bytes(image), access)
}

pub(super) fn open_on(device: &MemoryDevice, access: Access) -> Result<Archive> {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options)
}

pub(super) fn block(image: &[u8], position: u32) -> &[u8] {
    let start = offset(position);
    image.get(start..start + BLOCK_SIZE).unwrap_or_default()
}

pub(super) fn block_mut(image: &mut [u8], position: u32) -> &mut [u8] {
    let start = offset(position);
    &mut image[start..start + BLOCK_SIZE]
}

pub(super) fn offset(position: u32) -> usize {
    usize::try_from(Position::at(position).offset()).expect("a small image")
}

pub(super) fn position_of(error: &ar7_registry::Error) -> Option<u32> {
    match error {
        ar7_registry::Error::Engine(
            ar7_engine::Error::Damaged(fault) | ar7_engine::Error::Tampered(fault),
        ) => fault.position.map(Position::get),
        _ => None,
    }
}

/// Number of blocks to keep after the end of an archive.
const BEHIND: u32 = 3;

/// Creates the states.
struct Maker {
    kind: VictimKind,
    device: MemoryDevice,
    archive: Option<Archive>,
    content: Content,
    states: Vec<State>,
    byte: u8,
}

impl Maker {
    fn new(kind: VictimKind) -> Maker {
        let device = MemoryDevice::new();
        Maker {
            kind,
            device,
            archive: None,
            content: Content::default(),
            states: Vec::new(),
            byte: 0,
        }
    }

    fn archive(&self) -> Archive {
        self.archive.clone().expect("it is open")
    }

    fn open(&mut self) {
        self.archive = Some(open_on(&self.device, Access::Write).expect("it opens"));
        self.keep();
    }

    fn close(&mut self) {
        self.archive.take().expect("it is open").close().expect("it closes");
        self.keep();
    }

    fn commit(&mut self) {
        self.archive().commit().expect("a commit");
        self.keep();
    }

    /// Records the committed state.
    fn keep(&mut self) {
        let mut image = self.device.to_bytes();
        let archive = open(&image, Access::Read).expect("a committed state opens");
        // A file grows in steps; a few blocks after the end are enough.
        let counted = archive.snapshot().commit().slot.block_count;
        image.truncate(offset(counted + BEHIND));
        let content = Content::verified(&archive).expect("a committed state verifies");
        assert_eq!(content, self.content, "the committed content");
        let receipt = archive.receipt().expect("a receipt");
        self.states.push(State { image, content, receipt });
    }

    fn change(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.byte += 1;
            let archive = self.archive();
            operation.change(&archive, &mut self.content, self.byte).expect("a change");
        }
        self.commit();
    }

    /// Creates the history that every archive has.
    fn make_history(&mut self) {
        let (kind, fixed_streams) = match self.kind {
            VictimKind::Single => (ArchiveKind::Single, 0),
            VictimKind::Fixed => (ArchiveKind::Fixed, 4),
            VictimKind::Dynamic => (ArchiveKind::Dynamic, 0),
        };
        let options = CreateOptions { kind, fixed_streams, ..CreateOptions::default() };
        let device = Box::new(self.device.clone());
        let archive = Archive::create_device(device, &secret(), &options).expect("a new archive");
        self.content = Content::read(&archive).expect("a new archive is read");
        self.archive = Some(archive);
        self.keep();
        match self.kind {
            VictimKind::Dynamic => self.make_name_history(),
            VictimKind::Single | VictimKind::Fixed => self.make_stream_history(),
        }
    }

    fn make_stream_history(&mut self) {
        // The only stream of a single archive is a reserved one; a fixed archive has others too.
        let index = if self.kind == VictimKind::Single { 0 } else { 7 };
        let mut reserved = self.archive().reserved_stream(index).expect("a reserved stream");
        reserved.append(&[1; 50]).expect("appended");
        self.content.streams.insert(reserved.identity(), vec![1; 50]);
        reserved.close().expect("closed");
        self.commit();
        let last = if self.kind == VictimKind::Single { 0 } else { 2 };
        self.change(&[
            Operation::Append { stream: 0, length: 9000 },
            Operation::Append { stream: last, length: 13_000 },
            Operation::Meta(1),
        ]);
        self.change(&[
            Operation::Append { stream: 0, length: 300 },
            Operation::Append { stream: last, length: 6000 },
        ]);
        self.change(&[Operation::Truncate { stream: last, length: 15_000 }]);
        self.disguise(last);
        self.relabel();
        self.close();
        self.open();
        self.change(&[
            Operation::Overwrite { stream: 0, offset: 3000, length: 2000 },
            Operation::Append { stream: last, length: 12_000 },
        ]);
        let length = if self.kind == VictimKind::Single { 30_000 } else { 7000 };
        self.change(&[Operation::Truncate { stream: 0, length }, Operation::Meta(2)]);
    }

    fn make_name_history(&mut self) {
        make_directory(&self.archive(), &mut self.content).expect("a directory");
        // Empty files whose names can be forged into invalid ones with the same sort order.
        for name in ["\u{1}", "-", ".-", "a0b"] {
            let path = format!("/{name}").into_bytes();
            add_empty_file(&self.archive(), &mut self.content, path).expect("an empty file");
        }
        self.change(&[
            Operation::Create { length: 100, name: Some(11) },
            Operation::Create { length: 4008, name: None },
            Operation::Create { length: 5000, name: Some(12) },
        ]);
        self.change(&[
            Operation::Append { stream: 1, length: 4008 },
            Operation::Create { length: 20_000, name: Some(14) },
        ]);
        self.change(&[Operation::Append { stream: 1, length: 2000 }, Operation::Meta(1)]);
        self.change(&[
            Operation::Delete { stream: 3 },
            Operation::Pack { name: 21, length: 300 },
            Operation::Pack { name: 23, length: 900 },
            Operation::PackHole { name: 25, length: 5000 },
        ]);
        self.disguise(2);
        self.relabel();
        self.close();
        self.open();
        self.change(&[
            Operation::Pack { name: 23, length: 70 },
            Operation::Create { length: 9000, name: Some(15) },
            Operation::Rename { from: 0, to: 2 },
            Operation::Overwrite { stream: 2, offset: 10, length: 50 },
        ]);
        self.change(&[
            Operation::Append { stream: 4, length: 9000 },
            Operation::Create { length: 29_000, name: Some(16) },
            Operation::Create { length: 13_000, name: Some(17) },
            Operation::Meta(2),
        ]);
    }

    /// Performs the operations after the copy was made. They are the same in both, except for the bytes.
    fn end(&mut self, byte: u8) {
        self.byte = 100 * byte;
        self.open();
        self.change(&[
            Operation::Append { stream: 0, length: 40 },
            Operation::Overwrite { stream: 1, offset: 100, length: 4500 },
        ]);
        self.change(&[Operation::Overwrite { stream: 0, offset: 5, length: 20 }]);
        // The process ends: the redo list remains referenced.
        self.archive = None;
    }

    /// Writes content that looks like a registry page, like the plaintext of a meta slot, and like a sealed one.
    fn disguise(&mut self, stream: u32) {
        let image = self.device.to_bytes();
        let forger = Forger::new(&image);
        let page = (8..forger.blocks()).find_map(|at| forger.open(KeyKind::Registry, at));
        let slot = forger.open(KeyKind::Meta, 1);
        let sealed = block(&image, 1).to_vec();
        // An archive of one stream may have no page.
        let slot = slot.expect("a slot");
        let page = page.map_or_else(|| slot.data.clone(), |page| page.data);
        let bytes = [&page[..], &slot.data[..], &sealed].concat();
        let identity = *self
            .content
            .streams
            .keys()
            .nth(usize::try_from(stream).expect("a small number"))
            .expect("a stream");
        let archive = self.archive();
        let mut stream = archive.open_stream(identity).expect("the stream opens");
        let end = stream.len().expect("its length");
        // Start at a block boundary, so that a block contains nothing but the imitation.
        let gap = usize::try_from(end.next_multiple_of(4008) - end).expect("less than a block");
        let bytes = [vec![7; gap], bytes].concat();
        stream.append(&bytes).expect("appended");
        stream.close().expect("closed");
        self.content.streams.get_mut(&identity).expect("the stream exists").extend(bytes);
        let size = u64::try_from(self.content.streams[&identity].len()).expect("a length");
        set_size(&mut self.content, identity, size);
        self.commit();
    }

    /// Changes the header.
    fn relabel(&mut self) {
        self.archive().relabel_key(&secret(), "another label").expect("relabelled");
        self.keep();
    }
}
