//! The `ar7` program. All code is in the library `ar7_cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ar7_cli::run()
}
