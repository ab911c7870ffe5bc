//! `cargo xtask interop`: compares `ar7` with the reader in docs/reader, which was written in another language from
//! docs/FORMAT.md alone.
//!
//! Both must give the same answer:
//! - on golden archives and on new ones: the same names, streams, contents and counts, and no finding;
//! - on copies with a flipped bit in each block: both report an error, or neither reads the block;
//! - on copies with one older version of a block put back: the same;
//! - on a long archive of which the first eight blocks are destroyed: the same streams, from the third copies;
//! - on a wrong key, a truncated file, a newer version and another kind of file: the same exit code.

pub(crate) mod golden;
mod python;
mod states;
mod subject;
mod tamper;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use ar7::Timestamp;
use ar7_engine::format::{ArchiveKind, BLOCK_SIZE, RESERVED_BLOCKS};
use clap::Args;
use serde_json::{Value, json};

use self::python::Python;
use self::subject::{Ending, KEY, PASSPHRASE, Plan, Subject, digest};
use xtask::ar7::{Ar7, EXIT_DAMAGED};
use xtask::error::{Error, Result};
use xtask::quantity::{base16, seconds};
use xtask::workspace::{output, shown};

/// Options of the comparison.
#[derive(Args)]
pub(crate) struct Options {
    /// Seed for the new archives
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of new archives of each shape
    #[arg(long, default_value_t = 2)]
    rounds: u64,
    /// The built ar7 [default: build it]
    #[arg(long, value_name = "PROGRAM")]
    ar7: Option<PathBuf>,
    /// Succeed if Python or one of its packages is missing
    #[arg(long)]
    skip_without_python: bool,
}

const FRESH: Plan = Plan {
    name: "single",
    kind: ArchiveKind::Single,
    is_passphrase: false,
    ending: Ending::Closed,
    bytes_max: 40_000,
    rounds: 6,
    keeps_earlier: false,
};

/// The shapes of new archives.
const PLANS: [Plan; 6] = [
    FRESH,
    Plan { name: "fixed", kind: ArchiveKind::Fixed, is_passphrase: true, ..FRESH },
    Plan { name: "dynamic", kind: ArchiveKind::Dynamic, ..FRESH },
    Plan { name: "single-killed", ending: Ending::Killed, ..FRESH },
    Plan { name: "dynamic-killed", kind: ArchiveKind::Dynamic, ending: Ending::Killed, ..FRESH },
    Plan {
        name: "pending-deletion",
        kind: ArchiveKind::Dynamic,
        ending: Ending::KilledDuringDeletion,
        ..FRESH
    },
];

/// The shape of an archive that is long enough for third copies of header and meta slots.
const LONG: Plan = Plan { name: "long", kind: ArchiveKind::Fixed, bytes_max: 700_000, ..FRESH };

/// Runs the comparison.
pub(crate) fn run(options: &Options) -> Result<()> {
    match Python::set_up()? {
        Ok(python) => compare(&python, options),
        Err(reason) if options.skip_without_python => {
            println!("skipped: {reason}");
            Ok(())
        }
        Err(reason) => Err(Error::Fault(reason)),
    }
}

/// What was compared.
#[derive(Debug, Default)]
struct Counts {
    archives: u64,
    names: u64,
    streams: u64,
    bytes: u64,
    blocks: u64,
    flipped: u64,
    refused: u64,
    stale: u64,
    refusals: u64,
}

fn compare(python: &Python, options: &Options) -> Result<()> {
    let started = Instant::now();
    let folder =
        tempfile::tempdir().map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let folder = folder.path();
    println!("{}", python.vectors()?);
    let key = folder.join("raw.key");
    fs::write(&key, KEY).map_err(Error::io("write", &key))?;
    let ar7 = match &options.ar7 {
        Some(program) => Ar7::at(program, folder)?,
        None => Ar7::build_as_tested(folder)?,
    };
    let mut both = Both { ar7, python, key, counts: Counts::default() };
    for (path, plan, subject) in golden::subjects()? {
        both.compare(&path, &plan, &subject)?;
        // A single round changes no golden archive of this kind, because it changes new ones.
        if options.rounds > 1 || plan.kind != ArchiveKind::Dynamic {
            both.tamper(&path, &plan, folder, options.seed)?;
        }
    }
    if options.rounds > 1 {
        both.states()?;
    }
    for round in 0..options.rounds {
        for mut plan in PLANS {
            let is_tampered = round == 0
                && plan.kind == ArchiveKind::Dynamic
                && plan.ending != Ending::KilledDuringDeletion;
            plan.keeps_earlier = is_tampered;
            let path = folder.join(format!("{}-{round}.ar7", plan.name));
            let subject = subject::make(&plan, options.seed + round, &path)?;
            both.compare(&path, &plan, &subject)?;
            if is_tampered {
                let looked_at = both.tamper(&path, &plan, folder, options.seed)?;
                both.put_back(&path, &plan, folder, &looked_at)?;
            }
        }
    }
    let path = folder.join("long.ar7");
    let subject = subject::make(&LONG, options.seed, &path)?;
    both.compare(&path, &LONG, &subject)?;
    both.without_first_blocks(&path, folder)?;
    both.refusals(folder)?;
    let Counts { archives, names, streams, bytes, blocks, flipped, refused, stale, refusals } =
        both.counts;
    println!(
        "interop: {archives} archives of {blocks} blocks: {names} names, {streams} streams, {bytes} bytes equal; \
         {flipped} flipped bits, {refused} rejected by both, {} in blocks that neither reads; {stale} older \
         blocks put back, rejected by both; {refusals} other rejections equal \
         (seed {}, {})",
        flipped - refused,
        options.seed,
        seconds(started.elapsed()),
    );
    Ok(())
}

