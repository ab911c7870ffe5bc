//! An archive forged by an attacker with the key: the plaintext of a golden archive is changed and sealed again, so
//! that the code behind the authentication is reached.

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{
    BLOCK_SIZE, BlockRef, DoubledRef, Field, Generation, Position, ROOTS, header_layout,
    meta_slot_layout, plain, redo_block, redo_entry,
};
use ar7_registry::records::TreeId;
use ar7_registry::tree::page_layout;
use sha2::{Digest as _, Sha256};

use crate::exercise::{Exercises, exercise};
use crate::golden::{Golden, OpenedBlock, Part, crowded, goldens, redo_entries};
use crate::reference::{Sealed, finish_plain, nonce};
use crate::unstructured::Unstructured;

/// Maximum number of changes.
const CHANGES: usize = 12;

/// Selects the reference to the next block, not one of the first bytes, of a block of the redo list.
const NEXT_FIELD: usize = 80;

/// Bits of the first byte that select the crowded archive.
const CROWDED: usize = 0xa0;

/// Changes a golden archive as `bytes` direct and exercises it. Returns whether it opened.
///
/// # Panics
/// If any operation on it breaks a promise.
pub fn archive_forged(bytes: &[u8]) -> bool {
    let mut unstructured = Unstructured::new(bytes);
    let how = unstructured.byte();
    let file = Forgery::changed(golden_of(how), &mut unstructured).seal();
    exercise(&file, Exercises { extracts: how & 0x30 == 0, writes: how & 0x40 != 0 }).is_read
}

/// Returns the golden archive that a byte selects. The crowded archive is large, so only one input in four uses it.
pub(crate) fn golden_of(how: usize) -> &'static Golden {
    let is_crowded = how & CROWDED == CROWDED;
    if is_crowded { crowded() } else { &goldens()[how % goldens().len()] }
}

/// A golden archive with changes that are sealed with its keys.
pub(crate) struct Forgery {
    golden: &'static Golden,
    header: Sealed,
    /// Whether the copy of the header gets the same changes as the header, and the slots refer to the changed header.
    is_header_changed: bool,
    blocks: Vec<OpenedBlock>,
    changed: Vec<bool>,
    /// Bytes to change after sealing: position, offset, change.
    flips: Vec<(usize, u8)>,
}

impl Forgery {
    /// Changes a golden archive as the rest of the input directs.
    pub(crate) fn changed(golden: &'static Golden, unstructured: &mut Unstructured<'_>) -> Forgery {
        let mut forgery = Forgery::of(golden);
        for _ in 0..CHANGES {
            if unstructured.is_over() {
                break;
            }
            forgery.change(unstructured);
        }
        forgery
    }

    fn of(golden: &'static Golden) -> Forgery {
        Forgery {
            golden,
            header: golden.header(),
            is_header_changed: false,
            changed: vec![false; golden.blocks.len()],
            blocks: golden.blocks.clone(),
            flips: Vec::new(),
        }
    }

    fn change(&mut self, unstructured: &mut Unstructured<'_>) {
        match unstructured.byte() % 16 {
            0 => self.change_header(unstructured),
            1..=3 => self.change_slots(unstructured),
            4..=8 => self.change_page(unstructured),
            9 | 10 => self.change_head(unstructured),
            11 => self.change_redo(unstructured),
            12 => self.change_name(unstructured),
            13 => self.retarget(unstructured),
            14 => self.exchange(unstructured),
            _ => {
                self.flips
                    .push((unstructured.quad().try_into().unwrap_or(0), unstructured.octet()));
            }
        }
    }

