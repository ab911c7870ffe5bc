//! See `ar7_fuzz::stream_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::stream_file(bytes);
});
