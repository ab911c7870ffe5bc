//! The command line's parsers (flags, sizes, patterns, receipts, streams and paths), and its formatting of names and
//! times.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use ar7::fs::Patterns;
use ar7::{PathText, Size};
use ar7_arguments::{Arguments, BareStream};
use ar7_registry::{Error, Receipt};
use clap::Parser as _;
use uuid::Uuid;

use crate::unstructured::Unstructured;

/// Valid words, so that valid command lines are not rare.
const WORDS: [&str; 41] = [
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
    "compact",
];

/// A valid receipt.
const RECEIPT: &str = "ar7-receipt-1 01a206fb-ed96-7205-aae2-96885879245b 3.14.0badcafe \
    000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 2026-01-31T12:00:00Z cdfb285d";

/// Spellings of bare streams, valid and invalid.
const STREAMS: [&str; 5] = [
    "3",
    "0192a00000007000800000000000000f",
    "0192a000-0000-7000-8000-00000000000F",
    "{0192a000-0000-7000-8000-00000000000f}",
    "urn:uuid:0192a000-0000-7000-8000-00000000000f",
];

/// Valid and invalid endings of a receipt in a file.
const ENDINGS: [&str; 6] = ["", "\n", "\r\n", "\r", "\n\n", " \n"];

/// Parses `bytes` as one kind of text that the command line accepts. Returns whether it was accepted.
///
/// # Panics
/// If parsing panics or returns a wrong value, if a rejection is not a usage error, or if printed text could forge a
/// line.
pub fn cli_args(bytes: &[u8]) -> bool {
    let mut unstructured = Unstructured::new(bytes);
    // Inputs found before the last two kinds were added keep their meaning, with very few exceptions.
    match unstructured.byte() {
        252.. => check_receipt_file(&mut unstructured),
        248.. => check_stream(&mut unstructured),
        kind => match kind % 6 {
            0 => check_arguments(&mut unstructured),
            1 => check_size(&String::from_utf8_lossy(unstructured.rest())),
            2 => check_receipt(&mut unstructured),
            3 => check_pattern(&mut unstructured),
            4 => check_path(unstructured.rest()),
            _ => check_time(&mut unstructured),
        },
    }
}

/// Parses a command line, which starts with the program's name, and returns its debug form, or the exit code and the
/// message.
fn parse_arguments(line: &[OsString]) -> Result<String, (i32, String)> {
    match Arguments::try_parse_from(line) {
        Ok(parsed) => Ok(format!("{parsed:?}")),
        Err(error) => Err((error.exit_code(), error.to_string())),
    }
}

fn check_arguments(unstructured: &mut Unstructured<'_>) -> bool {
    let mut line = vec![OsString::from("ar7")];
    while !unstructured.is_over() && line.len() < 16 {
        let word = unstructured.byte();
        line.push(if let Some(word) = WORDS.get(word) {
            word.into()
        } else {
            let length = unstructured.byte() % 24;
            OsString::from_vec(unstructured.take(length).to_vec())
        });
    }
    let parsed = parse_arguments(&line);
    assert_eq!(parsed, parse_arguments(&line), "the same line parses to different results");
    match parsed {
        Ok(_) => true,
        // Help and version are printed and are not failures.
        Err((code, message)) => {
            assert!(code == 0 || code == 2, "exit code {code}: {message}");
            assert!(!message.is_empty(), "the message is empty");
            false
        }
    }
}

/// Parses a size by its definition, in numbers that do not overflow.
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
    let found = text.parse().ok().map(|Size(bytes)| bytes);
    assert_eq!(found, expected_size(text), "the size {text:?}");
    found.is_some()
}

/// Returns a text, possibly with some letters changed.
fn slipped(text: &str, unstructured: &mut Unstructured<'_>) -> String {
    let mut letters = text.as_bytes().to_vec();
    for _ in 0..unstructured.below(4) {
        let at = unstructured.byte() % letters.len();
        letters[at] = unstructured.octet() & 0x7f;
    }
    String::from_utf8_lossy(&letters).into_owned()
}

