//! Names and events in JSON documents.

use base16ct::lower::encode_string;
use serde::{Serialize, Serializer};
use serde_json::Map;

/// A name or path, represented without loss. A UTF-8 name has only `name`. Otherwise `name` is approximate and
/// `name_bytes` holds the bytes in hexadecimal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct JsonName {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<String>,
}

impl JsonName {
    /// Creates the representation of a name.
    pub(crate) fn new(name: &[u8]) -> JsonName {
        match std::str::from_utf8(name) {
            Ok(text) => JsonName { name: text.to_owned(), name_bytes: None },
            Err(_) => JsonName {
                name: String::from_utf8_lossy(name).into_owned(),
                name_bytes: Some(encode_string(name)),
            },
        }
    }
}

/// What happened to an entry.
#[derive(Serialize)]
pub(crate) struct JsonEvent {
    pub(crate) event: &'static str,
    #[serde(flatten)]
    pub(crate) name: JsonName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// The target of a symbolic link, represented like a name.
#[derive(Debug, Clone)]
pub(crate) struct JsonTarget(pub(crate) Vec<u8>);

impl Serialize for JsonTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = Map::new();
        fields.insert("target".to_owned(), String::from_utf8_lossy(&self.0).into());
        if std::str::from_utf8(&self.0).is_err() {
            fields.insert("target_bytes".to_owned(), encode_string(&self.0).into());
        }
        fields.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::{JsonName, JsonTarget};

    #[test]
    fn a_name_that_is_not_utf_8_keeps_its_bytes() {
        let text = |name: &[u8]| serde_json::to_string(&JsonName::new(name)).expect("no I/O");
        assert_eq!(text("ä\n".as_bytes()), r#"{"name":"ä\n"}"#);
        assert_eq!(text(b"a\xff"), "{\"name\":\"a\u{fffd}\",\"name_bytes\":\"61ff\"}");
        let target = JsonTarget(b"\xff".to_vec());
        let target = serde_json::to_string(&target).expect("no I/O");
        assert_eq!(target, "{\"target\":\"\u{fffd}\",\"target_bytes\":\"ff\"}");
    }
}
