//! Reading a file object through `std::io`: the same bytes as `read_at` gives, each block opened once.

use std::io::{BufRead, Read, Seek, SeekFrom, Write};

use ar7_engine::device::MemoryDevice;
use ar7_engine::format::ArchiveKind;
use ar7_engine::store::Access;
use ar7_registry::{Archive, Error, Mode, Stream, StreamFile};
use proptest::prelude::*;
use uuid::Uuid;

use crate::common::{create, dynamic, open, pattern};

fn add(archive: &Archive, bytes: &[u8]) -> Uuid {
    let mut stream = archive.new_stream().unwrap();
    stream.append(bytes).unwrap();
    stream.identity()
}

fn over(stream: Stream) -> StreamFile {
    StreamFile::over(stream, "file".to_owned(), Mode::READ).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Read(usize),
    /// Takes this many of the bytes that the buffer holds.
    Take(usize),
    ReadLine,
    ReadToEnd,
    Seek(u64),
    Back(i64),
    Write(usize),
    SetLength(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![0_usize..300, 3900_usize..4200, 0_usize..90_000].prop_map(Step::Read),
        3 => (0_usize..9000).prop_map(Step::Take),
        1 => Just(Step::ReadLine),
        1 => Just(Step::ReadToEnd),
        2 => (0_u64..140_000).prop_map(Step::Seek),
        1 => (0_i64..5000).prop_map(Step::Back),
        1 => (1_usize..6000).prop_map(Step::Write),
        1 => (0_u64..140_000).prop_map(Step::SetLength),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// After any reads, seeks and writes, a file object returns the bytes that a vector in memory holds.
    #[test]
    fn a_file_object_reads_as_a_vector_does(
        length in 0_usize..120_000,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let archive = dynamic();
        let mut model = pattern(length, 0);
        let stream = add(&archive, &model);
        let mode = Mode::parse("r+").unwrap();
        let mut file = StreamFile::open(&archive, stream, mode).unwrap();
        let mut at = 0_usize;
        for step in steps {
            let rest = model.get(at..).unwrap_or_default();
            match step {
                Step::Read(wanted) => {
                    let mut bytes = vec![0; wanted];
                    let read = file.read(&mut bytes).unwrap();
                    prop_assert_eq!(&bytes[..read], &rest[..wanted.min(rest.len())]);
                    at += read;
                }
                Step::Take(wanted) => {
                    let found = file.fill_buf().unwrap();
                    prop_assert!(found.is_empty() == rest.is_empty() && rest.starts_with(found));
                    let taken = wanted.min(found.len());
                    file.consume(taken);
                    at += taken;
                }
                Step::ReadLine => {
                    let mut line = Vec::new();
                    file.read_until(b'\n', &mut line).unwrap();
                    let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
                    prop_assert_eq!(&line[..], &rest[..end]);
                    at += end;
                }
                Step::ReadToEnd => {
                    let mut bytes = b"kept".to_vec();
                    prop_assert_eq!(file.read_to_end(&mut bytes).unwrap(), rest.len());
                    prop_assert_eq!(&bytes[4..], rest);
                    at = at.max(model.len());
                }
                Step::Seek(to) => at = usize::try_from(file.seek(SeekFrom::Start(to)).unwrap()).unwrap(),
                Step::Back(by) if usize::try_from(by).unwrap() <= at => {
                    at = usize::try_from(file.seek(SeekFrom::Current(-by)).unwrap()).unwrap();
                }
                Step::Back(_) => {}
                Step::Write(length) => {
                    let bytes = pattern(length, at);
                    file.write_all(&bytes).unwrap();
                    model.resize(model.len().max(at + length), 0);
                    model[at..at + length].copy_from_slice(&bytes);
                    at += length;
                }
                Step::SetLength(length) => {
                    file.set_len(length).unwrap();
                    model.resize(usize::try_from(length).unwrap(), 0);
                }
            }
            prop_assert_eq!(file.stream_position().unwrap(), at as u64);
        }
    }
}

#[test]
fn a_later_commit_is_read_although_the_buffer_holds_an_earlier_one() {
    let archive = dynamic();
    let stream = add(&archive, &pattern(50_000, 1));
    archive.commit().unwrap();
    let mut file = over(archive.read_stream(stream).unwrap());
    let mut bytes = [0; 100];
    file.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..], pattern(50_000, 1)[..100]);
    let mut writing = archive.open_stream(stream).unwrap();
    writing.write_at(0, &pattern(50_000, 2)).unwrap();
    writing.close().unwrap();
    file.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..], pattern(50_000, 1)[100..200], "not committed yet");
    archive.commit().unwrap();
    file.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..], pattern(50_000, 2)[200..300]);
}