    /// Changes a field of the header. The slots may still refer to the previous header.
    fn change_header(&mut self, unstructured: &mut Unstructured<'_>) {
        let Some(field) = unstructured.choose(header_layout::FIELDS) else { return };
        let refs = self.refs();
        forge(field.of_mut(&mut self.header), &refs, unstructured);
        self.golden.keys.finish_header(&mut self.header);
        self.is_header_changed = true;
        if !unstructured.byte().is_multiple_of(4) {
            let digest = Sha256::digest(self.header);
            let revision: [u8; 8] = header_layout::REVISION.array(&self.header);
            for number in self.numbers(Part::Slot) {
                self.put(number, meta_slot_layout::HEADER_DIGEST, &digest);
                self.put(number, meta_slot_layout::HEADER_REVISION, &revision);
            }
        }
    }

    /// Changes a field of a meta slot, most often in both copies of the newer pair.
    fn change_slots(&mut self, unstructured: &mut Unstructured<'_>) {
        let slots = self.numbers(Part::Slot);
        let which = unstructured.byte();
        let Some(field) = unstructured.choose(meta_slot_layout::FIELDS) else { return };
        let refs = self.refs();
        let rest = unstructured.rest();
        for (at, number) in slots.into_iter().enumerate() {
            // Copies are at positions 1 and 3, and at 2 and 4.
            let is_chosen = match which % 8 {
                0 => at == which / 8 % 4,
                1..=3 => at % 2 == 0,
                4..=6 => at % 2 == 1,
                _ => true,
            };
            if is_chosen {
                *unstructured = Unstructured::new(rest);
                // Lists are long, and not only their first bytes matter.
                let within = unstructured.below(field.length);
                forge(&mut self.field(number, *field)[within..], &refs, unstructured);
            }
        }
    }

    /// Changes a cell of a page, a field of the page, or any byte of it.
    fn change_page(&mut self, unstructured: &mut Unstructured<'_>) {
        let Some(number) = self.any(Part::Page, unstructured) else { return };
        let refs = self.refs();
        let cells = self.blocks[number].cells();
        let cell = unstructured.choose(&cells).copied();
        let (at, length) = match (unstructured.byte() % 8, cell) {
            // The page's own fields and the offsets of its cells.
            (0 | 1, _) => (0, page_layout::BODY.offset + 2 * cells.len()),
            (2, _) | (_, None) => (0, plain::DATA.length),
            (_, Some(cell)) => cell,
        };
        let within = unstructured.below(length);
        let data = self.field(number, plain_data());
        forge(&mut data[at + within..at + length], &refs, unstructured);
    }

    /// Changes the start of a name.
    fn change_name(&mut self, unstructured: &mut Unstructured<'_>) {
        let is_of_names = |number: &usize| {
            let tree = self.blocks[*number].data()[page_layout::TREE.offset];
            usize::from(tree) == TreeId::Names.index()
        };
        // Of several versions of a page, only the newest is read.
        let pages = self.numbers(Part::Page).into_iter().filter(is_of_names);
        let Some(number) = pages.max_by_key(|&number| self.blocks[number].generation) else {
            return;
        };
        let cells = self.blocks[number].cells();
        let Some(&(at, length)) = unstructured.choose(&cells) else { return };
        // The name follows the key's length and the number of the directory, which may be in the prefix. The value
        // follows it.
        let data = self.field(number, plain_data());
        let directory =
            size_of::<u64>().saturating_sub(usize::from(data[page_layout::PREFIX.offset]));
        let Some(&[high, low]) = data.get(at..at + 2) else { return };
        let (begin, end) =
            (at + 2 + directory, at + 2 + usize::from(u16::from_be_bytes([high, low])));
        if let Some(name) = data.get_mut(begin..end.min(at + length)) {
            forge(name, &[], unstructured);
        }
    }

    /// Changes the links, index, stream or digest of any block. In the redo list, the links connect its blocks.
    fn change_head(&mut self, unstructured: &mut Unstructured<'_>) {
        let parts = [Part::Data, Part::Data, Part::Redo, Part::Page, Part::Slot];
        let part = parts[unstructured.below(parts.len())];
        let Some(number) = self.any(part, unstructured) else { return };
        let refs = self.refs();
        let fields = [plain::PREVIOUS, plain::NEXT, plain::INDEX, plain::STREAM, plain::DIGEST];
        let field = fields[unstructured.below(fields.len())];
        self.changed[number] = true;
        forge(field.of_mut(&mut self.blocks[number].plaintext[..]), &refs, unstructured);
        if unstructured.byte().is_multiple_of(8) {
            self.blocks[number].generation = Generation::decode(unstructured.array());
        }
    }

