//! See `ar7_fuzz::archive7`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::archive7(bytes);
});
