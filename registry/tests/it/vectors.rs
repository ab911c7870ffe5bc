//! The library opens the worked examples of docs/vectors:
//!
//! - a key slot yields the master key only to its own secret;
//! - a block opens only under the key of its kind and at its own position;
//! - its content equals the vector, field by field.

use ar7_engine::crypto::{
    HeaderKey, KeyKind, Passphrase, RawKey, Sealer, Secret, unwrap_master_key,
};
use ar7_engine::format::{
    BLOCK_SIZE, Data, DoubledRef, KeySlot, MetaSlot, Position, RedoBlock, RedoEntry, StoredStream,
    UncheckedHeader, header_digest,
};
use ar7_engine::{Check, Error};
use ar7_registry::records::{Record, Streams, TreeId};
use ar7_registry::tree::{Page, PageExpectation};
use serde_json::Value;
use uuid::Uuid;

struct Vectors(Value);

impl Vectors {
    fn read() -> Vectors {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vectors/vectors.json");
        let text = std::fs::read_to_string(path).expect("the vectors");
        Vectors(serde_json::from_str(&text).expect("JSON"))
    }

    fn get(&self, name: &str) -> &Value {
        let vectors = self.0.as_array().expect("a list");
        vectors.iter().find(|vector| vector["name"] == name).expect("the vector")
    }

    fn bytes(&self, name: &str, value: &str) -> Vec<u8> {
        from_base16(self.get(name)[value].as_str().expect("bytes"))
    }

    fn array<const N: usize>(&self, name: &str, value: &str) -> [u8; N] {
        self.bytes(name, value).try_into().expect("the length of the field")
    }

    fn archive(&self) -> Uuid {
        Uuid::from_bytes(self.array("subkeys", "archive"))
    }

    fn header(&self) -> UncheckedHeader {
        UncheckedHeader::parse(Position::at(0), &self.array("header", "header")).expect("a header")
    }

    fn secret(&self, name: &str) -> Secret {
        match name {
            "key slot, raw key" => Secret::Key(RawKey::from_bytes(self.array(name, "secret"))),
            _ => Secret::Passphrase(Passphrase::new(self.bytes(name, "secret"))),
        }
    }

    fn sealer(&self) -> Sealer {
        let secret = self.secret("key slot, raw key");
        let opened = unwrap_master_key(self.header().slots(), &secret, self.archive());
        Sealer::new(&opened.expect("the slot opens").0, self.archive())
    }

    fn position(&self, name: &str) -> Position {
        let position = self.get(name)["position"].as_u64().expect("a position");
        Position::at(u32::try_from(position).expect("a position"))
    }

    /// Opens a block and compares its data with the vector's plaintext.
    fn open(&self, name: &str, kind: KeyKind) -> Data {
        let mut bytes: [u8; BLOCK_SIZE] = self.array(name, "sealed");
        let opened =
            self.sealer().open_in_place(kind, self.position(name), &mut bytes).expect(name);
        let plain = self.bytes(name, "plaintext");
        let mut head = [0; 48];
        opened.head.encode(&ar7_engine::crypto::digest(opened.data), &mut head);
        assert_eq!(head, plain[..48], "{name}");
        assert_eq!(opened.data[..], plain[48..], "{name}");
        assert_eq!(opened.generation.encode(), self.bytes(name, "nonce")[..12], "{name}");
        *opened.data
    }
}