    /// Changes any bytes of a block of the redo list, or its reference to the next block.
    fn change_redo(&mut self, unstructured: &mut Unstructured<'_>) {
        let Some(number) = self.any(Part::Redo, unstructured) else { return };
        let refs = self.refs();
        let data = self.field(number, plain_data());
        match unstructured.below(NEXT_FIELD + 1) {
            NEXT_FIELD => forge(redo_block::NEXT.of_mut(data), &refs, unstructured),
            at => forge(&mut data[at..], &refs, unstructured),
        }
    }

    /// Points an entry of the redo list at another home location, and seals the shadow block for that.
    fn retarget(&mut self, unstructured: &mut Unstructured<'_>) {
        let Some(number) = self.any(Part::Redo, unstructured) else { return };
        let entries = redo_entries(&self.blocks[number]);
        let entry = unstructured.below(entries.len());
        let Some(&(_, spare)) = entries.get(entry) else { return };
        let place = u32::from(unstructured.octet() % 34);
        let at = redo_block::ENTRIES.offset + entry * redo_entry::SIZE + redo_entry::HOME.offset;
        self.field(number, plain_data())[at..at + 4].copy_from_slice(&place.to_be_bytes());
        for (block, changed) in self.blocks.iter_mut().zip(&mut self.changed) {
            if block.position.get() == spare {
                block.place = Position::at(place);
                *changed = true;
            }
        }
    }

    /// Replaces the plaintext of one block with that of another block of the same kind.
    fn exchange(&mut self, unstructured: &mut Unstructured<'_>) {
        let part = [Part::Page, Part::Data, Part::Slot][unstructured.below(3)];
        let (Some(to), Some(from)) = (self.any(part, unstructured), self.any(part, unstructured))
        else {
            return;
        };
        self.blocks[to].plaintext = self.blocks[from].plaintext.clone();
        if unstructured.byte().is_multiple_of(2) {
            self.blocks[to].generation = self.blocks[from].generation;
        }
        self.changed[to] = true;
    }

    /// Returns the numbers of the blocks of one kind of part.
    fn numbers(&self, part: Part) -> Vec<usize> {
        (0..self.blocks.len()).filter(|&number| self.blocks[number].part() == part).collect()
    }

    fn any(&self, part: Part, unstructured: &mut Unstructured<'_>) -> Option<usize> {
        unstructured.choose(&self.numbers(part)).copied()
    }

    /// Returns a field of a block's data, to be changed.
    fn field(&mut self, number: usize, field: Field) -> &mut [u8] {
        self.changed[number] = true;
        let data = plain::DATA.of_mut(&mut self.blocks[number].plaintext[..]);
        field.of_mut(data)
    }

    fn put(&mut self, number: usize, field: Field, bytes: &[u8]) {
        self.field(number, field).copy_from_slice(bytes);
    }

    /// Returns references to every block.
    fn refs(&self) -> Vec<BlockRef> {
        let reference = |block: &OpenedBlock| BlockRef {
            position: block.position,
            generation: block.generation,
        };
        self.blocks.iter().map(reference).collect()
    }

    /// Returns where each block is in the file, in blocks, and the position for which it is sealed.
    pub(crate) fn places(&self) -> Vec<(usize, Position)> {
        let at = |position: Position| usize::try_from(position.get()).expect("a small archive");
        self.blocks.iter().map(|block| (at(block.position), block.place)).collect()
    }

