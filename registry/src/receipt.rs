//! Receipts: a line that names a commit, to be kept outside of the file.
//!
//! Nothing inside a file can tell that all of it is an older copy. A receipt can: an honest archive only goes on from
//! the commit that it names. Within a session steps only rise; when a session ends, its salt and its last step are
//! kept for good. So a later state proves that it contains the receipt's commit, whichever it was.

use std::fmt;
use std::str::FromStr;

use ar7_engine::format::{Generation, SessionRecord, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::archive::Archive;
use crate::committed::Snapshot;
use crate::error::{Error, Result};
use crate::records::{ReadRecords, Sessions};

/// What is known of a commit that was durable.
///
/// Its text is one line: `ar7-receipt-1 ARCHIVE SESSION.STEP.SALT CODE DATE CHECK`, the fields separated by single
/// spaces. CODE is the keyed digest of the meta slot, which names every root; CHECK shows a slip in copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    archive: Uuid,
    generation: Generation,
    code: [u8; 32],
    seconds: i64,
}

impl Receipt {
    /// What the line begins with: the version of the text is part of it.
    pub const BEGINNING: &'static str = "ar7-receipt-";

    /// Length of a line in bytes at most.
    pub const LENGTH_MAX: usize = 256;

    const VERSION: &'static str = "ar7-receipt-1";

    /// The archive.
    pub fn archive(&self) -> Uuid {
        self.archive
    }

    /// Generation of the commit.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// When the receipt was given.
    pub fn given_at(&self) -> Timestamp {
        Timestamp { seconds: self.seconds, nanoseconds: 0 }
    }

    /// Everything but the check.
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

    /// Strict: the line must be, byte for byte, the one that this receipt would be printed as.
    fn from_str(line: &str) -> Result<Receipt> {
        let wrong = |reason: &'static str| Error::NotAReceipt { reason };
        if line.len() > Receipt::LENGTH_MAX {
            return Err(wrong("longer than a receipt"));
        }
        let fields: Vec<&str> = line.split(' ').collect();
        let [version, archive, generation, code, date, _check] = fields[..] else {
            return Err(wrong("six fields with single spaces between them are needed"));
        };
        if version != Receipt::VERSION {
            return Err(wrong("it does not begin with ar7-receipt-1"));
        }
        let archive = archive.parse().map_err(|_| wrong("the second field is no UUID"))?;
        let generation = parse_generation(generation)
            .ok_or_else(|| wrong("the third field is no generation"))?;
        let code = parse_code(code).ok_or_else(|| wrong("the fourth field is no code"))?;
        let date: jiff::Timestamp =
            date.parse().map_err(|_| wrong("the fifth field is no date"))?;
        let receipt = Receipt { archive, generation, code, seconds: date.as_second() };
        if receipt.to_string() != line && !ar7_engine::fault!(ReceiptUnchecked) {
            return Err(wrong("the last field does not fit: it was changed or cut"));
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
    /// A receipt of the newest commit, which is on stable storage.
    ///
    /// A reader cannot know that of a commit whose writer was killed before it wrote the second copy of the meta slot:
    /// [`Error::NotSynced`]. That copy is written after the sync of the first has returned, so both of them together
    /// prove it; and a writer begins with making sure.
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

    /// Checks that the archive, as last committed, is the receipt's commit or goes on from it.
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

/// What is kept of a session that ended: in the meta slot until a commit records it in its tree.
fn ended_session(snapshot: &Snapshot, session: u32) -> Result<Option<SessionRecord>> {
    let pending = &snapshot.commit().slot.pending_sessions;
    match pending.iter().find(|record| record.session == session) {
        Some(record) => Ok(Some(*record)),
        None => snapshot.get::<Sessions>(&session),
    }
}
