//! The measurements of [`ar7_benches::measured`], as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ar7_benches::measured::main()
}
