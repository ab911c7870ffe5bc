//! Medians and ratios of the measurements.

use std::collections::BTreeMap;

use crate::measured::results::{Measure, Results};

/// The newest results of each kind.
pub(super) struct Figures(BTreeMap<String, Results>);

/// Selects measures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which<'a> {
    pub(super) kind: &'a str,
    pub(super) subject: &'a str,
    pub(super) case: &'a str,
    pub(super) threads: u64,
    pub(super) size: Option<u64>,
}

impl<'a> Which<'a> {
    pub(super) fn new(kind: &'a str, subject: &'a str, case: &'a str) -> Which<'a> {
        Which { kind, subject, case, threads: 1, size: None }
    }

    pub(super) fn threads(self, threads: u64) -> Which<'a> {
        Which { threads, ..self }
    }

    pub(super) fn size(self, size: u64) -> Which<'a> {
        Which { size: Some(size), ..self }
    }

    fn is(&self, measure: &Measure) -> bool {
        measure.subject == self.subject
            && measure.case == self.case
            && measure.threads == self.threads
            && measure.size == self.size
    }
}

impl Figures {
    pub(super) fn new(results: BTreeMap<String, Results>) -> Figures {
        Figures(results)
    }

    /// Returns the results of a kind.
    pub(super) fn kind(&self, kind: &str) -> Option<&Results> {
        self.0.get(kind)
    }

    /// Returns all results.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &Results> {
        self.0.values()
    }

    fn measures<'a>(&'a self, which: &'a Which<'_>) -> impl Iterator<Item = &'a Measure> {
        let results = self.0.get(which.kind);
        let measures = results.into_iter().flat_map(|results| &results.measures);
        measures.filter(|measure| which.is(measure))
    }

    /// Returns the median time in seconds of one operation.
    pub(super) fn seconds(&self, which: &Which<'_>) -> Option<f64> {
        median(self.measures(which).map(each))
    }

    /// Returns the median processor time in seconds.
    pub(super) fn cpu_seconds(&self, which: &Which<'_>) -> Option<f64> {
        median(self.measures(which).filter_map(|measure| measure.cpu_seconds))
    }

    /// Returns the maximum anonymous memory over all rounds, in bytes.
    pub(super) fn anonymous_bytes(&self, which: &Which<'_>) -> Option<u64> {
        self.measures(which).filter_map(|measure| measure.anonymous_bytes).max()
    }

    /// Returns the size of the output in the last round, in bytes.
    pub(super) fn output_bytes(&self, which: &Which<'_>) -> Option<u64> {
        self.measures(which).filter_map(|measure| measure.output_bytes).last()
    }

    /// Returns the median over the rounds of the first time divided by the second in the same round.
    pub(super) fn ratio(&self, first: &Which<'_>, second: &Which<'_>) -> Option<f64> {
        median(self.measures(first).filter_map(|measure| {
            let other = self.measures(second).find(|other| other.round == measure.round)?;
            Some(each(measure) / each(other))
        }))
    }

    /// Returns the number of operations of a measure.
    pub(super) fn count(&self, which: &Which<'_>) -> Option<u64> {
        self.measures(which).map(|measure| measure.count).next()
    }

    /// Returns the number of rounds.
    pub(super) fn rounds(&self, which: &Which<'_>) -> usize {
        self.measures(which).count()
    }

    /// Returns the maximum anonymous memory of any run of ar7, in bytes.
    pub(super) fn most_anonymous_bytes(&self) -> Option<u64> {
        let ours =
            |measure: &&Measure| matches!(measure.subject.as_str(), "ar7" | "streams" | "bytes");
        let measures = self.kinds().flat_map(|results| &results.measures).filter(ours);
        measures.filter_map(|measure| measure.anonymous_bytes).max()
    }
}

/// Returns the seconds of one operation of a measure.
fn each(measure: &Measure) -> f64 {
    measure.seconds / number(measure.count.max(1))
}

/// Converts a count to a floating-point number. Above 2^32 the low digits are irrelevant here.
pub(super) fn number(count: u64) -> f64 {
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    f64::from(high).mul_add(4_294_967_296.0, f64::from(low))
}

/// Returns the middle value, or the mean of the two middle values.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(subject: &str, round: u32, count: u64, seconds: f64) -> Measure {
        let (subject, case) = (subject.to_owned(), "in".to_owned());
        Measure { subject, case, round, threads: 1, count, seconds, ..Measure::default() }
    }

    #[test]
    fn ratios_are_computed_within_a_round() {
        let measures = vec![
            measure("a", 0, 1, 1.0),
            measure("b", 0, 1, 2.0),
            measure("a", 1, 1, 30.0),
            measure("b", 1, 1, 20.0),
            measure("a", 2, 2, 8.0),
            measure("b", 2, 1, 5.0),
            measure("a", 3, 1, 9.0),
        ];
        let results = Results { kind: "k".to_owned(), measures, ..Results::default() };
        let figures = Figures::new(BTreeMap::from([("k".to_owned(), results)]));
        let (a, b) = (Which::new("k", "a", "in"), Which::new("k", "b", "in"));
        let close = |found: Option<f64>, expected: f64| {
            assert!(found.is_some_and(|found| (found - expected).abs() < 1e-12), "{found:?}");
        };
        close(figures.ratio(&a, &b), 0.8);
        close(figures.seconds(&a), 6.5);
        close(figures.seconds(&b), 5.0);
        assert_eq!(figures.rounds(&a), 4);
        assert_eq!(figures.seconds(&a.threads(2)), None);
        assert_eq!(figures.ratio(&a, &a.size(7)), None);
    }

    #[test]
    fn large_counts_convert_to_numbers() {
        assert!((number(5 << 32) - 21_474_836_480.0).abs() < 1.0);
        assert!((number(7) - 7.0).abs() < 1e-12);
    }
}
