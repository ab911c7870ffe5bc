//! Blocks, chains and trees of the Python module's archives, written from `docs/ARCHIVE7.md` alone.

use crypto_secretbox::aead::{AeadInPlace as _, KeyInit as _};
use crypto_secretbox::{Nonce, XSalsa20Poly1305};
use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use crate::Random;

pub(super) const BLOCK: usize = 4096;
pub(super) const DATA: usize = 4008;

/// The key of every generated archive.
pub(super) const KEY: [u8; 32] = [7; 32];

/// The plaintext of a block.
#[derive(Clone)]
pub(super) struct Plain {
    pub(super) previous: i32,
    pub(super) next: i32,
    pub(super) index: u32,
    pub(super) stream: Uuid,
    pub(super) data: Vec<u8>,
}

impl Plain {
    /// Seals the block: nonce, tag, ciphertext.
    pub(super) fn seal(&self, random: &mut Random) -> [u8; BLOCK] {
        let mut plain = Vec::new();
        plain.extend(self.previous.to_be_bytes());
        plain.extend(self.next.to_be_bytes());
        plain.extend(self.index.to_be_bytes());
        plain.extend(self.stream.as_bytes());
        plain.extend(Sha1::digest(&self.data));
        plain.extend(&self.data);
        let mut nonce = [0; 24];
        random.fill(&mut nonce);
        let cipher = XSalsa20Poly1305::new(&KEY.into());
        let nonce = Nonce::from(nonce);
        let tag = cipher.encrypt_in_place_detached(&nonce, b"", &mut plain).expect("a short text");
        let mut sealed = [0; BLOCK];
        sealed[..24].copy_from_slice(&nonce);
        sealed[24..40].copy_from_slice(&tag);
        sealed[40..].copy_from_slice(&plain);
        sealed
    }
}

/// A stream: its content, and the blocks of its chain.
pub(super) struct Chained {
    pub(super) id: Uuid,
    pub(super) content: Vec<u8>,
    pub(super) places: Vec<i32>,
}

impl Chained {
    /// Returns the stream with a chain at the end of `places`.
    pub(super) fn new(id: Uuid, content: Vec<u8>, places: &mut Vec<i32>) -> Chained {
        let count = content.len() / DATA + 1;
        let places = places.split_off(places.len() - count);
        Chained { id, content, places }
    }

    /// Returns the stream record.
    pub(super) fn record(&self) -> Vec<u8> {
        let mut record = self.id.as_bytes().to_vec();
        record.extend(self.places[0].to_be_bytes());
        record.extend(self.places[self.places.len() - 1].to_be_bytes());
        record.extend(u32::try_from(self.places.len()).expect("few blocks").to_be_bytes());
        record.extend((self.content.len() as u64).to_be_bytes());
        record.extend(0_u16.to_be_bytes());
        record
    }

    /// Writes the chain. What is beyond the content are old bytes.
    pub(super) fn write(&self, blocks: &mut [Plain], random: &mut Random) {
        for (at, place) in self.places.iter().enumerate() {
            let link = |at: Option<usize>| at.and_then(|at| self.places.get(at)).copied();
            let mut data = vec![0; DATA];
            if random.one_in(2) {
                random.fill(&mut data);
            }
            let rest = self.content.get(at * DATA..).unwrap_or_default();
            let length = rest.len().min(DATA);
            data[..length].copy_from_slice(&rest[..length]);
            blocks[usize::try_from(*place).expect("a position")] = Plain {
                previous: link(at.checked_sub(1)).unwrap_or(-1),
                next: link(Some(at + 1)).unwrap_or(-1),
                index: u32::try_from(at).expect("few blocks"),
                stream: self.id,
                data,
            };
        }
    }
}

/// The constants of a tree.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    letter: u8,
    order: usize,
    references: usize,
    value: usize,
}

pub(super) const INDEX: Shape = Shape { letter: b'S', order: 67, references: 165, value: 38 };
pub(super) const ENTRIES: Shape = Shape { letter: b'S', order: 9, references: 157, value: 396 };
pub(super) const PATHS: Shape = Shape { letter: b'S', order: 104, references: 165, value: 17 };
pub(super) const LISTINGS: Shape = Shape { letter: b'M', order: 159, references: 166, value: 4 };

/// Records of a tree in the order of their keys: a value, or the items of a listing.
pub(super) type Records = Vec<(Uuid, Vec<u8>)>;

/// Builds the bytes of a tree.
pub(super) struct Pages {
    shape: Shape,
    all: Vec<Vec<u8>>,
    /// The most records and children in a page, so that small trees are deep.
    most: usize,
}

