//! The campaigns of [`ar7_fuzz::campaigns`], as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ar7_fuzz::campaigns::main()
}
