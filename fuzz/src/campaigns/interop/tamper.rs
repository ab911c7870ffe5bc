//! Changes that both programs must reject.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Random;
use ar7_engine::format::{BLOCK_SIZE, header_layout};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::subject::{KEY, Plan, earlier, make};
use super::{Both, FRESH, rows, same, text};
use xtask::ar7::EXIT_DAMAGED;
use xtask::error::{Error, Result};
use xtask::workspace::output;

impl Both<'_> {
    /// Flips a bit in each block, one at a time. Both programs must reject all changes except in free blocks and home
    /// locations of the redo list, which neither reads. Returns for each block whether they read it.
    pub(super) fn tamper(
        &mut self,
        path: &Path,
        plan: &Plan,
        folder: &Path,
        seed: u64,
    ) -> Result<Vec<bool>> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let mut random = Random::new(seed);
        let flipped = |block: usize| {
            let mut copy = bytes.clone();
            let bit = usize::try_from(random.below(8 * 4096)).expect("below 32768");
            copy[block * BLOCK_SIZE + bit / 8] ^= 1 << (bit % 8);
            copy
        };
        let copies: Vec<Vec<u8>> = (0..bytes.len() / BLOCK_SIZE).map(flipped).collect();
        let by_ar7 = self.refusals_of(path, plan, folder, &copies)?;
        let refused = by_ar7.iter().filter(|&&refused| refused).count();
        let counts = &self.rows(plan, "verify", path)?[0];
        let places =
            self.rows(plan, "info", path)?[0]["redo_places"].as_array().map_or(0, Vec::len);
        let free = counts["free_blocks"].as_u64().and_then(|free| usize::try_from(free).ok());
        let unused = places + free.unwrap_or(0);
        same(path, "rejected blocks", &refused, &(by_ar7.len() - unused))?;
        self.counts.flipped += u64::try_from(by_ar7.len()).unwrap_or(u64::MAX);
        self.counts.refused += u64::try_from(refused).unwrap_or(u64::MAX);
        Ok(by_ar7)
    }

    /// Puts each block back to its older version, one at a time. Both programs must reject every block that they read.
    pub(super) fn put_back(
        &mut self,
        path: &Path,
        plan: &Plan,
        folder: &Path,
        looked_at: &[bool],
    ) -> Result<()> {
        let (before, now) = (earlier(path), fs::read(path).map_err(Error::io("read", path))?);
        let before = fs::read(&before).map_err(Error::io("read", &before))?;
        let blocks =
            before.chunks_exact(BLOCK_SIZE).zip(now.chunks_exact(BLOCK_SIZE)).zip(looked_at);
        let mut copies = Vec::new();
        // A crash can leave an older copy of one meta slot, so the reserved blocks are skipped.
        for (block, ((old, new), looked_at)) in blocks.enumerate().skip(8) {
            // Zeros were never written, so they are not an older version.
            if old != new && *looked_at && old.iter().any(|&byte| byte != 0) {
                let mut copy = now.clone();
                copy[block * BLOCK_SIZE..(block + 1) * BLOCK_SIZE].copy_from_slice(old);
                copies.push(copy);
            }
        }
        let refused = self.refusals_of(path, plan, folder, &copies)?;
        same(path, "rejected older blocks", &refused, &vec![true; copies.len()])?;
        same(path, "whether older blocks exist", &!copies.is_empty(), &true)?;
        self.counts.stale += u64::try_from(copies.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Returns for each of these copies whether both programs reject it; they must agree.
    fn refusals_of(
        &self,
        path: &Path,
        plan: &Plan,
        folder: &Path,
        copies: &[Vec<u8>],
    ) -> Result<Vec<bool>> {
        let (mut files, mut by_ar7) = (Vec::new(), Vec::new());
        for (number, bytes) in copies.iter().enumerate() {
            let file = folder.join(format!("copy-{number}.ar7"));
            fs::write(&file, bytes).map_err(Error::io("write", &file))?;
            by_ar7.push(self.code(self.ar7.command(["verify", text(&file)?]), plan)? != 0);
            files.push(file);
        }
        let by_reader = self.refused(plan, &files)?;
        for (number, (found, expected)) in by_reader.iter().zip(&by_ar7).enumerate() {
            same(path, &format!("refusal of changed copy {number}"), found, expected)?;
        }
        for file in &files {
            fs::remove_file(file).map_err(Error::io("remove", file))?;
        }
        Ok(by_ar7)
    }

    /// Returns for each archive whether the reader rejects it, in one run.
    fn refused(&self, plan: &Plan, copies: &[PathBuf]) -> Result<Vec<bool>> {
        let paths = copies.iter().map(PathBuf::as_path);
        let command = self.python.reader(std::iter::once(Path::new("verify")).chain(paths));
        let ended = output(&mut self.unlocked(command, plan.is_passphrase))?;
        let rows = rows(&ended.stdout)?;
        if rows.len() != copies.len() {
            let found = String::from_utf8_lossy(&ended.stderr).into_owned();
            return Err(Error::Output {
                what: "an answer of the reader for each archive is missing",
                found,
            });
        }
        let is_refused =
            |row: &Value| row["findings"].as_array().is_none_or(|list| !list.is_empty());
        Ok(rows.iter().map(is_refused).collect())
    }

    fn code(&self, command: Command, plan: &Plan) -> Result<i32> {
        let ended = output(&mut self.unlocked(command, plan.is_passphrase))?;
        ended.status.code().ok_or_else(|| Error::Fault(format!("ended with {}", ended.status)))
    }

    /// Checks that errors of each type have the same exit code.
    pub(super) fn refusals(&mut self, folder: &Path) -> Result<()> {
        let path = folder.join("whole.ar7");
        make(&FRESH, 7, &path)?;
        let whole = fs::read(&path).map_err(Error::io("read", &path))?;
        let newer = |mut bytes: Vec<u8>| {
            // The version, in both copies of the header.
            bytes[19] = 2;
            bytes[7 * BLOCK_SIZE + 19] = 2;
            bytes
        };
        let changed = |mut bytes: Vec<u8>, at: usize| {
            bytes[at] ^= 1;
            bytes
        };
        let both_headers = changed(changed(whole.clone(), 100), 7 * BLOCK_SIZE + 100);
        let pair = changed(changed(whole.clone(), BLOCK_SIZE), 3 * BLOCK_SIZE);
        let cases = [
            ("whole", whole.clone(), None),
            ("newer", newer(whole.clone()), Some("NewerFormat")),
            ("cut by a block", whole[..whole.len() - BLOCK_SIZE].to_vec(), Some("Truncated")),
            ("cut within a block", whole[..whole.len() - 1].to_vec(), Some("Truncated")),
            ("three blocks", whole[..3 * BLOCK_SIZE].to_vec(), Some("Truncated")),
            ("five bytes", whole[..5].to_vec(), Some("Truncated")),
            ("longer", [whole.clone(), vec![7; 5000]].concat(), None),
            ("both headers damaged", both_headers, Some("Damaged")),
            ("a header made without the key", forged(whole), Some("Tampered")),
            ("a pair of meta slots damaged", pair, Some("Damaged")),
            ("empty", Vec::new(), Some("NotAnArchive")),
            ("something else", vec![b'x'; 100_000], Some("NotAnArchive")),
        ];
        for (name, bytes, expected) in cases {
            fs::write(&path, bytes).map_err(Error::io("write", &path))?;
            self.refusal(&path, name, &FRESH, expected)?;
        }
        let (wrong_phrase, wrong_key) = (folder.join("phrase.ar7"), folder.join("key.ar7"));
        let locked = Plan { is_passphrase: true, ..FRESH };
        make(&locked, 8, &wrong_phrase)?;
        make(&FRESH, 8, &wrong_key)?;
        self.refusal(&wrong_phrase, "a key for a passphrase", &FRESH, Some("WrongKey"))?;
        self.refusal(&wrong_key, "a passphrase for a key", &locked, Some("WrongKey"))?;
        fs::write(&self.key, KEY.map(|byte| byte ^ 1)).map_err(Error::io("write", &self.key))?;
        self.refusal(&wrong_key, "another key", &FRESH, Some("WrongKey"))?;
        Ok(())
    }

    /// Checks that the reader names the error's type, and that both end with the exit code of that type.
    fn refusal(
        &mut self,
        path: &Path,
        name: &str,
        plan: &Plan,
        expected: Option<&str>,
    ) -> Result<()> {
        let reader = self.python.reader(["info", text(path)?]);
        let ended = output(&mut self.unlocked(reader, plan.is_passphrase))?;
        let rows = rows(&ended.stdout)?;
        same(path, name, &rows[0]["error"].as_str(), &expected)?;
        let code = match expected {
            None => 0,
            Some("WrongKey") => 3,
            Some("NewerFormat") => 6,
            Some(_) => EXIT_DAMAGED,
        };
        let by_ar7 = self.code(self.ar7.command(["info", text(path)?]), plan)?;
        self.counts.refusals += 1;
        same(path, name, &(ended.status.code(), by_ar7), &(Some(code), code))
    }
}

/// Returns an archive with a later revision in a header whose checksum is right: the most that an attacker without the
/// key can do.
fn forged(mut bytes: Vec<u8>) -> Vec<u8> {
    let header = &mut bytes[..BLOCK_SIZE];
    header_layout::REVISION.put(header, &9_u64.to_be_bytes());
    let checksum = Sha256::digest(&header[..header_layout::CHECKSUM.offset]);
    header_layout::CHECKSUM.put(header, &checksum);
    bytes
}
