//! See `ar7_fuzz::cursor_ops`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::cursor_ops(bytes);
});
