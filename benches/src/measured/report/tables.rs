//! The tables of docs/PERFORMANCE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::acceptance;
use super::figures::{Figures, Which, number};
use crate::measured::results::Results;
use xtask::quantity::size;

const NOTHING: &str = "Not measured yet.";

/// Returns every part of the document by its name.
pub(super) fn all(figures: &Figures) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("acceptance", acceptance::table(figures)),
        ("machines", machines(figures)),
        ("blocks", blocks(figures)),
        ("peers", peers(figures)),
        ("commands", commands(figures)),
        ("counts", counts(figures)),
        ("mount", mount(figures)),
        ("registry", registry(figures)),
        ("scale", scale(figures)),
    ])
}

/// Lists the time, machine and commit of each run.
fn machines(figures: &Figures) -> String {
    let mut text = String::from(
        "| run | time | commit | machine | system | raw results |\n|---|---|---|---|---|---|\n",
    );
    for results in figures.kinds() {
        let Results { kind, command, date, commit, machine, .. } = results;
        let day = date.split('T').next().unwrap_or_default();
        writeln!(
            text,
            "| `cargo xtask {command}` | {date} | {commit} | {}, {} cores, {} | {}, {} | \
             [JSON](../benches/results/{kind}-{day}-{commit}.json) |",
            machine.processor,
            machine.cores,
            size(machine.memory_bytes),
            machine.system,
            machine.file_system,
        )
        .ok();
    }
    text
}

/// Returns the subjects of a document in order of their first appearance.
fn subjects(results: &Results) -> Vec<&str> {
    let mut seen = Vec::new();
    for measure in &results.measures {
        if !seen.contains(&measure.subject.as_str()) {
            seen.push(measure.subject.as_str());
        }
    }
    seen
}

fn blocks(figures: &Figures) -> String {
    if figures.kind("blocks").is_none() {
        return NOTHING.to_owned();
    }
    let mut text = String::from(
        "| step | threads | one block at a time, us | in batches, us | speedup |\n|---|---:|---:|---:|---:|\n",
    );
    for case in ["digest", "seal", "open"] {
        for threads in [1, 2] {
            let which = |subject| Which::new("blocks", subject, case).threads(threads);
            let (reference, batch) = (which("reference"), which("batch"));
            writeln!(
                text,
                "| {case} | {threads} | {} | {} | {} |",
                microseconds(figures.seconds(&reference)),
                microseconds(figures.seconds(&batch)),
                ratio(figures.ratio(&reference, &batch)),
            )
            .ok();
        }
    }
    text.push_str(
        "\n| 4 KiB at random | `read_at`, us | two blocks in a loop, us | in a compressed GiB, us |\n\
         |---|---:|---:|---:|\n",
    );
    for threads in [1, 2] {
        let which = |subject| Which::new("blocks", subject, "4 KiB at random").threads(threads);
        let found = |subject| microseconds(figures.seconds(&which(subject)));
        let (read, two, packed) = (found("read_at"), found("two blocks"), found("packed"));
        writeln!(text, "| {threads} threads | {read} | {two} | {packed} |").ok();
    }
    text.push_str("\n| 4 KiB written to a file and made durable | us |\n|---|---:|\n");
    for subject in ["one sync", "two syncs"] {
        let seconds = figures.seconds(&Which::new("blocks", subject, "durable write"));
        writeln!(text, "| {subject} | {} |", microseconds(seconds)).ok();
    }
    text
}

fn peers(figures: &Figures) -> String {
    let Some(results) = figures.kind("peers") else { return NOTHING.to_owned() };
    let input = |name: &str| results.inputs.get(name).copied().unwrap_or_default();
    let mut text = format!(
        "The tree has {} entries, {}; the file {}.\n\n",
        input("tree entries"),
        size(input("tree bytes")),
        size(input("file bytes")),
    );
    text.push_str(
        "| work | program | s | relative to tar | processor time, s | anonymous memory | written | rounds |\n\
         |---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for case in ["tree in", "tree out", "tree verify", "file in", "file to pipe"] {
        for subject in subjects(results) {
            let which = Which::new("peers", subject, case);
            let Some(seconds) = figures.seconds(&which) else { continue };
            let tar = Which::new("peers", "tar", case);
            writeln!(
                text,
                "| {case} | {} | {seconds:.2} | {} | {} | {} | {} | {} |",
                subject.replace('|', "and"),
                ratio(figures.ratio(&which, &tar)),
                figures.cpu_seconds(&which).map_or_else(String::new, |found| format!("{found:.2}")),
                bytes(figures.anonymous_bytes(&which)),
                bytes(figures.output_bytes(&which)),
                figures.rounds(&which),
            )
            .ok();
        }
    }
    for (program, reason) in &results.skipped {
        writeln!(text, "\n{program} was skipped: {reason}.").ok();
    }
    text
}

