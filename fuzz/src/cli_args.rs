//! What the command line reads: flags, sizes, patterns, receipts, paths; and names and times as it shows them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use ar7_cli::fuzzing::{excludes, parse_arguments, parse_size, shown, split_path, time_text};
use ar7_engine::format::Timestamp;
use ar7_registry::{Error, Receipt};

use crate::choices::Choices;

/// Words that mean something, so that command lines that do are not rare.
const WORDS: [&str; 40] = [
    "keygen",
    "create",
    "ingest",
    "put",
    "cat",
    "ls",
    "extract",
    "mv",
    "rm",
    "mkdir",
    "verify",
    "info",
    "receipt",
    "key",
    "add",
    "remove",
    "list",
    "change",
    "label",
    "wipe-free",
    "shred",
    "rekey",
    "header",
    "export",
    "import",
    "--key-file",
    "--io",
    "map",
    "--quiet",
    "--json",
    "--to",
    "--force",
    "--stream",
    "--offset",
    "--length",
    "4GiB",
    "--exclude",
    "*.o",
    "a.ar7",
    "--",
];

/// A receipt that is one.
const RECEIPT: &str = "ar7-receipt-1 01a206fb-ed96-7205-aae2-96885879245b 3.14.0badcafe \
    000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 2026-01-31T12:00:00Z cdfb285d";

/// Reads `bytes` as one of the texts that the command line reads. Returns whether it was accepted.
///
/// # Panics
/// If reading panics or is not what the text says, if a refusal is no usage error, or if what is shown could forge a
/// line.
pub fn cli_args(bytes: &[u8]) -> bool {
    let mut choices = Choices::new(bytes);
    match choices.byte() % 6 {
        0 => check_arguments(&mut choices),
        1 => check_size(&String::from_utf8_lossy(choices.rest())),
        2 => check_receipt(&mut choices),
        3 => check_pattern(&mut choices),
        4 => check_path(choices.rest()),
        _ => check_time(&mut choices),
    }
}

fn check_arguments(choices: &mut Choices<'_>) -> bool {
    let mut line = vec![OsString::from("ar7")];
    while !choices.is_over() && line.len() < 16 {
        let word = choices.byte();
        line.push(if let Some(word) = WORDS.get(word) {
            word.into()
        } else {
            let length = choices.byte() % 24;
            OsString::from_vec(choices.take(length).to_vec())
        });
    }
    let parsed = parse_arguments(&line);
    assert_eq!(parsed, parse_arguments(&line), "the same line is read in two ways");
    match parsed {
        Ok(_) => true,
        // Help and version are printed and are no failure.
        Err((code, message)) => {
            assert!(code == 0 || code == 2, "exit code {code}: {message}");
            assert!(!message.is_empty(), "nothing is said");
            false
        }
    }
}

/// A size by its definition, in numbers that do not overflow.
fn expected_size(text: &str) -> Option<u64> {
    let letters = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let digits = &text[..text.len() - letters.len()];
    let suffix = letters.to_ascii_lowercase();
    let (power, base) = match suffix.as_str() {
        "" | "b" => (0, 1),
        _ => {
            let (power, _) =
                (1..).zip("kmgt".chars()).find(|(_, letter)| suffix.starts_with(*letter))?;
            let base = match &suffix[1..] {
                "" | "ib" => 1024,
                "b" => 1000,
                _ => return None,
            };
            (power, base)
        }
    };
    if digits.is_empty() || digits.trim_start_matches('0').len() > 20 {
        return None;
    }
    let number: u128 = digits.trim_start_matches('0').parse().unwrap_or(0);
    u64::try_from(number).ok()?;
    u64::try_from(number * u128::pow(base, power)).ok()
}

fn check_size(text: &str) -> bool {
    let found = parse_size(text).ok();
    assert_eq!(found, expected_size(text), "the size {text:?}");
    found.is_some()
}

