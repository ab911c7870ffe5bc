//! A key slot: the master key, wrapped under a passphrase or a raw key.

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
        LABEL: 64, "label, UTF-8, then zeros";
        COMMITMENT: 32, "key commitment";
        NONCE: 24, "nonce of the wrapping";
        WRAPPED: 48, "the master key, sealed with XChaCha20-Poly1305: 32 bytes and the tag";
        UNUSED: 40, "0";
    }
}

/// Number of key slots in a header.
pub const KEY_SLOTS: usize = 8;

/// Length of a label in bytes at most.
pub const LABEL_MAX: usize = key_slot_layout::LABEL.length;

const KIND_EMPTY: u8 = 0;
const KIND_RAW: u8 = 1;
const KIND_PASSPHRASE: u8 = 2;

/// A slot, empty or not.
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

/// A slot with a wrapped master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedSlot {
    /// Cost of deriving the key from a passphrase; none for a raw key.
    pub cost: Option<DerivationCost>,
    /// Random salt.
    pub salt: [u8; 32],
    /// The user's name for the slot.
    pub label: String,
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

    /// Decodes the slot with this number.
    pub fn decode(header: Position, bytes: &[u8; key_slot_layout::SIZE]) -> Result<KeySlot> {
        let damaged = |expected: &'static str, found: Value| {
            Error::damaged(header, Check::KeySlot, expected, found)
        };
        let [kind] = key_slot_layout::KIND.array(bytes);
        if kind == KIND_EMPTY {
            if bytes.iter().any(|&byte| byte != 0) {
                return Err(damaged("zeros in an empty slot", "other bytes".into()));
            }
            return Ok(KeySlot::Empty);
        }
        let reserved = [key_slot_layout::RESERVED.of(bytes), key_slot_layout::UNUSED.of(bytes)];
        if reserved.concat().iter().any(|&byte| byte != 0) {
            return Err(damaged("zeros in the reserved bytes", "other bytes".into()));
        }
        let cost = DerivationCost {
            memory_kib: key_slot_layout::MEMORY.u32(bytes),
            passes: key_slot_layout::PASSES.u32(bytes),
            lanes: key_slot_layout::LANES.u32(bytes),
        };
        let none = DerivationCost { memory_kib: 0, passes: 0, lanes: 0 };
        let cost = match kind {
            KIND_RAW if cost == none => None,
            KIND_PASSPHRASE => Some(cost),
            _ => return Err(damaged("a raw key or a passphrase", kind.into())),
        };
        let [length] = key_slot_layout::LABEL_LENGTH.array(bytes);
        let label = key_slot_layout::LABEL.of(bytes);
        let (label, rest) = label
            .split_at_checked(usize::from(length))
            .ok_or_else(|| damaged("a label of 64 bytes at most", length.into()))?;
        let label = std::str::from_utf8(label)
            .map_err(|_| damaged("a label in UTF-8", Value::Bytes(label.to_vec())))?;
        if rest.iter().any(|&byte| byte != 0) {
            return Err(damaged("zeros after the label", "other bytes".into()));
        }
        Ok(KeySlot::Used(Box::new(UsedSlot {
            cost,
            salt: key_slot_layout::SALT.array(bytes),
            label: label.to_owned(),
            commitment: key_slot_layout::COMMITMENT.array(bytes),
            nonce: key_slot_layout::NONCE.array(bytes),
            wrapped: key_slot_layout::WRAPPED.array(bytes),
        })))
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
        let length = u8::try_from(label.len()).expect("a label is bounded when it is set");
        key_slot_layout::LABEL_LENGTH.put(&mut bytes, &[length]);
        key_slot_layout::LABEL.of_mut(&mut bytes)[..label.len()].copy_from_slice(label);
        key_slot_layout::COMMITMENT.put(&mut bytes, &self.commitment);
        key_slot_layout::NONCE.put(&mut bytes, &self.nonce);
        key_slot_layout::WRAPPED.put(&mut bytes, &self.wrapped);
        bytes
    }

    /// Everything of the slot that the wrapping authenticates: all that comes before the commitment.
    pub(crate) fn authenticated(&self) -> Vec<u8> {
        self.encode()[..key_slot_layout::COMMITMENT.offset].to_vec()
    }
}