#[test]
fn a_stale_handle_reads_nothing_from_its_buffer() {
    let archive = dynamic();
    let stream = add(&archive, &pattern(5000, 1));
    archive.commit().unwrap();
    let mode = Mode::parse("r+").unwrap();
    let mut file = StreamFile::open(&archive, stream, mode).unwrap();
    file.read_exact(&mut [0; 10]).unwrap();
    archive.rollback().unwrap();
    let refused = file.read(&mut [0; 10]).unwrap_err();
    let found = refused.get_ref().and_then(|error| error.downcast_ref::<Error>());
    assert!(matches!(found, Some(Error::Stale)), "{refused}");
    assert!(file.fill_buf().is_err());
}

#[test]
fn a_file_that_may_not_be_read_refuses_every_kind_of_read() {
    let archive = dynamic();
    let mode = Mode::parse("w").unwrap();
    let mut file = StreamFile::open(&archive, Uuid::from_u128(77), mode).unwrap();
    file.write_all(b"content").unwrap();
    file.rewind().unwrap();
    let denied = std::io::ErrorKind::PermissionDenied;
    assert_eq!(file.read(&mut [0; 4]).unwrap_err().kind(), denied);
    assert_eq!(file.fill_buf().unwrap_err().kind(), denied);
    assert_eq!(file.read_to_end(&mut Vec::new()).unwrap_err().kind(), denied);
    assert_eq!(file.read_to_string(&mut String::new()).unwrap_err().kind(), denied);
}

#[test]
fn a_text_is_read_line_by_line_and_as_a_string() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let lines: Vec<String> = (0..5000).map(|line| format!("line {line}\n")).collect();
    let text = lines.concat();
    let stream = add(&archive, text.as_bytes());
    let other = add(&archive, b"\xff\xfe");
    archive.commit().unwrap();
    archive.close().unwrap();
    let archive = open(&device, Access::Read);
    let lines: Vec<String> =
        over(archive.read_stream(stream).unwrap()).lines().map(|line| line.unwrap()).collect();
    assert_eq!(lines.len(), 5000);
    assert!((0..).zip(&lines).all(|(number, line)| *line == format!("line {number}")));
    let mut read = "before: ".to_owned();
    let mut file = over(archive.read_stream(stream).unwrap());
    assert_eq!(file.read_to_string(&mut read).unwrap(), text.len());
    assert_eq!(read.strip_prefix("before: "), Some(&text[..]));
    let mut file = over(archive.read_stream(other).unwrap());
    let refused = file.read_to_string(&mut read).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn a_bad_block_is_an_error_only_for_reads_that_reach_it() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let bytes = pattern(40 * 4008, 3);
    let stream = add(&archive, &bytes);
    archive.commit().unwrap();
    let begin = archive.read_stream(stream).unwrap().stored().unwrap().record.begin.unwrap();
    archive.close().unwrap();
    let mut image = device.to_bytes();
    image[(begin.get() as usize + 20) * 4096 + 100] ^= 1;
    let archive = open(&MemoryDevice::from_bytes(&image), Access::Read);
    let mut file = over(archive.read_stream(stream).unwrap());
    let mut block = [0; 4008];
    for index in 0..20 {
        file.read_exact(&mut block).unwrap();
        assert_eq!(block[..], bytes[index * 4008..][..4008], "block {index}");
    }
    let refused = file.read(&mut block).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
    file.seek(SeekFrom::Start(21 * 4008)).unwrap();
    file.read_exact(&mut block).unwrap();
    assert_eq!(block[..], bytes[21 * 4008..][..4008]);
    file.rewind().unwrap();
    let mut found = Vec::new();
    assert_eq!(file.read_to_end(&mut found).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(found, bytes[..20 * 4008], "the bytes before the block");
}
