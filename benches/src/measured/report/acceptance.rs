//! The goals, and the measured values.

use std::fmt::Write as _;

use super::figures::{Figures, Which, number};
use crate::measured::programs::{PLAIN, ZSTD};

/// The requirement on a figure.
#[derive(Debug, Clone, Copy)]
enum Must {
    AtLeast(f64),
    AtMost(f64),
    /// There is only a target.
    Nothing,
}

impl Must {
    fn is_met(self, found: f64) -> bool {
        match self {
            Must::AtLeast(least) => found >= least,
            Must::AtMost(most) => found <= most,
            Must::Nothing => true,
        }
    }

    fn shown(self) -> String {
        match self {
            Must::AtLeast(least) => format!("at least {least}"),
            Must::AtMost(most) => format!("at most {most}"),
            Must::Nothing => String::new(),
        }
    }
}

/// One line: the measure, its requirement, its target, and the measured value.
type Row = (&'static str, Must, &'static str, Option<f64>);

/// Returns the table.
pub(super) fn table(figures: &Figures) -> String {
    let mut text =
        String::from("| measure | required | target | measured | met |\n|---|---|---|---:|---|\n");
    let parts = [
        in_memory(figures),
        against_programs(figures),
        of_small_files(figures),
        of_the_mount(figures),
        of_the_archive(figures),
    ];
    for rows in parts {
        for (measure, must, aim, found) in rows {
            let is_met = match found {
                Some(_) if matches!(must, Must::Nothing) => "",
                Some(found) if must.is_met(found) => "yes",
                Some(_) => "**no**",
                None => "",
            };
            let found =
                found.map_or_else(|| "not measured".to_owned(), |found| format!("{found:.2}"));
            // Writing to a string cannot fail.
            writeln!(text, "| {measure} | {} | {aim} | {found} | {is_met} |", must.shown()).ok();
        }
    }
    text
}

fn in_memory(figures: &Figures) -> Vec<Row> {
    let block = |subject, case| Which::new("blocks", subject, case);
    let faster = |case| figures.ratio(&block("reference", case), &block("batch", case));
    let (one, two) = (block("batch", "seal"), block("batch", "seal").threads(2));
    let random = |subject| block(subject, "4 KiB at random");
    vec![
        (
            "digest and seal, one core: speedup over one block at a time",
            Must::AtLeast(2.0),
            "2.6",
            faster("seal"),
        ),
        (
            "open and check, one core: speedup over one block at a time",
            Must::AtLeast(2.0),
            "2.6",
            faster("open"),
        ),
        (
            "seal: speedup of two threads over one",
            Must::AtLeast(1.7),
            "1.9",
            figures.ratio(&one, &two),
        ),
        (
            "4 KiB at random: time relative to opening two blocks in a loop",
            Must::AtMost(1.5),
            "1.1",
            figures.ratio(&random("read_at"), &random("two blocks")),
        ),
        (
            "4 KiB at random in a compressed GiB, us",
            Must::AtMost(150.0),
            "60",
            figures.seconds(&random("packed")).map(|seconds| seconds * 1e6),
        ),
    ]
}

fn against_programs(figures: &Figures) -> Vec<Row> {
    let which = |subject, case| Which::new("peers", subject, case);
    let against = |case, peer| figures.ratio(&which("ar7", case), &which(peer, case));
    let size = figures.output_bytes(&which("ar7", "tree in"));
    vec![
        ("the tree's archive, MB", Must::AtMost(260.0), "235", size.map(|it| number(it) / 1e6)),
        ("tree in: time relative to tar", Must::AtMost(1.0), "0.75", against("tree in", "tar")),
        (
            "tree in: time relative to tar, zstd and age",
            Must::AtMost(0.6),
            "0.4",
            against("tree in", ZSTD),
        ),
        (
            "tree in: time relative to restic",
            Must::AtMost(0.25),
            "0.15",
            against("tree in", "restic"),
        ),
        ("tree out: time relative to tar", Must::AtMost(1.0), "0.7", against("tree out", "tar")),
        ("random file in: time relative to cp", Must::AtMost(1.2), "0.8", against("file in", "cp")),
        (
            "random file in: time relative to no compression",
            Must::AtMost(1.05),
            "1.0",
            against("file in", PLAIN),
        ),
        (
            "file to pipe: time relative to age",
            Must::AtMost(0.5),
            "0.35",
            against("file to pipe", "tar | age"),
        ),
        (
            "tree verify: time relative to restic",
            Must::AtMost(0.08),
            "0.05",
            against("tree verify", "restic"),
        ),
        (
            "tree verify: time relative to 7z",
            Must::AtMost(0.08),
            "0.05",
            against("tree verify", "7z"),
        ),
    ]
}

