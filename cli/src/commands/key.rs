//! `key`: the keys and passphrases that open an archive.

use std::fmt::Write as _;

use ar7_engine::format::{Header, KeySlot};
use ar7_engine::store::NewKey;
use serde::Serialize;

use crate::arguments::{Common, Key, KeyAdd, KeyChange, KeyLabel, KeyList, KeyRemove};
use crate::exit::Failure;
use crate::keys;
use crate::output::Output;
use crate::session::{Session, at, derivation};
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
    let named = at(&options.archive);
    let derivation = derivation(&options.slot.cost).map_err(|error| named(error.into()))?;
    let session = Session::write(common, &options.archive)?;
    let secret = keys::added(&options.new)?;
    let new = NewKey { secret: &secret, derivation: &derivation, label: &options.slot.label };
    let number = session.archive.add_key(&new).map_err(&named)?;
    close(session)?;
    tell(common, number, "holds the new key")
}

fn remove(common: &Common, options: &KeyRemove) -> Result<(), Failure> {
    let session = Session::write(common, &options.archive)?;
    session.archive.remove_key(options.number).map_err(session.named())?;
    close(session)?;
    tell(common, options.number, "is empty")
}

fn change(common: &Common, options: &KeyChange) -> Result<(), Failure> {
    let named = at(&options.archive);
    let derivation = derivation(&options.cost).map_err(|error| named(error.into()))?;
    let session = Session::write(common, &options.archive)?;
    let number = options.number.unwrap_or_else(|| session.archive.store().key_slot());
    let secret = keys::added(&options.new)?;
    let label = options.label.clone().unwrap_or_else(|| label_of(&session, number));
    let new = NewKey { secret: &secret, derivation: &derivation, label: &label };
    session.archive.change_key(number, &new).map_err(&named)?;
    close(session)?;
    tell(common, number, "holds the new key")
}

/// Closes the archive after its keys were changed. An error must not suggest that the old keys are still valid.
fn close(session: Session) -> Result<(), Failure> {
    let archive = session.path.clone();
    session.finish().map_err(|failure| match failure {
        Failure::Archive { error, .. } => Failure::AfterKeyChange { archive, error },
        other => other,
    })
}

/// Returns the label of a key slot; nothing if the slot is empty.
fn label_of(session: &Session, number: usize) -> String {
    let header = session.archive.store().header();
    match header.slots.get(number) {
        Some(KeySlot::Used(slot)) => slot.label.to_string(),
        _ => String::new(),
    }
}

fn label(common: &Common, options: &KeyLabel) -> Result<(), Failure> {
    let secret = keys::existing(common)?;
    let session = Session::write_with(common, &options.archive, &secret)?;
    let relabelled = session.archive.relabel_key(&secret, &options.label);
    let number = relabelled.map_err(session.named())?;
    close(session)?;
    tell(common, number, "has the new label")
}

fn list(common: &Common, options: &KeyList) -> Result<(), Failure> {
    let session = Session::read(common, &options.archive)?;
    let store = session.archive.store();
    let header = store.header();
    let opened = store.key_slot();
    let mut output = Output::new();
    if options.json {
        let (revision, key_slots) = (header.revision, slots_of(&header));
        return output.document(&Listed { opened, revision, key_slots });
    }
    for slot in slots_of(&header) {
        let mark = if slot.number == opened { " (in use)" } else { "" };
        output.line(&format!("{}{mark}", slot.text()))?;
    }
    output.finish()
}

fn tell(common: &Common, number: usize, what: &str) -> Result<(), Failure> {
    if common.quiet {
        return Ok(());
    }
    let mut output = Output::new();
    output.line(&format!("key slot {number} {what}"))?;
    output.finish()
}

/// Returns the key slots in use.
pub(crate) fn slots_of(header: &Header) -> Vec<Slot> {
    let slots = header.slots.iter().enumerate().filter_map(|(number, slot)| match slot {
        KeySlot::Empty => None,
        KeySlot::Used(used) => Some(Slot {
            number,
            kind: if used.cost.is_some() { "passphrase" } else { "key file" },
            label: used.label.to_string(),
            memory_kib: used.cost.map(|cost| cost.memory_kib),
            passes: used.cost.map(|cost| cost.passes),
            lanes: used.cost.map(|cost| cost.lanes),
        }),
    });
    slots.collect()
}

impl Slot {
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
