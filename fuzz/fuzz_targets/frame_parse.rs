//! See `ar7_fuzz::frame_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::frame_parse(bytes);
});
