//! See `ar7_fuzz::cli_args`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ar7_fuzz::cli_args(bytes);
});
