//! `cargo xtask format`: writes the tables of `docs/FORMAT.md` from the layouts declared in the code.
//!
//! A table is between `<!-- table: NAME -->` and `<!-- end -->`; the prose around it is written by hand.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use ar7_engine::format::{
    Field, header_layout, inline_free_run, key_slot_layout, meta_slot_layout, plain, redo_block,
    redo_entry, rekey_layout, root, sealed, session, stored_stream, stream_record_layout,
};
use ar7_registry::packs::{frame_head_layout, slice_layout};
use ar7_registry::records::{
    extended_layout, extent_key_layout, extent_layout, frame_layout, pack_layout, tag_layout,
};
use ar7_registry::tree::page_layout;

use xtask::error::{Error, Result};
use xtask::workspace;

/// A table: its name in the document, the length of the structure, and the fields.
type Table = (&'static str, usize, &'static [Field]);

/// Every table of the document, with the layout that it is written from.
const TABLES: &[Table] = &[
    ("header", header_layout::SIZE, header_layout::FIELDS),
    ("rekey", rekey_layout::SIZE, rekey_layout::FIELDS),
    ("key slot", key_slot_layout::SIZE, key_slot_layout::FIELDS),
    ("sealed block", sealed::SIZE, sealed::FIELDS),
    ("block plaintext", plain::SIZE, plain::FIELDS),
    ("meta slot", meta_slot_layout::SIZE, meta_slot_layout::FIELDS),
    ("root", root::SIZE, root::FIELDS),
    ("inline free run", inline_free_run::SIZE, inline_free_run::FIELDS),
    ("session", session::SIZE, session::FIELDS),
    ("redo block", redo_block::SIZE, redo_block::FIELDS),
    ("redo entry", redo_entry::SIZE, redo_entry::FIELDS),
    ("stream record", stream_record_layout::SIZE, stream_record_layout::FIELDS),
    ("stored stream", stored_stream::SIZE, stored_stream::FIELDS),
    ("registry page", page_layout::SIZE, page_layout::FIELDS),
    ("extent key", extent_key_layout::SIZE, extent_key_layout::FIELDS),
    ("extent", extent_layout::SIZE, extent_layout::FIELDS),
    ("inode field", tag_layout::SIZE, tag_layout::FIELDS),
    ("extended attribute", extended_layout::SIZE, extended_layout::FIELDS),
    ("frame head", frame_head_layout::SIZE, frame_head_layout::FIELDS),
    ("slice", slice_layout::SIZE, slice_layout::FIELDS),
    ("frame", frame_layout::SIZE, frame_layout::FIELDS),
    ("pack", pack_layout::SIZE, pack_layout::FIELDS),
];

const DOCUMENT: &str = "docs/FORMAT.md";
const OPENING: &str = "<!-- table: ";
const OPENING_END: &str = " -->";
const CLOSING: &str = "<!-- end -->";

/// Writes the tables. With `check`, writes nothing and fails if a table is out of date.
pub(crate) fn run(check: bool) -> Result<()> {
    let path = workspace::root().join(DOCUMENT);
    let old = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let new = fill(&old, TABLES)?;
    if old == new {
        return Ok(());
    }
    if check {
        return Err(Error::Tables(stale(&old, &new)));
    }
    write(&path, &new)
}

