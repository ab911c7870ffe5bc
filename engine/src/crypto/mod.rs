//! Keys, nonces, digests, and sealing.
