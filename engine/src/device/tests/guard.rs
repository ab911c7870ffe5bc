//! A map may outlive parts of its file. An unreadable page is an error of the read. Any other SIGBUS, outside of our maps
//! or sent by a process, has the effect that it had without a map: it ends the process, calls its handler, or nothing.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use memmap2::MmapOptions;

use super::*;

/// Blocks of a segment in these tests.
const SEGMENT: u32 = 8;

fn mapped(path: &Path) -> MappedDevice {
    let file = FileDevice::open(path, Access::ReadWrite).unwrap();
    MappedDevice::with_segments(file, SEGMENT, 8)
}

fn cut(path: &Path, blocks: u32) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(u64::from(blocks) * BLOCK_SIZE_U64).unwrap();
}

fn read(device: &dyn Device, position: u32) -> crate::Result<Vec<u8>> {
    let mut bytes = vec![0xee; BLOCK_SIZE];
    device.read(Position::at(position), &mut bytes).map(|()| bytes)
}

#[test]
fn a_mapped_file_that_shrinks_is_truncated() {
    let (_directory, path) = file_with(&pattern(0, 40, 1));
    let device = mapped(&path);
    for position in 0..40 {
        assert_eq!(read(&device, position).unwrap(), pattern(position, 1, 1));
    }
    cut(&path, 20);
    for position in (0..40).rev() {
        match read(&device, position) {
            Ok(bytes) if position < 20 => assert_eq!(bytes, pattern(position, 1, 1)),
            Err(Error::Truncated { expected_bytes, found_bytes }) if position >= 20 => {
                // The first read past the end queries the length, which later reads know.
                assert!(expected_bytes > found_bytes);
                assert_eq!(found_bytes, 20 * BLOCK_SIZE_U64);
            }
            other => panic!("block {position}: {other:?}"),
        }
    }
}

#[test]
fn a_lost_page_is_read_from_the_file_when_it_exists_again() {
    let (_directory, path) = file_with(&pattern(0, 16, 1));
    let device = mapped(&path);
    cut(&path, 4);
    assert!(matches!(read(&device, 6), Err(Error::Truncated { .. })));
    fs::write(&path, pattern(0, 16, 2)).unwrap();
    assert_eq!(device.length_bytes().unwrap(), 16 * BLOCK_SIZE_U64);
    // The page of zeros is still in the map, and no read may return it.
    for position in 0..16 {
        assert_eq!(read(&device, position).unwrap(), pattern(position, 1, 2), "block {position}");
    }
}

#[test]
fn many_threads_lose_pages_at_once() {
    for round in 0..20 {
        let (_directory, path) = file_with(&pattern(0, 64, round));
        let device = Arc::new(mapped(&path));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let device = Arc::clone(&device);
                thread::spawn(move || {
                    let mut refused = 0;
                    for position in (0..64).chain(0..64).chain(0..64) {
                        match read(&*device, position) {
                            Ok(bytes) => assert_eq!(bytes, pattern(position, 1, round)),
                            Err(Error::Truncated { .. }) => refused += 1,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    refused
                })
            })
            .collect();
        cut(&path, 3);
        let refused: u32 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(matches!(read(&*device, 63), Err(Error::Truncated { .. })), "{refused} before");
    }
}

#[test]
fn a_dropped_map_frees_its_list_node() {
    let (_directory, path) = file_with(&pattern(0, 40, 1));
    for _ in 0..200 {
        let device = mapped(&path);
        assert_eq!(read(&device, 39).unwrap(), pattern(39, 1, 1));
    }
    let after_a_loss = {
        let (_directory, path) = file_with(&pattern(0, 8, 1));
        let device = mapped(&path);
        cut(&path, 1);
        read(&device, 7).unwrap_err();
        drop(device);
        mapped(&path)
    };
    assert_eq!(read(&after_a_loss, 0).unwrap(), pattern(0, 1, 1));
    assert_eq!(after_a_loss.mapped_segments(), 1, "a new map has lost no page");
}

/// Names the case that a child process runs.
const CHILD: &str = "AR7_TEST_OF_A_SIGNAL";

/// What a child process does after its first map, and how it must end.
struct Case {
    name: &'static str,
    /// The action before the map, if it is not that of the standard library.
    action: Option<libc::sighandler_t>,
    /// Whether the process inherits an ignored signal.
    inherits_ignored: bool,
    then: fn(&Path),
    is_ended: bool,
}

/// Number of calls of [`count`].
static COUNTED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_signal: libc::c_int) {
    COUNTED.fetch_add(1, Ordering::SeqCst);
}

