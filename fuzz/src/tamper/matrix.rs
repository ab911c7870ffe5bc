//! Runs cases, and compares their results with the expected ones.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use super::case::{Case, Origin};
use super::expect::{Expect, expect, fits_field, generation};
use super::outcome::{Fault, Outcome};
use super::victim::{Victim, block};
use crate::crash::on_all_cores;

/// The results of the cases of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// The number of cases.
    pub cases: u64,
    /// The number in which the committed content was read.
    pub as_committed: u64,
    /// The number of expected errors.
    pub errors: u64,
    /// The number in which an older state of the whole file was read, which a receipt detects.
    pub rollbacks: u64,
}

/// The results of all cases, by group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MatrixTotals(pub BTreeMap<&'static str, Counts>);

impl MatrixTotals {
    /// Returns the sum over all groups.
    pub fn sum(&self) -> Counts {
        self.0.values().fold(Counts::default(), |sum, counts| Counts {
            cases: sum.cases + counts.cases,
            as_committed: sum.as_committed + counts.as_committed,
            errors: sum.errors + counts.errors,
            rollbacks: sum.rollbacks + counts.rollbacks,
        })
    }

    /// Adds other results.
    pub fn add(&mut self, others: &MatrixTotals) {
        for (group, counts) in &others.0 {
            let sum = self.0.entry(group).or_default();
            sum.cases += counts.cases;
            sum.as_committed += counts.as_committed;
            sum.errors += counts.errors;
            sum.rollbacks += counts.rollbacks;
        }
    }
}

impl fmt::Display for MatrixTotals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.sum();
        for (group, counts) in self.0.iter().chain([(&"all", &all)]) {
            let Counts { cases, as_committed, errors, rollbacks } = counts;
            writeln!(
                formatter,
                "{group}: {cases} cases, {errors} errors, {as_committed} read as committed, {rollbacks} an older file"
            )?;
        }
        Ok(())
    }
}

/// A case with an unexpected result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixFailure {
    /// The case.
    pub case: Case,
    /// What was wrong.
    pub wrong: String,
    /// The number of correct cases before it.
    pub before: u64,
}

impl fmt::Display for MatrixFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {} (after {} cases)", self.case, self.wrong, self.before)
    }
}

/// Runs cases on all cores.
pub fn run_matrix(victim: &Victim, cases: &[Case]) -> Result<MatrixTotals, MatrixFailure> {
    const AT_A_TIME: usize = 256;
    let totals = Mutex::new(MatrixTotals::default());
    let parts: Vec<&[Case]> = cases.chunks(AT_A_TIME).collect();
    on_all_cores(parts.len(), |part| {
        let found = run_part(victim, parts[part]);
        let mut totals = totals.lock().expect("no case panicked");
        let found = found.map_err(|failure| MatrixFailure {
            before: failure.before + totals.sum().cases,
            ..failure
        })?;
        totals.add(&found);
        Ok(())
    })?;
    Ok(totals.into_inner().expect("no case panicked"))
}

/// Runs cases in the calling thread.
pub(super) fn run_part(victim: &Victim, cases: &[Case]) -> Result<MatrixTotals, MatrixFailure> {
    let mut totals = MatrixTotals::default();
    for case in cases {
        let counts = totals.0.entry(group(case)).or_default();
        counts.cases += 1;
        match check(victim, case) {
            Ok(Observed::AsCommitted) => counts.as_committed += 1,
            Ok(Observed::Error) => counts.errors += 1,
            Ok(Observed::OlderFile) => counts.rollbacks += 1,
            Err(wrong) => {
                let before = totals.sum().cases - 1;
                return Err(MatrixFailure { case: case.clone(), wrong, before });
            }
        }
    }
    Ok(totals)
}

fn group(case: &Case) -> &'static str {
    match case {
        Case::Flip { .. } => "a flipped bit",
        Case::Header { .. } => "a changed header with a correct checksum",
        Case::Swap(..) => "two blocks swapped",
        Case::Copy { .. } => "a block copied over another",
        Case::Splice { origin: Origin::Stranger, .. } => {
            "a block of another archive at any position"
        }
        Case::Splice { .. } => "a block of a separate copy at any position",
        Case::PutBack { origin: Origin::Earlier(_), positions } => match positions.len() {
            1 => "an older version of a block put back",
            2 => "older versions of two blocks put back",
            _ => "older meta slots and headers put back",
        },
        Case::PutBack { origin: Origin::Fork, .. } => {
            "blocks of a separate copy at their positions"
        }
        Case::PutBack { .. } => "blocks of another archive at their positions",
        Case::BodyOf(_) => "everything except the header replaced",
        Case::Destroy(_) => "a block, or both copies, overwritten",
        Case::Cut(_) => "a truncated file",
        Case::Extend { .. } => "an extended file",
    }
}

enum Observed {
    AsCommitted,
    Error,
    OlderFile,
}

