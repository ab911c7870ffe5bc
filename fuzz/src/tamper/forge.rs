//! What somebody with the key can do: open every block, change the plaintext, and seal it again.

use ar7_engine::crypto::{HeaderKey, KeyKind, MasterKey, SealJob, Sealer, unwrap_master_key};
use ar7_engine::format::{
    BLOCK_SIZE, BlockHead, Data, Generation, Header, META_STREAM, MetaSlot, Position, REDO_STREAM,
    UncheckedHeader,
};

use super::victim::{block, block_mut, secret};

/// The bytes of an archive, and its keys.
pub struct Forger {
    /// The bytes, with what was forged so far.
    pub image: Vec<u8>,
    header: Header,
    header_key: HeaderKey,
    sealer: Sealer,
}

/// A block that was opened: its version, what it says of itself, and its data.
#[derive(Debug, Clone)]
pub struct OpenBlock {
    /// Version of the block.
    pub generation: Generation,
    /// Links, index and stream.
    pub head: BlockHead,
    /// The data.
    pub data: Box<Data>,
}

impl Forger {
    /// Takes the keys from the header.
    ///
    /// # Panics
    /// If there is no good header at the beginning of `image`.
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

    /// Number of blocks of the file.
    ///
    /// # Panics
    /// If the file is too long for memory.
    pub fn blocks(&self) -> u32 {
        u32::try_from(self.image.len() / BLOCK_SIZE).expect("a small image")
    }

    /// Opens a block, if it is sealed as of this kind.
    pub fn open(&self, kind: KeyKind, position: u32) -> Option<OpenBlock> {
        self.open_at(kind, position, position)
    }

    /// Opens a block that lies at `position` and is sealed for `place`.
    pub fn open_at(&self, kind: KeyKind, position: u32, place: u32) -> Option<OpenBlock> {
        let mut bytes: [u8; BLOCK_SIZE] = block(&self.image, position).try_into().ok()?;
        let opened = self.sealer.open_in_place(kind, Position::at(place), &mut bytes).ok()?;
        let (generation, head) = (opened.generation, opened.head);
        Some(OpenBlock { generation, head, data: Box::new(*opened.data) })
    }

    /// What a block is: by its key, or, if several open it as they must not, by the stream that it names.
    pub fn kind_at(&self, position: u32, place: u32) -> Option<KeyKind> {
        let kinds = [KeyKind::Data, KeyKind::Registry, KeyKind::Meta];
        let opens = |&kind: &KeyKind| Some((kind, self.open_at(kind, position, place)?));
        let opened: Vec<(KeyKind, OpenBlock)> = kinds.iter().filter_map(opens).collect();
        match &opened[..] {
            [] => None,
            [(kind, _)] => Some(*kind),
            [(_, opened), ..] => Some(match opened.head.stream {
                META_STREAM | REDO_STREAM => KeyKind::Meta,
                // A page names its tree in place of a stream: "ar7", and the tree's number at the end.
                stream if stream.as_bytes().starts_with(b"ar7\0") => KeyKind::Registry,
                _ => KeyKind::Data,
            }),
        }
    }

    /// Seals a block for its place, under the generation that it says.
    ///
    /// # Panics
    /// If the system has no random bytes.
    pub fn seal(&mut self, kind: KeyKind, position: u32, changed: &OpenBlock) {
        let job =
            SealJob { position: Position::at(position), head: changed.head, data: &changed.data };
        let bytes = block_mut(&mut self.image, position);
        self.sealer.seal_batch(kind, changed.generation, &[job], bytes).expect("random bytes");
    }

    /// Changes a block that is there, a meta slot in both of its copies.
    ///
    /// # Panics
    /// If it does not open.
    pub fn change(&mut self, kind: KeyKind, position: u32, change: impl FnOnce(&mut OpenBlock)) {
        let mut opened = self.open(kind, position).expect("a block of this kind");
        change(&mut opened);
        self.seal(kind, position, &opened);
        if let 1..=4 = position {
            // Positions 1 and 3 hold one commit, 2 and 4 another.
            self.seal(kind, (position + 1) % 4 + 1, &opened);
        }
    }

    /// The meta slot of the current commit.
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

    /// Changes the header, in both copies, and names it in every slot.
    ///
    /// # Panics
    /// As [`Forger::change_slot`].
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
