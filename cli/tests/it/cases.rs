//! Cases that are files: a command, what it prints, and its exit code. Each file of `tests/cmd` runs in a folder that
//! begins as a copy of the folder `NAME.in` next to it.

use std::path::Path;

#[test]
fn every_case_prints_what_its_file_says() {
    let cases = trycmd::TestCases::new();
    cases.register_bin("ar7", Path::new(env!("CARGO_BIN_EXE_ar7")));
    cases.case("tests/cmd/*.trycmd");
}
