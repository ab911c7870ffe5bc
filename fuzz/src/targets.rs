//! The fuzz targets: what each promises, and its initial inputs.

use crate::{
    archive_forged, archive_open, archive_ops, archive_salvage, archive7, batch_seal, block_parse,
    cli_args, cursor_ops, extent_parse, frame_parse, header_parse, inode_parse, key_slot_parse,
    meta_slot_parse, name_ops, name_parse, page_parse, redo_parse, sealed_block_open, seeds,
    stream_file, stream_record_parse, tree_change, tree_ops,
};

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of the program in `fuzz/fuzz_targets`, and of the directories of its inputs.
    pub name: &'static str,
    /// The promise that it checks, in one line.
    pub promise: &'static str,
    /// Runs the target on arbitrary bytes; panics if the promise is broken.
    pub run: fn(&[u8]),
    /// Returns the initial inputs: few, small, and always the same.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// The length of an input in bytes beyond which nothing new is reached.
    pub length_max: usize,
}

/// Declares the targets: name, seeds, longest input, promise.
macro_rules! targets {
    ($($name:ident, $seeds:expr, $length_max:expr, $promise:literal;)*) => {
        /// Every target, in the order of their names.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            promise: $promise,
            run: |bytes| {
                // Most targets return a value for their own tests only.
                let _ = $name::$name(bytes);
            },
            seeds: $seeds,
            length_max: $length_max,
        }),*];
    };
}

targets! {
    archive7, archive7::seeds, 300, "an archive of the Python module is imported byte for byte, or refused with a typed error";
    archive_forged, archive_forged::seeds, 400, "reading, verifying, extracting and writing an archive forged with the key succeed or fail with typed errors";
    archive_open, archive_open::seeds, 4096, "a file of arbitrary bytes is accepted or rejected, and never returns content that was not committed";
    archive_ops, archive_ops::seeds, 300, "an archive equals its model after any operations, crashes and failures";
    archive_salvage, archive_salvage::seeds, 400, "salvaging a forged archive with destroyed blocks ends, and the new archive is whole and as the report says";
    batch_seal, batch_seal::seeds, 3100, "a batch is sealed exactly as the reference crates seal one block at a time";
    block_parse, seeds::blocks, 52, "the head of a block decodes to its value or is rejected";
    cli_args, cli_args::seeds, 400, "flags, sizes, receipts, streams, patterns and paths are parsed correctly or rejected";
    cursor_ops, cursor_ops::seeds, 400, "a stream equals a list of blocks after any cursor operations";
    extent_parse, seeds::extents, 64, "an extent decodes to its value or is rejected";
    frame_parse, frame_parse::seeds, 600, "a frame, or a record of packed content, decodes to its value or is rejected";
    header_parse, seeds::headers, 4096, "a header decodes to its value or is rejected";
    inode_parse, seeds::inodes, 2000, "an inode decodes to its value or is rejected";
    key_slot_parse, seeds::key_slots, 256, "a key slot decodes to its value or is rejected";
    meta_slot_parse, seeds::meta_slots, 4008, "a meta slot decodes to its value or is rejected";
    name_ops, name_ops::seeds, 600, "names equal their model after any operations, rollbacks and reopenings";
    name_parse, seeds::names, 300, "a name decodes to its value or is rejected";
    page_parse, seeds::pages, 4008, "a page decodes to its value or is rejected";
    redo_parse, seeds::redo_blocks, 4012, "a block of the redo list decodes to its value or is rejected";
    sealed_block_open, sealed_block_open::seeds, 160, "a block opens only at the position, as the kind and under the key it was sealed for";
    stream_file, stream_file::seeds, 400, "a stream behaves like a file of the operating system";
    stream_record_parse, seeds::stream_records, 64, "a stream record decodes to its value or is rejected";
    tree_change, seeds::forged_trees, 800, "a tree with forged pages is read and changed, or rejected as damaged";
    tree_ops, tree_ops::seeds, 800, "a tree equals a map after any operations, commits and crashes";
}

/// Returns the target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_in_order_and_have_seeds() {
        assert!(TARGETS.is_sorted_by(|one, two| one.name < two.name));
        for target in TARGETS {
            let seeds = (target.seeds)();
            assert!(!seeds.is_empty(), "{} has no seeds", target.name);
            assert!(seeds == (target.seeds)(), "the seeds of {} change", target.name);
            let longest = seeds.iter().map(Vec::len).max();
            assert!(longest <= Some(target.length_max), "{}: {longest:?} bytes", target.name);
        }
        assert!(target("tree_ops").is_some() && target("none").is_none());
    }
}