/// Checks that a receipt is accepted in exactly one spelling.
fn check_receipt(unstructured: &mut Unstructured<'_>) -> bool {
    let text = if unstructured.byte().is_multiple_of(2) {
        String::from_utf8_lossy(unstructured.rest()).into_owned()
    } else {
        slipped(RECEIPT, unstructured)
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
        Err(other) => panic!("a receipt is rejected with: {other}"),
    }
}

/// Checks receipt files. A file is valid if it contains the line and at most one line ending. The parser must not need
/// the end of the file.
fn check_receipt_file(unstructured: &mut Unstructured<'_>) -> bool {
    let shape = unstructured.byte();
    let bytes = if shape.is_multiple_of(2) {
        unstructured.rest().to_vec()
    } else {
        let ending = ENDINGS[unstructured.below(ENDINGS.len())];
        format!("{}{ending}", slipped(RECEIPT, unstructured)).into_bytes()
    };
    let is_endless = shape % 8 == 7;
    let found = if is_endless {
        ar7::Receipt::read((&bytes[..]).chain(io::repeat(b'\n')))
    } else {
        ar7::Receipt::read(&bytes[..])
    };
    let found = found.map(|receipt| receipt.to_string()).map_err(|error| (2, error.to_string()));
    let ends: [&[u8]; 3] = [b"\r\n", b"\n", b"\r"];
    let line = ends.iter().find_map(|end| bytes.strip_suffix(*end)).unwrap_or(&bytes);
    let line = str::from_utf8(line).ok().filter(|_| !is_endless);
    let expected = line.and_then(|line| line.parse::<Receipt>().ok());
    let expected = expected.map(|receipt| receipt.to_string());
    check_outcome(&bytes, found, expected, |message| message.starts_with("not a receipt: "))
}

/// Checks that a text is accepted with the expected value, or rejected as a usage error in one line.
fn check_outcome<T: fmt::Debug + PartialEq>(
    text: &[u8],
    found: Result<T, (u8, String)>,
    expected: Option<T>,
    is_reason: impl FnOnce(&str) -> bool,
) -> bool {
    let text = text.escape_ascii();
    match (found, expected) {
        (Ok(found), Some(expected)) => {
            assert_eq!(found, expected, "the value of \"{text}\"");
            true
        }
        (Err((code, message)), None) => {
            assert!(code == 2 && is_reason(&message), "exit code {code}: {message}");
            assert!(!message.contains(char::is_control), "more than a line: {message:?}");
            false
        }
        (found, expected) => panic!("\"{text}\": expected {expected:?}, found {found:?}"),
    }
}

/// Parses a bare stream by its definition.
fn expected_stream(text: &str) -> Option<Uuid> {
    if let Some(index) = (0..8).find(|index: &u8| index.to_string() == text) {
        return Some(Uuid::from_u128(index.into()));
    }
    let in_braces = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let in_urn =
        text.split_at_checked(9).filter(|(scheme, _)| *scheme.to_lowercase() == *"urn:uuid:");
    let groups: Vec<&str> =
        in_braces.or(in_urn.map(|(_, rest)| rest)).unwrap_or(text).split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let is_shaped = lengths == [8, 4, 4, 4, 12] || text.len() == 32 && groups.len() == 1;
    let digits = groups.concat();
    if !is_shaped || !digits.chars().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(Uuid::from_u128)
}

/// Checks that one digit or a UUID identifies a bare stream, and nothing else does.
fn check_stream(unstructured: &mut Unstructured<'_>) -> bool {
    let text = match STREAMS.get(unstructured.byte()) {
        Some(text) => slipped(text, unstructured),
        None => String::from_utf8_lossy(unstructured.rest()).into_owned(),
    };
    let found = text.parse().map(|BareStream { id, .. }| id);
    let found = found.map_err(|reason: &str| (2, reason.to_owned()));
    check_outcome(text.as_bytes(), found, expected_stream(&text), |message| {
        message == "expected a UUID or a number from 0 to 7"
    })
}

