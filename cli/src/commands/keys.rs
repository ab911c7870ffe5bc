//! Commands for keys and passphrases, and for the header that holds them.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::Path;

use ar7::{Archive, Key, PathText};
use ar7_arguments::{
    Common, HeaderExport, HeaderImport, KeyAdd, KeyChange, KeyLabel, KeyRemove, Keygen, NoOptions,
    Rekey, Shred,
};
use serde_json::json;

use crate::exit::Failure;
use crate::keys;
use crate::opened::{self, check_exists};
use crate::output;
use crate::progress::Progress;

/// Creates a key file of 32 random bytes, readable only by its owner.
pub(super) fn keygen(options: &Keygen) -> Result<(), Failure> {
    Ok(Key::create_file(&options.file).map(drop)?)
}

/// Adds a key or passphrase.
pub(super) fn add(common: &Common, path: &Path, options: &KeyAdd) -> Result<(), Failure> {
    let derivation = options.slot.cost.derivation()?;
    let archive = opened::writer(common, path)?;
    let key = keys::added(&options.new)?;
    let number = archive.add_key(&key, derivation, &options.slot.label)?;
    finish(common, archive, number, "holds the new key")
}

/// Empties a key slot.
pub(super) fn remove(common: &Common, path: &Path, options: &KeyRemove) -> Result<(), Failure> {
    let archive = opened::writer(common, path)?;
    archive.remove_key(options.number)?;
    finish(common, archive, options.number, "is empty")
}

/// Replaces the key in a slot: in the one that the given key opens, unless there is a number.
pub(super) fn change(common: &Common, path: &Path, options: &KeyChange) -> Result<(), Failure> {
    let derivation = options.cost.derivation()?;
    let archive = opened::writer(common, path)?;
    let number = options.number.unwrap_or_else(|| archive.key_slot());
    let key = keys::added(&options.new)?;
    let before = archive.keys().into_iter().find(|slot| slot.number == number);
    let label = options.label.clone().or(before.map(|slot| slot.label)).unwrap_or_default();
    archive.change_key(number, &key, derivation, &label)?;
    finish(common, archive, number, "holds the new key")
}

/// Changes the label of the slot that the given key opens.
pub(super) fn label(common: &Common, path: &Path, options: &KeyLabel) -> Result<(), Failure> {
    let key = keys::existing(common)?;
    let archive = opened::open_with(common, path, Archive::options().write(true), &key)?;
    let number = archive.relabel_key(&key, &options.label)?;
    finish(common, archive, number, "has the new label")
}

/// Closes the archive after a change of its keys, and prints the number of the key slot. An error of closing must not
/// suggest that the old keys are still valid.
fn finish(common: &Common, archive: Archive, number: usize, what: &str) -> Result<(), Failure> {
    opened::finish(archive, Ok(())).map_err(|failure| match failure {
        Failure::Library(error) => Failure::AfterKeyChange(error),
        other => other,
    })?;
    let line = format!("key slot {number} {what}");
    output::report(common, &json!({ "key_slot": number }), Some(line))
}

/// Lists the key slots in use.
pub(super) fn list(common: &Common, path: &Path, _: &NoOptions) -> Result<(), Failure> {
    let archive = opened::reader(common, path)?;
    let (opened, slots) = (archive.key_slot(), archive.keys());
    let lines = slots.iter().map(|slot| {
        let mark = if slot.number == opened { " (in use)" } else { "" };
        format!("{slot}{mark}")
    });
    let revision = archive.header_revision();
    let document = json!({ "opened": opened, "revision": revision, "key_slots": slots });
    output::print(common, &document, lines)
}

/// Writes the header to a new file.
pub(super) fn export_header(
    common: &Common,
    path: &Path,
    options: &HeaderExport,
) -> Result<(), Failure> {
    let archive = opened::reader(common, path)?;
    archive.export_header_to(&options.file)?;
    output::report(common, &json!({ "revision": archive.header_revision() }), None)
}

/// Writes an exported header back to its archive.
pub(super) fn import_header(
    common: &Common,
    path: &Path,
    options: &HeaderImport,
) -> Result<(), Failure> {
    let key = keys::existing(common)?;
    let importing = common.apply(Archive::options()).accept_older_header(options.older);
    let imported = importing.import_header_from(path, &key, &options.file)?;
    for loss in imported.losses() {
        output::warn_of(path, &loss);
    }
    let older = if imported.is_older { ", with the keys of the older one" } else { "" };
    let line = format!("the header has revision {}{older}", imported.revision);
    output::report(common, &imported, Some(line))
}

/// Changes the master key, or continues an interrupted change.
pub(super) fn rekey(common: &Common, path: &Path, options: &Rekey) -> Result<(), Failure> {
    check_exists(path)?;
    let key = keys::existing(common)?;
    // The rekey repairs a damaged slot, even if it then stops or is refused.
    drop(opened::open_with(common, path, Archive::options(), &key)?);
    let options = common.apply(Archive::options()).drop_other_keys(options.drop_other_keys);
    let progress = Progress::stoppable(common)?;
    let (mut done, mut total) = (0, 0);
    let rekeyed = options.rekey(path, &key, |at| {
        (done, total) = (at.blocks, at.total);
        progress.flow_at(at)
    });
    progress.finish();
    let rekeyed = rekeyed.map_err(Failure::stopped(|| match done {
        0 => "the archive is unchanged".to_owned(),
        _ => format!(
            "{done} of {total} blocks are sealed under the new master key; the archive is read-only until rekey is run \
             again"
        ),
    }))?;
    output::report(common, &rekeyed, Some(rekeyed.to_string()))?;
    Failure::check(rekeyed.shortfall())
}

/// Destroys the key slots, and with them access to the content, after the user has confirmed.
pub(super) fn shred(common: &Common, path: &Path, options: &Shred) -> Result<(), Failure> {
    check_exists(path)?;
    if !options.yes && !is_confirmed(path)? {
        return Err(Failure::usage("not confirmed: answer yes in a terminal, or use --yes"));
    }
    common.apply(Archive::options()).shred(path)?;
    let line =
        "every key slot was destroyed; delete exported headers and other copies of the archive too";
    output::report(common, &json!({ "shredded": true }), Some(line.to_owned()))
}

fn is_confirmed(archive: &Path) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    output::tell(&format!(
        "{}: every key slot will be destroyed, and the archive can never be read again. Type yes to continue: ",
        PathText::new(archive)
    ));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Failure::input)?;
    Ok(answer.trim() == "yes")
}
