//! Operations on the bytes and blocks of a stream, applied to an archive and to the model of its content.

use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;

use ar7_engine::format::{Block, DATA_SIZE};
use ar7_registry::{Archive, Error, Mode, Result, StreamFile};
use uuid::Uuid;

use super::content::{Content, chosen, usize_of};
use crate::stream_blocks::StreamBlocks;

/// Writes bytes at an offset, or at the end if that is lower.
pub(super) fn write(
    archive: &Archive,
    model: &mut Content,
    stream: u32,
    offset: u32,
    new: &[u8],
) -> Result<()> {
    let Some(identity) = chosen(model, stream) else { return Ok(()) };
    if new.is_empty() {
        return Ok(());
    }
    let offset = usize_of(offset).min(model.streams[&identity].len());
    let mut stream = archive.open_stream(identity)?;
    stream.write_at(bytes_u64(offset), new)?;
    stream.close()?;
    follow(model, identity, |blocks| blocks.write(offset, new));
    Ok(())
}

/// Writes bytes at an offset of a file. A gap before it reads as zeros.
pub(super) fn write_file(
    archive: &Archive,
    model: &mut Content,
    stream: u32,
    offset: u32,
    new: &[u8],
) -> Result<()> {
    let Some(identity) = chosen(model, stream) else { return Ok(()) };
    let mut file = StreamFile::open(archive, identity, Mode::parse("r+")?)?;
    let sought = file.seek(SeekFrom::Start(offset.into()));
    sought.and_then(|_| file.write_all(new)).map_err(own_error)?;
    file.close()?;
    follow(model, identity, |blocks| blocks.write(usize_of(offset), new));
    Ok(())
}

pub(super) fn set_length(
    archive: &Archive,
    model: &mut Content,
    stream: u32,
    length: u32,
) -> Result<()> {
    let Some(identity) = chosen(model, stream) else { return Ok(()) };
    let mut stream = archive.open_stream(identity)?;
    stream.set_len(length.into())?;
    stream.close()?;
    follow(model, identity, |blocks| blocks.set_length(usize_of(length)));
    Ok(())
}

pub(super) fn set_file_length(
    archive: &Archive,
    model: &mut Content,
    stream: u32,
    length: u32,
) -> Result<()> {
    let Some(identity) = chosen(model, stream) else { return Ok(()) };
    let mut file = StreamFile::open(archive, identity, Mode::parse("r+")?)?;
    file.set_len(length.into())?;
    file.close()?;
    follow(model, identity, |blocks| blocks.set_length(usize_of(length)));
    Ok(())
}

/// Pushes a block of `byte`. If it is counted, so is everything beyond the end before it.
pub(super) fn push(
    archive: &Archive,
    model: &mut Content,
    stream: u32,
    is_counted: bool,
    byte: u8,
) -> Result<()> {
    let Some(identity) = chosen(model, stream) else { return Ok(()) };
    let mut blocks = blocks_of(model, identity);
    let mut stream = archive.open_stream(identity)?;
    let needed = blocks.needed();
    // The bytes of the last block beyond the end are unknown here, so they are set to zero.
    if is_counted && needed > blocks.length {
        stream.set_len(bytes_u64(needed))?;
        blocks.set_length(needed);
    }
    let mut block = Block::blank();
    block.data.fill(byte);
    stream.push(&block)?;
    blocks.push(&block.data);
    if is_counted {
        let more = blocks.bytes.len() - blocks.length;
        stream.adjust_length(i64::try_from(more).expect("a small stream"))?;
        blocks.length = blocks.bytes.len();
    }
    stream.close()?;
    store(blocks, model, identity);
    Ok(())
}

pub(super) fn pop(archive: &Archive, model: &mut Content, stream: u32) -> Result<()> {
    let Some(identity) = chosen(model, stream) else { return Ok(()) };
    let mut blocks = blocks_of(model, identity);
    let mut stream = archive.open_stream(identity)?;
    let popped = stream.pop()?;
    stream.close()?;
    let Some(last) = blocks.count().checked_sub(1) else {
        assert!(popped.is_none(), "an empty stream has no last block");
        return Ok(());
    };
    check(&blocks, last, popped.as_ref().map(|block| &block.data[..]));
    blocks.pop();
    store(blocks, model, identity);
    Ok(())
}

/// Changes one byte of one block, each chosen by a number.
pub(super) fn set_data(
    archive: &Archive,
    model: &mut Content,
    stream: u32,
    (block, at): (u32, u32),
    byte: u8,
) -> Result<()> {
    let Some(identity) = chosen(model, stream) else { return Ok(()) };
    let mut blocks = blocks_of(model, identity);
    let Some(index) = usize_of(block).checked_rem(blocks.count()) else { return Ok(()) };
    let at = usize_of(at) % DATA_SIZE;
    let mut stream = archive.open_stream(identity)?;
    stream.wind(u32::try_from(index).expect("a small stream"))?;
    let data = stream.data_mut()?;
    check(&blocks, index, data.as_deref().map(|data| &data[..]));
    if let Some(data) = data {
        data[at] = byte;
    }
    stream.save(false)?;
    stream.close()?;
    blocks.bytes[index * DATA_SIZE + at] = byte;
    store(blocks, model, identity);
    Ok(())
}

/// Applies to the model a change that was made to a stream.
fn follow(model: &mut Content, identity: Uuid, change: impl FnOnce(&mut StreamBlocks)) {
    let mut blocks = blocks_of(model, identity);
    change(&mut blocks);
    store(blocks, model, identity);
}

/// Sets the size of a file to the length of its stream.
pub(crate) fn set_size(model: &mut Content, identity: Uuid, size: u64) {
    if let Some(node) = model.nodes.values_mut().find(|node| node.stream == Some(identity)) {
        node.size = size;
    }
}

/// Returns the blocks of a stream in the model. Bytes of the last needed block beyond the end are modelled as zeros. They
/// are never visible, because a stream that grows writes zeros there first.
fn blocks_of(model: &Content, identity: Uuid) -> StreamBlocks {
    let bytes = model.streams[&identity].clone();
    let mut blocks = StreamBlocks { length: bytes.len(), bytes };
    blocks.bytes.resize(blocks.needed(), 0);
    blocks.bytes.extend(model.beyond.get(&identity).into_iter().flatten());
    blocks
}

/// Stores the blocks of a stream in the model, and updates the size of its file.
fn store(blocks: StreamBlocks, model: &mut Content, identity: Uuid) {
    set_size(model, identity, bytes_u64(blocks.length));
    let needed = blocks.needed();
    let StreamBlocks { mut bytes, length } = blocks;
    let beyond = bytes.split_off(needed);
    bytes.truncate(length);
    model.streams.insert(identity, bytes);
    model.beyond.remove(&identity);
    if !beyond.is_empty() {
        model.beyond.insert(identity, beyond);
    }
}

/// Checks the known part of the data of a block.
fn check(blocks: &StreamBlocks, index: usize, data: Option<&[u8]>) {
    let data = data.expect("an existing block");
    let Range { start, end } = index * DATA_SIZE..(index + 1) * DATA_SIZE;
    let known = if start < blocks.needed() { end.min(blocks.length) } else { end };
    assert!(data[..known - start] == blocks.bytes[start..known], "the data of block {index}");
}

/// Returns the archive's error inside an I/O error.
fn own_error(error: io::Error) -> Error {
    error.downcast().unwrap_or_else(|other| panic!("not an error of an archive: {other}"))
}

fn bytes_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length in memory")
}