    /// Seals everything that was changed and returns the file.
    pub(crate) fn seal(mut self) -> Vec<u8> {
        let mut file = self.golden.bytes.to_vec();
        let mut put = |position: Position, block: &Sealed| {
            let at = usize::try_from(position.offset()).expect("a small archive");
            file[at..at + BLOCK_SIZE].copy_from_slice(block);
        };
        if self.is_header_changed {
            put(Position::at(0), &self.header);
            put(Position::at(7), &self.header);
        }
        for (block, _) in self.blocks.iter_mut().zip(&self.changed).filter(|(_, changed)| **changed)
        {
            let digest = plain::DIGEST.of(&block.plaintext[..]).to_vec();
            finish_plain(&mut block.plaintext);
            // Keep a digest wrong if it was wrong in the golden archive.
            let golden = self.golden.blocks.iter().find(|known| known.position == block.position);
            let before = golden.map(|known| plain::DIGEST.of(&known.plaintext[..]));
            if before.is_some_and(|before| before != digest) && block.kind == KeyKind::Data {
                plain::DIGEST.put(&mut block.plaintext[..], &digest);
            }
            let nonce = nonce(block.generation, [0x5a; 12]);
            let sealed = self.golden.keys.seal(block.kind, block.place, &nonce, &block.plaintext);
            put(block.position, &sealed);
        }
        for &(at, change) in &self.flips {
            let length = file.len();
            file[at % length] ^= change;
        }
        file
    }
}

/// Returns all of the data as one field.
fn plain_data() -> Field {
    Field { offset: 0, ..plain::DATA }
}

/// Overwrites the start of `bytes` with as much of a hostile value as fits.
fn forge(bytes: &mut [u8], refs: &[BlockRef], unstructured: &mut Unstructured<'_>) {
    const WORDS: [u32; 14] =
        [0, 1, 2, 7, 8, 9, 13, 28, 29, 0xff, 0x1_0000, 0x7fff_fffe, 0x7fff_ffff, u32::MAX];
    const TEXTS: [&[u8]; 6] = [b"..", b"../victim", b"/", b"\0", b".", b"../escaped"];
    let value: Vec<u8> = match unstructured.byte() % 8 {
        0 => vec![unstructured.octet()],
        1 => vec![bytes.first().copied().unwrap_or(0).wrapping_add(unstructured.octet())],
        2 => unstructured.array::<2>().to_vec(),
        3 => WORDS[unstructured.below(WORDS.len())].to_be_bytes().to_vec(),
        4 => {
            let low = WORDS[unstructured.below(WORDS.len())].to_be_bytes();
            [WORDS[unstructured.below(WORDS.len())].to_be_bytes(), low].concat()
        }
        5 if bytes.len() == DoubledRef::SIZE => doubled(refs, unstructured),
        5 => unstructured
            .choose(refs)
            .map_or(Vec::new(), |&one| BlockRef::encode(Some(one)).to_vec()),
        6 => TEXTS[unstructured.below(TEXTS.len())].to_vec(),
        _ => unstructured.take(16).to_vec(),
    };
    let length = value.len().min(bytes.len());
    bytes[..length].copy_from_slice(&value[..length]);
}

/// Returns a reference to a block and any other block as its copy.
fn doubled(refs: &[BlockRef], unstructured: &mut Unstructured<'_>) -> Vec<u8> {
    let (Some(&first), Some(&second)) = (unstructured.choose(refs), unstructured.choose(refs))
    else {
        return Vec::new();
    };
    let BlockRef { position, generation } = first;
    let copy = second.position;
    DoubledRef::encode(Some(DoubledRef { position, copy, generation })).to_vec()
}