fn of_small_files(figures: &Figures) -> Vec<Row> {
    let which = |subject, case| Which::new("small", subject, case);
    let bytes = |subject, case| figures.output_bytes(&which(subject, case)).map(number);
    let changed = bytes("ar7", "changed tree").zip(bytes("fresh", "changed tree"));
    let small = |subject| which(subject, "small file");
    vec![
        (
            "6,000 files of 100 bytes, MB",
            Must::AtMost(1.5),
            "0.8",
            bytes("ar7", "tiny files").map(|bytes| bytes / 1e6),
        ),
        (
            "tree, a third replaced ten times: length relative to a new archive",
            Must::AtMost(1.35),
            "1.15",
            changed.map(|(changed, fresh)| changed / fresh),
        ),
        (
            "small file to pipe, new process: time relative to no compression",
            Must::AtMost(1.2),
            "1.0",
            figures.ratio(&small("ar7"), &small(PLAIN)),
        ),
        (
            "file of 1 TiB with 1 MiB of content, in and out, s",
            Must::AtMost(10.0),
            "",
            figures.seconds(&which("ar7", "sparse file")),
        ),
    ]
}

/// A mount, against gocryptfs.
fn of_the_mount(figures: &Figures) -> Vec<Row> {
    let which = |subject, case| Which::new("mount", subject, case);
    let against = |case| figures.ratio(&which("ar7", case), &which("gocryptfs", case));
    let rows = [
        ("mount: untar, time relative to gocryptfs", Must::AtMost(0.7), "untar"),
        ("mount: find", Must::AtMost(1.0), "find"),
        ("mount: git status", Must::AtMost(1.0), "git status"),
        ("mount: rm -r", Must::AtMost(1.0), "remove"),
        ("mount: sequential write", Must::AtMost(1.0), "sequential write"),
        ("mount: sequential read", Must::AtMost(1.0), "sequential read"),
        ("mount: 4 KiB read at random", Must::AtMost(1.0), "random reads"),
        ("mount: 4 KiB written at random, fsync each", Must::AtMost(1.0), "random writes"),
    ];
    rows.into_iter().map(|(measure, must, case)| (measure, must, "", against(case))).collect()
}

fn of_the_archive(figures: &Figures) -> Vec<Row> {
    let times = |case, threads, peer| {
        let which = |subject| Which::new("registry", subject, case).threads(threads);
        figures.ratio(&which(peer), &which("ar7"))
    };
    let mut rows: Vec<Row> = Vec::new();
    for (case, threads, beside_redb, beside_lmdb) in [
        ("load_sorted", 1, "records in order: speed relative to redb", "... relative to LMDB"),
        ("load_random", 1, "records at random: speed relative to redb", "... relative to LMDB"),
        ("get", 1, "gets: speed relative to redb", "... relative to LMDB"),
        ("get", 2, "gets, two threads: speed relative to redb", "... relative to LMDB"),
        ("insert_durable", 1, "durable inserts: speed relative to redb", "... relative to LMDB"),
    ] {
        let least = Must::AtLeast(1.0);
        rows.push((beside_redb, least, "", times(case, threads, "redb")));
        rows.push((beside_lmdb, Must::Nothing, "1.0", times(case, threads, "lmdb")));
    }
    let cores = figures.kind("scale").map_or(1, |results| results.machine.cores);
    let opened =
        |mebibytes: u64| Which::new("scale", "bytes", "open").size(mebibytes << 20).threads(cores);
    let opening = figures.ratio(&opened(5 * 1024), &opened(10));
    rows.push(("opening 5 GiB: time relative to 10 MiB", Must::AtMost(1.5), "1.0", opening));
    let memory = figures.most_anonymous_bytes().map(|bytes| number(bytes) / 1_048_576.0);
    rows.push(("anonymous memory of any run, MiB", Must::AtMost(256.0), "96", memory));
    rows
}
