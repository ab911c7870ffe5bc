//! The worked examples.

use std::num::NonZeroU64;

use ar7_engine::crypto::{HeaderKey, RawKey, Secret, unwrap_master_key};
use ar7_engine::format::{
    ArchiveKind, BlockHead, BlockIndex, BlockRef, DATA_SIZE, Data, DerivationCost, DoubledRef,
    Field, Generation, Header, KEY_SLOTS, KeySlot, Label, META_STREAM, MetaSlot, Position,
    REDO_STREAM, RedoBlock, RedoEntry, Root, Run, SessionRecord, StoredStream, StreamLayout,
    StreamRecord, Timestamp, UsedSlot, header_digest, header_layout, key_slot_layout,
    meta_slot_layout, plain, redo_block, sealed, stored_stream,
};
use ar7_registry::records::{Record, Streams};
use ar7_registry::tree::page_layout;
use uuid::Uuid;

use super::Vector;
use super::seal::{counting, derive, encrypt, nonce, seal, stretch};

const ARCHIVE: Uuid = Uuid::from_u128(0xa0a1_a2a3_a4a5_46a7_88a9_aaab_acad_aeaf);
const STREAM: Uuid = Uuid::from_u128(0x0192_a000_0000_7000_8000_0000_0000_0001);
const LATER_STREAM: Uuid = Uuid::from_u128(0x0192_a000_0000_7000_8000_0000_0000_0002);
const PASSPHRASE: &[u8] = b"correct horse battery staple";
const GENERATION: Generation = Generation { session: 3, step: 5, salt: 0xdead_beef };
const COST: DerivationCost = DerivationCost { memory_kib: 64, passes: 2, lanes: 2 };

/// The stream of the pages of tree 0.
const STREAMS_PAGES: Uuid = Uuid::from_u128(0x6172_3700_0000_0000_8000_0000_0000_0000);

/// Returns every example, in the order of the document.
pub(super) fn vectors() -> Vec<Vector> {
    let master = counting::<32>(0x80);
    let (raw, used) = key_slot(0, None, &master);
    let (passphrase, stretched) = key_slot(1, Some(COST), &master);
    let mut slots = [const { KeySlot::Empty }; KEY_SLOTS];
    slots[0] = KeySlot::Used(Box::new(used));
    slots[1] = KeySlot::Used(Box::new(stretched));
    let header = header_bytes(slots);
    let mut vectors = vec![keys(&master), raw, passphrase];
    vectors.push(
        Vector::new("header")
            .bytes("header", &header[..])
            .bytes("digest", &header_digest(&header))
            .fields("header", &header[..], 0, header_layout::FIELDS),
    );
    vectors.extend([
        data_block(&master),
        stream_record(),
        leaf(&master),
        branch(&master),
        redo(&master),
        meta_slot(&master, header_digest(&header)),
    ]);
    vectors
}

fn keys(master: &[u8; 32]) -> Vector {
    let subkey = |info| derive(master, ARCHIVE.as_bytes(), info);
    Vector::new("subkeys")
        .bytes("master_key", master)
        .bytes("archive", ARCHIVE.as_bytes())
        .bytes("data_key", &subkey("ar7 v1 data"))
        .bytes("registry_key", &subkey("ar7 v1 registry"))
        .bytes("meta_key", &subkey("ar7 v1 meta"))
        .bytes("header_key", &subkey("ar7 v1 header"))
}

