//! Kills an extraction before each of its calls. A process of its own runs it, which is this test program again.

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rustix::process::{Signal, getpid, kill_process};

use super::*;

/// Carries the number of the call and the destination to the process that is killed.
const CALL: &str = "AR7_TEST_KILL_BEFORE";
const TO: &str = "AR7_TEST_KILL_TO";

fn contents() -> Snapshot {
    world::archive(world::one_of_everything)
}

#[test]
fn a_killed_extraction_leaves_whole_files_only_and_none_under_a_temporary_name() {
    if let (Ok(call), Some(to)) = (env::var(CALL), env::var_os(TO)) {
        return be_killed(call.parse().unwrap(), Path::new(&to));
    }
    let world = World::new();
    let archive = contents();
    let (mut kills, mut files) = (0, 0);
    for call in 1.. {
        let out = world.fresh_destination();
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("fs::extract::tests::killed::a_killed_extraction_leaves_whole_files_only_and_none_under_a_temporary_name")
            .env(CALL, call.to_string())
            .env(TO, &out)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        if status.success() {
            break;
        }
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "call {call}");
        kills += 1;
        for (path, found) in world::entries(&archive) {
            if found.inode.kind == EntryType::File && out.join(&path).exists() {
                files += 1;
                world::check(&archive, &out, &path, &found).unwrap();
            }
        }
        for path in world::temporary_names(&out) {
            // Further names of whole files, and entries without content, have temporary names.
            let left = fs::symlink_metadata(out.join(&path)).unwrap();
            assert!(!left.is_file() || left.nlink() > 1, "call {call}: {}", path.display());
        }
    }
    assert!(kills > 60 && files > 60, "{kills} {files}");
}

fn be_killed(call: usize, to: &Path) {
    let calls = AtomicUsize::new(0);
    let event = move || {
        if calls.fetch_add(1, Relaxed) + 1 == call {
            kill_process(getpid(), Signal::KILL)?;
        }
        Ok(())
    };
    let system = System { disturbance: Some(Arc::new(event)), ..System::default() };
    let extract = Extract::new().to(to).preserve_owner(true);
    extract.run_on(&contents(), &system, 0).unwrap();
}
