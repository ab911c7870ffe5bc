//! Invariants: a block opens only as it was sealed, bit for bit, at its own position; independent programs compute
//! the same bytes from the same keys; costs from a file are bounded before they are paid.

mod header;
mod random;
mod rekey;
mod seal;
mod secrets;
mod slot;
#[cfg(target_os = "linux")]
mod stack;
mod vectors;

use uuid::Uuid;

use super::keys::MasterKey;

const ARCHIVE: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

/// The master key 00 01 02 .. 1f.
fn master() -> MasterKey {
    MasterKey::from_bytes(std::array::from_fn(|at| u8::try_from(at).expect("below 32")))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).expect("two digits"))
        .map(|pair| u8::from_str_radix(pair, 16).expect("two digits"))
        .collect()
}
