//! The output of the benchmark programs: one JSON document, which `cargo xtask bench` stores.

use serde::Serialize;

/// One measurement of one or several repetitions.
#[derive(Debug, Default, Serialize)]
pub struct Measure {
    /// The method.
    pub subject: String,
    /// The work.
    pub case: String,
    /// The number of the round.
    pub round: u32,
    /// The number of threads.
    pub threads: u64,
    /// The number of repetitions.
    pub count: u64,
    /// The total wall time in seconds.
    pub seconds: f64,
    /// The number of streams or bytes in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The maximum anonymous memory of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_bytes: Option<u64>,
    /// The size of the written data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Document<'a> {
    measures: &'a [Measure],
}

/// Prints the document.
///
/// # Panics
/// If standard output is closed.
pub fn document(measures: &[Measure]) {
    serde_json::to_writer_pretty(std::io::stdout(), &Document { measures }).expect("written");
    println!();
}
