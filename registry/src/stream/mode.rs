//! The modes of a file object.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The mode of a file object: Python's `r`, `w`, `a` and `x`, each with or without `+`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mode {
    base: Base,
    /// `+`: reading and writing.
    both: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Base {
    /// `r`: the stream must exist.
    Read,
    /// `w`: creates the stream if necessary and empties it.
    Write,
    /// `a`: creates the stream if necessary; every write goes to the end.
    Append,
    /// `x`: creates the stream, which must not exist.
    New,
}

impl Mode {
    /// Mode `r`: reading only. The stream must exist.
    pub const READ: Mode = Mode { base: Base::Read, both: false };
    /// Mode `r+`: reading and writing. The stream must exist.
    pub const READ_WRITE: Mode = Mode { base: Base::Read, both: true };
    /// Mode `w`: writing only. Creates the stream if necessary and empties it.
    pub const WRITE: Mode = Mode { base: Base::Write, both: false };
    /// Mode `a`: writing only, always at the end. Creates the stream if necessary.
    pub const APPEND: Mode = Mode { base: Base::Append, both: false };
    /// Mode `x`: writing only. Creates the stream, which must not exist.
    pub const CREATE_NEW: Mode = Mode { base: Base::New, both: false };

    /// Returns the mode with `+`, which allows both reading and writing.
    #[must_use]
    pub const fn plus(self) -> Mode {
        Mode { both: true, ..self }
    }

    /// Parses a mode in Python's notation: one of `r`, `w`, `a` and `x`, optionally with `+` and
    /// `b`, in any order. There is no text mode, so `t` is an error.
    pub fn parse(mode: &str) -> Result<Mode> {
        let unknown = || Error::UnknownMode { mode: mode.to_owned() };
        let (mut base, mut both, mut binary) = (None, None, None);
        for letter in mode.chars() {
            let seen_before = match letter {
                'r' => base.replace(Base::Read).is_some(),
                'w' => base.replace(Base::Write).is_some(),
                'a' => base.replace(Base::Append).is_some(),
                'x' => base.replace(Base::New).is_some(),
                '+' => both.replace(()).is_some(),
                'b' => binary.replace(()).is_some(),
                _ => return Err(unknown()),
            };
            if seen_before {
                return Err(unknown());
            }
        }
        Ok(Mode { base: base.ok_or_else(unknown)?, both: both.is_some() })
    }

    /// Returns whether the mode allows reading.
    pub fn readable(self) -> bool {
        self.both || self.base == Base::Read
    }

    /// Returns whether the mode allows writing.
    pub fn writable(self) -> bool {
        self.both || self.base != Base::Read
    }

    /// Returns whether every write goes to the end: mode `a`.
    pub fn appends(self) -> bool {
        self.base == Base::Append
    }

    /// Returns whether opening empties the stream: mode `w`.
    pub fn truncates(self) -> bool {
        self.base == Base::Write
    }

    /// Returns whether opening creates a missing stream: every mode but `r`.
    pub fn creates(self) -> bool {
        self.base != Base::Read
    }

    /// Returns whether the stream must not exist: mode `x`.
    pub fn needs_new(self) -> bool {
        self.base == Base::New
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(mode: &str) -> Result<Mode> {
        Mode::parse(mode)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = match self.base {
            Base::Read => "r",
            Base::Write => "w",
            Base::Append => "a",
            Base::New => "x",
        };
        formatter.write_str(base)?;
        formatter.write_str(if self.both { "+" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_mode_parses_to_that_mode() {
        let base = [Mode::READ, Mode::WRITE, Mode::APPEND, Mode::CREATE_NEW];
        for mode in base.into_iter().chain(base.map(Mode::plus)) {
            assert_eq!(mode.to_string().parse::<Mode>().unwrap(), mode);
            assert_eq!(mode.readable(), mode == Mode::READ || mode.plus() == mode);
            assert_eq!(mode.writable(), mode != Mode::READ);
        }
        assert_eq!(Mode::READ_WRITE.to_string(), "r+");
        assert!(matches!("rw".parse::<Mode>(), Err(Error::UnknownMode { mode }) if mode == "rw"));
    }
}