/// Checks exclude patterns. A pattern without special letters excludes exactly its own spelling. A pattern with stars
/// and question marks must agree with a slow exhaustive matcher.
fn check_pattern(unstructured: &mut Unstructured<'_>) -> bool {
    let length = unstructured.byte() % 64;
    let pattern = String::from_utf8_lossy(unstructured.take(length)).into_owned();
    let path = Path::new(OsStr::from_bytes(unstructured.rest()));
    let is_simple = !pattern.contains(['[', ']', '{', '}', '\\'])
        && !pattern.contains("**")
        && !pattern.trim_matches(['!', '.', '/']).is_empty();
    let excluded = match excludes(std::slice::from_ref(&pattern), path) {
        Ok(excluded) => excluded,
        Err(message) => {
            assert!(!is_simple && !message.is_empty(), "{pattern:?} is rejected: {message}");
            return false;
        }
    };
    if is_simple {
        let expected = expected_exclusion(&pattern, path);
        assert_eq!(excluded, expected, "whether {pattern:?} excludes {}", path.display());
    }
    let is_plain = |text: &str| {
        text.chars().all(|letter| letter.is_ascii_alphanumeric() || "._- ".contains(letter))
    };
    if is_plain(&pattern) && !pattern.is_empty() && !matches!(&*pattern, "." | "..") {
        let name = components(path.as_os_str().as_bytes()).last() == Some(pattern.as_bytes());
        assert_eq!(excluded, name, "{pattern:?} excludes {}", path.display());
        let below = Path::new("any/directory").join(&pattern);
        assert_eq!(excludes(&[pattern], &below), Ok(true), "{}", below.display());
    }
    assert_eq!(excludes(&[], path), Ok(false), "without patterns nothing is excluded");
    true
}

/// Returns whether patterns exclude a file.
fn excludes(patterns: &[String], path: &Path) -> Result<bool, String> {
    let patterns = Patterns::new(patterns).map_err(|error| error.to_string())?;
    Ok(patterns.matches(path, false) == Some(true))
}

/// Returns whether a pattern of stars, question marks and plain letters excludes a file. A pattern without a slash matches
/// the name, one with a slash the whole path, component by component. A slash at the end restricts it to directories,
/// and `!` negates it.
fn expected_exclusion(pattern: &str, path: &Path) -> bool {
    if pattern.starts_with('!') || pattern.ends_with('/') {
        return false;
    }
    let names: Vec<&[u8]> = components(path.as_os_str().as_bytes()).collect();
    if !pattern.contains('/') {
        return names.last().is_some_and(|name| is_match(pattern.as_bytes(), name));
    }
    let parts: Vec<&[u8]> = components(pattern.as_bytes()).collect();
    parts.len() == names.len() && parts.iter().zip(&names).all(|(part, name)| is_match(part, name))
}

/// Returns the components of a path or pattern. Empty ones and `.` mean nothing.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !matches!(part, [] | [b'.']))
}

/// Follows all alternatives at once: computes for each part of the pattern which prefixes of the text it matches. A
/// question mark matches one byte, because a name may be any bytes.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let mut matched = vec![false; text.len() + 1];
    matched[0] = true;
    for &letter in pattern {
        let before = std::mem::replace(&mut matched, vec![false; text.len() + 1]);
        matched[0] = letter == b'*' && before[0];
        for (at, &byte) in text.iter().enumerate() {
            matched[at + 1] = match letter {
                b'*' => before[at + 1] || matched[at],
                b'?' => before[at],
                _ => byte == letter && before[at],
            };
        }
    }
    matched[text.len()]
}

/// Checks that paths are split without loss and shown on one line.
fn check_path(bytes: &[u8]) -> bool {
    let text = PathText::new(OsStr::from_bytes(bytes)).to_string();
    assert!(!text.chars().any(char::is_control), "a control character is shown: {text:?}");
    !bytes.is_empty()
}

