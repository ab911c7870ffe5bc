//! What lists of entries show of each, in columns.

use crate::records::{Device, FileType, Metadata};
use crate::size::Size;
use crate::usage::Usage;

impl Metadata {
    /// Returns the type and the permissions as `ls -l` shows them, for example `drwxr-xr-x`.
    pub fn mode_text(&self) -> String {
        let mode = self.attributes.mode;
        let mut text = String::from(match self.file_type {
            FileType::File => '-',
            FileType::Directory => 'd',
            FileType::Symlink => 'l',
            FileType::Fifo => 'p',
            FileType::Socket => 's',
            FileType::CharacterDevice => 'c',
            FileType::BlockDevice => 'b',
        });
        for (place, special, both, alone) in
            [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
        {
            let bits = mode >> place;
            text.push(if bits & 4 == 0 { '-' } else { 'r' });
            text.push(if bits & 2 == 0 { '-' } else { 'w' });
            text.push(match (mode & special != 0, bits & 1 != 0) {
                (false, false) => '-',
                (false, true) => 'x',
                (true, false) => alone,
                (true, true) => both,
            });
        }
        text
    }

    /// Returns mode, number of links, user, group, size, bytes in the archive and time of the last change in columns, for
    /// lists. A device has its numbers in place of a size.
    pub fn columns(&self, stored_bytes: Option<u64>) -> String {
        let Metadata { attributes, links, .. } = self;
        let size = match self.device {
            Some(Device { major, minor, .. }) => format!("{major}, {minor}"),
            None => self.len.to_string(),
        };
        let stored = stored_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        let extended = if self.has_extended_attributes { '+' } else { ' ' };
        format!(
            "{}{extended}{links:>3} {:>5} {:>5} {size:>12} {stored:>12} {} ",
            self.mode_text(),
            attributes.user,
            attributes.group,
            attributes.modified.to_local_minute(),
        )
    }
}

impl Usage {
    /// Returns the bytes of content, and those that it takes in the archive, in columns: in full, or as sizes such as
    /// `1.5 GiB`.
    pub fn columns(&self, human_readable: bool) -> String {
        let Usage { bytes, stored_bytes, .. } = *self;
        if human_readable {
            return format!("{:>12} {:>12} ", Size(bytes), Size(stored_bytes));
        }
        format!("{bytes:>14} {stored_bytes:>14} ")
    }
}

#[cfg(test)]
mod tests {
    use ar7_registry::records::{EntryType, Inode, InodeNumber};

    use super::*;
    use crate::records::Attributes;

    #[test]
    fn the_mode_of_an_entry_is_shown_as_ls_shows_it() {
        let number = InodeNumber(2);
        let text = |kind, mode| {
            let attributes = Attributes::default().with_mode(mode).of_registry();
            Metadata::new(number, &Inode::new(kind, attributes)).mode_text()
        };
        for (kind, mode, expected) in [
            (EntryType::File, 0o644, "-rw-r--r--"),
            (EntryType::Directory, 0o751, "drwxr-x--x"),
            (EntryType::Symlink, 0o777, "lrwxrwxrwx"),
            (EntryType::Fifo, 0o7000, "p--S--S--T"),
            (EntryType::Socket, 0o7111, "s--s--s--t"),
            (EntryType::CharacterDevice, 0o020, "c----w----"),
            (EntryType::BlockDevice, 0o404, "br-----r--"),
        ] {
            assert_eq!(text(kind, mode), expected);
        }
    }

    #[test]
    fn the_columns_of_an_entry_have_its_size_or_the_numbers_of_a_device() {
        let attributes =
            Attributes { user: 7, group: 80, ..Attributes::default().with_mode(0o640) };
        let time = attributes.modified.to_local_minute();
        let inode = Inode::new(EntryType::File, attributes.of_registry());
        let mut metadata = Metadata::new(InodeNumber(2), &inode);
        metadata.len = 4096;
        let expected = format!("-rw-r-----   1     7    80         4096          500 {time} ");
        assert_eq!(metadata.columns(Some(500)), expected);
        metadata.file_type = FileType::BlockDevice;
        metadata.device = Some(Device { major: 8, minor: 16 });
        metadata.has_extended_attributes = true;
        let expected = format!("brw-r-----+  1     7    80        8, 16            - {time} ");
        assert_eq!(metadata.columns(None), expected);
    }
}
