//! See `ar7_fuzz::inode_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::inode_parse(bytes);
});
