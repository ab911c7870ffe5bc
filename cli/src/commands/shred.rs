//! `shred`: destroys the key slots, and with them access to the content.

use std::io::{self, BufRead, IsTerminal};

use ar7::Archive;
use serde_json::json;

use crate::arguments::{Common, Shred};
use crate::exit::Failure;
use crate::opened::at;
use crate::output;
use crate::shown::Shown;
use crate::stderr;

/// Destroys the key slots after the user has confirmed.
pub(crate) fn run(common: &Common, options: &Shred) -> Result<(), Failure> {
    let path = &options.archive;
    std::fs::metadata(path).map_err(|error| Failure::file(path, "open", error))?;
    if !options.yes && !confirmed(options)? {
        return Err(Failure::NotConfirmed);
    }
    common.apply(Archive::options()).shred(path).map_err(at(path))?;
    output::report(
        common,
        &json!({ "shredded": true }),
        "every key slot was destroyed; delete exported headers and other copies of the archive too",
    )
}

fn confirmed(options: &Shred) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    let name = Shown::path(&options.archive);
    stderr::write(&format!(
        "{name}: every key slot will be destroyed, and the archive can never be read again. Type yes to continue: "
    ));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Failure::Input)?;
    Ok(answer.trim() == "yes")
}
