//! The commands, one module for each.

mod cat;
mod completions;
pub(crate) mod content;
mod create;
mod diff;
mod du;
mod extract;
mod find;
mod header;
mod info;
pub(crate) mod ingest;
mod key;
mod keygen;
mod listing;
mod ls;
mod mkdir;
mod mv;
mod paths;
mod put;
pub(crate) mod receipt;
mod rekey;
mod rm;
mod salvage;
mod shred;
mod verify;
mod wipe;

use crate::arguments::{Arguments, Command};
use crate::exit::Failure;

/// Runs a command.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let common = &arguments.common;
    match &arguments.command {
        Command::Cat(_) | Command::Completions(_) | Command::Man(_) | Command::Keygen(_)
            if common.json =>
        {
            Err(Failure::NoJson)
        }
        Command::Keygen(options) => keygen::run(options),
        Command::Create(options) => create::run(common, options),
        Command::Ingest(options) => ingest::run(common, options),
        Command::Put(options) => put::run(common, options),
        Command::Cat(options) => cat::run(common, options),
        Command::Ls(options) => ls::run(common, options),
        Command::Find(options) => find::run(common, options),
        Command::Du(options) => du::run(common, options),
        Command::Extract(options) => extract::run(common, options),
        Command::Diff(options) => diff::run(common, options),
        Command::Mv(options) => mv::run(common, options),
        Command::Rm(options) => rm::run(common, options),
        Command::Mkdir(options) => mkdir::run(common, options),
        Command::Verify(options) => verify::run(common, options),
        Command::Info(options) => info::run(common, options),
        Command::Receipt(options) => receipt::run(common, options),
        Command::WipeFree(options) => wipe::run(common, options),
        Command::Salvage(options) => salvage::run(common, options),
        Command::Rekey(options) => rekey::run(common, options),
        Command::Shred(options) => shred::run(common, options),
        Command::Key(options) => key::run(common, options),
        Command::Header(options) => header::run(common, options),
        Command::Completions(options) => completions::completions(options),
        Command::Man(options) => completions::man(options),
    }
}
