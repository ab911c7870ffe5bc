//! Every record is decoded to what was encoded. Any bytes are rejected, or decoded to a record that
//! encodes to the same bytes; nothing panics. Keys sort like their encoded bytes.

use ar7_engine::format::{BlockIndex, Generation, Position, Run, SessionRecord, Timestamp};
use proptest::prelude::*;

use super::names::tag;
use super::*;
use crate::error::Error;
use crate::tree::{CELL_MAX, KEY_MAX};

/// Decodes any bytes, and checks that an accepted record encodes to the same bytes.
fn check_record<R: Record>(key: &[u8], value: &[u8]) {
    let decoded_key = R::decode_key(key);
    if let Ok(decoded) = &decoded_key {
        assert_eq!(R::encode_key(decoded), key);
    }
    match R::decode_value(key, value) {
        Ok(decoded) => assert_eq!(R::encode_value(&decoded), value),
        Err(Error::Engine(EngineError::Damaged(_) | EngineError::NewerFormat { .. })) => {}
        Err(error) => panic!("{error:?}"),
    }
}

/// Returns bytes that mostly look like the fields of an inode.
fn fields() -> impl Strategy<Value = Vec<u8>> {
    let field = (0_u16..12, prop::collection::vec(any::<u8>(), 0..20));
    prop::collection::vec(field, 0..12).prop_map(|fields| {
        let mut bytes = Vec::new();
        for (tag, field) in fields {
            bytes.extend(tag.to_be_bytes());
            bytes.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
            bytes.extend(field);
        }
        bytes
    })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..=NAME_MAX)
        .prop_filter("a name", |name| validate_name(name).is_ok())
}

fn unknown() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    let fields = prop::collection::btree_map(
        tag::STREAM + 1..=u16::MAX,
        prop::collection::vec(any::<u8>(), 0..40),
        0..6,
    );
    fields.prop_map(|fields| fields.into_iter().collect())
}

prop_compose! {
    fn inode()(
        kind in prop::sample::select(vec![EntryType::File, EntryType::Directory, EntryType::Symlink]),
        mode in 0..=MODE_MAX,
        (uid, gid, size) in any::<(u32, u32, u64)>(),
        (seconds, nanoseconds) in (any::<i64>(), 0..=NANOSECONDS_MAX),
        links in 1..=u32::MAX,
        stream in prop::option::of(any::<u128>()),
        target in prop::collection::vec(any::<u8>(), 0..=INLINE_TARGET_MAX),
        unknown in unknown(),
    ) -> Inode {
        let is_link = kind == EntryType::Symlink;
        let stream = stream.filter(|_| kind != EntryType::Directory).map(Uuid::from_u128);
        let target = Some(target).filter(|_| is_link && stream.is_none());
        let modified = Timestamp { seconds, nanoseconds };
        let attributes = Attributes { mode, uid, gid, modified };
        Inode { kind, attributes, size, links, target, stream, unknown }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_decoded_or_rejected(
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            prop::collection::vec(any::<u8>(), 0..CELL_MAX),
            fields(),
        ],
    ) {
        check_record::<NameRecords>(&key, &value);
        check_record::<Inodes>(&key, &value);
        check_record::<Streams>(&key, &value);
        check_record::<Extents>(&key, &value);
        check_record::<Free>(&key, &value);
        check_record::<PendingDeletions>(&key, &value);
        check_record::<Sessions>(&key, &value);
    }
}