/// Lists the commands exactly as they were run.
fn commands(figures: &Figures) -> String {
    let Some(results) = figures.kind("peers") else { return NOTHING.to_owned() };
    let mut text = String::from("| work | program | version | command |\n|---|---|---|---|\n");
    for measure in results.measures.iter().filter(|measure| measure.command.is_some()) {
        let command = measure.command.clone().unwrap_or_default().replace('|', "\\|");
        let version = results.versions.get(&measure.subject).cloned().unwrap_or_default();
        let subject = measure.subject.replace('|', "and");
        writeln!(text, "| {} | {subject} | {version} | `{command}` |", measure.case).ok();
    }
    text
}

fn mount(figures: &Figures) -> String {
    let Some(results) = figures.kind("mount") else { return NOTHING.to_owned() };
    let mut text = String::from(
        "| work | ar7, s | gocryptfs, s | ratio | rounds |\n|---|---:|---:|---:|---:|\n",
    );
    let mut cases: Vec<&str> = Vec::new();
    for measure in &results.measures {
        if !cases.contains(&measure.case.as_str()) {
            cases.push(&measure.case);
        }
    }
    for case in cases {
        let (ar7, other) =
            (Which::new("mount", "ar7", case), Which::new("mount", "gocryptfs", case));
        writeln!(
            text,
            "| {case} | {} | {} | {} | {} |",
            total(figures, &ar7),
            total(figures, &other),
            ratio(figures.ratio(&ar7, &other)),
            figures.rounds(&ar7),
        )
        .ok();
    }
    text
}

fn registry(figures: &Figures) -> String {
    let Some(results) = figures.kind("registry") else { return NOTHING.to_owned() };
    let records = results.inputs.get("records").copied().unwrap_or_default();
    let mut text =
        format!("{records} records; microseconds per record, and the speed relative to redb.\n\n");
    text.push_str("| case | threads |");
    let subjects = subjects(results);
    for subject in &subjects {
        let version = results.versions.get(*subject).map_or("", String::as_str);
        write!(text, " {subject} {version} |").ok();
    }
    text.push_str("\n|---|---:|");
    text.push_str(&"---:|".repeat(subjects.len()));
    text.push('\n');
    for (case, threads) in [
        ("load_sorted", 1),
        ("load_random", 1),
        ("get", 1),
        ("get", 2),
        ("insert_durable", 1),
        ("scan", 1),
    ] {
        write!(text, "| {} | {threads} |", case.replace('_', ", ")).ok();
        for subject in &subjects {
            let which = Which::new("registry", subject, case).threads(threads);
            let redb = Which::new("registry", "redb", case).threads(threads);
            let (found, times) = (figures.seconds(&which), figures.ratio(&redb, &which));
            write!(text, " {} ({}) |", microseconds(found), ratio(times)).ok();
        }
        text.push('\n');
    }
    for case in ["size_sorted", "size_random", "size"] {
        let found: Vec<String> = subjects
            .iter()
            .map(|subject| bytes(figures.output_bytes(&Which::new("registry", subject, case))))
            .collect();
        if found.iter().any(|found| !found.is_empty()) {
            writeln!(text, "| {} | | {} |", case.replace('_', ", "), found.join(" | ")).ok();
        }
    }
    text
}

fn scale(figures: &Figures) -> String {
    let Some(results) = figures.kind("scale") else { return NOTHING.to_owned() };
    let mut text = String::new();
    for (subject, unit) in [("streams", "a stream"), ("bytes", "a MiB")] {
        let points: BTreeSet<(u64, u64)> = results
            .measures
            .iter()
            .filter(|measure| measure.subject == subject)
            .filter_map(|measure| Some((measure.size?, measure.threads)))
            .collect();
        if points.is_empty() {
            continue;
        }
        writeln!(
            text,
            "| {subject} | threads | write, us {unit} | open, us | read 100 bytes, us | append 100 bytes and \
             commit, us | anonymous memory | file |\n|---:|---:|---:|---:|---:|---:|---:|---:|"
        )
        .ok();
        for (count, threads) in points {
            let which = |case| Which::new("scale", subject, case).size(count).threads(threads);
            let shown = if subject == "bytes" { size(count) } else { count.to_string() };
            write!(text, "| {shown} | {threads} |").ok();
            for case in ["write", "open", "read", "commit"] {
                write!(text, " {} |", microseconds(figures.seconds(&which(case)))).ok();
            }
            let (memory, file) =
                (figures.anonymous_bytes(&which("write")), figures.output_bytes(&which("open")));
            writeln!(text, " {} | {} |", bytes(memory), bytes(file)).ok();
        }
        text.push('\n');
    }
    text
}

