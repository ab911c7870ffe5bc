use proptest::prelude::*;
use uuid::Uuid;

use super::damaged_check;
use crate::error::Check;
use crate::format::{Block, BlockHead, BlockIndex, PLAIN_SIZE, Position, plain};

const HERE: Position = Position::at(42);

#[test]
fn a_block_head_has_the_layout_of_the_specification() {
    let head = BlockHead {
        previous: Some(Position::at(41)),
        next: None,
        index: BlockIndex(7),
        stream: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
    };
    let mut bytes = [0; PLAIN_SIZE];
    head.encode(&[0xdd; 20], &mut bytes);
    let mut expected = vec![0, 0, 0, 41, 255, 255, 255, 255, 0, 0, 0, 7];
    expected.extend(1..=16);
    expected.extend([0xdd; 20]);
    assert_eq!(bytes[..48], expected);
    assert_eq!(plain::DATA.offset, 48);
    assert_eq!(BlockHead::decode(HERE, &bytes).expect("a head"), (head, [0xdd; 20]));
}

#[test]
fn a_blank_block_has_no_links_and_no_data() {
    let blank = Block::blank();
    assert_eq!(blank.head.previous.or(blank.head.next), None);
    assert!(blank.head.index == BlockIndex(0) && blank.head.stream.is_nil());
    assert!(blank.data.iter().all(|&byte| byte == 0));
    // The data is plaintext, which must not get into a log.
    assert_eq!(format!("{:?}", blank.data), "OwnedData(..)");
}

#[test]
#[cfg(target_os = "linux")]
fn dropping_the_data_of_a_block_wipes_it() {
    use crate::format::{DATA_SIZE, OwnedData};
    use crate::own_memory::count_of;
    let mut buffer = vec![0; DATA_SIZE];
    let data = OwnedData::copy_of(&[0xa7; DATA_SIZE]);
    let address = data.as_ptr().addr();
    assert_eq!(count_of(0xa7, address, &mut buffer), DATA_SIZE);
    drop(data);
    assert!(count_of(0xa7, address, &mut buffer) < 64);
}

#[test]
fn neighbour_links_out_of_range_or_to_the_block_itself_are_damage() {
    for (field, check) in [(plain::PREVIOUS, Check::PreviousLink), (plain::NEXT, Check::NextLink)] {
        for link in [42, -2, i32::MIN, i32::MAX] {
            let mut bytes = [0; PLAIN_SIZE];
            BlockHead::default().encode(&[0; 20], &mut bytes);
            field.put(&mut bytes, &link.to_be_bytes());
            let error = BlockHead::decode(HERE, &bytes).expect_err("a wrong link");
            assert_eq!(damaged_check(&error), Some(check), "{link}");
        }
    }
}

proptest! {
    #[test]
    fn heads_that_decode_encode_to_the_same_bytes(
        bytes in proptest::array::uniform32(any::<u8>()),
        links in proptest::array::uniform2(-2..50_i32),
    ) {
        let mut plaintext = [0; PLAIN_SIZE];
        plaintext[16..48].copy_from_slice(&bytes);
        plain::PREVIOUS.put(&mut plaintext, &links[0].to_be_bytes());
        plain::NEXT.put(&mut plaintext, &links[1].to_be_bytes());
        if let Ok((head, digest)) = BlockHead::decode(HERE, &plaintext) {
            let mut again = [0; PLAIN_SIZE];
            head.encode(&digest, &mut again);
            prop_assert_eq!(again, plaintext);
        } else {
            prop_assert!(links.contains(&-2) || links.contains(&42));
        }
    }
}
