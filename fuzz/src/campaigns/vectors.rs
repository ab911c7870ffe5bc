//! `cargo xtask vectors`: worked examples of every structure of docs/FORMAT.md, the same on every run.
//!
//! Blocks and key slots are sealed directly with the ciphers, not by the engine. A test that opens them with the engine
//! therefore compares two implementations.

mod frames;
mod make;
mod seal;

use std::fs;

use ar7_engine::format::Field;
use serde_json::{Value, json};

use xtask::error::{Error, Result};
use xtask::quantity::base16;
use xtask::workspace;

const FILE: &str = "docs/vectors/vectors.json";

/// Longer fields are omitted from the list of fields; they are in the structure.
const SHOWN_MAX: usize = 64;

/// Writes the vectors. With `check`, writes nothing and fails if the file is out of date.
pub(crate) fn run(check: bool) -> Result<()> {
    let path = workspace::root().join(FILE);
    let text = text();
    if check {
        let found = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        if found != text {
            let what = "out of date: run `cargo xtask vectors`";
            return Err(Error::Output { what, found: FILE.to_owned() });
        }
        return Ok(());
    }
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    println!("{FILE} is written");
    Ok(())
}

fn text() -> String {
    let vectors = make::vectors().into_iter().chain(frames::vectors());
    let vectors: Vec<Value> = vectors.map(|vector| vector.json()).collect();
    format!("{:#}\n", Value::from(vectors))
}

/// A worked example.
struct Vector {
    name: &'static str,
    /// The inputs and outputs, by name.
    values: Vec<(&'static str, Value)>,
    fields: Vec<Value>,
}

impl Vector {
    fn new(name: &'static str) -> Vector {
        Vector { name, values: Vec::new(), fields: Vec::new() }
    }

    /// Adds bytes, in hexadecimal.
    fn bytes(self, name: &'static str, bytes: &[u8]) -> Vector {
        self.value(name, base16(bytes))
    }

    fn value(mut self, name: &'static str, value: impl Into<Value>) -> Vector {
        self.values.push((name, value.into()));
        self
    }

    /// Lists the fields of a structure that starts at `start` of the value named `of`.
    fn fields(mut self, of: &str, bytes: &[u8], start: usize, fields: &[Field]) -> Vector {
        for field in fields.iter().filter(|field| field.length <= SHOWN_MAX) {
            self.fields.push(json!({
                "of": of,
                "offset": start + field.offset,
                "name": field.name.to_lowercase(),
                "bytes": base16(field.of(&bytes[start..])),
                "meaning": field.meaning,
            }));
        }
        self
    }

    fn json(&self) -> Value {
        let mut object = serde_json::Map::new();
        object.insert("name".to_owned(), self.name.into());
        for (name, value) in &self.values {
            object.insert((*name).to_owned(), value.clone());
        }
        if !self.fields.is_empty() {
            object.insert("fields".to_owned(), self.fields.clone().into());
        }
        object.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_in_the_tree_are_up_to_date() {
        run(true).unwrap();
        assert_eq!(text(), text());
    }

    #[test]
    fn fields_are_taken_from_their_structure() {
        let field = Field { name: "NEXT", offset: 1, length: 2, meaning: "a link" };
        let vector = Vector::new("a").bytes("b", &[0, 1, 2, 0xff]).fields(
            "b",
            &[0, 1, 2, 0xff],
            1,
            &[field],
        );
        let json = vector.json();
        assert_eq!(json["b"], "000102ff");
        assert_eq!(json["fields"][0]["bytes"], "02ff");
        assert_eq!(json["fields"][0]["offset"], 2);
    }
}
