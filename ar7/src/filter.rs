//! Conditions on entries.

use crate::glob::NamePattern;
use crate::records::{Entry, FileType, Timestamp};

/// Conditions on entries. An entry matches if it meets all of them; without any, every entry matches.
///
/// ```
/// # fn main() -> ar7::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
/// use ar7::{FileType, Filter, NamePattern};
///
/// # let transaction = archive.begin()?;
/// # transaction.create_directory("photos")?;
/// # transaction.write("photos/a.jpg", &[0; 5000][..])?;
/// # transaction.write("photos/b.jpg", &[0; 50][..])?;
/// # transaction.commit()?;
/// let large = Filter::new().name(NamePattern::new("*.jpg")?).file_type(FileType::File).larger(4096);
/// for entry in archive.snapshot()?.walk("photos")? {
///     let entry = entry?;
///     if large.matches(&entry) {
///         println!("{}", entry.path.display());
///         # assert_eq!(entry.path, std::path::Path::new("photos/a.jpg"));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Filter {
    names: Vec<NamePattern>,
    file_types: Vec<FileType>,
    larger: Option<u64>,
    smaller: Option<u64>,
    newer: Option<Timestamp>,
    older: Option<Timestamp>,
}

impl Filter {
    /// Creates a filter without conditions.
    pub fn new() -> Filter {
        Filter::default()
    }

    /// The name, which is the last component of the path, must match this pattern, or another one that was added.
    pub fn name(mut self, pattern: NamePattern) -> Filter {
        self.names.push(pattern);
        self
    }

    /// The type must be this one, or another one that was added.
    pub fn file_type(mut self, file_type: FileType) -> Filter {
        self.file_types.push(file_type);
        self
    }

    /// The entry must be a file with more bytes.
    pub fn larger(mut self, bytes: impl Into<Option<u64>>) -> Filter {
        self.larger = bytes.into();
        self
    }

    /// The entry must be a file with fewer bytes.
    pub fn smaller(mut self, bytes: impl Into<Option<u64>>) -> Filter {
        self.smaller = bytes.into();
        self
    }

    /// The modification time must be later.
    pub fn newer(mut self, time: impl Into<Option<Timestamp>>) -> Filter {
        self.newer = time.into();
        self
    }

    /// The modification time must be earlier.
    pub fn older(mut self, time: impl Into<Option<Timestamp>>) -> Filter {
        self.older = time.into();
        self
    }

    /// Returns whether an entry meets all conditions.
    pub fn matches(&self, entry: &Entry) -> bool {
        let metadata = &entry.metadata;
        let modified = metadata.attributes.modified;
        let is_of = |size: Option<u64>, compare: fn(&u64, &u64) -> bool| {
            size.is_none_or(|size| metadata.is_file() && compare(&metadata.len, &size))
        };
        (self.names.is_empty() || self.names.iter().any(|name| name.is_match(entry.name())))
            && (self.file_types.is_empty() || self.file_types.contains(&metadata.file_type))
            && is_of(self.larger, u64::gt)
            && is_of(self.smaller, u64::lt)
            && self.newer.is_none_or(|time| modified > time)
            && self.older.is_none_or(|time| modified < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Attributes;

    #[test]
    fn an_entry_must_meet_every_condition_and_one_of_several_names_or_types() {
        let folder = tempfile::tempdir().unwrap();
        let key = crate::Key::from([1; 32]);
        let archive = crate::Archive::create(folder.path().join("a.ar7"), &key).unwrap();
        let transaction = archive.begin().unwrap();
        transaction.create_directory("ten").unwrap();
        transaction.write("ten.txt", &[0; 10][..]).unwrap();
        let ten = Attributes::default().with_modified(Timestamp::new(10, 0));
        for path in ["ten", "ten.txt"] {
            transaction.set_attributes(path, ten).unwrap();
        }
        transaction.commit().unwrap();
        let snapshot = archive.snapshot().unwrap();
        let matches = |filter: &Filter| {
            ["ten", "ten.txt"].map(|path| filter.matches(&snapshot.entry(path).unwrap()))
        };
        let (time, name) =
            (|seconds| Timestamp::new(seconds, 0), |name| NamePattern::new(name).unwrap());
        let any = Filter::new;
        for (filter, expected) in [
            (any(), [true, true]),
            (any().larger(10), [false, false]),
            (any().larger(9), [false, true]),
            (any().smaller(10), [false, false]),
            (any().smaller(11), [false, true]),
            (any().newer(time(10)), [false, false]),
            (any().newer(time(9)), [true, true]),
            (any().older(time(10)), [false, false]),
            (any().older(time(11)), [true, true]),
            (any().name(name("ten")), [true, false]),
            (any().name(name("ten")).name(name("*.txt")), [true, true]),
            (any().file_type(FileType::Directory), [true, false]),
            (any().file_type(FileType::Directory).file_type(FileType::File), [true, true]),
            (any().name(name("*")).file_type(FileType::Fifo), [false, false]),
        ] {
            assert_eq!(matches(&filter), expected, "{filter:?}");
        }
    }
}
