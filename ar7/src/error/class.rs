//! Classes of errors.

use std::io;

use super::Error;

/// What kind of failure an error is: what a program can tell its user to do about it, or an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// An argument is wrong.
    Argument,
    /// The key or passphrase is wrong.
    WrongKey,
    /// The archive is damaged or was tampered with.
    Damaged,
    /// Another process has locked the archive.
    Locked,
    /// The archive needs a newer version of this library.
    NewerFormat,
    /// No space is left on the device.
    NoSpace,
    /// Readers of older commits hold back too many blocks.
    HeldByReaders,
    /// Everything was done except that some inputs could not be read. No error has this class; a run that goes on after
    /// failures can end with it.
    Unread,
    /// Any other failure.
    Other,
}

impl Error {
    /// Returns the class. An error of an entry or a file has the class of its cause.
    pub fn class(&self) -> ErrorClass {
        match self {
            Error::InvalidName { .. }
            | Error::InvalidPattern { .. }
            | Error::NoKeySlot { .. }
            | Error::NotAReceipt { .. }
            | Error::NotASize { .. }
            | Error::SizeTooLarge { .. }
            | Error::NotATime { .. }
            | Error::OnlyKey { .. }
            | Error::OtherKeys { .. }
            | Error::OutOfBounds { .. }
            | Error::PassphraseEmpty
            | Error::PassphrasesDiffer
            | Error::NoTerminal
            | Error::RootDirectory
            | Error::SameName { .. }
            | Error::UnknownMode { .. } => ErrorClass::Argument,
            Error::NoBlockOpens { .. } | Error::NotAKeyFile { .. } | Error::WrongKey { .. } => {
                ErrorClass::WrongKey
            }
            Error::Damaged(_)
            | Error::MissingInode { .. }
            | Error::NotAnArchive { .. }
            | Error::NotInHistory { .. }
            | Error::Tampered(_)
            | Error::Truncated { .. } => ErrorClass::Damaged,
            Error::Busy { .. } | Error::Locked { .. } => ErrorClass::Locked,
            Error::NewerFormat { .. } => ErrorClass::NewerFormat,
            Error::NoSpace { .. } => ErrorClass::NoSpace,
            Error::HeldByReaders { .. } => ErrorClass::HeldByReaders,
            Error::Io { source, .. } | Error::Input { source, .. } => ErrorClass::of_io(source),
            Error::AttributesLost { cause }
            | Error::InAttribute { cause, .. }
            | Error::InEntry { cause, .. }
            | Error::InFile { cause, .. }
            | Error::KeyChangeUnfinished { cause }
            | Error::Unusable { cause } => cause.class(),
            _ => ErrorClass::Other,
        }
    }
}

impl ErrorClass {
    /// Returns the exit code of a command that fails in this way, as the program `ar7` uses it. 0 is success.
    ///
    /// ```
    /// assert_eq!(ar7::Error::RootDirectory.class().exit_code(), 2);
    /// ```
    pub const fn exit_code(self) -> u8 {
        match self {
            ErrorClass::Other => 1,
            ErrorClass::Argument => 2,
            ErrorClass::WrongKey => 3,
            ErrorClass::Damaged => 4,
            ErrorClass::Locked => 5,
            ErrorClass::NewerFormat => 6,
            ErrorClass::NoSpace => 7,
            ErrorClass::Unread => 8,
            ErrorClass::HeldByReaders => 9,
        }
    }

    /// Returns the class of a run that goes on after failures, after one more of them: damage outweighs everything else,
    /// and otherwise the first one counts.
    #[must_use]
    pub(crate) fn worst(first: Option<ErrorClass>, next: &Error) -> ErrorClass {
        let next = next.class();
        first.filter(|_| next != ErrorClass::Damaged).unwrap_or(next)
    }

    /// Returns the class of an error of the operating system.
    pub fn of_io(error: &io::Error) -> ErrorClass {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorClass::NoSpace,
            _ => ErrorClass::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn damage_is_the_worst_failure_of_a_run_and_otherwise_the_first_counts() {
        let (damage, name) = (Error::MissingInode { inode: 2 }, Error::RootDirectory);
        assert_eq!(ErrorClass::worst(None, &name), ErrorClass::Argument);
        let other = Some(ErrorClass::Other);
        assert_eq!(ErrorClass::worst(other, &name), ErrorClass::Other);
        assert_eq!(ErrorClass::worst(other, &damage), ErrorClass::Damaged);
        let damaged = Some(ErrorClass::Damaged);
        assert_eq!(ErrorClass::worst(damaged, &name), ErrorClass::Damaged);
    }

    #[test]
    fn an_error_has_the_class_of_its_cause() {
        let full = Error::from(io::Error::from(io::ErrorKind::StorageFull));
        let cases = [
            (Error::RootDirectory, ErrorClass::Argument),
            (Error::WrongKey { slots: 1 }, ErrorClass::WrongKey),
            (Error::MissingInode { inode: 2 }, ErrorClass::Damaged),
            (Error::Locked { path: None, holder: None }, ErrorClass::Locked),
            (full, ErrorClass::NoSpace),
            (Error::Stopped, ErrorClass::Other),
        ];
        for (error, class) in cases {
            assert_eq!(error.class(), class, "{error}");
            let (path, cause) = ("a".into(), Arc::new(error.clone()));
            assert_eq!(Error::InEntry { path, cause: Arc::clone(&cause) }.class(), class);
            assert_eq!(Error::Unusable { cause }.class(), class, "{error}");
        }
    }
}
