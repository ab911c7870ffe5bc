//! Cases in files: commands with their output and exit code. Each file in `tests/cmd` runs in its own directory, which
//! starts as a copy of the directory `NAME.in` next to the file.

use std::path::Path;

#[test]
fn every_case_prints_the_output_in_its_file() {
    let cases = trycmd::TestCases::new();
    let program = env!("CARGO_BIN_EXE_ar7");
    cases.register_bin("ar7", Path::new(program));
    // For redirections and for several processes. The shell finds the program in a variable.
    cases.register_bin("sh", Path::new("/bin/sh"));
    cases.env("AR7", program);
    cases.case("tests/cmd/*.trycmd");
}