/// The two programs.
struct Both<'a> {
    ar7: Ar7,
    python: &'a Python,
    key: PathBuf,
    counts: Counts,
}

impl Both<'_> {
    /// Returns a command with the key of an archive.
    fn unlocked(&self, mut command: Command, is_passphrase: bool) -> Command {
        command.env_remove("AR7_KEY_FILE").env_remove("AR7_PASSPHRASE");
        if is_passphrase {
            command.env("AR7_PASSPHRASE", PASSPHRASE);
        } else {
            command.env("AR7_KEY_FILE", &self.key);
        }
        command
    }

    fn ar7(&self, plan: &Plan, arguments: &[&str], path: &Path) -> Result<Vec<u8>> {
        let command = self.ar7.command(arguments.iter().copied().chain([text(path)?]));
        succeed(self.unlocked(command, plan.is_passphrase))
    }

    fn reader(&self, plan: &Plan, arguments: &[&str], path: &Path) -> Result<Vec<u8>> {
        let command = self.python.reader(arguments.iter().copied().chain([text(path)?]));
        succeed(self.unlocked(command, plan.is_passphrase))
    }

    fn rows(&self, plan: &Plan, command: &str, path: &Path) -> Result<Vec<Value>> {
        rows(&self.reader(plan, &[command], path)?)
    }

    fn compare(&mut self, path: &Path, plan: &Plan, subject: &Subject) -> Result<()> {
        let names = self.rows(plan, "ls", path)?;
        let streams = self.rows(plan, "streams", path)?;
        let full = streams.iter().filter(|row| row["size"] != 0);
        let mut lines: Vec<String> = names.iter().chain(full).map(line).collect();
        lines.extend(names.iter().flat_map(further_lines));
        lines.sort();
        same(path, "the reader's list and the stored content", &lines, &subject.lines)?;

        let listed = |arguments: &[&str]| -> Result<Vec<Value>> {
            let mut document = rows(&self.ar7(plan, arguments, path)?)?;
            Ok(document[0]["entries"].take().as_array().cloned().unwrap_or_default())
        };
        let without = |rows: &[Value], fields: &[&str]| -> BTreeSet<String> {
            let mut rows = rows.to_vec();
            for row in rows.iter_mut().filter_map(Value::as_object_mut) {
                row.retain(|field, _| !fields.contains(&field.as_str()));
            }
            rows.iter().map(Value::to_string).collect()
        };
        let by_ar7 = without(
            &listed(&["ls", "-R", "--json"])?,
            &["modified", "device", "has_extended_attributes", "stored_bytes"],
        );
        let names_of_reader: Vec<Value> = names.iter().map(with_origin_of_ar7).collect();
        let of_reader = without(&names_of_reader, &["sha256", "device", "attributes"]);
        same(path, "the two lists of names", &of_reader, &by_ar7)?;
        let others: Vec<Value> = streams.iter().filter(|row| !is_reserved(row)).cloned().collect();
        let by_ar7 = without(&listed(&["ls", "--streams", "--json"])?, &[]);
        same(path, "the two lists of streams", &without(&others, &["sha256"]), &by_ar7)?;

        for row in streams.iter().filter(|row| row["size"] != 0) {
            let identity = row["stream"].as_str().unwrap_or_default();
            let content = self.ar7(plan, &["cat", "--stream", identity], path)?;
            same(path, identity, &row["sha256"], &Value::from(digest(&content)))?;
            self.counts.bytes += u64::try_from(content.len()).unwrap_or(u64::MAX);
        }
        if let Some((name, identity)) = subject.file {
            let content = self.reader(plan, &["cat", name], path)?;
            let stored =
                subject.lines.iter().find(|line| line.starts_with(&format!("stream {identity} ")));
            let found = format!("stream {identity} {} {}", content.len(), digest(&content));
            same(path, name, &Some(&found), &stored)?;
        }
        self.counts.archives += 1;
        self.counts.names += u64::try_from(names.len()).unwrap_or(u64::MAX);
        self.counts.streams += u64::try_from(streams.len()).unwrap_or(u64::MAX);
        self.verify(path, plan)
    }

    /// Compares the golden archives in states that a crash leaves.
    fn states(&mut self) -> Result<()> {
        for (path, plan, subject) in golden::states()? {
            self.compare(&path, &plan, &subject)?;
        }
        for path in golden::unsupported() {
            let reader = self.python.reader(["verify", text(&path)?]);
            let code = output(&mut self.unlocked(reader, false))?.status.code();
            same(&path, "whether the reader rejects it", &(code == Some(0)), &false)?;
            self.counts.refusals += 1;
        }
        Ok(())
    }

    /// Destroys the first eight blocks of a copy. Both programs must still read every stream, and report the damage.
    fn without_first_blocks(&self, path: &Path, folder: &Path) -> Result<()> {
        let mut bytes = fs::read(path).map_err(Error::io("read", path))?;
        bytes[..usize::try_from(RESERVED_BLOCKS).expect("a small number") * BLOCK_SIZE].fill(0x55);
        let copy = folder.join("without-first-blocks.ar7");
        fs::write(&copy, bytes).map_err(Error::io("write", &copy))?;
        let streams = self.rows(&LONG, "streams", path)?;
        same(path, "its streams", &self.rows(&LONG, "streams", &copy)?, &streams)?;
        for row in streams.iter().filter(|row| row["size"] != 0) {
            let identity = row["stream"].as_str().unwrap_or_default();
            let content = self.ar7(&LONG, &["cat", "--stream", identity], &copy)?;
            same(path, identity, &row["sha256"], &Value::from(digest(&content)))?;
        }
        let path = text(&copy)?;
        let verify = |command| output(&mut self.unlocked(command, false));
        let by_reader = verify(self.python.reader(["verify", path]))?.status.code();
        let by_ar7 = verify(self.ar7.command(["verify", path]))?.status.code();
        same(&copy, "verification", &[by_reader, by_ar7], &[Some(EXIT_DAMAGED); 2])
    }

    fn verify(&mut self, path: &Path, plan: &Plan) -> Result<()> {
        let by_reader = self.rows(plan, "verify", path)?;
        let by_ar7 = rows(&self.ar7(plan, &["verify", "--json"], path)?)?;
        for count in ["blocks", "data_blocks", "pages", "free_blocks", "names"] {
            same(path, count, &by_reader[0][count], &by_ar7[0]["counts"][count])?;
        }
        same(path, "findings", &by_reader[0]["findings"], &by_ar7[0]["findings"])?;
        self.counts.blocks += by_reader[0]["blocks"].as_u64().unwrap_or_default();
        let info = self.rows(plan, "info", path)?;
        let places = info[0]["redo_places"].as_array().map_or(0, Vec::len);
        let deletions = info[0]["deletions"].as_u64().unwrap_or_default();
        let expected = (plan.ending == Ending::Killed, plan.ending == Ending::KilledDuringDeletion);
        same(path, "a redo list, and a pending deletion", &(places > 0, deletions > 0), &expected)
    }
}

