//! `cargo xtask bench pair`: runs the same work with two builds of the project, alternating, and computes the ratio of
//! each figure within a round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use xtask::ar7::Ar7;
use xtask::error::{Error, Result};
use xtask::trees::{self, large_tree};

use super::own::add_printed;
use super::peers::{measure_task, no_tree, write_random};
use super::programs::Place;
use super::results::{Measure, Results, work_folder};

/// The two builds.
const SUBJECTS: [&str; 2] = ["before", "after"];

/// The arguments of the project's own benchmark programs, for one round.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("blocks", &["--rounds", "1"]),
    ("stores", &["--rounds", "1", "--stores", "ar7"]),
    ("scale", &["streams", "1000000", "--threads", "2"]),
    ("scale", &["mebibytes", "1024", "--threads", "2"]),
];

/// Options of the run.
#[derive(Args)]
pub(crate) struct Options {
    /// Directory with the release programs from before the change
    #[arg(long)]
    before: PathBuf,
    /// Directory with the release programs from after the change
    #[arg(long)]
    after: PathBuf,
    /// The tree [default: a large tree of the toolchain]
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Size of the large random file in bytes
    #[arg(long, default_value_t = 1 << 30)]
    file_bytes: u64,
    /// Only the tree: store it, store it again, extract and verify it
    #[arg(long)]
    tree_only: bool,
    /// Number of rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Directory to work in, on the file system to measure
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// Measures, prints the ratios and stores the raw results.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = work_folder(options.directory.as_ref())?;
    let results = measure(options, folder.path())?;
    for ((subject, case), ratio) in ratios(&results.measures) {
        println!("{subject} {case}: after / before {ratio:.3}");
    }
    results.save(folder.path())
}

fn measure(options: &Options, work: &Path) -> Result<Results> {
    let folders = [&options.before, &options.after];
    let folders = folders.map(|folder| folder.canonicalize().map_err(Error::io("find", folder)));
    let [before, after] = folders;
    let folders = [before?, after?];
    let tree = match &options.tree {
        Some(tree) => tree.canonicalize().map_err(Error::io("find", tree))?,
        None => large_tree().ok_or_else(no_tree)?,
    };
    // Either build can create the key; both use it.
    Ar7::at(&folders[0].join("ar7"), work)?;
    let file = work.join("file");
    write_random(&file, options.file_bytes)?;
    let (entries, bytes) = trees::measure(&tree)?;
    let mut results = Results { kind: "pair".to_owned(), ..Results::default() };
    for (name, value) in
        [("tree entries", entries), ("tree bytes", bytes), ("file bytes", options.file_bytes)]
    {
        results.inputs.insert(name.to_owned(), value);
    }
    for round in 0..options.rounds {
        // The build that runs first alternates between rounds.
        for turn in 0..SUBJECTS.len() {
            let number = (turn + usize::try_from(round).unwrap_or_default()) % SUBJECTS.len();
            let (subject, folder) = (SUBJECTS[number], &folders[number]);
            let place = Place {
                work: work.to_owned(),
                tree: tree.clone(),
                file: file.clone(),
                ar7: folder.join("ar7"),
                recipient: String::new(),
            };
            let out = work.join(format!("out-{subject}-{round}"));
            let tasks = place.ar7(subject, &out).into_iter();
            for task in tasks.filter(|task| !options.tree_only || task.case.is_of_tree()) {
                let measured = measure_task(&place, &place.environment(), &task, round)?;
                results.measures.push(measured);
            }
            if !options.tree_only {
                own_programs(&mut results, (subject, folder), round, work)?;
            }
        }
    }
    Ok(results)
}

/// Runs the project's own benchmark programs of one build.
fn own_programs(
    results: &mut Results,
    (subject, folder): (&str, &Path),
    round: u32,
    work: &Path,
) -> Result<()> {
    for (name, arguments) in PROGRAMS {
        let path = folder.join(name);
        if !path.exists() {
            results.skipped.insert(name.to_owned(), "not built".to_owned());
            continue;
        }
        let mut command = Command::new(path);
        command.args(arguments);
        if name != "blocks" {
            command.arg("--directory").arg(work);
        }
        let first = results.measures.len();
        add_printed(results, command)?;
        for measure in &mut results.measures[first..] {
            measure.round = round;
            measure.case = format!(
                "{name}: {}, {}, {} threads",
                measure.subject, measure.case, measure.threads
            );
            subject.clone_into(&mut measure.subject);
        }
    }
    Ok(())
}

/// Returns, for each kind of work, the median over the rounds of the time after the change divided by the time before
/// it.
fn ratios(measures: &[Measure]) -> BTreeMap<(String, String), f64> {
    let mut found: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    let [before, after] = SUBJECTS;
    for measure in measures.iter().filter(|measure| measure.subject == after) {
        let other = measures.iter().find(|other| {
            other.subject == before && (&other.case, other.round) == (&measure.case, measure.round)
        });
        let Some(other) = other else { continue };
        let mut add = |what: &str, after: f64, before: f64| {
            if before > 0.0 {
                let key = (measure.case.clone(), what.to_owned());
                found.entry(key).or_default().push(after / before);
            }
        };
        add("time", measure.seconds, other.seconds);
        if let (Some(after), Some(before)) = (measure.cpu_seconds, other.cpu_seconds) {
            add("processor time", after, before);
        }
    }
    found.into_iter().map(|(key, ratios)| (key, median(ratios))).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_computed_within_a_round() {
        let measure = |subject: &str, round, seconds| Measure {
            subject: subject.to_owned(),
            case: "tree in".to_owned(),
            round,
            seconds,
            ..Measure::default()
        };
        let measures = [
            measure("before", 0, 2.0),
            measure("after", 0, 1.0),
            measure("after", 1, 30.0),
            measure("before", 1, 20.0),
            measure("before", 2, 5.0),
            measure("after", 2, 4.0),
            measure("after", 3, 4.0),
        ];
        let expected = [(("tree in".to_owned(), "time".to_owned()), 0.8)];
        assert_eq!(ratios(&measures), BTreeMap::from(expected));
    }
}
