use crate::format::{BLOCKS_MAX, BlockIndex, BlockRef, Features, Generation, Position, Run};

#[test]
fn positions_count_blocks_of_4096_bytes() {
    let last = Position::at(BLOCKS_MAX - 1);
    assert_eq!((Position::at(0).offset(), Position::at(3).offset()), (0, 12_288));
    assert_eq!(last.offset(), (1 << 43) - 8192);
    assert_eq!(Position::at(8).following(), Position::new(9));
    assert_eq!(last.following(), None);
    assert_eq!(Position::at(8).checked_add(u32::MAX), None);
}

#[test]
fn units_print_as_numbers() {
    let generation = Generation { session: 4, step: 5, salt: 0xab };
    let position = Position::at(42);
    assert_eq!(format!("[{position:>4}] [{:>3}]", BlockIndex(7)), "[  42] [  7]");
    assert_eq!(generation.to_string(), "4.5.000000ab");
    assert_eq!(BlockRef { position, generation }.to_string(), "42@4.5.000000ab");
}

#[test]
fn links_are_minus_one_or_a_position() {
    assert_eq!(Position::from_link(-1), Ok(None));
    assert_eq!(Position::from_link(0), Ok(Some(Position::at(0))));
    assert_eq!(Position::from_link(i32::MAX - 1), Ok(Position::new(BLOCKS_MAX - 1)));
    for wrong in [i32::MAX, -2, i32::MIN] {
        assert_eq!(Position::from_link(wrong), Err(wrong));
    }
    for link in [-1, 0, 8, i32::MAX - 1] {
        assert_eq!(Position::to_link(Position::from_link(link).expect("in range")), link);
    }
}

#[test]
fn runs_end_within_the_format() {
    let last = Position::at(BLOCKS_MAX - 1);
    assert_eq!(Run::new(last, 1).map(Run::end), Some(BLOCKS_MAX));
    assert_eq!(Run::new(last, 2), None);
    assert_eq!(Run::new(last, u32::MAX), None);
    assert_eq!(Run::new(Position::at(8), 0), None);
    let run = Run::new(Position::at(8), 5).expect("a run");
    let (head, tail) = run.split(2);
    assert_eq!(head, Run::new(Position::at(8), 2));
    assert_eq!(tail, Run::new(Position::at(10), 3));
    assert_eq!(run.split(9), (Some(run), None));
    assert_eq!(run.split(0), (None, Some(run)));
}

#[test]
fn a_run_holds_the_positions_from_its_start_to_its_end() {
    let run = Run::new(Position::at(8), 5).expect("a run");
    let positions: Vec<u32> = run.positions().map(Position::get).collect();
    assert_eq!(positions, [8, 9, 10, 11, 12]);
    let held = (0..20).filter(|&position| run.contains(Position::at(position)));
    assert_eq!(held.collect::<Vec<u32>>(), positions);
}

#[test]
fn generations_sort_like_their_bytes() {
    let generation = Generation { session: 0x0102_0304, step: 0x0506_0708, salt: 0x090a_0b0c };
    assert_eq!(generation.encode(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(Generation::decode(generation.encode()), generation);
    let later = Generation { session: 0x0102_0305, step: 0, salt: 0 };
    assert!(generation < later && generation.encode() < later.encode());
}

#[test]
fn a_reference_to_no_block_has_generation_zero() {
    let none = BlockRef::encode(None);
    assert_eq!(none, [255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(BlockRef::decode(none), Ok(None));
    let mut wrong = none;
    wrong[3] = 254;
    assert_eq!(BlockRef::decode(wrong), Err(-2));
}

#[test]
fn unknown_features_forbid_reading_or_writing_as_their_set_says() {
    let bit = 1 << 63;
    let compatible = Features { compatible: bit, ..Features::default() };
    assert!(compatible.check_readable().is_ok() && compatible.check_writable().is_ok());
    let readable = Features { readable: bit, ..Features::default() };
    assert!(readable.check_readable().is_ok() && readable.check_writable().is_err());
    let required = Features { required: bit, ..Features::default() };
    assert!(required.check_readable().is_err() && required.check_writable().is_err());
    let all = Features { compatible: 1, readable: 2, required: 0x0304 };
    assert_eq!(Features::decode(all.encode()), all);
    assert_eq!(all.encode()[22..], [3, 4]);
}