/// Returns the bytes of a field of the reader in hexadecimal.
fn field_base16(row: &Value, name: &str) -> String {
    match row[format!("{name}_bytes")].as_str() {
        Some(base16) => base16.to_owned(),
        None => base16(row[name].as_str().unwrap_or_default().as_bytes()),
    }
}

/// Returns a row of the reader with its origin in the form of `ar7`, which leaves it out if there is none.
fn with_origin_of_ar7(row: &Value) -> Value {
    let mut row = row.clone();
    let origin = row["origin"].take();
    let numbers = (origin[0].as_i64(), origin[1].as_u64().map(u32::try_from));
    let fields = row.as_object_mut().expect("the reader prints objects");
    fields.remove("origin");
    if let (Some(seconds), Some(Ok(nanoseconds))) = numbers {
        let changed = Timestamp::new(seconds, nanoseconds).to_string();
        fields.insert("origin".into(), json!({ "changed": changed, "inode": origin[2] }));
    }
    row
}

/// Formats a row of the reader as a line of a manifest.
fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let bytes = |name: &str| field_base16(row, name);
    match row["type"].as_str() {
        None => format!("stream {} {} {}", text("stream"), row["size"], text("sha256")),
        Some(kind @ ("fifo" | "socket")) => format!("{kind} {} {}", bytes("name"), row["links"]),
        Some(kind @ ("character_device" | "block_device")) => {
            let (kind, device) = (kind.trim_end_matches("_device"), &row["device"]);
            format!("{kind} {} {} {} {}", bytes("name"), row["links"], device[0], device[1])
        }
        Some("directory") => format!("directory {}", bytes("name")),
        Some("symlink") => format!("symlink {} {}", bytes("name"), bytes("target")),
        Some(_) => {
            format!("file {} {} {} {}", bytes("name"), row["links"], row["size"], text("sha256"))
        }
    }
}

