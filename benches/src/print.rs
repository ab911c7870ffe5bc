//! What the benchmark programs print: one JSON document, which `cargo xtask bench` keeps.

use serde::Serialize;

/// One thing that was done once, or a number of times together.
#[derive(Debug, Default, Serialize)]
pub struct Measure {
    /// The way of doing it.
    pub subject: String,
    /// What was done.
    pub case: String,
    /// Which turn it was.
    pub round: u32,
    /// Threads that did it.
    pub threads: u64,
    /// How often it was done.
    pub count: u64,
    /// Wall time of all.
    pub seconds: f64,
    /// Streams or bytes that were there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Most anonymous memory of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_bytes: Option<u64>,
    /// Size of what was written.
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
