//! The bytes of a page, in the data of one block.
//!
//! What all keys begin with is stored once, at the end. In front of it, cells are packed in order, downwards. A directory
//! of their offsets is at the front. Each list of cells has exactly one layout, so a page that was decoded encodes to the
//! same bytes.

use std::ops::Range;

use ar7_engine::format::{DATA_SIZE, Data, DoubledRef, Field, OwnedData, Position};
use ar7_engine::{Check, Error as EngineError, Value};
use zeroize::Zeroizing;

use super::page::{CAPACITY, CELL_MAX, KEY_MAX, PREFIX_MAX, Page, PageExpectation, of_page};
use crate::error::Result;

ar7_engine::layout! {
    /// The data of a page.
    pub mod page_layout, 4008 => {
        TAG: 1, "u8: 1 leaf, 2 branch; 0 is invalid";
        TREE: 1, "u8: number of the tree";
        LEVEL: 1, "u8: level, 0 for a leaf";
        PREFIX: 1, "u8: length of the prefix, at most 64";
        COUNT: 2, "u16: number of cells, at least 1";
        CELLS: 2, "u16: offset of the lowest byte that a cell uses";
        BODY: 4000, "u16 offset of each cell; zeros; the cells, the first at the end; the prefix";
    }
}

const _: () = assert!(page_layout::BODY.length == CAPACITY);

const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// Offset of the directory of cells.
const DIRECTORY: usize = page_layout::BODY.offset;

/// What was checked, expected and found.
type Fault = (Check, Value, Value);

type Checked<T> = std::result::Result<T, Fault>;

impl Page {
    /// Parses the data of a block as a page. Checks everything that later reads rely on.
    pub fn parse(position: Position, data: &Data, expect: PageExpectation) -> Result<Page> {
        let page = decode(data, expect).map_err(|(check, expected, found)| {
            EngineError::damaged(position, check, expected, found)
        })?;
        Ok(page)
    }

    /// Returns the page as the data of a block.
    pub fn to_data(&self) -> OwnedData {
        encode(self)
    }
}

fn encode(page: &Page) -> OwnedData {
    let mut data = OwnedData::zeroed();
    let prefix = page.prefix();
    let tag = if page.is_branch() { BRANCH } else { LEAF };
    page_layout::TAG.put(&mut data[..], &[tag]);
    page_layout::TREE.put(&mut data[..], &[page.tree().0]);
    page_layout::LEVEL.put(&mut data[..], &[page.level()]);
    let length = u8::try_from(prefix.len()).expect("at most PREFIX_MAX bytes");
    page_layout::PREFIX.put(&mut data[..], &[length]);
    set_u16(&mut data, page_layout::COUNT, page.count());
    let mut end = DATA_SIZE - prefix.len();
    data[end..].copy_from_slice(prefix);
    for cell in 0..page.count() {
        let (key, value) = (page.key(cell), page.value(cell));
        let rest = &key[prefix.len().min(key.len())..];
        let begin = end - 2 - rest.len() - value.len();
        data[begin..begin + 2].copy_from_slice(&of_page(rest.len()).to_be_bytes());
        data[begin + 2..begin + 2 + rest.len()].copy_from_slice(rest);
        data[begin + 2 + rest.len()..end].copy_from_slice(value);
        let entry = DIRECTORY + 2 * cell;
        data[entry..entry + 2].copy_from_slice(&of_page(begin).to_be_bytes());
        end = begin;
    }
    set_u16(&mut data, page_layout::CELLS, end);
    data
}

