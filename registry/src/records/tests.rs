//! Every record is decoded to what was encoded. Any bytes are rejected, or decoded to a record that
//! encodes to the same bytes; nothing panics. Keys sort like their encoded bytes.

use ar7_engine::format::{BlockIndex, Generation, Position, Run, SessionRecord, Timestamp};
use proptest::prelude::*;

use super::inodes::tag;
use super::*;
use crate::error::Error;
use crate::tree::{CELL_MAX, KEY_MAX};

/// The inode that the tests decode.
const NUMBER: InodeNumber = InodeNumber(9);

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
    let field = (0_u8..18, prop::collection::vec(any::<u8>(), 0..24));
    prop::collection::vec(field, 0..17).prop_map(|fields| of_fields(&fields))
}

fn of_fields(fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, field) in fields {
        bytes.extend((u16::from(*tag) * 1024 + u16::try_from(field.len()).unwrap()).to_be_bytes());
        bytes.extend(field);
    }
    bytes
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..=NAME_MAX)
        .prop_filter("a name", |name| validate_name(name).is_ok())
}

fn unknown() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let fields = prop::collection::btree_map(
        tag::ORIGIN_INODE + 1..=TAG_MAX,
        prop::collection::vec(any::<u8>(), 0..10),
        0..2,
    );
    fields.prop_map(|fields| fields.into_iter().collect())
}

fn time() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..=NANOSECONDS_MAX)
        .prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds })
}

fn origin() -> impl Strategy<Value = Option<Origin>> {
    let origin = (time(), any::<u64>()).prop_map(|(changed, inode)| Origin { changed, inode });
    prop::option::of(origin)
}

/// Returns extended attributes with distinct names, in ascending order, with values of at most
/// `value_max` bytes.
fn attributes(value_max: usize) -> impl Strategy<Value = Vec<ExtendedAttribute>> {
    let name = prop_oneof![
        9 => prop::collection::vec(1..=u8::MAX, 1..20),
        1 => prop::collection::vec(1..=u8::MAX, EXTENDED_NAME_MAX),
    ];
    let value = prop::collection::vec(any::<u8>(), 0..=value_max);
    let attributes = prop::collection::btree_map(name, value, 1..6);
    attributes.prop_map(|attributes| {
        let named = |(name, value)| ExtendedAttribute { name, value };
        attributes.into_iter().map(named).collect()
    })
}

fn extended() -> impl Strategy<Value = Extended> {
    let inline = |attributes: &Vec<_>| encode_extended(attributes).len() <= INLINE_EXTENDED_MAX;
    prop_oneof![
        2 => Just(Extended::None),
        3 => attributes(40).prop_filter_map("a short set", move |attributes| {
            inline(&attributes).then_some(Extended::Inline(attributes))
        }),
        1 => (1..=u128::MAX).prop_map(|stream| Extended::Stream(Uuid::from_u128(stream))),
    ]
}

prop_compose! {
    fn inode()(
        kind in prop::sample::select(EntryType::ALL.to_vec()),
        mode in 0..=MODE_MAX,
        (uid, gid, size) in any::<(u32, u32, u64)>(),
        (modified, origin) in (time(), origin()),
        links in 1..=u32::MAX,
        stream in prop::option::of(1_u128..1 << 64),
        target in prop::collection::vec(any::<u8>(), 0..=INLINE_TARGET_MAX),
        (parent, major, minor) in (2_u64.., any::<u32>(), any::<u32>()),
        extended in extended(),
        unknown in unknown(),
    ) -> Inode {
        let has_content = matches!(kind, EntryType::File | EntryType::Symlink);
        let stream = stream.filter(|_| has_content).map(Uuid::from_u128);
        let target = Some(target).filter(|_| kind == EntryType::Symlink && stream.is_none());
        let parent_number = parent;
        let parent = (kind == EntryType::Directory).then_some(InodeNumber(parent_number));
        let device = kind.is_device().then_some(Device { major, minor });
        let attributes = Attributes { mode, uid, gid, modified, origin };
        let is_packed = kind == EntryType::File && stream.is_none() && (1..1 << 62).contains(&size);
        let slice = is_packed.then_some(parent_number % (1 << 62));
        Inode {
            kind, attributes, size, links, target, stream, slice, parent, device, extended, unknown,
        }
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
        check_record::<Frames>(&key, &value);
        check_record::<Packs>(&key, &value);
        check_record::<DeadSlices>(&key, &value);
    }
}

