//! Every name of the specification is found by searching the documentation for it: it is an item's own name, or an
//! alias of one.

use std::fs;
use std::path::Path;

const NAMES: &[&str] = &[
    // Blocks
    "StreamBlock",
    "FORMAT",
    "SIZE",
    "data",
    "digest",
    "index",
    "next",
    "previous",
    "position",
    "stream",
    "load_meta",
    "meta_unpack",
    // Managers
    "BaseStreamManager",
    "StreamManager",
    "SingleStreamManager",
    "FixedMultiStreamManager",
    "DynamicMultiStreamManager",
    "BLOCK_META",
    "SPECIAL_BLOCK_COUNT",
    "SPECIAL_STREAM_COUNT",
    "STREAM_DATA",
    "STREAM_TRASH",
    "STREAM_INDEX",
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
    // Streams
    "BaseStream",
    "DataStream",
    "InternalStream",
    "COMP_NONE",
    "block",
    "changed",
    "count",
    "end",
    "extend",
    "identity",
    "len",
    "length",
    "manager",
    "push",
    "pop",
    "save",
    "truncate",
    "wind",
    // Registry and files
    "Registry",
    "StreamRegistry",
    "tree",
    "register",
    "search",
    "update",
    "unregister",
    "VirtualFileObject",
];

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

fn is_found(name: &str, text: &str) -> bool {
    let forms = [
        format!("#[doc(alias = \"{name}\")]"),
        format!("pub fn {name}("),
        format!("pub struct {name}"),
        format!("pub {name}: "),
    ];
    forms.iter().any(|form| text.contains(form))
}

#[test]
fn every_name_of_the_specification_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    sources(&root.join("src"), &mut text);
    sources(&root.join("../engine/src"), &mut text);
    let missing: Vec<&&str> = NAMES.iter().filter(|name| !is_found(name, &text)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(!is_found("no_such_name", &text));
}
