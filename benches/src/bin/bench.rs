//! The program that runs the measurements of [`ar7_benches::measured`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ar7_benches::measured::main()
}
