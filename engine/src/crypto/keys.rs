//! The keys: the user's secret, the master key, and the keys derived from it.

use std::fmt;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::protected::Protected;
use super::stack;
use crate::error::Result;

macro_rules! secret_bytes {
    ($name:ident) => {
        // Its only field wipes itself.
        impl ZeroizeOnDrop for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

/// A raw key of 32 bytes, as a key file holds it.
#[derive(Clone)]
pub struct RawKey(Protected);
secret_bytes!(RawKey);

impl RawKey {
    /// Generates a new key with the operating system's random source.
    pub fn generate() -> Result<RawKey> {
        Protected::random(32).map(RawKey)
    }

    /// Creates a key from its bytes. The caller wipes its own copy.
    pub fn from_bytes(mut bytes: [u8; 32]) -> RawKey {
        let key = Protected::new(&bytes);
        bytes.zeroize();
        RawKey(key)
    }

    /// Returns the key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.key()
    }
}

/// A passphrase.
#[derive(Clone)]
pub struct Passphrase(Protected);
secret_bytes!(Passphrase);

impl Passphrase {
    /// Creates a passphrase from its bytes, and wipes them.
    pub fn new(mut bytes: Vec<u8>) -> Passphrase {
        let passphrase = Protected::new(&bytes);
        bytes.zeroize();
        Passphrase(passphrase)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// The user's secret.
#[derive(Debug, Clone)]
#[doc(alias = "secret")]
pub enum Secret {
    /// A raw key.
    Key(RawKey),
    /// A passphrase.
    Passphrase(Passphrase),
}

/// The master key of an archive; every other key is derived from it.
#[derive(Clone)]
pub struct MasterKey(Protected);
secret_bytes!(MasterKey);

impl MasterKey {
    /// Generates a new key with the operating system's random source.
    pub fn generate() -> Result<MasterKey> {
        Protected::random(32).map(MasterKey)
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> MasterKey {
        MasterKey(Protected::new(&bytes))
    }

    /// Creates the key from 32 bytes that were unwrapped in place.
    pub(super) fn of(bytes: Protected) -> MasterKey {
        MasterKey(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        self.0.key()
    }

    /// Derives a key with HKDF-SHA256 (RFC 5869): the archive id is the salt, the purpose the info.
    pub(super) fn derive(&self, archive: Uuid, purpose: &str) -> Protected {
        let mut key = Protected::blank_key();
        stack::deriving(|| {
            Hkdf::<Sha256>::new(Some(archive.as_bytes()), self.as_bytes())
                .expand(purpose.as_bytes(), key.bytes_mut())
                .expect("32 bytes are a length that HKDF-SHA256 gives");
        });
        key
    }
}

/// The kind of a block. Each kind has its own key, so a block of one kind never opens as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Blocks of streams.
    Data,
    /// Pages of the registry.
    Registry,
    /// Meta slots and redo lists.
    Meta,
}

impl KeyKind {
    /// Every kind, in the order of [`KeyKind::index`].
    pub(super) const ALL: [KeyKind; 3] = [KeyKind::Data, KeyKind::Registry, KeyKind::Meta];

    pub(super) const fn index(self) -> usize {
        match self {
            KeyKind::Data => 0,
            KeyKind::Registry => 1,
            KeyKind::Meta => 2,
        }
    }

    /// Returns the info of the key's derivation.
    pub(super) const fn purpose(self) -> &'static str {
        match self {
            KeyKind::Data => "ar7 v1 data",
            KeyKind::Registry => "ar7 v1 registry",
            KeyKind::Meta => "ar7 v1 meta",
        }
    }
}

macro_rules! code_key {
    ($(#[$documentation:meta])* $name:ident, $purpose:literal) => {
        $(#[$documentation])*
        #[derive(Clone)]
        pub struct $name(Protected);
        secret_bytes!($name);

        impl $name {
            /// Derives the key.
            pub fn derive(master: &MasterKey, archive: Uuid) -> $name {
                $name(master.derive(archive, $purpose))
            }

            /// Computes HMAC-SHA256 (RFC 2104) of `bytes`.
            pub fn mac(&self, bytes: &[u8]) -> [u8; 32] {
                stack::deriving(|| self.keyed(bytes).finalize().into_bytes().into())
            }

            /// Compares in constant time.
            pub fn verify(&self, bytes: &[u8], mac: &[u8; 32]) -> bool {
                stack::deriving(|| self.keyed(bytes).verify_slice(mac).is_ok())
            }

            fn keyed(&self, bytes: &[u8]) -> Hmac<Sha256> {
                let mut hmac =
                    Hmac::<Sha256>::new_from_slice(self.0.bytes()).expect("HMAC takes a key of any length");
                hmac.update(bytes);
                hmac
            }
        }
    };
}

code_key! {
    /// The key of the header's authentication code.
    HeaderKey, "ar7 v1 header"
}

code_key! {
    /// The key of the code in receipts. A keyed code does not let the holder of a receipt test guesses of the content.
    ReceiptKey, "ar7 v1 receipt"
}
