//! The commands.

mod archive;
mod compact;
mod content;
mod diff;
mod entries;
mod extract;
mod import;
mod ingest;
mod keys;
mod list;
mod salvage;
mod verify;

use std::path::Path;

#[cfg(feature = "testing")]
pub(crate) use self::content::bare_stream;
use crate::arguments::{Arguments, Command, Header, Key};
use crate::exit::Failure;
use crate::opened::warn_of_damaged_copies;

/// Runs a command. Also returns the path of the archive or file that it works on.
pub(crate) fn run(arguments: &Arguments) -> (&Path, Result<(), Failure>) {
    let common = &arguments.common;
    let (path, outcome) = match &arguments.command {
        Command::Cat(_) | Command::Completions(_) | Command::Man(_) | Command::Keygen(_)
            if common.json =>
        {
            let refused = Failure::usage("this command prints no document: omit --json");
            return (Path::new(""), Err(refused));
        }
        Command::Keygen(options) => (&options.file, keys::keygen(options)),
        Command::Create(options) => (&options.archive, archive::create(common, options)),
        Command::Ingest(options) => (&options.archive, ingest::run(common, options)),
        Command::Put(options) => (&options.archive, content::put(common, options)),
        Command::Cat(options) => (&options.archive, content::cat(common, options)),
        Command::Ls(options) => (&options.archive, list::ls(common, options)),
        Command::Find(options) => (&options.archive, list::find(common, options)),
        Command::Du(options) => (&options.archive, list::du(common, options)),
        Command::Extract(options) => (&options.archive, extract::run(common, options)),
        Command::Diff(options) => (&options.archive, diff::run(common, options)),
        Command::Mv(options) => (&options.archive, entries::mv(common, options)),
        Command::Rm(options) => (&options.archive, entries::rm(common, options)),
        Command::Mkdir(options) => (&options.archive, entries::mkdir(common, options)),
        Command::Verify(options) => (&options.archive, verify::run(common, options)),
        Command::Repair(options) => (&options.archive, archive::repair(common, options)),
        Command::Salvage(options) => (&options.archive, salvage::run(common, options)),
        Command::ImportArchive7(options) => (&options.new, import::run(common, options)),
        Command::Info(options) => (&options.archive, archive::info(common, options)),
        Command::Receipt(options) => (&options.archive, archive::receipt(common, options)),
        Command::WipeFree(options) => (&options.archive, archive::wipe_free(common, options)),
        Command::Compact(options) => (&options.archive, compact::run(common, options)),
        Command::Shred(options) => (&options.archive, keys::shred(common, options)),
        Command::Rekey(options) => (&options.archive, keys::rekey(common, options)),
        Command::Key(Key::Add(options)) => (&options.archive, keys::add(common, options)),
        Command::Key(Key::Remove(options)) => (&options.archive, keys::remove(common, options)),
        Command::Key(Key::List(options)) => (&options.archive, keys::list(common, options)),
        Command::Key(Key::Change(options)) => (&options.archive, keys::change(common, options)),
        Command::Key(Key::Label(options)) => (&options.archive, keys::label(common, options)),
        Command::Header(Header::Export(options)) => {
            (&options.archive, keys::export_header(common, options))
        }
        Command::Header(Header::Import(options)) => {
            (&options.archive, keys::import_header(common, options))
        }
        Command::Completions(options) => return (Path::new(""), archive::completions(options)),
        Command::Man(options) => (&options.directory, archive::man(options)),
    };
    warn_of_damaged_copies();
    (path, outcome)
}