fn counts(figures: &Figures) -> String {
    let Some(results) = figures.kind("counts") else { return NOTHING.to_owned() };
    let points = |case: &str| -> Vec<(u64, u64)> {
        let measures = results.measures.iter().filter(|measure| measure.case == case);
        measures.filter_map(|measure| Some((measure.size?, measure.count))).collect()
    };
    let mut text = String::from("| counted | count |\n|---|---:|\n");
    if let [(few, before), (many, after)] = points("system calls of an ingest")[..] {
        let calls = number(after.saturating_sub(before)) / number(many - few);
        writeln!(text, "| system calls for each small file of an ingest | {calls:.2} |").ok();
    }
    if let [(entries, allocations)] = points("allocations of a listing")[..] {
        let each = number(allocations) / number(entries);
        writeln!(text, "| allocations for each entry of a listing | {each:.2} |").ok();
    }
    text
}

/// Returns the time of all operations of a measure.
fn total(figures: &Figures, which: &Which<'_>) -> String {
    let found = figures.seconds(which).zip(figures.count(which));
    found.map_or_else(String::new, |(each, count)| format!("{:.2}", each * number(count)))
}

fn microseconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!("{:.2}", seconds * 1e6))
}

fn ratio(found: Option<f64>) -> String {
    found.map_or_else(String::new, |found| format!("{found:.2}"))
}

fn bytes(found: Option<u64>) -> String {
    found.map_or_else(String::new, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measured::results::Measure;

    #[test]
    fn missing_measurements_are_stated() {
        let figures = Figures::new(BTreeMap::new());
        let parts = all(&figures);
        assert_eq!(parts["peers"], NOTHING);
        assert!(parts["acceptance"].contains("| not measured |"));
    }

    #[test]
    fn counts_are_shown_for_each_file_and_entry() {
        let measure = |case: &str, size, count| Measure {
            case: case.to_owned(),
            size: Some(size),
            count,
            ..Measure::default()
        };
        let (calls, listing) = ("system calls of an ingest", "allocations of a listing");
        let measures =
            vec![measure(listing, 10, 25), measure(calls, 100, 900), measure(calls, 300, 2000)];
        let results = Results { kind: "counts".to_owned(), measures, ..Results::default() };
        let figures = Figures::new(BTreeMap::from([("counts".to_owned(), results)]));
        let parts = all(&figures);
        assert!(parts["counts"].contains("ingest | 5.50 |"), "{}", parts["counts"]);
        assert!(parts["counts"].contains("listing | 2.50 |"), "{}", parts["counts"]);
    }

    #[test]
    fn tables_have_the_figures() {
        let measure = |subject: &str, round: u32, seconds: f64| Measure {
            subject: subject.to_owned(),
            case: "tree in".to_owned(),
            round,
            threads: 1,
            count: 1,
            seconds,
            cpu_seconds: Some(1.5),
            anonymous_bytes: Some(3 << 20),
            output_bytes: Some(5 << 30),
            ..Measure::default()
        };
        let measures = vec![measure("ar7", 0, 1.0), measure("tar", 0, 2.0), measure("ar7", 1, 9.0)];
        let results = Results { kind: "peers".to_owned(), measures, ..Results::default() };
        let figures = Figures::new(BTreeMap::from([("peers".to_owned(), results)]));
        let parts = all(&figures);
        let line = "| tree in | ar7 | 5.00 | 0.50 | 1.50 | 3.0 MiB | 5.0 GiB | 2 |";
        assert!(parts["peers"].contains(line), "{}", parts["peers"]);
        let line = "| tree in: time relative to tar | at most 1 | 0.75 | 0.50 | yes |";
        assert!(parts["acceptance"].contains(line), "{}", parts["acceptance"]);
        assert!(
            parts["acceptance"]
                .contains("| anonymous memory of any run, MiB | at most 256 | 96 | 3.00 | yes |")
        );
    }
}
