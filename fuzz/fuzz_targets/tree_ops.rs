//! See `ar7_fuzz::tree_ops`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::tree_ops(bytes);
});