/// Returns a key slot for the raw key, or with costs for the passphrase.
fn key_slot(number: u8, cost: Option<DerivationCost>, master: &[u8; 32]) -> (Vector, UsedSlot) {
    let salt = counting::<32>(0x10 * (number + 1));
    let raw = counting::<32>(1);
    let (name, secret) = match cost {
        None => ("key slot, raw key", &raw[..]),
        Some(_) => ("key slot, passphrase", PASSPHRASE),
    };
    let input = cost.map_or(raw, |cost| stretch(PASSPHRASE, &salt, cost));
    let wrapping_key = derive(&input, &salt, "ar7 v1 wrapping");
    let label = if number == 0 { "key file" } else { "naïve" };
    let mut slot = UsedSlot {
        cost,
        salt,
        label: Label::new(label).expect("a short label"),
        commitment: derive(&input, &salt, "ar7 v1 commitment"),
        nonce: counting(0x40 * (number + 1)),
        wrapped: [0; 48],
    };
    let mut associated = b"ar7 slot v1".to_vec();
    associated.extend_from_slice(ARCHIVE.as_bytes());
    associated.push(number);
    let encoded = KeySlot::Used(Box::new(slot.clone())).encode();
    associated.extend_from_slice(&encoded[..key_slot_layout::WRAPPED.offset]);
    let wrapped = encrypt(&wrapping_key, slot.nonce, &associated, master);
    slot.wrapped.copy_from_slice(&wrapped);
    let encoded = KeySlot::Used(Box::new(slot.clone())).encode();
    let vector = Vector::new(name)
        .value("number", number)
        .bytes("secret", secret)
        .bytes("stretched", if cost.is_some() { &input } else { &[] })
        .bytes("wrapping_key", &wrapping_key)
        .bytes("associated", &associated)
        .bytes("master_key", master)
        .bytes("slot", &encoded)
        .fields("slot", &encoded, 0, key_slot_layout::FIELDS);
    (vector, slot)
}

fn header_bytes(slots: [KeySlot; KEY_SLOTS]) -> Box<[u8; 4096]> {
    let secret = Secret::Key(RawKey::from_bytes(counting(1)));
    let (master, _) = unwrap_master_key(&slots, &secret, ARCHIVE).expect("the slot opens");
    let created = Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    let mut header = Header::new(ARCHIVE, ArchiveKind::Dynamic, created, slots);
    header.revision = 2;
    header.encode(&HeaderKey::derive(&master, ARCHIVE))
}

