//! Receipts: a receipt is a line of text that names a commit and is kept outside of the file.
//!
//! Nothing in a file can show that the whole file is an older copy. A receipt can, because every
//! later state of an honest archive contains the receipt's commit. Steps only rise within a
//! session. When a session ends, the archive keeps its salt and last step for good. So a later
//! state proves that it contains the receipt's commit.

use std::fmt;
use std::str::FromStr;

use ar7_engine::format::{Generation, SessionRecord, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::archive::Archive;
use crate::committed::Snapshot;
use crate::error::{Error, Result};
use crate::records::{ReadRecords, Sessions};

/// The identity of a durable commit.
///
/// Its text is one line: `ar7-receipt-1 ARCHIVE SESSION.STEP.SALT CODE DATE CHECK`, with single
/// spaces between the fields. CODE is the keyed digest of the meta slot, which names every root.
/// CHECK detects copying mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    archive: Uuid,
    generation: Generation,
    code: [u8; 32],
    seconds: i64,
}

impl Receipt {
    /// Beginning of the line in every version of the format. The version number follows.
    pub const BEGINNING: &'static str = "ar7-receipt-";

    /// Maximum length of a line in bytes.
    pub const LENGTH_MAX: usize = 256;

    const VERSION: &'static str = "ar7-receipt-1";

    /// Returns the identity of the archive.
    pub fn archive(&self) -> Uuid {
        self.archive
    }

    /// Returns the generation of the commit.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns the time at which the receipt was made, in whole seconds.
    pub fn given_at(&self) -> Timestamp {
        Timestamp { seconds: self.seconds, nanoseconds: 0 }
    }

    /// Returns the line without the check.
    fn body(&self) -> String {
        let date = jiff::Timestamp::from_second(self.seconds).unwrap_or_default();
        let (version, archive, generation) = (Receipt::VERSION, self.archive, self.generation);
        let code = Base16(&self.code);
        format!("{version} {archive} {generation} {code} {date}")
    }
}

struct Base16<'a>(&'a [u8]);

impl fmt::Display for Base16<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        let check = Sha256::digest(body.as_bytes());
        write!(formatter, "{body} {}", Base16(&check[..4]))
    }
}

impl FromStr for Receipt {
    type Err = Error;

    /// Parses strictly: the line must equal, byte for byte, the text of the resulting receipt.
    fn from_str(line: &str) -> Result<Receipt> {
        let wrong = |reason: &'static str| Error::NotAReceipt { reason };
        if line.len() > Receipt::LENGTH_MAX {
            return Err(wrong("longer than 256 bytes"));
        }
        let fields: Vec<&str> = line.split(' ').collect();
        let [version, archive, generation, code, date, _check] = fields[..] else {
            return Err(wrong("expected six fields separated by single spaces"));
        };
        if version != Receipt::VERSION {
            return Err(wrong("the first field is not ar7-receipt-1"));
        }
        let archive = archive.parse().map_err(|_| wrong("the second field is not a UUID"))?;
        let generation = parse_generation(generation)
            .ok_or_else(|| wrong("the third field is not a generation"))?;
        let code = parse_code(code).ok_or_else(|| wrong("the fourth field is not a code"))?;
        let date: jiff::Timestamp =
            date.parse().map_err(|_| wrong("the fifth field is not a date"))?;
        let receipt = Receipt { archive, generation, code, seconds: date.as_second() };
        if receipt.to_string() != line && !ar7_engine::fault!(ReceiptUnchecked) {
            return Err(wrong("the last field does not match: the line was changed or cut short"));
        }
        Ok(receipt)
    }
}

fn parse_generation(text: &str) -> Option<Generation> {
    let mut parts = text.split('.');
    let (session, step, salt) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Generation {
        session: session.parse().ok()?,
        step: step.parse().ok()?,
        salt: u32::from_str_radix(salt, 16).ok()?,
    })
}

fn parse_code(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut code = [0; 32];
    if pairs.len() != code.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in code.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(code)
}

impl Archive {
    /// Returns a receipt of the newest commit, which is on stable storage.
    ///
    /// A reader fails with [`Error::NotSynced`] if a writer was killed before it wrote the second
    /// copy of the meta slot. That copy is written after the sync of the first has returned, so
    /// only both copies together prove that the commit is durable. A writer makes sure of it when
    /// it opens the archive.
    pub fn receipt(&self) -> Result<Receipt> {
        let snapshot = self.snapshot();
        snapshot.store().check_usable()?;
        let recovery = snapshot.store().recovery();
        if !self.is_writer() && (!recovery.older_slots.is_empty() || recovery.lost_pair) {
            return Err(Error::NotSynced);
        }
        Ok(Receipt {
            archive: self.id(),
            generation: snapshot.commit().slot.generation,
            code: snapshot.store().receipt_code(snapshot.commit())?,
            seconds: Timestamp::now().seconds,
        })
    }

    /// Checks that the last commit is the receipt's commit or descends from it.
    pub fn check_receipt(&self, receipt: &Receipt) -> Result<()> {
        if receipt.archive != self.id() {
            return Err(Error::ReceiptOfAnother { receipt: receipt.archive, found: self.id() });
        }
        let snapshot = self.snapshot();
        let (wanted, found) = (receipt.generation, snapshot.commit().slot.generation);
        let older = |found| Error::OlderThanReceipt { receipt: wanted, found };
        let fork = Error::ForkOfReceipt { receipt: wanted };
        if found.session < wanted.session {
            return Err(older(found));
        }
        let reached = if found.session == wanted.session {
            found
        } else {
            let ended = ended_session(&snapshot, wanted.session)?.ok_or_else(|| fork.clone())?;
            Generation { session: ended.session, step: ended.last_step, salt: ended.salt }
        };
        if reached.salt != wanted.salt {
            return Err(fork);
        }
        if reached.step < wanted.step {
            return Err(older(reached));
        }
        if found == wanted && !snapshot.store().is_receipt_code(snapshot.commit(), &receipt.code)? {
            return Err(fork);
        }
        Ok(())
    }
}

/// Returns the record of an ended session. It is in the meta slot until a commit records it in its
/// tree.
fn ended_session(snapshot: &Snapshot, session: u32) -> Result<Option<SessionRecord>> {
    let pending = &snapshot.commit().slot.pending_sessions;
    match pending.iter().find(|record| record.session == session) {
        Some(record) => Ok(Some(*record)),
        None => snapshot.get::<Sessions>(&session),
    }
}