/// The cases. Every child can still read its map afterwards, unless the signal ends it.
fn cases() -> Vec<Case> {
    let handler: extern "C" fn(libc::c_int) = count;
    let case = Case {
        name: "",
        action: None,
        inherits_ignored: false,
        then: send_from_a_process,
        is_ended: true,
    };
    vec![
        Case { name: "sent to the standard library", ..case },
        Case { name: "raised under the standard library", then: raise, ..case },
        Case { name: "queued to the standard library", then: queue, ..case },
        Case { name: "another map under the standard library", then: read_a_lost_page, ..case },
        Case { name: "sent to the default", action: Some(libc::SIG_DFL), ..case },
        Case { name: "raised under the default", action: Some(libc::SIG_DFL), then: raise, ..case },
        Case {
            name: "another map under the default",
            action: Some(libc::SIG_DFL),
            then: read_a_lost_page,
            ..case
        },
        Case { name: "sent and ignored", inherits_ignored: true, is_ended: false, ..case },
        Case {
            name: "raised and ignored",
            inherits_ignored: true,
            then: raise,
            is_ended: false,
            ..case
        },
        Case {
            name: "another map and ignored",
            inherits_ignored: true,
            then: read_a_lost_page,
            ..case
        },
        Case {
            name: "sent to a handler",
            action: Some(handler as libc::sighandler_t),
            then: |path| {
                send_from_a_process(path);
                wait_for(|| COUNTED.load(Ordering::SeqCst) == 1);
                raise(path);
                assert_eq!(COUNTED.load(Ordering::SeqCst), 2);
            },
            is_ended: false,
            ..case
        },
    ]
}

/// Each case runs in its own process, since the signal may end it.
#[test]
fn any_other_sigbus_has_its_previous_effect() {
    if let Some(name) = std::env::var_os(CHILD) {
        let case = cases().into_iter().find(|case| name == case.name).unwrap();
        return run(&case);
    }
    let name = "device::tests::guard::any_other_sigbus_has_its_previous_effect";
    for case in cases() {
        let mut shell = Command::new("sh");
        let trap = if case.inherits_ignored { "trap '' BUS; " } else { "" };
        shell.args(["-c", &format!("{trap}ulimit -c 0; exec \"$0\" \"$@\"")]);
        shell.arg(std::env::current_exe().unwrap()).args(["--exact", name]);
        let child = shell.env(CHILD, case.name).output().unwrap();
        let expected = case.is_ended.then_some(libc::SIGBUS);
        assert_eq!(
            (child.status.signal(), child.status.success()),
            (expected, !case.is_ended),
            "{}: {}",
            case.name,
            String::from_utf8_lossy(&child.stdout)
        );
    }
}

fn run(case: &Case) {
    if let Some(action) = case.action {
        set_action(action);
    }
    let (_directory, path) = file_with(&pattern(0, 16, 1));
    let device = mapped(&path);
    assert_eq!(read(&device, 7).unwrap(), pattern(7, 1, 1));
    (case.then)(&path);
    assert!(!case.is_ended, "the process continues");
    // The guard is still there, for this segment and the next.
    cut(&path, 1);
    for position in [6, 12] {
        assert!(matches!(read(&device, position), Err(Error::Truncated { .. })));
    }
}

/// Sends the signal from another process. One that ends this process does so within the given time.
fn send_from_a_process(_path: &Path) {
    let pid = std::process::id().to_string();
    assert!(Command::new("sh").args(["-c", "kill -BUS $0", &pid]).status().unwrap().success());
    thread::sleep(Duration::from_millis(200));
}

/// Sends the signal to this thread.
#[allow(unsafe_code)]
fn raise(_path: &Path) {
    // SAFETY: the call only sends a signal.
    assert_eq!(unsafe { libc::raise(libc::SIGBUS) }, 0);
}

/// Sends the signal with a value.
#[allow(unsafe_code)]
fn queue(_path: &Path) {
    let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
    // SAFETY: the calls only send a signal to this process.
    assert_eq!(unsafe { libc::sigqueue(libc::getpid(), libc::SIGBUS, value) }, 0);
    thread::sleep(Duration::from_millis(200));
}

/// Reads a lost page of a map that is not ours.
#[allow(unsafe_code)]
fn read_a_lost_page(path: &Path) {
    let file = File::open(path).unwrap();
    let other = MmapOptions::new().len(8 * BLOCK_SIZE).map_raw_read_only(&file).unwrap();
    cut(path, 1);
    // SAFETY: the address lies within the map. The page is missing from the file on purpose.
    let byte = unsafe { other.as_ptr().add(7 * BLOCK_SIZE).read_volatile() };
    panic!("read {byte} from a missing page");
}

#[allow(unsafe_code)]
fn set_action(handler: libc::sighandler_t) {
    // SAFETY: the handler is the default or has the signature of a handler, and makes no call.
    assert_ne!(unsafe { libc::signal(libc::SIGBUS, handler) }, libc::SIG_ERR);
}

fn wait_for(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "the handler is called");
        thread::sleep(Duration::from_millis(1));
    }
}