/// Returns a sealed block: its inputs, its output, and its fields.
fn block(
    name: &'static str,
    (kind, master): (&'static str, &[u8; 32]),
    at: u32,
    head: BlockHead,
    data: &Data,
    fields: &[Field],
) -> Vector {
    let key = derive(master, ARCHIVE.as_bytes(), &format!("ar7 v1 {kind}"));
    let first = u8::try_from(at).expect("a low position");
    let nonce = nonce(GENERATION, first);
    let block = seal(&key, nonce, ARCHIVE, Position::at(at), head, data);
    let inside = plain::DATA.offset;
    Vector::new(name)
        .value("position", at)
        .value("kind", kind)
        .bytes("key", &key)
        .bytes("nonce", &nonce)
        .bytes("associated", &block.associated)
        .bytes("plaintext", &block.plain)
        .bytes("sealed", &block.bytes)
        .fields("sealed", &block.bytes, 0, sealed::FIELDS)
        .fields("plaintext", &block.plain, 0, plain::FIELDS)
        .fields("plaintext", &block.plain, inside, fields)
}

fn data_block(master: &[u8; 32]) -> Vector {
    let head = BlockHead {
        previous: Some(Position::at(8)),
        next: Some(Position::at(10)),
        index: BlockIndex(1),
        stream: STREAM,
    };
    block("data block", ("data", master), 9, head, &counting::<DATA_SIZE>(0), &[])
}

fn stored(identity: Uuid, begin: u32, count: u32, layout: StreamLayout) -> StoredStream {
    let record = StreamRecord {
        identity,
        begin: Some(Position::at(begin)),
        end: Some(Position::at(begin + count - 1)),
        count,
        length: u64::from(count) * 4008 - 1000,
        compression: 0,
    };
    StoredStream { record, layout, inode: NonZeroU64::new(7) }
}

fn stream_record() -> Vector {
    let stored = stored(STREAM, 8, 3, StreamLayout::OneRun(GENERATION)).encode();
    Vector::new("stream record")
        .bytes("stored", &stored)
        .fields("stored", &stored, 0, stored_stream::FIELDS)
        .fields("stored", &stored, 0, ar7_engine::format::stream_record_layout::FIELDS)
}

/// Returns a page of the tree of streams, with its cells laid out by hand.
fn page(level: u8, cells: &[(Vec<u8>, Vec<u8>)]) -> Data {
    let mut data = [0; DATA_SIZE];
    let number = |value: usize| u16::try_from(value).expect("within a page").to_be_bytes();
    let keys = &cells[usize::from(level > 0)..];
    let prefix: &[u8] = match keys {
        [(first, _), .., (last, _)] => {
            let same = first.iter().zip(last).take_while(|(one, other)| one == other).count();
            &first[..same.min(64)]
        }
        _ => &[],
    };
    let mut end = DATA_SIZE - prefix.len();
    data[end..].copy_from_slice(prefix);
    for (at, (key, value)) in cells.iter().enumerate() {
        let rest = key.strip_prefix(prefix).unwrap_or_default();
        let cell = [&number(rest.len())[..], rest, value].concat();
        let begin = end - cell.len();
        data[begin..end].copy_from_slice(&cell);
        let entry = page_layout::BODY.offset + 2 * at;
        data[entry..entry + 2].copy_from_slice(&number(begin));
        end = begin;
    }
    page_layout::TAG.put(&mut data, &[if level == 0 { 1 } else { 2 }]);
    page_layout::LEVEL.put(&mut data, &[level]);
    page_layout::PREFIX.put(&mut data, &[u8::try_from(prefix.len()).expect("at most 64")]);
    page_layout::COUNT.put(&mut data, &number(cells.len()));
    page_layout::CELLS.put(&mut data, &number(end));
    data
}

fn page_head(level: u32) -> BlockHead {
    BlockHead { index: BlockIndex(level), stream: STREAMS_PAGES, ..BlockHead::default() }
}

fn leaf(master: &[u8; 32]) -> Vector {
    let one_run = stored(STREAM, 8, 3, StreamLayout::OneRun(GENERATION));
    let extents = stored(LATER_STREAM, 11, 2, StreamLayout::Extents);
    let cells = [one_run, extents].map(|stored| {
        (Streams::encode_key(&stored.record.identity), Streams::encode_value(&stored))
    });
    let data = page(0, &cells);
    block("leaf page", ("registry", master), 13, page_head(0), &data, page_layout::FIELDS)
}

fn branch(master: &[u8; 32]) -> Vector {
    let child = |at| DoubledRef::encode(Some(doubled(at))).to_vec();
    let cells =
        [(Vec::new(), child([13, 24])), (LATER_STREAM.as_bytes().to_vec(), child([14, 25]))];
    let data = page(1, &cells);
    block("branch page", ("registry", master), 15, page_head(1), &data, page_layout::FIELDS)
}

fn doubled(at: [u32; 2]) -> DoubledRef {
    let [position, copy] = at.map(Position::at);
    DoubledRef { position, copy, generation: GENERATION }
}

fn redo(master: &[u8; 32]) -> Vector {
    let entry = |home, shadow: Option<u32>| RedoEntry {
        home: Position::at(home),
        shadow: shadow
            .map(|shadow| BlockRef { position: Position::at(shadow), generation: GENERATION }),
    };
    let next = Some(doubled([20, 21]));
    let entries = vec![entry(9, Some(17)), entry(12, Some(18)), entry(10, None)];
    let data = RedoBlock { next, entries }.encode();
    let head = BlockHead { stream: REDO_STREAM, index: BlockIndex(1), ..BlockHead::default() };
    block("redo block", ("meta", master), 16, head, &data, redo_block::FIELDS)
}

fn meta_slot(master: &[u8; 32], digest: [u8; 32]) -> Vector {
    let mut slot = MetaSlot::first(GENERATION, 2, digest);
    slot.number = 17;
    slot.block_count = 27;
    slot.roots[0] = Root { block: Some(doubled([15, 26])), depth: 2, entries: 3 };
    slot.redo_head = Some(doubled([16, 22]));
    slot.redo_length = 5;
    slot.inline_free = vec![Run::new(Position::at(23), 1).expect("a run")];
    let reserved = stored(Uuid::from_u128(7), 10, 1, StreamLayout::OneRun(GENERATION));
    slot.reserved_streams[7] = StoredStream { inode: None, ..reserved };
    slot.counters[0] = 41;
    slot.pending_sessions = vec![SessionRecord { session: 2, salt: 0x0102_0304, last_step: 9 }];
    slot.metadata = b"the application's own".to_vec();
    let data = slot.encode().expect("lists that fit");
    let head = BlockHead { stream: META_STREAM, ..BlockHead::default() };
    block("meta slot", ("meta", master), 1, head, &data, meta_slot_layout::FIELDS)
}
