//! The charts: bars of time, and lines of cost against size.

use svg::Document;
use svg::node::element::{Circle, Line, Polyline, Rectangle, Text};

use super::figures::{Figures, Which};

const WIDTH: f64 = 720.0;
const LINE_HEIGHT: f64 = 24.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 40.0;
const OURS: &str = "#1f6f5c";
const OTHERS: &str = "#9aa5b1";
const INK: &str = "#24292f";
const COLOURS: [&str; 4] = [OURS, "#b5651d", "#5b5ea6", "#9aa5b1"];

/// Returns every chart with the name of its file.
pub(super) fn all(figures: &Figures) -> Vec<(String, String)> {
    let mut drawings = Vec::new();
    for (case, title, name) in [
        ("tree in", "Storing a tree, until it is durable", "tree-in.svg"),
        ("tree out", "Extracting the tree", "tree-out.svg"),
        ("tree verify", "Verifying the archive", "tree-verify.svg"),
        ("file in", "Storing one large file", "file-in.svg"),
    ] {
        let bars = bars_of(figures, case);
        if !bars.is_empty() {
            drawings.push((name.to_owned(), bars_drawn(title, &bars)));
        }
    }
    if let Some(drawing) = growth(figures) {
        drawings.push(("growth.svg".to_owned(), drawing));
    }
    drawings
}

/// Returns the programs and their seconds, the fastest first.
fn bars_of(figures: &Figures, case: &str) -> Vec<(String, f64)> {
    let Some(results) = figures.kind("peers") else { return Vec::new() };
    let mut bars: Vec<(String, f64)> = Vec::new();
    for measure in &results.measures {
        let seconds = figures.seconds(&Which::new("peers", &measure.subject, case));
        if let Some(seconds) = seconds
            && bars.iter().all(|(subject, _)| *subject != measure.subject)
        {
            bars.push((measure.subject.clone(), seconds));
        }
    }
    bars.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    bars
}

fn text(x: f64, y: f64, anchor: &str, content: &str) -> Text {
    Text::new(content)
        .set("x", rounded(x))
        .set("y", rounded(y))
        .set("text-anchor", anchor)
        .set("font-family", "sans-serif")
        .set("font-size", 13)
        .set("fill", INK)
}

/// Rounds to a tenth of a unit, which is precise enough and makes the file the same on every machine.
fn rounded(value: f64) -> String {
    format!("{value:.1}")
}

fn blank(height: f64, title: &str) -> Document {
    let background =
        Rectangle::new().set("width", WIDTH).set("height", height).set("fill", "#ffffff");
    Document::new()
        .set("viewBox", (0, 0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .add(background)
        .add(text(12.0, 24.0, "start", title).set("font-weight", "bold"))
}

fn bars_drawn(title: &str, bars: &[(String, f64)]) -> String {
    let longest = bars.iter().map(|&(_, seconds)| seconds).fold(0.0, f64::max).max(1e-9);
    let lines = u32::try_from(bars.len()).unwrap_or(u32::MAX);
    let mut document = blank(LINE_HEIGHT.mul_add(f64::from(lines), TOP + 12.0), title);
    let mut top = TOP;
    for (subject, seconds) in bars {
        let length = (WIDTH - LEFT - RIGHT) * seconds / longest;
        let colour = if subject == "ar7" { OURS } else { OTHERS };
        let bar = Rectangle::new()
            .set("x", rounded(LEFT))
            .set("y", rounded(top))
            .set("width", rounded(length.max(1.0)))
            .set("height", rounded(LINE_HEIGHT - 6.0))
            .set("fill", colour);
        let middle = top + LINE_HEIGHT / 2.0 + 2.0;
        document = document.add(bar).add(text(LEFT - 8.0, middle, "end", subject)).add(text(
            LEFT + length + 6.0,
            middle,
            "start",
            &format!("{seconds:.2} s"),
        ));
        top += LINE_HEIGHT;
    }
    format!("{document}\n")
}

/// Plots the cost per stream against the number of streams, relative to the smallest archive.
fn growth(figures: &Figures) -> Option<String> {
    let results = figures.kind("scale")?;
    let threads = results.machine.cores;
    let mut counts: Vec<u64> = results
        .measures
        .iter()
        .filter(|measure| measure.subject == "streams")
        .filter_map(|measure| measure.size)
        .collect();
    counts.sort_unstable();
    counts.dedup();
    if counts.len() < 2 {
        return None;
    }
    let height = 360.0;
    let mut document =
        blank(height, "Cost against number of streams, relative to the smallest archive");
    let steps = f64::from(u32::try_from(counts.len() - 1).unwrap_or(1));
    let x = |place: usize| {
        let place = f64::from(u32::try_from(place).unwrap_or_default());
        60.0 + (WIDTH - 60.0 - 170.0) * place / steps
    };
    // The axis goes from zero to three times the smallest archive's cost.
    let y = |ratio: f64| (height - 40.0) - (height - 100.0) * ratio.min(3.0) / 3.0;
    for level in [0.0, 1.0, 2.0, 3.0] {
        let line = Line::new()
            .set("x1", rounded(60.0))
            .set("x2", rounded(WIDTH - 170.0))
            .set("y1", rounded(y(level)))
            .set("y2", rounded(y(level)))
            .set("stroke", "#d0d7de");
        document =
            document.add(line).add(text(52.0, y(level) + 4.0, "end", &format!("{level:.0}x")));
    }
    for (place, count) in counts.iter().enumerate() {
        document = document.add(text(x(place), height - 18.0, "middle", &count.to_string()));
    }
    for (case, colour) in ["write", "open", "read", "commit"].into_iter().zip(COLOURS) {
        let each = |count: u64| {
            let which = Which::new("scale", "streams", case).size(count).threads(threads);
            figures.seconds(&which)
        };
        let first = each(counts[0])?;
        let mut points = Vec::new();
        for (place, &count) in counts.iter().enumerate() {
            let ratio = each(count)? / first;
            points.push(format!("{},{}", rounded(x(place)), rounded(y(ratio))));
            let point = Circle::new()
                .set("cx", rounded(x(place)))
                .set("cy", rounded(y(ratio)))
                .set("r", 4)
                .set("fill", colour);
            document = document.add(point);
        }
        let last = each(counts[counts.len() - 1])? / first;
        let line = Polyline::new()
            .set("points", points.join(" "))
            .set("fill", "none")
            .set("stroke", colour)
            .set("stroke-width", 2);
        let label = format!("{case} {last:.2}x");
        document = document
            .add(line)
            .add(text(WIDTH - 162.0, y(last) + 4.0, "start", &label).set("fill", colour));
    }
    Some(format!("{document}\n"))
}
