//! What work that goes on after failures leaves undone.

use std::fmt;

#[cfg(feature = "archive7")]
use crate::archive7::Imported;
use crate::compact::Compacted;
use crate::count::Count;
use crate::error::ErrorClass;
use crate::fs::{CompareReport, ExtractReport, IngestReport};
use crate::maintenance::{Rekeyed, Repaired};
use crate::salvage::SalvageSummary;
use crate::verification::Summary;

/// What a report falls short of, for work that goes on after failures and reports each of them. As an error it has no
/// cause: there may have been many. `Display` gives it in one line.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
/// use std::ops::ControlFlow;
///
/// let verified = archive.verify(|_| {}, |_| ControlFlow::Continue(()))?;
/// let code = verified.shortfall().map_or(0, |shortfall| shortfall.class().exit_code());
/// assert_eq!(code, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Shortfall {
    class: ErrorClass,
    text: String,
}

impl Shortfall {
    fn new(class: ErrorClass, text: impl fmt::Display) -> Shortfall {
        Shortfall { class, text: text.to_string() }
    }

    /// Returns the shortfall for `count` findings of damage; `None` if there are none.
    pub fn of_findings(count: u64) -> Option<Shortfall> {
        let text = format_args!("damaged: {}", Count(count, "finding"));
        (count > 0).then(|| Shortfall::new(ErrorClass::Damaged, text))
    }

    /// Returns the class of failure, which has an exit code.
    pub fn class(&self) -> ErrorClass {
        self.class
    }
}

impl Summary {
    /// Returns the number of findings, if there are any.
    pub fn shortfall(&self) -> Option<Shortfall> {
        Shortfall::of_findings(self.findings)
    }
}

impl Repaired {
    /// Returns the number of bad blocks without a good copy, if there are any.
    pub fn shortfall(&self) -> Option<Shortfall> {
        Shortfall::of_findings(self.lost.len() as u64)
    }
}

impl Rekeyed {
    /// Returns the number of blocks that did not open, if there are any.
    pub fn shortfall(&self) -> Option<Shortfall> {
        Shortfall::of_findings(self.left)
    }
}

impl Compacted {
    /// Returns the number of findings, and whether a reader kept the compaction from going on.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let damage = Shortfall::of_findings(self.damaged);
        let Some(oldest) = self.oldest_reader else { return damage };
        let held = format!(
            "not finished: another process reads commit {oldest}; --wait SECONDS waits for it"
        );
        Some(match damage {
            Some(damage) => Shortfall::new(damage.class, format_args!("{damage}; {held}")),
            None => Shortfall::new(ErrorClass::HeldByReaders, held),
        })
    }
}

impl SalvageSummary {
    /// Returns the number of entries and streams that are not as they were, if anything was lost.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let text = not_as_they_were(self.incomplete());
        (!self.is_complete()).then(|| Shortfall::new(ErrorClass::Damaged, text))
    }
}

#[cfg(feature = "archive7")]
impl Imported {
    /// Returns whether changes may be missing, or else the number of entries and streams that are not as they were.
    pub fn shortfall(&self) -> Option<Shortfall> {
        if !self.is_closed {
            let text = "imported, but its last writer did not close the old archive: changes may be missing";
            return Some(Shortfall::new(ErrorClass::Damaged, text));
        }
        let text = not_as_they_were(self.lost);
        (self.lost > 0).then(|| Shortfall::new(ErrorClass::Unread, text))
    }
}

fn not_as_they_were(count: u64) -> String {
    format!("entries and streams that are not as they were: {count}")
}

impl IngestReport {
    /// Returns the numbers of inputs that could not be read, and of those that changed meanwhile.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let unread = Count(self.unread_count + self.attributes_count, "input");
        let changed = self.changed_count;
        let parts = [
            (unread.0 > 0).then(|| format!("{unread} could not be read")),
            (changed > 0).then(|| format!("{changed} changed while being read")),
        ];
        let text = parts.into_iter().flatten().collect::<Vec<String>>().join(", ");
        (!self.is_complete()).then(|| Shortfall::new(ErrorClass::Unread, text))
    }
}

impl ExtractReport {
    /// Returns the number of entries that could not be restored, if there are any. The class is that of the worst
    /// failure.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let entries = Count(self.not_restored_count, "entry");
        self.worst
            .map(|class| Shortfall::new(class, format_args!("{entries} could not be restored")))
    }
}

impl CompareReport {
    /// Returns the number of entries that could not be compared, or else the number of differences; `None` if everything
    /// is the same.
    pub fn shortfall(&self) -> Option<Shortfall> {
        let (unreadable, differences) = (self.unreadable_count, self.difference_count);
        if unreadable > 0 {
            let is_damage = self.worst == Some(ErrorClass::Damaged);
            let class = if is_damage { ErrorClass::Damaged } else { ErrorClass::Unread };
            let entries = Count(unreadable, "entry");
            return Some(Shortfall::new(class, format_args!("{entries} could not be compared")));
        }
        let differences = Count(differences, "difference");
        (differences.0 > 0).then(|| Shortfall::new(ErrorClass::Other, differences))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shortfall: Option<Shortfall>) -> Option<(ErrorClass, String)> {
        shortfall.map(|shortfall| (shortfall.class(), shortfall.to_string()))
    }

    #[test]
    fn neither_damage_nor_a_reader_hides_the_other() {
        let mut compacted = Compacted::default();
        assert_eq!(compacted.shortfall(), None);
        compacted.oldest_reader = Some(7);
        let (class, text) = of(compacted.shortfall()).unwrap();
        assert!(class == ErrorClass::HeldByReaders && text.contains("reads commit 7"), "{text}");
        compacted.damaged = 3;
        let (class, text) = of(compacted.shortfall()).unwrap();
        assert_eq!(class, ErrorClass::Damaged);
        assert!(text.contains("3 findings") && text.contains("reads commit 7"), "{text}");
        compacted.oldest_reader = None;
        let damaged = (ErrorClass::Damaged, "damaged: 3 findings".to_owned());
        assert_eq!(of(compacted.shortfall()), Some(damaged));
    }

    #[test]
    fn entries_that_could_not_be_compared_count_before_differences() {
        let mut report = CompareReport { difference_count: 2, ..CompareReport::default() };
        let shortfall = |report: &CompareReport| of(report.shortfall());
        let expected = |class, text: &str| Some((class, text.to_owned()));
        assert_eq!(shortfall(&report), expected(ErrorClass::Other, "2 differences"));
        report.unreadable_count = 1;
        for (worst, class) in
            [(ErrorClass::Other, ErrorClass::Unread), (ErrorClass::Damaged, ErrorClass::Damaged)]
        {
            report.worst = Some(worst);
            let found = shortfall(&report);
            assert_eq!(found, expected(class, "1 entry could not be compared"));
        }
        assert_eq!(CompareReport::default().shortfall(), None);
    }

    #[test]
    fn an_ingest_reports_what_was_unread_and_what_changed() {
        let mut report = IngestReport { changed_count: 1, ..IngestReport::default() };
        let expected = |text: &str| Some((ErrorClass::Unread, text.to_owned()));
        assert_eq!(of(report.shortfall()), expected("1 changed while being read"));
        (report.unread_count, report.attributes_count) = (1, 2);
        let both = "3 inputs could not be read, 1 changed while being read";
        assert_eq!(of(report.shortfall()), expected(both));
        assert_eq!(IngestReport::default().shortfall(), None);
    }
}