/// Returns the document with every table regenerated from its layout.
fn fill(document: &str, tables: &[Table]) -> Result<String> {
    let mut filled = String::with_capacity(document.len());
    let mut seen: Vec<&str> = Vec::new();
    let mut rest = document;
    while let Some((before, marked)) = rest.split_once(OPENING) {
        let (name, after) = marked
            .split_once(OPENING_END)
            .ok_or_else(|| Error::Tables(format!("a '{OPENING}' marker is not closed")))?;
        let (_, after) = after
            .split_once(CLOSING)
            .filter(|(old, _)| !old.contains(OPENING))
            .ok_or_else(|| Error::Tables(format!("table '{name}' has no '{CLOSING}'")))?;
        let table = tables
            .iter()
            .find(|table| table.0 == name)
            .ok_or_else(|| Error::Tables(format!("no layout is named '{name}'")))?;
        seen.push(table.0);
        filled.push_str(before);
        filled.push_str(OPENING);
        filled.push_str(name);
        filled.push_str(OPENING_END);
        filled.push_str(&rendered(table));
        filled.push_str(CLOSING);
        rest = after;
    }
    filled.push_str(rest);
    match tables.iter().find(|table| !seen.contains(&table.0)) {
        Some(missing) => {
            Err(Error::Tables(format!("table '{}' is not in the document", missing.0)))
        }
        None => Ok(filled),
    }
}

fn rendered((_, size, fields): &Table) -> String {
    let mut text = String::from("\n\n| offset | length | field | meaning |\n");
    text.push_str("|-------:|-------:|-------|---------|\n");
    for field in *fields {
        let name = field.name.to_lowercase();
        let meaning = field.meaning.replace('|', "\\|");
        // Writing to a string cannot fail.
        writeln!(text, "| {} | {} | `{name}` | {meaning} |", field.offset, field.length).ok();
    }
    writeln!(text, "| {size} | | | end |\n").ok();
    text
}

/// Describes the first line that differs.
fn stale(old: &str, new: &str) -> String {
    let differing = old.lines().zip(new.lines()).position(|(old, new)| old != new);
    let shorter = old.lines().count().min(new.lines().count());
    let line = differing.unwrap_or(shorter) + 1;
    format!("line {line} is out of date: run `cargo xtask format`")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io("write", path))?;
    println!("{DOCUMENT} is written");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] = &[
        Field { name: "TAG", offset: 0, length: 1, meaning: "kind | 0 is invalid" },
        Field { name: "COUNT", offset: 1, length: 2, meaning: "u16" },
    ];
    const TABLES: &[Table] = &[("one", 3, FIELDS)];

    #[test]
    fn the_tables_of_the_document_are_the_declared_layouts() {
        run(true).unwrap();
    }

    #[test]
    fn a_table_is_written_between_its_markers() {
        let text = fill("a\n<!-- table: one -->old<!-- end -->\nb\n", TABLES).unwrap();
        assert!(text.starts_with("a\n<!-- table: one -->\n\n| offset |"));
        assert!(text.contains("| 0 | 1 | `tag` | kind \\| 0 is invalid |\n| 1 | 2 | `count` |"));
        assert!(text.ends_with("| 3 | | | end |\n\n<!-- end -->\nb\n"));
        assert_eq!(fill(&text, TABLES).unwrap(), text, "a second run changes nothing");
    }

    #[test]
    fn mismatched_markers_are_rejected() {
        let cases = [
            ("<!-- table: two --><!-- end -->", "no layout is named 'two'"),
            ("<!-- table: one -->", "has no '<!-- end -->'"),
            ("<!-- table: one", "not closed"),
            ("<!-- table: one --> <!-- table: one --><!-- end -->", "has no '<!-- end -->'"),
            ("no table", "table 'one' is not in the document"),
        ];
        for (document, expected) in cases {
            let error = fill(document, TABLES).unwrap_err().to_string();
            assert!(error.contains(expected), "{document}: {error}");
        }
    }

    #[test]
    fn the_first_stale_line_is_reported() {
        assert!(stale("a\nb\n", "a\nc\n").starts_with("line 2 "));
        assert!(stale("a\n", "a\nc\n").starts_with("line 2 "));
    }

    #[test]
    fn every_layout_is_contiguous() {
        for (name, size, fields) in super::TABLES {
            let mut end = 0;
            for field in *fields {
                assert_eq!(field.offset, end, "{name}: {}", field.name);
                end = field.end();
            }
            assert_eq!(end, *size, "{name}");
        }
    }
}