fn from_base16(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("base 16");
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn key_slots_yield_the_master_key_only_to_their_secret() {
    let vectors = Vectors::read();
    let header = vectors.header();
    for (number, name) in ["key slot, raw key", "key slot, passphrase"].into_iter().enumerate() {
        let encoded: [u8; 256] = vectors.array(name, "slot");
        let slot = KeySlot::decode(Position::at(0), &encoded).expect("a slot");
        assert_eq!(slot.encode(), encoded, "{name}");
        assert_eq!(slot, header.slots()[number], "{name}");
        let found = unwrap_master_key(header.slots(), &vectors.secret(name), vectors.archive());
        let (master, opened) = found.expect("the slot opens");
        assert_eq!(opened, number);
        // The key that authenticates the header is derived from the master key.
        let key = HeaderKey::derive(&master, vectors.archive());
        let header = header.clone().authenticate(&key).expect("the header's code");
        assert_eq!(header.encode(&key)[..], vectors.bytes("header", "header")[..]);
    }
    let other = Secret::Key(RawKey::from_bytes([9; 32]));
    let refused = unwrap_master_key(header.slots(), &other, vectors.archive());
    assert!(matches!(refused, Err(Error::WrongKey { slots: 2 })));
}

#[test]
fn the_digest_covers_the_whole_header() {
    let vectors = Vectors::read();
    let digest = header_digest(&vectors.array("header", "header"));
    assert_eq!(digest[..], vectors.bytes("header", "digest")[..]);
}

#[test]
fn blocks_open_only_at_their_position_and_under_their_key() {
    let vectors = Vectors::read();
    let blocks = [
        ("data block", KeyKind::Data),
        ("leaf page", KeyKind::Registry),
        ("branch page", KeyKind::Registry),
        ("redo block", KeyKind::Meta),
        ("meta slot", KeyKind::Meta),
    ];
    for (name, kind) in blocks {
        vectors.open(name, kind);
        let position = vectors.position(name);
        for other in [KeyKind::Data, KeyKind::Registry, KeyKind::Meta] {
            for place in [position, Position::at(position.get() + 1)] {
                let mut bytes = vectors.array(name, "sealed");
                let opened = vectors.sealer().open_in_place(other, place, &mut bytes);
                let right = other == kind && place == position;
                assert_eq!(opened.is_ok(), right, "{name} as {other:?} at {place}");
                if let Err(Error::Damaged(fault)) = opened {
                    assert_eq!(fault.check, Check::Tag);
                }
            }
        }
    }
}

#[test]
fn structures_decode_as_format_md_states() {
    let vectors = Vectors::read();
    let sealed = ar7_engine::format::Generation::decode(
        vectors.array::<24>("meta slot", "nonce")[..12].try_into().unwrap(),
    );
    let data = vectors.open("meta slot", KeyKind::Meta);
    let slot = MetaSlot::decode(Position::at(1), sealed, &data).expect("a meta slot");
    assert_eq!(slot.encode().expect("the lists fit the slot")[..], data[..]);
    assert_eq!((slot.number, slot.block_count, slot.redo_length), (17, 27, 5));
    let at = |at: [u32; 2]| {
        let [position, copy] = at.map(Position::at);
        DoubledRef { position, copy, generation: sealed }
    };
    assert_eq!(slot.roots[0].block, Some(at([15, 26])));

    let head = slot.redo_head.map(|head| head.copies().map(|copy| copy.position.get()));
    assert_eq!(head, Some([16, 22]));
    let redo = RedoBlock::decode(Position::at(16), &vectors.open("redo block", KeyKind::Meta), 27);
    let RedoBlock { next, entries } = redo.expect("a block of a redo list");
    let next = next.map(|next| next.copies().map(|copy| copy.position.get()));
    assert_eq!(next, Some([20, 21]));
    let pair =
        |entry: &RedoEntry| (entry.home.get(), entry.shadow.map(|shadow| shadow.position.get()));
    let pairs: Vec<_> = entries.iter().map(pair).collect();
    assert_eq!(pairs, [(9, Some(17)), (12, Some(18)), (10, None)]);

    let expect = |level| PageExpectation { tree: TreeId::Streams.number(), level };
    let leaf =
        Page::parse(Position::at(13), &vectors.open("leaf page", KeyKind::Registry), expect(0));
    let leaf = leaf.expect("a leaf");
    let streams: Vec<StoredStream> = (0..leaf.count())
        .map(|cell| Streams::decode_value(leaf.key(cell), leaf.value(cell)).expect("a record"))
        .collect();
    assert_eq!(streams[0].encode()[..], vectors.bytes("stream record", "stored")[..]);
    assert_eq!(streams[1].record.begin, Some(Position::at(11)));

    let branch =
        Page::parse(Position::at(15), &vectors.open("branch page", KeyKind::Registry), expect(1));
    let branch = branch.expect("a branch");
    assert_eq!([branch.child_block(0), branch.child_block(1)], [at([13, 24]), at([14, 25])]);
    assert_eq!(branch.key(1), leaf.key(1));
}