proptest! {
    #[test]
    fn an_inode_keeps_its_unknown_fields(number in any::<u64>(), inode in inode()) {
        let key = Inodes::encode_key(&InodeNumber(number));
        let value = Inodes::encode_value(&inode);
        prop_assert!(key.len() + value.len() <= CELL_MAX, "{}", value.len());
        prop_assert_eq!(Inodes::decode_key(&key)?, InodeNumber(number));
        prop_assert_eq!(Inodes::decode_value(&key, &value)?, inode);
    }

    /// After a byte is changed, removed or added, an inode is decoded or rejected.
    #[test]
    fn a_changed_inode_is_decoded_or_rejected(
        inode in inode(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        more in prop::collection::vec(any::<u8>(), 0..10),
    ) {
        let key = Inodes::encode_key(&InodeNumber::ROOT);
        let value = Inodes::encode_value(&inode);
        let at = place.index(value.len());
        check_record::<Inodes>(&key, &value[..at]);
        check_record::<Inodes>(&key, &[&value[..], &more].concat());
        let mut changed = value;
        changed[at] = byte;
        check_record::<Inodes>(&key, &changed);
    }

    #[test]
    fn a_name_is_decoded_to_what_was_encoded(directory in any::<u64>(), name in name(), inode in any::<u64>()) {
        let key = NameKey { directory: InodeNumber(directory), name };
        let encoded = NameRecords::encode_key(&key);
        prop_assert!(encoded.len() <= KEY_MAX);
        prop_assert_eq!(NameRecords::decode_key(&encoded)?, key);
        for kind in [EntryType::File, EntryType::Directory, EntryType::Symlink] {
            let value = NameValue { inode: InodeNumber(inode), kind };
            prop_assert_eq!(NameRecords::decode_value(&encoded, &NameRecords::encode_value(&value))?, value);
        }
    }

    /// Entries of a directory are adjacent, in byte order of their names.
    #[test]
    fn names_sort_by_directory_then_name(
        one in (0_u64..3, name()),
        two in (0_u64..3, name()),
    ) {
        let encoded = |(directory, name): &(u64, Vec<u8>)| {
            NameRecords::encode_key(&NameKey { directory: InodeNumber(*directory), name: name.clone() })
        };
        prop_assert_eq!(encoded(&one).cmp(&encoded(&two)), one.cmp(&two));
    }

    #[test]
    fn extents_and_sessions_are_decoded_to_what_was_encoded(
        stream in any::<u128>(),
        (first, start) in (0_u32..1 << 30, 8_u32..1 << 30),
        count in 1_u32..1 << 29,
        (session, step, salt) in any::<(u32, u32, u32)>(),
    ) {
        let key = ExtentKey { stream: Uuid::from_u128(stream), first: BlockIndex(first) };
        let run = Run::new(Position::at(start), count).unwrap();
        let extent = Extent { run, generation: Generation { session, step, salt } };
        let encoded = Extents::encode_key(&key);
        prop_assert_eq!(Extents::decode_key(&encoded)?, key);
        let decoded = Extents::decode_value(&encoded, &Extents::encode_value(&extent))?;
        prop_assert_eq!(decoded, extent);
        let record = SessionRecord { session, salt, last_step: step };
        let encoded = Sessions::encode_key(&session);
        let decoded = Sessions::decode_value(&encoded, &Sessions::encode_value(&record))?;
        prop_assert_eq!(decoded, record);
    }
}

/// Returns a file, whose fields the tests change.
fn file() -> Inode {
    let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, modified: Timestamp::default() };
    let kind = EntryType::File;
    Inode { kind, attributes, size: 0, links: 1, target: None, stream: None, unknown: Vec::new() }
}

#[test]
fn an_inode_with_contradictory_fields_is_damage() {
    let stream = Some(Uuid::from_u128(9));
    let target = Some(b"target".to_vec());
    let late = Attributes {
        modified: Timestamp { seconds: 0, nanoseconds: NANOSECONDS_MAX + 1 },
        ..file().attributes
    };
    let (directory, link) = (EntryType::Directory, EntryType::Symlink);
    let rows = [
        (
            "a mode with too many bits",
            Inode { attributes: Attributes { mode: MODE_MAX + 1, ..file().attributes }, ..file() },
        ),
        ("a full second of nanoseconds", Inode { attributes: late, ..file() }),
        ("no name", Inode { links: 0, ..file() }),
        ("a file with a target", Inode { target: target.clone(), ..file() }),
        ("a directory with a target", Inode { kind: directory, target: target.clone(), ..file() }),
        ("a directory with a stream", Inode { kind: directory, stream, ..file() }),
        ("a link with a target and a stream", Inode { kind: link, stream, target, ..file() }),
        ("a link without a target and a stream", Inode { kind: link, ..file() }),
        ("a target that is too long", Inode { kind: link, target: Some(vec![1; 513]), ..file() }),
        (
            "a known tag after an unknown one",
            Inode { unknown: vec![(tag::LINKS, vec![0; 4])], ..file() },
        ),
        ("an unknown tag twice", Inode { unknown: vec![(99, vec![]), (99, vec![])], ..file() }),
    ];
    for (fault, inode) in rows {
        let decoded = Inodes::decode_value(&[0; 8], &Inodes::encode_value(&inode));
        assert!(
            matches!(decoded, Err(Error::Engine(EngineError::Damaged(_)))),
            "{fault}: {decoded:?}"
        );
    }
}

#[test]
fn an_inode_without_a_required_field_is_damage() {
    let whole = Inodes::encode_value(&file());
    let mut at = 0;
    let mut left_out = 0;
    while at < whole.len() {
        let length = 4 + usize::from(u16::from_be_bytes([whole[at + 2], whole[at + 3]]));
        let without = [&whole[..at], &whole[at + length..]].concat();
        assert!(Inodes::decode_value(&[0; 8], &without).is_err());
        at += length;
        left_out += 1;
    }
    assert_eq!(left_out, tag::LINKS);
}

#[test]
fn an_invalid_name_on_disk_is_damage() {
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; NAME_MAX + 1]] {
        let key = [&7_u64.to_be_bytes()[..], name].concat();
        assert!(NameRecords::decode_key(&key).is_err(), "{}", name.escape_ascii());
    }
    for kind in [0, 4, u8::MAX] {
        let value = [&7_u64.to_be_bytes()[..], &[kind]].concat();
        assert!(NameRecords::decode_value(&[], &value).is_err());
    }
}