/// A receipt is accepted in one spelling only, and no change of it is.
fn check_receipt(choices: &mut Choices<'_>) -> bool {
    let text = if choices.byte().is_multiple_of(2) {
        String::from_utf8_lossy(choices.rest()).into_owned()
    } else {
        let mut text = RECEIPT.as_bytes().to_vec();
        for _ in 0..choices.below(4) {
            let at = choices.byte() % text.len();
            text[at] = choices.octet() & 0x7f;
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    match text.parse::<Receipt>() {
        Ok(receipt) => {
            assert_eq!(receipt.to_string(), text, "a receipt in another spelling");
            assert!(text.len() <= Receipt::LENGTH_MAX, "a receipt that is too long");
            true
        }
        Err(Error::NotAReceipt { reason }) => {
            assert!(!reason.is_empty(), "no reason is given");
            false
        }
        Err(other) => panic!("a receipt is refused as: {other}"),
    }
}

/// A pattern without special letters leaves out what is spelled like it, and nothing else.
fn check_pattern(choices: &mut Choices<'_>) -> bool {
    let length = choices.byte() % 64;
    let pattern = String::from_utf8_lossy(choices.take(length)).into_owned();
    let path = Path::new(OsStr::from_bytes(choices.rest()));
    let Ok(excluded) = excludes(std::slice::from_ref(&pattern), path) else { return false };
    let is_plain = |text: &str| {
        text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._- ".contains(letter))
    };
    if is_plain(&pattern) && !pattern.is_empty() && !matches!(&*pattern, "." | "..") {
        let name = path.file_name().is_some_and(|name| name == OsStr::new(&pattern));
        assert_eq!(excluded, name, "{pattern:?} leaves out {}", path.display());
        let below = Path::new("any/folder").join(&pattern);
        assert_eq!(excludes(&[pattern], &below), Ok(true), "{}", below.display());
    }
    assert_eq!(excludes(&[], path), Ok(false), "no pattern leaves nothing out");
    true
}

/// Paths are taken apart and shown without loss, on one line.
fn check_path(bytes: &[u8]) -> bool {
    let text = shown(bytes);
    assert!(!text.chars().any(char::is_control), "a control character is shown: {text:?}");
    let parts: Vec<&[u8]> =
        bytes.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect();
    match (split_path(OsStr::from_bytes(bytes)), parts.split_last()) {
        (Some((directory, name)), Some((last, before))) => {
            assert_eq!(name, *last, "the last part of a path");
            assert_eq!(directory, before.join(&b'/'), "the directory of a path");
            true
        }
        (None, None) => false,
        (found, _) => panic!("{} is {found:?}", bytes.escape_ascii()),
    }
}

fn check_time(choices: &mut Choices<'_>) -> bool {
    let seconds = i64::from_be_bytes(choices.array());
    let text = time_text(Timestamp { seconds, nanoseconds: choices.quad() % 1_000_000_000 });
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    text.ends_with('Z')
}

/// Inputs to begin with: each kind of text, good and bad.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, text: &str| [&[kind][..], text.as_bytes()].concat();
    vec![
        vec![0, 2, 38, 36, 37, 200, 3, b's', b'r', b'c'],
        vec![0, 6, 38, 30, 200, 3, b'o', b'u', b't', 31],
        vec![0, 4, 38, 32, 200, 1, b'3', 33, 35],
        with(1, "64KiB"),
        with(1, "18446744073709551615"),
        with(1, "16777216T"),
        with(2, &format!("\0{RECEIPT}")),
        vec![2, 1, 0],
        with(3, "\u{3}a.oa/a.o"),
        with(3, "\u{8}**/[a-z]*x/y"),
        with(4, "a//b/c\u{202e}\n/"),
        with(5, "\0\0\0\0\u{65}\0\0\0\0\0\0\u{1}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_text_is_read_or_refused() {
        const CASES: u32 = 20_000;
        let mut random = Random::new(0x0063_6c69);
        let mut accepted = 0;
        for case in 0..CASES {
            let mut bytes = [0; 24];
            random.fill(&mut bytes);
            if case % 3 == 0 {
                // Command lines of words that mean something.
                for byte in &mut bytes {
                    *byte %= 44;
                }
                bytes[0] = 0;
            }
            accepted += u32::from(cli_args(&bytes));
        }
        assert!(accepted > CASES / 10 && accepted < CASES, "{accepted} of {CASES}");
    }

    #[test]
    fn good_seeds_are_accepted() {
        let accepted: Vec<bool> = seeds().iter().map(|seed| cli_args(seed)).collect();
        assert!(accepted[..5].iter().all(|&accepted| accepted), "{accepted:?}");
        assert!(!accepted[5] && accepted[6..].iter().all(|&accepted| accepted), "{accepted:?}");
    }
}