/// Returns initial inputs: each archive unchanged, and one change of each kind.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0x40..0x44).map(|how| vec![how]).collect();
    seeds.extend([
        vec![0x40, 0, 9, 0, 1, 1],
        vec![0x40, 1, 1, 6, 0, 3, 12],
        vec![0x40, 2, 4, 8, 0, 5, 9],
        vec![0x48, 4, 3, 1, 1, 0, 2, 6, 1],
        vec![0x40, 5, 1, 0, 1, 0, 18, 5, 11],
        vec![0x40, 9, 0, 2, 0, 3, 9, 1],
        vec![0x41, 11, 0, 9, 3, 8],
        vec![0x40, 12, 4, 6, 5],
        vec![0x41, 12, 3, 6, 1],
        vec![0x41, 13, 0, 0, 12],
        vec![0x42, 14, 0, 1, 0, 0],
        vec![0x43, 15, 0, 0, 0x90, 0, 1],
    ]);
    // The crowded archive unchanged, with each root replaced, and with a redo list that loops back to its start.
    seeds.push(vec![0xe0]);
    let roots = meta_slot_layout::FIELDS.iter().position(|&field| field == meta_slot_layout::ROOTS);
    let roots = u8::try_from(roots.expect("a known field")).expect("few fields");
    seeds.extend(TreeId::ALL.map(|tree| {
        let within = tree.index() * meta_slot_layout::ROOTS.length / ROOTS;
        let [high, low] = u16::try_from(within).expect("a place in a block").to_be_bytes();
        vec![0xe0, 1, 7, roots, high, low, 3, 9]
    }));
    seeds.extend(endless_chain());
    seeds
}

/// Returns the changes that make both copies of the last block of the redo list refer to the first block.
fn endless_chain() -> Option<Vec<u8>> {
    let forgery = Forgery::of(crowded());
    let redo = forgery.numbers(Part::Redo);
    let next = |number: usize| {
        let next = redo_block::NEXT.array(forgery.blocks[number].data());
        DoubledRef::decode(next).ok().flatten()
    };
    // No block refers to the first one.
    let named: Vec<Position> = redo
        .iter()
        .filter_map(|&number| next(number))
        .flat_map(|next| [next.position, next.copy])
        .collect();
    let is_first =
        |block: &&OpenedBlock| block.part() == Part::Redo && !named.contains(&block.position);
    let first: Vec<Position> =
        forgery.blocks.iter().filter(is_first).map(|block| block.position).collect();
    let index = |position: Position| {
        let at = forgery.refs().iter().position(|one| one.position == position)?;
        Some(u16::try_from(at).ok()?.to_be_bytes())
    };
    let ([high, low], [copy_high, copy_low]) = (index(first[0])?, index(first[1])?);
    let (field, with_reference) = (u8::try_from(NEXT_FIELD).ok()?, 5);
    let mut seed = vec![0xe0];
    for (at, _) in redo.iter().enumerate().filter(|&(_, &number)| next(number).is_none()) {
        let at = u8::try_from(at).ok()?;
        seed.extend([11, at, field, with_reference, high, low, copy_high, copy_low]);
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// Tries random changes of archives: some are accepted, and some are not.
    fn check_random(cases: u32) {
        let mut random = Random::new(0x666f_7267);
        let mut opened = 0;
        for _ in 0..cases {
            let mut bytes = vec![0; 3 + usize::try_from(random.below(24)).unwrap()];
            random.fill(&mut bytes);
            opened += u32::from(archive_forged(&bytes));
        }
        assert!(opened > cases / 4 && opened < cases, "{opened} of {cases} opened");
    }

    #[test]
    fn any_forged_archive_is_accepted_or_rejected() {
        let seeds = seeds().iter().filter(|seed| archive_forged(seed)).count();
        assert!(seeds > 3, "{seeds} seeds opened");
        check_random(200);
    }

    #[test]
    #[ignore = "seconds: `cargo xtask proof` runs it"]
    fn many_forged_archives_are_accepted_or_rejected() {
        check_random(600);
    }

    #[test]
    fn an_endless_chain_is_among_the_seeds() {
        let seed = endless_chain().expect("a redo list of two blocks");
        assert!(archive_forged(&[0xe0]), "the crowded archive opens");
        assert!(!archive_forged(&seed), "an endless redo list is rejected");
    }

    #[test]
    fn without_changes_the_forgery_equals_the_golden_archive() {
        for golden in goldens().iter().chain([crowded()]) {
            assert!(Forgery::of(golden).seal() == golden.bytes);
        }
    }
}