fn decode(data: &Data, expect: PageExpectation) -> Checked<Page> {
    check_head(data, expect)?;
    let (count, prefix_len) = (usize::from(page_layout::COUNT.u16(data)), prefix_len(data)?);
    let mut end = DATA_SIZE - prefix_len;
    let directory_end = DIRECTORY + 2 * count;
    if count == 0 || directory_end > end {
        return Err((Check::Page, ((end - DIRECTORY) / 2).into(), count.into()));
    }
    let prefix = &data[end..];
    let lowest = usize::from(page_layout::CELLS.u16(data));
    let mut cells =
        Zeroizing::new(Vec::with_capacity(end.saturating_sub(lowest) + count * prefix_len));
    let mut offsets = Vec::with_capacity(count);
    for entry in data[DIRECTORY..directory_end].as_chunks().0 {
        let begin = usize::from(u16::from_be_bytes(*entry));
        let prefix = if expect.level > 0 && offsets.is_empty() { &[] } else { prefix };
        let (rest, value) = cell(data, directory_end, begin..end, prefix.len())?;
        offsets.push(of_page(cells.len()));
        cells.extend_from_slice(&of_page(prefix.len() + rest.len()).to_be_bytes());
        cells.extend_from_slice(prefix);
        cells.extend_from_slice(rest);
        cells.extend_from_slice(value);
        check_order(&cells, &offsets, value, expect.level)?;
        end = begin;
    }
    if lowest != end {
        return Err((Check::Page, end.into(), lowest.into()));
    }
    if data[directory_end..lowest].iter().any(|&byte| byte != 0) {
        return Err((Check::Reserved, "zeros".into(), "other bytes".into()));
    }
    let page = Page::of_cells(expect, offsets, cells);
    let longest = page.prefix().len();
    if longest == prefix_len {
        Ok(page)
    } else {
        Err((Check::Page, longest.into(), prefix_len.into()))
    }
}

fn check_head(data: &Data, expect: PageExpectation) -> Checked<()> {
    let tag = if expect.level == 0 { LEAF } else { BRANCH };
    let head = [
        (page_layout::TAG, tag),
        (page_layout::TREE, expect.tree.0),
        (page_layout::LEVEL, expect.level),
    ];
    for (field, expected) in head {
        let found = data[field.offset];
        if found != expected {
            return Err((Check::Page, expected.into(), found.into()));
        }
    }
    Ok(())
}

fn prefix_len(data: &Data) -> Checked<usize> {
    let [length] = page_layout::PREFIX.array(data);
    let length = usize::from(length);
    if length <= PREFIX_MAX {
        Ok(length)
    } else {
        Err((Check::Page, PREFIX_MAX.into(), length.into()))
    }
}

/// Returns the rest of the key and the value of a cell.
fn cell(
    data: &Data,
    directory_end: usize,
    range: Range<usize>,
    prefix: usize,
) -> Checked<(&[u8], &[u8])> {
    let is_behind_directory = range.start >= directory_end;
    let cell = data.get(range.clone()).filter(|_| is_behind_directory);
    let Some((length, body)) = cell.and_then(|cell| cell.split_first_chunk()) else {
        return Err((Check::Page, range.end.into(), range.start.into()));
    };
    let size = prefix + body.len();
    if size > CELL_MAX {
        return Err((Check::Page, CELL_MAX.into(), size.into()));
    }
    let length = usize::from(u16::from_be_bytes(*length));
    let most = body.len().min(KEY_MAX - prefix);
    body.split_at_checked(length).filter(|_| length <= most).ok_or((
        Check::Page,
        most.into(),
        length.into(),
    ))
}

/// Checks the last cell of some: its key is above the one before, and in a branch, it leads to a child.
fn check_order(cells: &[u8], offsets: &[u16], value: &[u8], level: u8) -> Checked<()> {
    let key = |offset: u16| {
        let (length, rest) = cells[usize::from(offset)..].split_first_chunk().expect("a cell");
        &rest[..usize::from(u16::from_be_bytes(*length))]
    };
    let (&last, before) = offsets.split_last().expect("a cell");
    let key_order = |low: &[u8]| {
        let (low, found) = (low.to_vec(), key(last).to_vec());
        (Check::KeyOrder, Value::Bytes(low), Value::Bytes(found))
    };
    if let Some(&before) = before.last()
        && key(before) >= key(last)
    {
        return Err(key_order(key(before)));
    }
    if level == 0 {
        return Ok(());
    }
    if before.is_empty() && !key(last).is_empty() {
        return Err((Check::KeyOrder, 0_u8.into(), key(last).len().into()));
    }
    check_child(value)
}

fn check_child(value: &[u8]) -> Checked<()> {
    let bytes: [u8; DoubledRef::SIZE] =
        value.try_into().map_err(|_| (Check::Page, DoubledRef::SIZE.into(), value.len().into()))?;
    match DoubledRef::decode(bytes) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err((Check::Page, "two positions".into(), (-1_i32).into())),
        Err(raw) => Err((Check::Page, "two positions".into(), raw.into())),
    }
}

fn set_u16(data: &mut Data, field: Field, value: usize) {
    field.put(&mut data[..], &of_page(value).to_be_bytes());
}
