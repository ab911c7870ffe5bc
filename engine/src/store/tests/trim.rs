//! A failure to trim the file: commits stay committed, and the result reports the failure.

use std::io;

use rustix::io::Errno;

use super::*;
use crate::error::Error;

/// A device that cannot shrink.
#[derive(Clone)]
struct Untrimmable {
    device: MemoryDevice,
    errno: Errno,
}

impl Device for Untrimmable {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.device.read(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        self.device.write(start, bytes)
    }

    fn sync(&self) -> Result<()> {
        self.device.sync()
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        self.device.grow(blocks)
    }

    fn shrink(&self, _blocks: u32) -> Result<()> {
        Err(Error::io("shrink", io::Error::from(self.errno)))
    }

    fn length_bytes(&self) -> Result<u64> {
        self.device.length_bytes()
    }
}

#[test]
fn a_failed_trim_does_not_fail_the_commit() {
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::IO] {
        let (device, _, mut made) = create();
        let block = add_block(&mut made, KeyKind::Data, 1).unwrap();
        commit(&mut made, 1).unwrap();
        drop(made);
        let device = Untrimmable { device, errno };
        let (store, mut writer) = writer(&device);
        commit(&mut writer, 2).unwrap();
        let trimmed = writer.finish().unwrap().trimmed;
        let Err(Error::Io { operation: "shrink", source, .. }) = trimmed else {
            panic!("expected the failure of the trim, found {trimmed:?}");
        };
        assert_eq!(source.raw_os_error(), Some(errno.raw_os_error()));
        store.check_usable().unwrap();
        let reopened = read_only(&device);
        assert!(reopened.recovery().is_clean());
        assert_eq!((mark(&reopened), read(&reopened, block).unwrap()), (2, 1));
        drop(reopened);

        let summary = Store::rekey_device(
            Box::new(device.clone()),
            &secret(),
            RekeyOptions::default(),
            &mut |_, _| std::ops::ControlFlow::Continue(()),
        )
        .unwrap();
        assert!(summary.trim_failed);
        let reopened = read_only(&device);
        assert_eq!(read(&reopened, block).unwrap(), 1);
        assert!(reopened.header().rekey.is_none());
    }
}

#[test]
fn a_successful_trim_is_reported() {
    let (_, _, mut writer) = create();
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap().trimmed.unwrap();
}