impl Pages {
    /// Returns the bytes of the tree with these records.
    pub(super) fn tree(shape: Shape, records: &Records, random: &mut Random) -> Vec<u8> {
        let most = *random.choose(&[3, 9, 60, 300]).expect("a choice");
        let mut pages = Pages { shape, all: Vec::new(), most };
        let root = pages.build(records, random);
        let free = pages.free(random);
        let mut bytes = vec![shape.letter];
        bytes.extend(root.to_be_bytes());
        bytes.extend(free.to_be_bytes());
        for number in [shape.order, shape.references, shape.value] {
            bytes.extend(u32::try_from(number).expect("a constant").to_be_bytes());
        }
        bytes.extend(pages.all.concat());
        bytes
    }

    fn build(&mut self, records: &Records, random: &mut Random) -> i32 {
        let many = self.shape.order.min(self.most);
        let mut level = Vec::new();
        let mut rest = &records[..];
        while !rest.is_empty() {
            // Deletions leave leaves that are not full, or empty.
            let taken = usize::try_from(random.below(many as u64 + 1)).expect("small");
            let (leaf, after) = rest.split_at(taken.min(rest.len()));
            let key = leaf.first().or(after.first()).map_or(Uuid::nil(), |(key, _)| *key);
            let bytes: Vec<_> = leaf.iter().map(|(key, value)| self.record(*key, value)).collect();
            level.push((key, self.add(b'L', -1, &bytes)));
            rest = after;
        }
        if level.len() < 2 {
            let Some((_, only)) = level.pop() else { return self.add(b'S', -1, &[]) };
            self.all[usize::try_from(only).expect("a page")][0] = b'S';
            return only;
        }
        while level.len() > 1 {
            let children = self.shape.references.min(self.most).max(2);
            // No page has one child only: two groups share what is left.
            let groups = level.len().div_ceil(children + 1);
            let each = level.len().div_ceil(groups).max(2);
            let is_root = level.len() <= each;
            level = level
                .chunks(each)
                .map(|group| {
                    if let [only] = group {
                        return *only;
                    }
                    let pairs = group.windows(2).map(|pair| {
                        let mut bytes = pair[0].1.to_be_bytes().to_vec();
                        bytes.extend(pair[1].1.to_be_bytes());
                        bytes.extend(pair[1].0.as_bytes());
                        bytes
                    });
                    let letter = if is_root { b'R' } else { b'F' };
                    (group[0].0, self.add(letter, -1, &pairs.collect::<Vec<_>>()))
                })
                .collect();
        }
        level[0].1
    }

    fn record(&mut self, key: Uuid, value: &[u8]) -> Vec<u8> {
        let is_list = self.shape.letter == b'M';
        let (page, value) = if is_list { self.list(value) } else { (-1, value.to_vec()) };
        assert_eq!(value.len(), self.shape.value);
        let mut bytes = page.to_be_bytes().to_vec();
        bytes.extend(key.as_bytes());
        bytes.extend(value);
        let sum = bytes[4..].iter().map(|byte| u32::from(*byte)).sum::<u32>() % 256;
        bytes.push(u8::try_from(sum).expect("below 256"));
        bytes
    }

    /// Writes the items of a listing. Returns the first page and the count.
    fn list(&mut self, items: &[u8]) -> (i32, Vec<u8>) {
        let items: Vec<Vec<u8>> = items.chunks_exact(16).map(<[u8]>::to_vec).collect();
        let mut next = -1;
        for part in items.chunks(248.min(self.most)).rev() {
            next = self.add(b'I', next, part);
        }
        (next, u32::try_from(items.len()).expect("few items").to_be_bytes().to_vec())
    }

    /// Adds a stack of free pages. Returns the first.
    fn free(&mut self, random: &mut Random) -> i32 {
        (0..random.below(3)).fold(-1, |next, _| self.add(b'E', next, &[]))
    }

    fn add(&mut self, letter: u8, next: i32, parts: &[Vec<u8>]) -> i32 {
        let mut page = vec![letter];
        page.extend(next.to_be_bytes());
        page.extend(u32::try_from(parts.len()).expect("few parts").to_be_bytes());
        page.extend(parts.concat());
        assert!(page.len() <= DATA, "a page of {} bytes", page.len());
        page.resize(DATA, 0);
        self.all.push(page);
        i32::try_from(self.all.len() - 1).expect("few pages")
    }
}

/// Corrects the checksums of the records in a changed tree.
pub(super) fn correct(shape: Shape, tree: &mut [u8]) {
    let Some(pages) = tree.get_mut(21..) else { return };
    for page in pages.chunks_exact_mut(DATA).filter(|page| matches!(page[0], b'S' | b'L')) {
        for record in page[9..].chunks_exact_mut(shape.value + 21).take(shape.order) {
            let (sum, content) = record.split_last_mut().expect("a record");
            *sum = content[4..].iter().fold(0, |sum, byte| sum.wrapping_add(*byte));
        }
    }
}
