//! Keys, nonces, digests and sealing. Well-maintained crates implement the ciphers and the key derivations, and this
//! module combines them.

mod aead;
mod digest;
mod header_code;
mod keys;
mod nonce;
mod protected;
mod rekey;
mod seal;
mod slot;
mod stack;
#[cfg(any(test, feature = "testing"))]
mod testing;
#[cfg(test)]
mod tests;

pub use digest::{digest, digest_batch};
pub use keys::{HeaderKey, KeyKind, MasterKey, Passphrase, RawKey, ReceiptKey, Secret};
#[cfg(any(test, feature = "testing"))]
pub use nonce::fail_random_after;
pub(crate) use nonce::random_array;
pub use nonce::{random_bytes, random_u32};
pub use rekey::{unwrap_old_key, wrap_old_key};
pub use seal::{BATCH_BLOCKS, Opened, SealJob, Sealer};
pub use slot::{
    KeyDerivation, LANES_MAX, MEMORY_KIB_MAX, PASSES_MAX, check_derivation_costs,
    unwrap_master_key, wrap_master_key,
};
#[cfg(any(test, feature = "testing"))]
pub use testing::MaskedKey;
#[cfg(any(test, feature = "testing"))]
pub(crate) use testing::masked_keys;
