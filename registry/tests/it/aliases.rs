//! Every name of the specification can be found: it is the name of a public item or an alias of
//! one.

use std::fs;
use std::path::{Path, PathBuf};

/// The specification's names: classes, then operations and properties, then constants.
const NAMES: &[&str] = &[
    "StreamBlock",
    "StreamManager",
    "BaseStreamManager",
    "SingleStreamManager",
    "FixedMultiStreamManager",
    "DynamicMultiStreamManager",
    "BaseStream",
    "DataStream",
    "InternalStream",
    "Registry",
    "StreamRegistry",
    "VirtualFileObject",
    // StreamBlock.
    "position",
    "previous",
    "next",
    "index",
    "stream",
    "digest",
    "data",
    "load_meta",
    "meta_unpack",
    // Managers.
    "created",
    "closed",
    "close",
    "meta",
    "save_meta",
    "new_block",
    "load_block",
    "save_block",
    "special_block",
    "special_stream",
    "recycle",
    "reuse",
    "new_stream",
    "open_stream",
    "close_stream",
    "del_stream",
    // Streams.
    "identity",
    "manager",
    "block",
    "count",
    "len",
    "length",
    "changed",
    "save",
    "wind",
    "end",
    "extend",
    "push",
    "pop",
    "truncate",
    // Registries.
    "tree",
    "register",
    "search",
    "update",
    "unregister",
    // Constants.
    "FORMAT",
    "SIZE",
    "COMP_NONE",
    "BLOCK_META",
    "SPECIAL_BLOCK_COUNT",
    "SPECIAL_STREAM_COUNT",
    "STREAM_INDEX",
    "STREAM_TRASH",
    "STREAM_DATA",
];

#[test]
fn every_name_of_the_specification_is_an_item_or_an_alias() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut sources = String::new();
    for folder in ["engine/src", "registry/src"] {
        append_sources(&root.join(folder), &mut sources);
    }
    let missing: Vec<&&str> = NAMES.iter().filter(|name| !is_found(&sources, name)).collect();
    assert!(missing.is_empty(), "neither a public item nor an alias: {missing:?}");
    assert!(!is_found(&sources, "NoSuchName"), "the check can fail");
}

fn append_sources(folder: &Path, sources: &mut String) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            append_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// Returns whether some line declares a public item, a field or an alias with this name.
fn is_found(sources: &str, name: &str) -> bool {
    let alias = format!("#[doc(alias = \"{name}\")]");
    sources.lines().map(str::trim_start).any(|line| line == alias || declares(line, name))
}

fn declares(line: &str, name: &str) -> bool {
    let Some(item) = line.strip_prefix("pub ") else { return false };
    let item = ["const fn ", "fn ", "struct ", "enum ", "trait ", "const ", "mod ", "type "]
        .iter()
        .find_map(|keyword| item.strip_prefix(keyword))
        .unwrap_or(item);
    let after = item.strip_prefix(name);
    after.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}
