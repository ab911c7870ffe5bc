//! A key slot: the master key, wrapped under a passphrase or a raw key.

use std::fmt;
use std::ops::Deref;

use super::Position;
use crate::error::{Check, Error, Result, Value};

crate::layout! {
    /// A key slot.
    pub mod key_slot_layout, 256 => {
        KIND: 1, "u8: 0 empty (all zeros), 1 raw key, 2 passphrase";
        LABEL_LENGTH: 1, "u8: length of the label, 0 to 64";
        RESERVED: 2, "0";
        MEMORY: 4, "u32: Argon2id memory in KiB; 0 for a raw key";
        PASSES: 4, "u32: Argon2id passes; 0 for a raw key";
        LANES: 4, "u32: Argon2id lanes; 0 for a raw key";
        SALT: 32, "random salt";
        LABEL: 64, "label, UTF-8 without control characters, then zeros";
        COMMITMENT: 32, "key commitment";
        NONCE: 24, "nonce of the wrapping";
        WRAPPED: 48, "the master key, sealed with XChaCha20-Poly1305: 32 bytes and the tag";
        UNUSED: 40, "0";
    }
}

/// Number of key slots in a header.
pub const KEY_SLOTS: usize = 8;

/// Largest length of a label in bytes.
pub const LABEL_MAX: usize = key_slot_layout::LABEL.length;

const KIND_EMPTY: u8 = 0;
const KIND_RAW: u8 = 1;
const KIND_PASSPHRASE: u8 = 2;

/// A key slot, empty or used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySlot {
    /// No key.
    Empty,
    /// A wrapped master key.
    Used(Box<UsedSlot>),
}

/// Costs of Argon2id (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DerivationCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// The user's name for a key slot: at most [`LABEL_MAX`] bytes and no control characters, so that a label from a
/// foreign archive cannot send commands to a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label(String);

impl Label {
    /// Creates a label of at most 64 bytes without control characters.
    pub fn new(label: &str) -> Result<Label> {
        let refused = |what: &'static str, found: Value, allowed: Value| Error::OutOfBounds {
            what,
            found,
            allowed,
        };
        if label.len() > LABEL_MAX {
            let what = "length of a key's label in bytes";
            return Err(refused(what, label.len().into(), (0..=LABEL_MAX).into()));
        }
        if label.chars().any(char::is_control) {
            let found = Value::Bytes(label.as_bytes().to_vec());
            return Err(refused("a key's label", found, "no control characters".into()));
        }
        Ok(Label(label.to_owned()))
    }
}

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A key slot with a wrapped master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedSlot {
    /// Cost of deriving the key from a passphrase; `None` for a raw key.
    pub cost: Option<DerivationCost>,
    /// Random salt.
    pub salt: [u8; 32],
    /// The user's name for the key slot.
    pub label: Label,
    /// Commitment to the wrapping key.
    pub commitment: [u8; 32],
    /// Nonce of the wrapping.
    pub nonce: [u8; 24],
    /// The sealed master key.
    pub wrapped: [u8; 48],
}

impl KeySlot {
    /// Encodes the slot.
    pub fn encode(&self) -> [u8; key_slot_layout::SIZE] {
        match self {
            KeySlot::Empty => [0; key_slot_layout::SIZE],
            KeySlot::Used(used) => used.encode(),
        }
    }

    /// Decodes a key slot of the header at this position. It does not bound the costs; the key derivation does.
    pub fn decode(header: Position, bytes: &[u8; key_slot_layout::SIZE]) -> Result<KeySlot> {
        let [kind] = key_slot_layout::KIND.array(bytes);
        if kind > KIND_PASSPHRASE {
            return Err(Error::NewerFormat {
                what: "kind of key slot",
                found: kind.into(),
                supported: KIND_PASSPHRASE.into(),
            });
        }
        if kind == KIND_EMPTY {
            check_zeros(header, bytes)?;
            return Ok(KeySlot::Empty);
        }
        check_zeros(header, key_slot_layout::RESERVED.of(bytes))?;
        check_zeros(header, key_slot_layout::UNUSED.of(bytes))?;
        let costs = key_slot_layout::MEMORY.offset..key_slot_layout::LANES.end();
        let cost = if kind == KIND_RAW {
            check_zeros(header, &bytes[costs])?;
            None
        } else {
            Some(DerivationCost {
                memory_kib: key_slot_layout::MEMORY.u32(bytes),
                passes: key_slot_layout::PASSES.u32(bytes),
                lanes: key_slot_layout::LANES.u32(bytes),
            })
        };
        Ok(KeySlot::Used(Box::new(UsedSlot {
            cost,
            salt: key_slot_layout::SALT.array(bytes),
            label: decode_label(header, bytes)?,
            commitment: key_slot_layout::COMMITMENT.array(bytes),
            nonce: key_slot_layout::NONCE.array(bytes),
            wrapped: key_slot_layout::WRAPPED.array(bytes),
        })))
    }
}

fn decode_label(header: Position, bytes: &[u8; key_slot_layout::SIZE]) -> Result<Label> {
    let [length] = key_slot_layout::LABEL_LENGTH.array(bytes);
    let field = key_slot_layout::LABEL.of(bytes);
    let Some((label, unused)) = field.split_at_checked(usize::from(length)) else {
        return Err(Error::damaged(header, Check::KeySlot, 0..=LABEL_MAX, length));
    };
    check_zeros(header, unused)?;
    std::str::from_utf8(label).ok().and_then(|label| Label::new(label).ok()).ok_or_else(|| {
        let expected = "a label in UTF-8 without control characters";
        Error::damaged(header, Check::KeySlot, expected, Value::Bytes(label.to_vec()))
    })
}

fn check_zeros(header: Position, bytes: &[u8]) -> Result<()> {
    match bytes.iter().find(|&&byte| byte != 0) {
        Some(&found) => Err(Error::damaged(header, Check::Reserved, 0_u8, found)),
        None => Ok(()),
    }
}

impl UsedSlot {
    fn encode(&self) -> [u8; key_slot_layout::SIZE] {
        let mut bytes = [0; key_slot_layout::SIZE];
        let kind = if self.cost.is_some() { KIND_PASSPHRASE } else { KIND_RAW };
        key_slot_layout::KIND.put(&mut bytes, &[kind]);
        if let Some(cost) = self.cost {
            key_slot_layout::MEMORY.put(&mut bytes, &cost.memory_kib.to_be_bytes());
            key_slot_layout::PASSES.put(&mut bytes, &cost.passes.to_be_bytes());
            key_slot_layout::LANES.put(&mut bytes, &cost.lanes.to_be_bytes());
        }
        key_slot_layout::SALT.put(&mut bytes, &self.salt);
        let label = self.label.as_bytes();
        let length = u8::try_from(label.len()).expect("a label is at most 64 bytes");
        key_slot_layout::LABEL_LENGTH.put(&mut bytes, &[length]);
        key_slot_layout::LABEL.of_mut(&mut bytes)[..label.len()].copy_from_slice(label);
        key_slot_layout::COMMITMENT.put(&mut bytes, &self.commitment);
        key_slot_layout::NONCE.put(&mut bytes, &self.nonce);
        key_slot_layout::WRAPPED.put(&mut bytes, &self.wrapped);
        bytes
    }

    /// Returns the bytes that the wrapping authenticates: all fields before the wrapped key.
    pub(crate) fn authenticated(&self) -> [u8; key_slot_layout::WRAPPED.offset] {
        let encoded = self.encode();
        std::array::from_fn(|at| encoded[at])
    }
}
