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
#[cfg(all(feature = "mount", target_os = "linux"))]
mod mount;
mod salvage;
mod verify;

use std::path::Path;

use ar7_arguments::{Arguments, Command, Header, Key};

use crate::exit::Failure;
use crate::opened::print_warnings;

/// Runs a command. Also returns the path of the archive or file that it works on.
pub(crate) fn run(arguments: &Arguments) -> (&Path, Result<(), Failure>) {
    let common = &arguments.common;
    if common.json && !arguments.command.has_document() {
        let refused = Failure::usage("this command prints no document: omit --json");
        return (Path::new(""), Err(refused));
    }
    let (path, outcome) = match &arguments.command {
        Command::Keygen(options) => (&*options.file, keys::keygen(options)),
        Command::Create(options) => (&*options.archive, archive::create(common, options)),
        Command::Ingest(options) => (&*options.archive, ingest::run(common, options)),
        Command::Put(options) => (&*options.archive, content::put(common, options)),
        Command::Cat(on) => on.run(common, content::cat),
        Command::Ls(on) => on.run(common, list::ls),
        Command::Find(on) => on.run(common, list::find),
        Command::Du(on) => on.run(common, list::du),
        Command::Extract(on) => on.run(common, extract::run),
        Command::Diff(on) => on.run(common, diff::run),
        Command::Mv(on) => on.run(common, entries::mv),
        Command::Rm(on) => on.run(common, entries::rm),
        Command::Mkdir(on) => on.run(common, entries::mkdir),
        Command::Verify(on) => on.run(common, verify::run),
        Command::Repair(on) => on.run(common, archive::repair),
        Command::Salvage(options) => (&*options.archive, salvage::run(common, options)),
        Command::ImportArchive7(options) => (&*options.new, import::run(common, options)),
        Command::Info(on) => on.run(common, archive::info),
        Command::Receipt(on) => on.run(common, archive::receipt),
        Command::WipeFree(on) => on.run(common, archive::wipe_free),
        Command::Compact(on) => on.run(common, compact::run),
        Command::Shred(on) => on.run(common, keys::shred),
        Command::Rekey(on) => on.run(common, keys::rekey),
        Command::Key(Key::Add(on)) => on.run(common, keys::add),
        Command::Key(Key::Remove(on)) => on.run(common, keys::remove),
        Command::Key(Key::List(on)) => on.run(common, keys::list),
        Command::Key(Key::Change(on)) => on.run(common, keys::change),
        Command::Key(Key::Label(on)) => on.run(common, keys::label),
        Command::Header(Header::Export(on)) => on.run(common, keys::export_header),
        Command::Header(Header::Import(on)) => on.run(common, keys::import_header),
        #[cfg(all(feature = "mount", target_os = "linux"))]
        Command::Mount(on) => on.run(common, mount::mount),
        #[cfg(all(feature = "mount", target_os = "linux"))]
        Command::Unmount(options) => (&*options.directory, mount::unmount(options)),
        Command::Completions(options) => return (Path::new(""), archive::completions(options)),
        Command::Man(options) => (&*options.directory, archive::man(options)),
    };
    print_warnings();
    (path, outcome)
}
