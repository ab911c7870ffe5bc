//! Runs cases, and compares what came of them with what must.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use super::case::{Case, Origin};
use super::expect::{Expect, expect, fits_field};
use super::outcome::{Fault, Outcome};
use super::victim::{Victim, copy_of};
use crate::crash::on_all_cores;

/// What came of the cases of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Cases.
    pub cases: u64,
    /// What was committed was read, and nothing else.
    pub as_committed: u64,
    /// It was an error, and the right one.
    pub errors: u64,
    /// An older state of the whole file was read, which a receipt tells.
    pub rollbacks: u64,
}

/// What came of all cases, by group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MatrixTotals(pub BTreeMap<&'static str, Counts>);

impl MatrixTotals {
    /// Of all groups.
    pub fn sum(&self) -> Counts {
        self.0.values().fold(Counts::default(), |sum, counts| Counts {
            cases: sum.cases + counts.cases,
            as_committed: sum.as_committed + counts.as_committed,
            errors: sum.errors + counts.errors,
            rollbacks: sum.rollbacks + counts.rollbacks,
        })
    }

    /// Adds what came of others.
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

/// A case of which something else came than must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixFailure {
    /// The case.
    pub case: Case,
    /// What was wrong.
    pub wrong: String,
    /// Cases that were right before.
    pub before: u64,
}

impl fmt::Display for MatrixFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {} (after {} cases)", self.case, self.wrong, self.before)
    }
}

/// Tries cases, on all cores.
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

/// Tries cases in the calling thread.
pub(super) fn run_part(victim: &Victim, cases: &[Case]) -> Result<MatrixTotals, MatrixFailure> {
    let mut totals = MatrixTotals::default();
    for case in cases {
        let counts = totals.0.entry(group(case)).or_default();
        counts.cases += 1;
        match check(victim, case) {
            Ok(Came::AsCommitted) => counts.as_committed += 1,
            Ok(Came::Error) => counts.errors += 1,
            Ok(Came::OlderFile) => counts.rollbacks += 1,
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
        Case::Header { .. } => "a changed header with a right checksum",
        Case::Swap(..) => "two blocks swapped",
        Case::Copy { .. } => "a block copied over another",
        Case::Splice { origin: Origin::Stranger, .. } => "a block of another archive, anywhere",
        Case::Splice { .. } => "a block of a copy that was written apart, anywhere",
        Case::PutBack { origin: Origin::Earlier(_), positions } => match positions.len() {
            1 => "an older version of a block put back",
            2 => "older versions of two blocks put back",
            _ => "older meta slots and headers put back",
        },
        Case::PutBack { origin: Origin::Fork, .. } => "blocks of a copy that was written apart",
        Case::PutBack { .. } => "blocks of another archive in their places",
        Case::BodyOf(_) => "everything but the header replaced",
        Case::Destroy(_) => "a block, or both copies, destroyed",
        Case::Cut(_) => "a file cut short",
        Case::Extend { .. } => "a file made longer",
    }
}

enum Came {
    AsCommitted,
    Error,
    OlderFile,
}

fn check(victim: &Victim, case: &Case) -> Result<Came, String> {
    let image = case.apply(victim);
    let outcome = Outcome::of(&image, &victim.now().receipt);
    match expect(victim, case, &image) {
        Expect::AsCommitted(bad) => as_committed(victim, &outcome, &bad),
        Expect::Error(faults) => one_of(&outcome, &faults),
        Expect::OneHeader(copy) => match &outcome.read {
            Err((fault, text)) => {
                let told = ["header", "key slot"].iter().any(|what| text.contains(what));
                let tampered = matches!(fault, Fault::Tampered(..)) && told;
                if tampered { Ok(Came::Error) } else { Err(format!("{text}, not tampering")) }
            }
            Ok(_) => as_committed(victim, &outcome, &[copy]),
        },
        Expect::Headers(byte) => match &outcome.read {
            Err((fault, _)) if fits_field(byte, *fault) => Ok(Came::Error),
            other => Err(format!("{} does not fit the field", said(other))),
        },
        Expect::OtherState(state) => match &outcome.read {
            Err((Fault::Damaged(..) | Fault::Tampered(..) | Fault::Truncated, _)) => {
                Ok(Came::Error)
            }
            Ok(content) if *content == state.content => {
                if outcome.receipt && *content != victim.now().content {
                    return Err("the receipt does not tell that it is older".into());
                }
                Ok(Came::OlderFile)
            }
            other => Err(format!("{}, expected an older state, whole", said(other))),
        },
        Expect::AnyError => match &outcome.read {
            Err((Fault::Damaged(..) | Fault::Tampered(..) | Fault::Truncated, _)) => {
                Ok(Came::Error)
            }
            other => Err(format!("{}, expected damage or tampering", said(other))),
        },
    }
}

fn as_committed(victim: &Victim, outcome: &Outcome, bad: &[u32]) -> Result<Came, String> {
    match &outcome.read {
        Ok(content) if *content == victim.now().content => {}
        other => return Err(format!("{}, expected what was committed", said(other))),
    }
    let findings = outcome.findings.as_deref().unwrap_or_default();
    let mut named = Vec::new();
    for finding in findings {
        named.push(copy_of(finding).ok_or_else(|| format!("verification finds {finding}"))?);
    }
    named.sort_unstable();
    if named != bad {
        return Err(format!("verification names blocks {named:?}, expected {bad:?}"));
    }
    if outcome.receipt { Ok(Came::AsCommitted) } else { Err("the receipt fails".into()) }
}

fn one_of(outcome: &Outcome, faults: &[Fault]) -> Result<Came, String> {
    let fits = |fault: Fault| {
        faults.contains(&fault)
            || matches!(fault.check(), Some(check) if faults.iter().any(|expected| {
                // Of the headers as a whole, the position says no more than which copy was looked at.
                expected.check() == Some(check) && is_of_headers(*expected)
            }))
    };
    match &outcome.read {
        Err((fault, _)) if fits(*fault) => {}
        other => return Err(format!("{}, expected one of {faults:?}", said(other))),
    }
    if let Some(findings) = &outcome.findings
        && !findings.iter().any(|finding| fits(Fault::of(&finding.error)))
    {
        let named: Vec<String> = findings.iter().map(ToString::to_string).collect();
        return Err(format!("verification finds {named:?}, expected one of {faults:?}"));
    }
    Ok(Came::Error)
}

fn is_of_headers(fault: Fault) -> bool {
    use ar7_engine::Check::{HeaderChecksum, HeaderMac, HeaderRevision};
    matches!(fault.check(), Some(HeaderChecksum | HeaderMac | HeaderRevision))
}

fn said(read: &Result<crate::crash::Content, (Fault, String)>) -> String {
    match read {
        Ok(_) => "other content was read".into(),
        Err((fault, text)) => format!("{text} ({fault:?})"),
    }
}
