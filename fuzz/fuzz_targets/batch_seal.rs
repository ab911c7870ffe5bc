//! See `ar7_fuzz::batch_seal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::batch_seal(bytes);
});
