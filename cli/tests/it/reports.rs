//! The scripts in `tests/reports`: each checks a fault that users of other archivers reported. The last one compares
//! with those archivers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::common::output;

/// The exit code of a script on a machine that lacks what it needs.
const SKIPPED: i32 = 77;

fn check(script: &str) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    // Some scripts run the program as another user, who may not have access to the build directory.
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).expect("permissions");
    let program = scratch.path().join("ar7");
    fs::copy(env!("CARGO_BIN_EXE_ar7"), &program).expect("a copy of the program");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports");
    let mut command = Command::new("bash");
    command.arg(scripts.join(script).with_extension("sh"));
    let ran = output(command.env("AR7", program).env("T", scratch.path()));
    let text = ran.text();
    match ran.code {
        SKIPPED => println!("{text}"),
        0 => {}
        code => panic!("{script}: exit {code}: {text}{}", ran.stderr),
    }
}

macro_rules! checks {
    ($($name:ident: $script:literal,)*) => {
        $(
            #[test]
            fn $name() {
                check($script);
            }
        )*

        #[test]
        fn every_script_has_a_test() {
            let tested = [$($script),*];
            let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports");
            for entry in fs::read_dir(scripts).expect("a directory") {
                let path = entry.expect("an entry").path();
                let script = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
                assert!(script == "common" || tested.contains(&script), "{script}");
            }
        }
    };
}

checks! {
    a_standard_error_that_cannot_be_written_stops_no_run: "01-unwritable-stderr",
    a_file_that_grows_while_it_is_read_is_stored: "02-file-that-changes",
    new_content_of_the_same_size_and_time_is_stored: "03-same-size-same-time",
    a_file_whose_stat_reports_size_0_is_read_to_its_end: "04-size-zero-in-stat",
    a_tree_with_read_only_directories_is_restored_twice: "05-restore-over-read-only-directory",
    a_run_that_fills_the_disk_gives_its_space_back: "06-full-disk-stays-full",
    a_path_longer_than_path_max_is_stored_and_restored: "07-path-longer-than-path-max",
    a_pattern_with_a_slash_at_its_end_excludes_directories: "08-exclude-with-trailing-slash",
    a_pattern_may_be_a_path_as_typed: "09-exclude-with-path-as-typed",
    attributes_are_restored_and_nobody_gets_more_rights: "10-attributes-and-acl",
    a_hole_costs_no_space: "11-sparse-file",
    a_missing_path_does_not_affect_the_others: "12-one-missing-path",
    a_message_names_only_options_that_exist: "13-hint-names-option-that-is-not-there",
    an_ingest_can_stay_on_one_file_system: "14-one-file-system",
    an_ingest_can_exclude_tagged_caches: "15-cachedir-tag",
    paths_and_patterns_come_from_files: "16-lists-from-files",
    a_command_can_wait_for_the_lock: "17-wait-for-the-lock",
    of_several_first_runs_one_creates_the_archive: "18-first-run-twice-at-once",
    a_key_file_that_others_can_read_causes_a_warning: "19-world-readable-key-file",
    a_symbolic_link_as_an_argument_causes_a_warning: "20-symbolic-link-as-argument",
    a_pattern_may_have_any_bytes: "21-pattern-not-utf-8",
    an_empty_variable_counts_as_unset: "22-empty-key-variable",
    a_path_may_begin_with_a_dot: "23-path-with-leading-dot",
    a_passphrase_comes_from_a_file_or_a_command: "24-passphrase-from-file-or-command",
    the_json_of_an_ingest_gives_reasons: "25-reason-in-json",
    what_other_archivers_restore_is_restored: "26-peers-on-one-odd-tree",
}
