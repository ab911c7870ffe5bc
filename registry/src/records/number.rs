//! Numbers in as few bytes as possible, big-endian. The number 0 takes no bytes.

use super::damaged;
use crate::error::Result;

/// Returns the bytes of a number without the zero bytes at its beginning.
pub(super) fn encode_number(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes[zeros..].to_vec()
}

/// Returns a number of at most `N` bytes, at most 8.
pub(super) fn decode_number<const N: usize>(bytes: &[u8]) -> Result<u64> {
    if bytes.len() > N {
        return Err(damaged(0..=N, bytes.len()));
    }
    if bytes.first() == Some(&0) {
        return Err(damaged("a number without zero bytes at its beginning", bytes.len()));
    }
    Ok(bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// Returns the bytes of a signed number in two's complement, without those at its beginning that only repeat the sign.
pub(super) fn encode_signed(number: i128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let is_needed = |length: usize| length > 0 && sign_extended(&bytes[16 - length..]) == number;
    let length =
        if number == 0 { 0 } else { (1..16).find(|&length| is_needed(length)).unwrap_or(16) };
    bytes[16 - length..].to_vec()
}

/// Returns a signed number of at most `N` bytes, at most 16.
pub(super) fn decode_signed<const N: usize>(bytes: &[u8]) -> Result<i128> {
    if bytes.len() > N {
        return Err(damaged(0..=N, bytes.len()));
    }
    let number = sign_extended(bytes);
    if encode_signed(number) != bytes {
        return Err(damaged("a number in as few bytes as possible", bytes.len()));
    }
    Ok(number)
}

fn sign_extended(bytes: &[u8]) -> i128 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |number, &byte| number << 8 | i128::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_exactly_one_encoding() {
        for (number, bytes) in
            [(0, &[][..]), (1, &[1]), (255, &[255]), (256, &[1, 0]), (u64::MAX, &[255; 8])]
        {
            assert_eq!(encode_number(number), bytes);
            assert_eq!(decode_number::<8>(bytes).unwrap(), number);
            assert!(decode_number::<8>(&[&[0], bytes].concat()).is_err(), "{number}");
        }
        assert!(decode_number::<4>(&[1; 5]).is_err());
    }

    #[test]
    fn a_signed_number_has_exactly_one_encoding() {
        for (number, bytes) in [
            (0, &[][..]),
            (1, &[1]),
            (-1, &[255]),
            (127, &[127]),
            (128, &[0, 128]),
            (-128, &[128]),
            (-129, &[255, 127]),
            (i128::MIN, &[128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(encode_signed(number), bytes, "{number}");
            assert_eq!(decode_signed::<16>(bytes).unwrap(), number);
            let sign = if number < 0 { 255 } else { 0 };
            assert!(decode_signed::<16>(&[&[sign], bytes].concat()).is_err(), "{number}");
        }
        assert!(decode_signed::<12>(&[1; 13]).is_err());
    }
}
