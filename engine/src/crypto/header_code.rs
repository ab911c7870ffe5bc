//! The authentication code of the header: `format` lays out the bytes, this file has the key.

use super::keys::HeaderKey;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, Header, REKEY_CODE_OFFSET, UncheckedHeader, header_checksum, header_layout,
};

impl Header {
    /// Encodes the header, with its authentication code and its checksum.
    pub fn encode(&self, key: &HeaderKey) -> Box<[u8; BLOCK_SIZE]> {
        let mut bytes = self.encode_fields();
        let code = key.mac(&bytes[..header_layout::MAC.offset]);
        header_layout::MAC.put(&mut bytes[..], &code);
        let checksum = header_checksum(&bytes);
        header_layout::CHECKSUM.put(&mut bytes[..], &checksum);
        bytes
    }

    /// Computes [`Rekey::code`](crate::format::Rekey::code) with the header key of the old master key.
    pub fn rekey_code(&self, old: &HeaderKey) -> [u8; 32] {
        old.mac(&self.encode_fields()[..REKEY_CODE_OFFSET])
    }
}

impl UncheckedHeader {
    /// Returns whether the holder of the old master key wrote this header to start a rekey.
    pub fn is_rekey_of(&self, old: &HeaderKey) -> bool {
        let signed = &self.bytes()[..REKEY_CODE_OFFSET];
        self.rekey().is_some_and(|rekey| old.verify(signed, &rekey.code))
    }

    /// Checks the authentication code. The checksum, which covers the code, was valid: a wrong code is tampering,
    /// not damage.
    pub fn authenticate(self, key: &HeaderKey) -> Result<Header> {
        let code = header_layout::MAC.array(self.bytes());
        if !key.verify(&self.bytes()[..header_layout::MAC.offset], &code) {
            let expected = "the code of the master key";
            return Err(Error::tampered(self.position(), Check::HeaderMac, expected, "another"));
        }
        Ok(self.into_authenticated())
    }
}
