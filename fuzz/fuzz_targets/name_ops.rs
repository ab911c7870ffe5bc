//! See `ar7_fuzz::name_ops`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::name_ops(bytes);
});