fn check_time(unstructured: &mut Unstructured<'_>) -> bool {
    let seconds = i64::from_be_bytes(unstructured.array());
    let nanoseconds = unstructured.quad() % 1_000_000_000;
    let text = ar7::Timestamp::new(seconds, nanoseconds).to_string();
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    text.ends_with('Z')
}

/// Returns initial inputs: valid and invalid texts of each kind.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, text: &str| [&[kind][..], text.as_bytes()].concat();
    let with_shape =
        |kind: u8, shape: u8, text: &str| [&[kind, shape][..], text.as_bytes()].concat();
    let mut seeds = vec![
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
    ];
    seeds.extend(["\u{3}a/*a/b/c", "\u{4}*.?oa/b.oo", "\u{5}/a*b/a//b"].map(|text| with(3, text)));
    seeds.extend((0..5).map(|spelling| vec![248, spelling]));
    seeds.extend(["8", "+3", "03"].map(|text| with_shape(248, 5, text)));
    seeds.extend((0..6).map(|ending| vec![252, 1, ending]));
    seeds.extend([vec![252, 7, 1], with_shape(252, 0, RECEIPT), with_shape(252, 0, "\n")]);
    seeds.extend(["\u{3}a/*a", "\u{3}a/*a/b"].map(|text| with(3, text)));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// Tries random texts: some are accepted, and some are not.
    fn check_random(cases: u32) {
        let mut random = Random::new(0x0063_6c69);
        let mut accepted = 0;
        for case in 0..cases {
            let mut bytes = [0; 24];
            random.fill(&mut bytes);
            if case % 3 == 0 {
                // Command lines of valid words.
                for byte in &mut bytes {
                    *byte %= 44;
                }
                bytes[0] = 0;
            }
            accepted += u32::from(cli_args(&bytes));
        }
        assert!(accepted > cases / 10 && accepted < cases, "{accepted} of {cases}");
    }

    #[test]
    fn any_text_is_accepted_or_rejected() {
        check_random(1500);
    }

    #[test]
    #[ignore = "seconds: `cargo xtask proof` runs it"]
    fn many_texts_are_accepted_or_rejected() {
        check_random(5000);
    }

    #[test]
    fn valid_seeds_are_accepted() {
        let seeds = seeds();
        let refused: Vec<usize> =
            (0..seeds.len()).filter(|&number| !cli_args(&seeds[number])).collect();
        // A size that is too large, invalid streams, and receipts with no line ending or several, and an invalid
        // receipt.
        assert_eq!(refused, [5, 20, 21, 22, 27, 28, 29, 31]);
    }

    #[test]
    fn stars_and_question_marks_match_within_a_component() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("?b?", "abc", true),
            ("?", "", false),
        ] {
            let found = is_match(pattern.as_bytes(), text.as_bytes());
            assert_eq!(found, expected, "{pattern:?} and {text:?}");
        }
        assert!(expected_exclusion("b", Path::new("a/b")), "a name in any directory");
        for (pattern, path, expected) in [
            ("/b", "a/b", false),
            ("*/b", "a/b", true),
            ("./a*/", "ab", false),
            ("./a*", "a/b", false),
            ("/?/b", "a//./b", true),
            ("a/b", "a", false),
        ] {
            assert_eq!(expected_exclusion(pattern, Path::new(path)), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn bare_streams_are_digits_and_uuids() {
        let uuid = "0192a000-0000-7000-8000-00000000000f";
        let expected = Some(Uuid::from_u128(0x0192_a000_0000_7000_8000_0000_0000_000f));
        assert_eq!(expected_stream("7"), Some(Uuid::from_u128(7)));
        assert!(STREAMS[1..].iter().all(|text| expected_stream(text) == expected));
        for text in ["", "8", "+3", "03", "{}", "urn:uuid:", &uuid[1..], &format!("{uuid}0")] {
            assert_eq!(expected_stream(text), None, "{text}");
        }
    }
}
