//! The actual result of a case.

use ar7_engine::store::Access;
use ar7_engine::{Check, Error as EngineError};
use ar7_registry::{Archive, Error, Finding, Receipt};

use super::victim::{open, position_of};
use crate::crash::Content;

/// An error, reduced to the parts that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NotAnArchive,
    NewerFormat,
    WrongKey,
    Truncated,
    Damaged(Check, Option<u32>),
    Tampered(Check, Option<u32>),
    Other,
}

impl Fault {
    pub(super) fn of(error: &Error) -> Fault {
        let position = position_of(error);
        match error {
            Error::Engine(EngineError::NotAnArchive { .. }) => Fault::NotAnArchive,
            Error::Engine(EngineError::NewerFormat { .. }) => Fault::NewerFormat,
            Error::Engine(EngineError::WrongKey { .. }) => Fault::WrongKey,
            Error::Engine(EngineError::Truncated { .. }) => Fault::Truncated,
            Error::Engine(EngineError::Damaged(fault)) => Fault::Damaged(fault.check, position),
            Error::Engine(EngineError::Tampered(fault)) => Fault::Tampered(fault.check, position),
            _ => Fault::Other,
        }
    }

    /// Returns the check that failed, if any.
    pub(super) fn check(self) -> Option<Check> {
        match self {
            Fault::Damaged(check, _) | Fault::Tampered(check, _) => Some(check),
            _ => None,
        }
    }
}

/// What a reader found.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The content that was read, or the first error.
    pub(super) read: Result<Content, (Fault, String)>,
    /// The findings of verification; `None` if the archive does not open.
    pub(super) findings: Option<Vec<Finding>>,
    /// Whether the receipt of the committed state is satisfied.
    pub(super) receipt: bool,
    /// Whether a reader warns that the newest commit may be lost, or is in one copy only.
    pub(super) warns: bool,
}

impl Outcome {
    /// Opens, reads and verifies.
    pub(super) fn of(image: &[u8], receipt: &Receipt) -> Outcome {
        let described = |error: Error| (Fault::of(&error), error.to_string());
        let archive = match open(image, Access::Read) {
            Ok(archive) => archive,
            Err(error) => {
                return Outcome {
                    read: Err(described(error)),
                    findings: None,
                    receipt: false,
                    warns: false,
                };
            }
        };
        let recovery = archive.store().recovery();
        Outcome {
            warns: recovery.may_have_held_newer.or(recovery.only_copy).is_some(),
            read: Content::read(&archive).map_err(described),
            findings: Some(findings(&archive)),
            receipt: archive.check_receipt(receipt).is_ok(),
        }
    }
}

fn findings(archive: &Archive) -> Vec<Finding> {
    let mut findings = Vec::new();
    let verified = archive.verify(&mut |finding| findings.push(finding), &mut |_| {});
    verified.expect("verification ends");
    findings
}
