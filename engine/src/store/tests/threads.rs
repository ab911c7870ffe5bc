//! A process that cannot start threads: the calling thread does all the work.

use std::process::Command;

use rayon::prelude::*;

use super::*;
use crate::format::{OwnedData, Run};
use crate::parallel::{in_pool, is_single_threaded};

/// Environment variable that marks the child process, which cannot start threads.
const CHILD: &str = "AR7_TEST_WITHOUT_THREADS";

/// No address space has room for a stack of this size, so starting a thread always fails.
const STACK_BYTES: &str = "140737488355328";

/// Writes, commits, reads and changes the master key in a process that cannot start threads.
fn work_without_threads() {
    let (device, _, mut writer) = create();
    let count = 3000;
    // The third copies lie between them, so the last ones form the longest run.
    let before = usize::try_from(THIRD_COPIES.start - 8).unwrap();
    let positions = writer.allocate_all(before + count, Urgency::Ordinary).unwrap();
    let job = |&position: &Position| OwnedSealJob {
        position,
        head: BlockHead::default(),
        data: OwnedData::copy_of(&data(7)),
    };
    let (generation, _) = writer.start_fresh(positions.iter().map(job).collect()).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    let store = read_only(&device);
    let run = Run::new(positions[before], u32::try_from(count).unwrap()).unwrap();
    let mut found = vec![0; count * DATA_SIZE];
    let none = Redirects::default();
    store.read_run(&none, KeyKind::Data, run, generation, &mut found, |_, _| Ok(())).unwrap();
    assert!(found.iter().all(|&byte| byte == 7));
    drop(store);
    let mut progress = |_, _| std::ops::ControlFlow::Continue(());
    let options = RekeyOptions::default();
    Store::rekey_device(Box::new(device), &secret(), options, &mut progress).unwrap();
}

#[test]
fn without_threads_the_caller_does_the_work() {
    if std::env::var_os(CHILD).is_some() {
        assert!(std::thread::Builder::new().spawn(|| {}).is_err(), "a thread was started");
        for _ in 0..2 {
            let sum: u64 = in_pool(|| (0..1000_u64).into_par_iter().sum());
            assert_eq!(sum, 499_500);
            assert!(is_single_threaded());
        }
        work_without_threads();
        return;
    }
    let name = "store::tests::threads::without_threads_the_caller_does_the_work";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--test-threads=1", "--nocapture"]);
    let output = child.env(CHILD, "1").env("RUST_MIN_STACK", STACK_BYTES).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}
