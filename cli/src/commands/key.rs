//! `key`: the keys and passphrases that open an archive.

use std::fmt::Write as _;

use ar7::{Archive, KeySlot};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Common, Key, KeyAdd, KeyChange, KeyLabel, KeyList, KeyRemove};
use crate::exit::Failure;
use crate::keys;
use crate::opened::{Opened, derivation};
use crate::output::{self, Output};
use crate::shown::Shown;

/// A key slot as `info` and `key list` print it.
#[derive(Debug, Serialize)]
pub(crate) struct Slot {
    number: usize,
    kind: &'static str,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_kib: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lanes: Option<u32>,
}

/// The output of `key list`, in the order of the JSON document.
#[derive(Debug, Serialize)]
struct Listed {
    /// The slot that the given key opened.
    opened: usize,
    revision: u64,
    key_slots: Vec<Slot>,
}

/// Runs a subcommand.
pub(crate) fn run(common: &Common, options: &Key) -> Result<(), Failure> {
    match options {
        Key::Add(options) => add(common, options),
        Key::Remove(options) => remove(common, options),
        Key::List(options) => list(common, options),
        Key::Change(options) => change(common, options),
        Key::Label(options) => label(common, options),
    }
}

fn add(common: &Common, options: &KeyAdd) -> Result<(), Failure> {
    let derivation = derivation(&options.archive, &options.slot.cost)?;
    let opened = Opened::write(common, &options.archive)?;
    let key = keys::added(&options.new)?;
    let number = opened.archive.add_key(&key, derivation, &options.slot.label);
    finish(common, opened, number, "holds the new key")
}

fn remove(common: &Common, options: &KeyRemove) -> Result<(), Failure> {
    let opened = Opened::write(common, &options.archive)?;
    let number = options.number;
    let removed = opened.archive.remove_key(number).map(|()| number);
    finish(common, opened, removed, "is empty")
}

fn change(common: &Common, options: &KeyChange) -> Result<(), Failure> {
    let derivation = derivation(&options.archive, &options.cost)?;
    let opened = Opened::write(common, &options.archive)?;
    let number = options.number.unwrap_or_else(|| opened.archive.key_slot());
    let key = keys::added(&options.new)?;
    let slots = opened.archive.keys();
    let before = slots.into_iter().find(|slot| slot.number == number).map(|slot| slot.label);
    let label = options.label.clone().or(before).unwrap_or_default();
    let changed = opened.archive.change_key(number, &key, derivation, &label).map(|()| number);
    finish(common, opened, changed, "holds the new key")
}

fn label(common: &Common, options: &KeyLabel) -> Result<(), Failure> {
    let key = keys::existing(common)?;
    let opened = Opened::with(common, &options.archive, Archive::options().write(true), &key)?;
    let number = opened.archive.relabel_key(&key, &options.label);
    finish(common, opened, number, "has the new label")
}

/// Closes the archive after a change of its keys, and prints the number of the key slot. An error of closing must not
/// suggest that the old keys are still valid.
fn finish(
    common: &Common,
    opened: Opened,
    changed: ar7::Result<usize>,
    what: &str,
) -> Result<(), Failure> {
    let number = changed.map_err(opened.named())?;
    opened.finish().map_err(|failure| match failure {
        Failure::Library { archive, error } => Failure::AfterKeyChange { archive, error },
        other => other,
    })?;
    output::report(common, &json!({ "key_slot": number }), &format!("key slot {number} {what}"))
}

fn list(common: &Common, options: &KeyList) -> Result<(), Failure> {
    let archive = Opened::read(common, &options.archive)?.archive;
    let opened = archive.key_slot();
    let key_slots: Vec<Slot> = archive.keys().into_iter().map(Slot::new).collect();
    let mut output = Output::new();
    if common.json {
        let revision = archive.header_revision();
        return output.document(&Listed { opened, revision, key_slots });
    }
    for slot in key_slots {
        let mark = if slot.number == opened { " (in use)" } else { "" };
        output.line(&format!("{}{mark}", slot.text()))?;
    }
    output.finish()
}

impl Slot {
    pub(crate) fn new(slot: KeySlot) -> Slot {
        let KeySlot { number, label, is_passphrase, memory_kib, passes, lanes, .. } = slot;
        let kind = if is_passphrase { "passphrase" } else { "key file" };
        Slot { number, kind, label, memory_kib, passes, lanes }
    }

    /// Formats the slot as one line.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}: {}", self.number, self.kind);
        if let (Some(memory), Some(passes), Some(lanes)) =
            (self.memory_kib, self.passes, self.lanes)
        {
            let _ = write!(text, ", Argon2id {memory} KiB, {passes} passes, {lanes} lanes");
        }
        if !self.label.is_empty() {
            let _ = write!(text, ", \"{}\"", Shown(self.label.as_bytes()));
        }
        text
    }
}