/// Returns the lines of a manifest for the origin and the extended attributes in a row of the reader.
fn further_lines(row: &Value) -> Vec<String> {
    let name = field_base16(row, "name");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let origin = row["origin"].as_array();
    let origin = origin.map(|of| format!("origin {name} {} {} {}", of[0], of[1], of[2]));
    let attributes = row["attributes"].as_array().into_iter().flatten().map(|attribute| {
        let (attribute, length, digest) = (&attribute[0], &attribute[1], &attribute[2]);
        format!("attribute {name} {} {length} {}", text(attribute), text(digest))
    });
    origin.into_iter().chain(attributes).collect()
}

fn is_reserved(row: &Value) -> bool {
    let identity = row["stream"].as_str().unwrap_or_default();
    identity.starts_with("00000000-0000-0000-0000-00000000000")
}

/// Parses the JSON documents of a text, one after another.
fn rows(text: &[u8]) -> Result<Vec<Value>> {
    let rows = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    rows.collect::<std::result::Result<_, _>>().map_err(|_| Error::Output {
        what: "not JSON",
        found: String::from_utf8_lossy(text).into_owned(),
    })
}

fn succeed(mut command: Command) -> Result<Vec<u8>> {
    let ended = output(&mut command)?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    let errors = [&ended.stdout[..], &ended.stderr].concat();
    Err(Error::Status {
        command: shown(&command),
        status: ended.status.to_string(),
        expected: 0,
        errors: String::from_utf8_lossy(&errors).into_owned(),
    })
}

fn same<T: PartialEq + std::fmt::Debug>(
    path: &Path,
    what: &str,
    found: &T,
    expected: &T,
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Fault(format!("{}: {what}: {found:?}, expected {expected:?}", path.display())))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::Fault(format!("{} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask::workspace::root;

    /// The reader is worth comparing with only if it can be read in one sitting.
    #[test]
    fn the_reader_has_at_most_840_lines() {
        let mut lines = 0;
        for entry in fs::read_dir(root().join("docs/reader")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "py") {
                lines += fs::read_to_string(path).unwrap().lines().count();
            }
        }
        assert!((1..=840).contains(&lines), "{lines} lines");
    }

    #[test]
    fn rows_become_lines_of_a_manifest() {
        let row = |text: &str| line(&serde_json::from_str(text).unwrap());
        assert_eq!(row(r#"{"stream":"a","size":2,"sha256":"ff"}"#), "stream a 2 ff");
        assert_eq!(row(r#"{"type":"directory","name":"a"}"#), "directory 61");
        assert_eq!(
            row(r#"{"type":"symlink","name":"?","name_bytes":"ff","target":"b"}"#),
            "symlink ff 62"
        );
        assert_eq!(
            row(r#"{"type":"file","name":"a","links":1,"size":0,"sha256":"e3"}"#),
            "file 61 1 0 e3"
        );
        assert_eq!(row(r#"{"type":"fifo","name":"a","links":2}"#), "fifo 61 2");
        assert_eq!(
            row(r#"{"type":"block_device","name":"a","links":2,"device":[8,1]}"#),
            "block 61 2 8 1"
        );
    }

    #[test]
    fn an_origin_is_compared_in_the_form_of_ar7() {
        let row = |text: &str| with_origin_of_ar7(&serde_json::from_str(text).expect("JSON"));
        assert_eq!(row(r#"{"name":"a","origin":null}"#), json!({ "name": "a" }));
        let origin = json!({ "changed": "1969-12-31T23:59:59.000000002Z", "inode": 3 });
        let expected = json!({ "name": "a", "origin": origin });
        assert_eq!(row(r#"{"name":"a","origin":[-1,2,3]}"#), expected);
    }

    #[test]
    fn an_origin_and_each_attribute_become_lines_of_a_manifest() {
        let row = |text: &str| further_lines(&serde_json::from_str(text).unwrap());
        assert_eq!(row(r#"{"name":"a","origin":null,"attributes":[]}"#), [""; 0]);
        assert_eq!(
            row(r#"{"name":"a","origin":[-1,2,3],"attributes":[["6e",0,"e3"],["6f",1,"ff"]]}"#),
            ["origin 61 -1 2 3", "attribute 61 6e 0 e3", "attribute 61 6f 1 ff"]
        );
    }
}