fn check(victim: &Victim, case: &Case) -> Result<Observed, String> {
    let image = case.apply(victim);
    let outcome = Outcome::of(&image, &victim.now().receipt);
    match expect(victim, case, &image) {
        Expect::AsCommitted(bad) => {
            let is_whole = |pair: [u32; 2]| {
                let [first, second] = pair.map(|position| generation(block(&image, position)));
                first == second && !pair.iter().any(|position| bad.contains(position))
            };
            let warns = !(is_whole([1, 3]) && is_whole([2, 4]));
            if outcome.warns != warns {
                return Err(format!(
                    "a warning of the newest commit: {}, expected {warns}",
                    outcome.warns
                ));
            }
            as_committed(victim, &outcome, &bad)
        }
        Expect::Error(faults) => one_of(&outcome, &faults),
        Expect::Unread(faults) => unread(victim, &outcome, &faults),
        Expect::OneHeader(copy) => match &outcome.read {
            Err((fault, text)) => {
                let names_header = ["header", "key slot"].iter().any(|what| text.contains(what));
                let tampered = matches!(fault, Fault::Tampered(..)) && names_header;
                if tampered { Ok(Observed::Error) } else { Err(format!("{text}, not tampering")) }
            }
            Ok(_) => as_committed(victim, &outcome, &[copy]),
        },
        Expect::Headers(byte) => match &outcome.read {
            Err((fault, _)) if fits_field(byte, *fault) => Ok(Observed::Error),
            other => Err(format!("{} does not match the field", describe(other))),
        },
        Expect::OtherState(state) => match &outcome.read {
            Err((Fault::Damaged(..) | Fault::Tampered(..) | Fault::Truncated, _)) => {
                Ok(Observed::Error)
            }
            Ok(content) if *content == state.content => {
                if outcome.receipt && *content != victim.now().content {
                    return Err("the receipt does not detect the older file".into());
                }
                Ok(Observed::OlderFile)
            }
            other => Err(format!("{}, expected a complete older state", describe(other))),
        },
        Expect::AnyError => match &outcome.read {
            Err((Fault::Damaged(..) | Fault::Tampered(..) | Fault::Truncated, _)) => {
                Ok(Observed::Error)
            }
            other => Err(format!("{}, expected damage or tampering", describe(other))),
        },
    }
}

fn as_committed(victim: &Victim, outcome: &Outcome, bad: &[u32]) -> Result<Observed, String> {
    match &outcome.read {
        Ok(content) if *content == victim.now().content => {}
        other => return Err(format!("{}, expected the committed content", describe(other))),
    }
    let findings = outcome.findings.as_deref().unwrap_or_default();
    let mut named = Vec::new();
    for finding in findings {
        let copy = victim.copy_of(finding);
        named.push(copy.ok_or_else(|| format!("verification reports {finding}"))?);
    }
    named.sort_unstable();
    if named != bad {
        return Err(format!("verification reports blocks {named:?}, expected {bad:?}"));
    }
    if outcome.receipt { Ok(Observed::AsCommitted) } else { Err("the receipt fails".into()) }
}

fn one_of(outcome: &Outcome, faults: &[Fault]) -> Result<Observed, String> {
    let fits = |fault: Fault| {
        faults.contains(&fault)
            || matches!(fault.check(), Some(check) if faults.iter().any(|expected| {
                // For the headers as a whole, the position only says which copy was checked.
                expected.check() == Some(check) && is_of_headers(*expected)
            }))
    };
    match &outcome.read {
        Err((fault, _)) if fits(*fault) => {}
        other => return Err(format!("{}, expected one of {faults:?}", describe(other))),
    }
    if let Some(findings) = &outcome.findings
        && !findings.iter().any(|finding| fits(Fault::of(&finding.error)))
    {
        let named: Vec<String> = findings.iter().map(ToString::to_string).collect();
        return Err(format!("verification reports {named:?}, expected one of {faults:?}"));
    }
    Ok(Observed::Error)
}

/// The content is as committed, and verification reports a fault in a tree that reading does not need.
fn unread(victim: &Victim, outcome: &Outcome, faults: &[Fault]) -> Result<Observed, String> {
    match &outcome.read {
        Ok(content) if *content == victim.now().content => {}
        other => return Err(format!("{}, expected the committed content", describe(other))),
    }
    let findings = outcome.findings.as_deref().unwrap_or_default();
    if !findings.iter().any(|finding| faults.contains(&Fault::of(&finding.error))) {
        let named: Vec<String> = findings.iter().map(ToString::to_string).collect();
        return Err(format!("verification reports {named:?}, expected one of {faults:?}"));
    }
    Ok(Observed::AsCommitted)
}

fn is_of_headers(fault: Fault) -> bool {
    use ar7_engine::Check::{HeaderChecksum, HeaderMac, HeaderRevision};
    matches!(fault.check(), Some(HeaderChecksum | HeaderMac | HeaderRevision))
}

fn describe(read: &Result<crate::crash::Content, (Fault, String)>) -> String {
    match read {
        Ok(_) => "other content was read".into(),
        Err((fault, text)) => format!("{text} ({fault:?})"),
    }
}