proptest! {
    #[test]
    fn an_inode_keeps_its_unknown_fields(inode in inode()) {
        let number = 0;
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
        let key = Inodes::encode_key(&InodeNumber(0));
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
        for kind in EntryType::ALL {
            let value = NameValue { inode: InodeNumber(inode), kind };
            prop_assert_eq!(NameRecords::decode_value(&encoded, &NameRecords::encode_value(&value))?, value);
        }
    }

    /// In any order, they are encoded in ascending order of their names.
    #[test]
    fn extended_attributes_are_decoded_to_what_was_encoded(
        attributes in attributes(2000),
        order in 0_usize..6,
        value_max in prop::sample::select(vec![0, EXTENDED_VALUE_MAX]),
    ) {
        let mut given = attributes.clone();
        let count = given.len();
        given.rotate_left(order % count);
        given[0].value.resize(value_max, 7);
        let stored = storable_extended(&given)?;
        prop_assert!(stored.is_sorted());
        let encoded = encode_extended(&stored);
        let decoded = decode_extended(&encoded)?;
        prop_assert_eq!(decoded.iter().collect::<Vec<_>>(), stored);
        // No prefix of the bytes is a whole set, unless it ends between two attributes.
        let ends = (0..encoded.len()).filter(|&end| decode_extended(&encoded[..end]).is_ok());
        if encoded.len() < 4000 {
            prop_assert_eq!(ends.count(), count - 1);
        }
    }

    /// After a byte is changed, a set is rejected, or decoded to one that encodes to the same bytes.
    #[test]
    fn changed_extended_attributes_are_decoded_or_rejected(
        attributes in attributes(40),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encode_extended(&attributes);
        let at = place.index(bytes.len());
        bytes[at] = byte;
        match decode_extended(&bytes) {
            Ok(decoded) => {
                prop_assert_eq!(storable_extended(&decoded)?, decoded.iter().collect::<Vec<_>>());
                prop_assert_eq!(encode_extended(&decoded), bytes);
            }
            Err(error) => prop_assert!(is_damage(&error), "{error:?}"),
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

fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Engine(EngineError::Damaged(_)))
}

/// Returns a file, whose fields the tests change.
fn file() -> Inode {
    let (mode, uid, gid, modified, origin) = (0o644, 0, 0, Timestamp::default(), None);
    Inode::new(EntryType::File, Attributes { mode, uid, gid, modified, origin })
}

/// An inode for each fault.
type Rows = Vec<(&'static str, Inode)>;

fn assert_damaged(rows: Rows) {
    for (fault, inode) in rows {
        let decoded =
            Inodes::decode_value(&Inodes::encode_key(&NUMBER), &Inodes::encode_value(&inode));
        assert!(decoded.as_ref().is_err_and(is_damage), "{fault}: {decoded:?}");
    }
}

#[test]
fn an_inode_with_values_out_of_bounds_is_damage() {
    let with = |attributes: Attributes| Inode { attributes, ..file() };
    let unknown = |unknown| Inode { unknown, ..file() };
    assert_damaged(vec![
        ("a mode with too many bits", with(Attributes { mode: MODE_MAX + 1, ..file().attributes })),
        ("a known tag after an unknown one", unknown(vec![(50, vec![]), (tag::LINKS, vec![1])])),
        ("an unknown tag twice", unknown(vec![(50, vec![]), (50, vec![])])),
    ]);
}

#[test]
fn an_inode_with_malformed_fields_is_damage() {
    let kind = (tag::KIND, vec![EntryType::File as u8]);
    let decode = |fields: &[(u8, Vec<u8>)]| {
        Inodes::decode_value(&Inodes::encode_key(&NUMBER), &of_fields(fields))
    };
    let time_and_inode = [(tag::ORIGIN, vec![1]), (tag::ORIGIN_INODE, vec![])];
    let last_time =
        (i128::from(i64::MAX) * 1_000_000_000 + 999_999_999).to_be_bytes()[4..].to_vec();
    let last = [(tag::ORIGIN, last_time.clone()), (tag::ORIGIN_INODE, vec![])];
    assert!(decode(&[&[kind.clone()][..], &last].concat()).is_ok());
    assert!(decode(&[&[kind.clone()][..], &time_and_inode].concat()).is_ok());
    for (fault, fields) in [
        ("a mode of 0 that takes bytes", vec![(tag::MODE, vec![0])]),
        ("an empty mode", vec![(tag::MODE, vec![])]),
        ("an owner with a zero byte at its beginning", vec![(tag::UID, vec![0, 1])]),
        ("an owner of 5 bytes", vec![(tag::UID, vec![1; 5])]),
        ("a length of 9 bytes", vec![(tag::SIZE, vec![1; 9])]),
        ("too many names", vec![(tag::LINKS, vec![255; 4])]),
        ("a time with a byte too many", vec![(tag::MODIFIED, vec![0, 1])]),
        ("a time beyond the last second", vec![(tag::MODIFIED, vec![127; 12])]),
        (
            "an origin beyond the last second",
            vec![
                (tag::MODIFIED, vec![1]),
                (tag::ORIGIN, last_time.clone()),
                (tag::ORIGIN_INODE, vec![]),
            ],
        ),
        ("an origin without an inode", vec![(tag::ORIGIN, vec![1])]),
        ("an inode without an origin", vec![(tag::ORIGIN_INODE, vec![1])]),
        ("two kinds", vec![kind.clone()]),
        ("the tag 0", vec![(0, vec![])]),
    ] {
        let damage = decode(&[&[kind.clone()][..], &fields].concat());
        assert!(damage.as_ref().is_err_and(is_damage), "{fault}: {damage:?}");
    }
    for (fault, bytes) in [
        ("no field", vec![]),
        ("no kind", of_fields(&[(tag::MODE, vec![1])])),
        ("half a head", vec![4]),
        ("a field that is cut short", vec![4, 1]),
    ] {
        let damage = Inodes::decode_value(&Inodes::encode_key(&NUMBER), &bytes);
        assert!(damage.as_ref().is_err_and(is_damage), "{fault}: {damage:?}");
    }
}

#[test]
fn an_inode_with_fields_of_another_type_is_damage() {
    let stream = Some(Uuid::from_u128(9));
    let target = Some(b"target".to_vec());
    let parent = Some(InodeNumber(7));
    let device = Some(Device { major: 1, minor: 3 });
    let of = |kind| Inode { kind, ..file() };
    let directory = || Inode { parent, ..of(EntryType::Directory) };
    let link = || of(EntryType::Symlink);
    let fifo = || of(EntryType::Fifo);
    let disk = || of(EntryType::BlockDevice);
    assert_damaged(vec![
        ("a file with a target", Inode { target: target.clone(), ..file() }),
        ("a file with a parent", Inode { parent, ..file() }),
        ("a file with a device number", Inode { device, ..file() }),
        ("a directory without a parent", Inode { parent: None, ..directory() }),
        ("a directory below itself", Inode { parent: Some(NUMBER), ..directory() }),
        ("a directory with a target", Inode { target: target.clone(), ..directory() }),
        ("a directory with a stream", Inode { stream, ..directory() }),
        ("a link with a target and a stream", Inode { stream, target: target.clone(), ..link() }),
        ("a link without a target and a stream", link()),
        ("a link with a parent", Inode { target: target.clone(), parent, ..link() }),
        ("a target that is too long", Inode { target: Some(vec![1; 513]), ..link() }),
        ("a fifo with a stream", Inode { stream, ..fifo() }),
        ("a fifo with a target", Inode { target, ..fifo() }),
        ("a fifo with a device number", Inode { device, ..fifo() }),
        ("a device without a number", disk()),
        ("a device with a stream", Inode { stream, device, ..disk() }),
    ]);
}

#[test]
fn an_inode_with_invalid_extended_attributes_is_damage() {
    let stream = Some(Uuid::from_u128(9));
    let own = Extended::Stream(Uuid::from_u128(9));
    let one = |name: &[u8], length| ExtendedAttribute::new(name, vec![1; length]);
    let with = |attributes| Inode { extended: Extended::Inline(attributes), ..file() };
    let in_stream = vec![(tag::EXTENDED_STREAM, vec![7; 16])];
    assert_damaged(vec![
        ("no attribute", with(vec![])),
        ("two with one name", with(vec![one(b"a", 1), one(b"a", 2)])),
        ("a descending order", with(vec![one(b"b", 1), one(b"a", 1)])),
        ("no name", with(vec![one(b"", 1)])),
        ("NUL in a name", with(vec![one(b"a\0b", 1)])),
        ("too many bytes", with(vec![one(b"a", INLINE_EXTENDED_MAX - 5)])),
        ("two places", Inode { unknown: in_stream, ..with(vec![one(b"a", 1)]) }),
        ("the stream of the content", Inode { stream, extended: own, ..file() }),
    ]);
}

#[test]
fn the_root_and_no_other_directory_is_without_a_parent() {
    let root = Inode { kind: EntryType::Directory, ..file() };
    let decode = |number, inode| {
        Inodes::decode_value(&Inodes::encode_key(&number), &Inodes::encode_value(inode))
    };
    assert_eq!(decode(InodeNumber::ROOT, &root).unwrap(), root);
    let below = Inode { parent: Some(InodeNumber::ROOT), ..root.clone() };
    assert_eq!(decode(NUMBER, &below).unwrap(), below);
    assert!(decode(NUMBER, &root).is_err_and(|error| is_damage(&error)));
    let above = Inode { parent: Some(NUMBER), ..root.clone() };
    assert!(decode(InodeNumber::ROOT, &above).is_err_and(|error| is_damage(&error)));
}

/// Even if it has every field with its maximum length.
#[test]
fn an_inode_always_has_room_for_its_known_fields() {
    let origin = Some(Origin { changed: Timestamp::default(), inode: u64::MAX });
    let fullest = Inode {
        kind: EntryType::Symlink,
        attributes: Attributes { origin, ..file().attributes },
        target: Some(vec![1; INLINE_TARGET_MAX]),
        ..file()
    };
    assert_eq!(fullest.room_for_extended(), INLINE_EXTENDED_MAX);
    for (length, room) in [(0, 256), (38, 256), (39, 255), (200, 94), (294, 0), (500, 0)] {
        let unknown = vec![(50, vec![0; length])];
        let attribute = ExtendedAttribute::new("n", vec![1; room.max(6) - 6]);
        let extended = Extended::Inline(vec![attribute]);
        let inode = Inode { unknown, ..fullest.clone() };
        assert_eq!(inode.room_for_extended(), room, "{length}");
        let whole = Inode { extended, stream: Some(Uuid::max()), ..inode };
        let size = 8 + Inodes::encode_value(&whole).len();
        assert!(room == 0 || size <= CELL_MAX, "{length}: {size}");
    }
}

#[test]
fn extended_attributes_that_are_too_long_are_refused() {
    let refused = |attributes: &[ExtendedAttribute]| {
        storable_extended(attributes).expect_err("an error").to_string()
    };
    let attribute = |name: &[u8], length| ExtendedAttribute::new(name, vec![1; length]);
    let longest = EXTENDED_VALUE_MAX;
    assert!(storable_extended(&[attribute(&[b'n'; 255], longest)]).is_ok());
    assert_eq!(
        refused(&[attribute(b"n", longest + 1)]),
        "length of an extended attribute in bytes: expected 0 to 65536, found 65537"
    );
    // 15 values of the maximum length, and one that fills the set.
    let mut full: Vec<ExtendedAttribute> =
        (b'a'..).take(15).map(|n| attribute(&[n], longest)).collect();
    full.push(attribute(b"z", EXTENDED_MAX - 15 * (longest + 6) - 6));
    assert_eq!(encode_extended(&storable_extended(&full).unwrap()).len(), EXTENDED_MAX);
    full[15].value.push(1);
    assert_eq!(
        refused(&full),
        "length of all extended attributes in bytes: expected 0 to 1048576, found 1048577"
    );
    assert_eq!(
        refused(&[attribute(b"", 1)]),
        "invalid name \"\": expected 1 to 255 bytes, found 0"
    );
    assert!(refused(&[attribute(&[b'n'; 256], 1)]).ends_with("found 256"));
    let twice = refused(&[attribute(b"b", 1), attribute(b"a", 1), attribute(b"b", 2)]);
    assert_eq!(twice, "invalid name \"b\": two extended attributes have it");
    assert_eq!(refused(&[attribute(b"a\0", 1)]), "invalid name \"a\\x00\": it contains a NUL byte");
}

#[test]
fn the_length_of_stored_extended_attributes_is_bounded() {
    let most = u64::try_from(EXTENDED_MAX).unwrap();
    assert_eq!(extended_length(most).unwrap(), EXTENDED_MAX);
    for length in [most + 1, u64::MAX] {
        assert!(extended_length(length).is_err_and(|error| is_damage(&error)));
    }
}

#[test]
fn an_invalid_name_on_disk_is_damage() {
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; NAME_MAX + 1]] {
        let key = [&7_u64.to_be_bytes()[..], name].concat();
        assert!(NameRecords::decode_key(&key).is_err(), "{}", name.escape_ascii());
    }
    for kind in [0, 8, u8::MAX] {
        assert!(NameRecords::decode_value(&[], &[kind, 7]).is_err());
    }
}
