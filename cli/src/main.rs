//! The program: see `ar7_cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ar7_cli::run()
}
