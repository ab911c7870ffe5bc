//! The abilities of an attacker with the key: opens any block, changes the plaintext, and seals it again.

use ar7_engine::crypto::{HeaderKey, KeyKind, MasterKey, SealJob, Sealer, unwrap_master_key};
use ar7_engine::format::{
    BLOCK_SIZE, BlockHead, Data, Generation, Header, META_STREAM, MetaSlot, Position, REDO_STREAM,
    UncheckedHeader,
};

use super::victim::{block, block_mut, secret};

/// The bytes of an archive, with its keys.
pub struct Forger {
    /// The bytes, including the changes so far.
    pub image: Vec<u8>,
    header: Header,
    header_key: HeaderKey,
    sealer: Sealer,
}

/// An opened block: its generation, head and data.
#[derive(Debug, Clone)]
pub struct OpenBlock {
    /// The generation of the block.
    pub generation: Generation,
    /// The links, index and stream.
    pub head: BlockHead,
    /// The data.
    pub data: Box<Data>,
}

impl Forger {
    /// Gets the keys from the header.
    ///
    /// # Panics
    /// If `image` does not start with a good header.
    pub fn new(image: &[u8]) -> Forger {
        let bytes = block(image, 0).try_into().expect("a whole block");
        let unchecked = UncheckedHeader::parse(Position::at(0), bytes).expect("a header");
        let archive = unchecked.archive();
        let unwrapped = unwrap_master_key(unchecked.slots(), &secret(), archive);
        let (master, _): (MasterKey, usize) = unwrapped.expect("the key fits");
        let header_key = HeaderKey::derive(&master, archive);
        let header = unchecked.authenticate(&header_key).expect("a genuine header");
        let sealer = Sealer::new(&master, archive);
        Forger { image: image.to_vec(), header, header_key, sealer }
    }

    /// Returns the number of blocks in the file.
    ///
    /// # Panics
    /// If the file is too long for memory.
    pub fn blocks(&self) -> u32 {
        u32::try_from(self.image.len() / BLOCK_SIZE).expect("a small image")
    }

    /// Opens a block if it is sealed as this kind.
    pub fn open(&self, kind: KeyKind, position: u32) -> Option<OpenBlock> {
        self.open_at(kind, position, position)
    }

    /// Opens a block that is stored at `position` and sealed for `place`.
    pub fn open_at(&self, kind: KeyKind, position: u32, place: u32) -> Option<OpenBlock> {
        let mut bytes: [u8; BLOCK_SIZE] = block(&self.image, position).try_into().ok()?;
        let opened = self.sealer.open_in_place(kind, Position::at(place), &mut bytes).ok()?;
        let (generation, head) = (opened.generation, opened.head);
        Some(OpenBlock { generation, head, data: Box::new(*opened.data) })
    }

    /// Returns the kind of a block: by its key, or, if several keys open it although they must not, by its stream.
    pub fn kind_at(&self, position: u32, place: u32) -> Option<KeyKind> {
        let kinds = [KeyKind::Data, KeyKind::Registry, KeyKind::Meta];
        let opens = |&kind: &KeyKind| Some((kind, self.open_at(kind, position, place)?));
        let opened: Vec<(KeyKind, OpenBlock)> = kinds.iter().filter_map(opens).collect();
        match &opened[..] {
            [] => None,
            [(kind, _)] => Some(*kind),
            [(_, opened), ..] => Some(match opened.head.stream {
                META_STREAM | REDO_STREAM => KeyKind::Meta,
                // A page has a stream that identifies its tree: "ar7", with the tree's number at the end.
                stream if stream.as_bytes().starts_with(b"ar7\0") => KeyKind::Registry,
                _ => KeyKind::Data,
            }),
        }
    }

    /// Seals a block for its position, under the generation that it states.
    ///
    /// # Panics
    /// If the system provides no random bytes.
    pub fn seal(&mut self, kind: KeyKind, position: u32, changed: &OpenBlock) {
        let job =
            SealJob { position: Position::at(position), head: changed.head, data: &changed.data };
        let bytes = block_mut(&mut self.image, position);
        self.sealer.seal_batch(kind, changed.generation, &[job], bytes).expect("random bytes");
    }

    /// Changes an existing block; if it is a meta slot or a page, in both copies.
    ///
    /// # Panics
    /// If it does not open.
    pub fn change(&mut self, kind: KeyKind, position: u32, change: impl FnOnce(&mut OpenBlock)) {
        let mut opened = self.open(kind, position).expect("a block of this kind");
        let copy =
            if kind == KeyKind::Registry { self.copy_of_page(position, &opened) } else { None };
        change(&mut opened);
        if let Some(copy) = copy {
            self.seal(kind, copy, &opened);
        }
        self.seal(kind, position, &opened);
        if let 1..=4 = position {
            // Positions 1 and 3 hold one commit, 2 and 4 another.
            self.seal(kind, (position + 1) % 4 + 1, &opened);
        }
    }

    /// Returns the position of the other copy of a page.
    pub fn copy_of_page(&self, position: u32, page: &OpenBlock) -> Option<u32> {
        (0..self.blocks()).filter(|other| *other != position).find(|&other| {
            self.open(KeyKind::Registry, other).is_some_and(|other| {
                (other.generation, other.head) == (page.generation, page.head)
                    && other.data == page.data
            })
        })
    }

    /// Returns the meta slot of the current commit.
    ///
    /// # Panics
    /// If none opens.
    pub fn newest_slot(&self) -> (u32, OpenBlock) {
        let slots = (1..=4).filter_map(|at| Some((at, self.open(KeyKind::Meta, at)?)));
        let order =
            |(_, opened): &(u32, OpenBlock)| (opened.generation.session, opened.generation.step);
        slots.max_by_key(order).expect("a meta slot")
    }

    /// Changes both copies of the current commit's meta slot.
    ///
    /// # Panics
    /// If there is none, or it cannot be encoded.
    pub fn change_slot(&mut self, change: impl FnOnce(&mut MetaSlot)) {
        let (position, opened) = self.newest_slot();
        let at = Position::at(position);
        let mut slot = MetaSlot::decode(at, opened.generation, &opened.data).expect("a slot");
        change(&mut slot);
        let data = slot.encode().expect("it fits");
        self.change(KeyKind::Meta, position, |opened| opened.data.copy_from_slice(&data[..]));
    }

    /// Changes both copies of the header, and updates its digest in every slot.
    ///
    /// # Panics
    /// Like [`Forger::change_slot`].
    pub fn change_header(&mut self, change: impl FnOnce(&mut Header)) {
        change(&mut self.header);
        let bytes = self.header.encode(&self.header_key);
        let digest = ar7_engine::format::header_digest(&bytes);
        self.change_slot(|slot| slot.header_digest = digest);
        for position in [0, 7] {
            block_mut(&mut self.image, position).copy_from_slice(&bytes[..]);
        }
    }
}
