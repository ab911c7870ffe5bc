//! See `ar7_fuzz::archive_salvage`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::archive_salvage(bytes);
});
