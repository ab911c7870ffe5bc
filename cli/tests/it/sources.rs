//! Where a key comes from:
//!
//! - an option wins over a variable, and an empty value counts as unset;
//! - a passphrase in a file, or printed by a command, is the first line without its line break;
//! - a key or passphrase file that others can read causes a warning.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::common::{Bench, Ran, output};

const CHEAP: &str = "--kdf-memory 64KiB --kdf-passes 1";

/// Runs a line with these variables, and no other key.
fn run(bench: &Bench, variables: &[(&str, &str)], line: &[&str]) -> Ran {
    let mut command = bench.command();
    command.env_remove("AR7_KEY_FILE").envs(variables.iter().copied());
    output(command.args(line))
}

/// Makes an archive that opens with the passphrase "secret".
fn archive(bench: &Bench) {
    let mut line = vec!["create", "a.ar7"];
    line.extend(CHEAP.split(' '));
    let made = run(bench, &[("AR7_PASSPHRASE", "secret")], &line);
    assert_eq!(made.code, 0, "{}", made.stderr);
}

#[test]
fn a_passphrase_is_the_first_line_of_a_file_or_of_the_output_of_a_command() {
    let bench = Bench::new();
    archive(&bench);
    for content in ["secret", "secret\n", "secret\nmore\n"] {
        bench.write_key("phrase", content);
        let ran = run(&bench, &[], &["ls", "a.ar7", "--passphrase-file", "phrase"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{content:?}");
        let ran = run(&bench, &[("AR7_PASSPHRASE_FILE", "phrase")], &["ls", "a.ar7"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{content:?}");
    }
    for command in ["echo secret", "printf 'secret\nmore'", "printf %s \"$X\""] {
        let ran =
            run(&bench, &[("X", "secret")], &["ls", "a.ar7", "--passphrase-command", command]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{command:?}");
        let variables = [("X", "secret"), ("AR7_PASSPHRASE_COMMAND", command)];
        assert_eq!(run(&bench, &variables, &["ls", "a.ar7"]).code, 0, "{command:?}");
    }
    bench.write_key("phrase", "secret \n");
    let ran = run(&bench, &[], &["ls", "a.ar7", "--passphrase-file", "phrase"]);
    assert_eq!(ran.code, 3, "spaces count: {}", ran.stderr);
}

#[test]
fn a_passphrase_that_cannot_be_read_is_an_error() {
    let bench = Bench::new();
    archive(&bench);
    bench.write_key("empty", "\nsecret\n");
    bench.write_key("long", "x".repeat((64 << 10) + 1));
    for (options, code, says) in [
        (["--passphrase-file", "missing"], 1, "missing: open"),
        (["--passphrase-file", "empty"], 2, "the passphrase is empty"),
        (["--passphrase-file", "long"], 1, "longer than 65536 bytes"),
        (["--passphrase-command", "true"], 2, "the passphrase is empty"),
        (["--passphrase-command", "echo secret; exit 3"], 1, "exit status: 3"),
        (["--passphrase-command", "echo secret; kill -9 $$"], 1, "signal: 9"),
        (["--passphrase-command", "yes | head -c 200000 | tr -d '\\n'"], 1, "longer than 65536"),
    ] {
        let ran = run(&bench, &[], &["ls", "a.ar7", options[0], options[1]]);
        assert_eq!(ran.code, code, "{options:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(says), "{options:?}: {}", ran.stderr);
    }
}

#[test]
fn an_option_wins_over_a_variable_and_an_empty_value_counts_as_unset() {
    let bench = Bench::new();
    archive(&bench);
    bench.write_key("phrase", "secret");
    bench.write_key("wrong", "wrong");
    let opens = |variables: &[(&str, &str)], options: &[&str]| {
        let ran = run(&bench, variables, &[&["ls", "a.ar7"], options].concat());
        assert!(matches!(ran.code, 0 | 3), "{variables:?} {options:?}: {}", ran.stderr);
        ran.code == 0
    };
    let file = ["--passphrase-file", "phrase"];
    assert!(opens(&[("AR7_KEY_FILE", "key")], &file));
    assert!(opens(&[("AR7_PASSPHRASE_FILE", "wrong"), ("AR7_PASSPHRASE", "wrong")], &file));
    assert!(!opens(&[("AR7_PASSPHRASE", "secret")], &["--passphrase-command", "echo wrong"]));
    assert!(!opens(&[("AR7_KEY_FILE", "key"), ("AR7_PASSPHRASE", "secret")], &[]));
    let empty = ["AR7_KEY_FILE", "AR7_PASSPHRASE_FILE", "AR7_PASSPHRASE_COMMAND"];
    for variable in empty {
        assert!(opens(&[(variable, ""), ("AR7_PASSPHRASE", "secret")], &[]), "{variable}");
    }
    let ran = run(&bench, &empty.map(|variable| (variable, "")), &["ls", "a.ar7"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let both = ["ls", "a.ar7", "--key-file", "key", "--passphrase-file", "phrase"];
    assert_eq!(run(&bench, &[], &both).code, 2);
}

#[test]
fn a_new_key_comes_from_the_same_sources() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    bench.write_key("phrase", "one\n");
    let line = |line: &str, last: &str| {
        let ran = bench.run(line.split(' ').chain([last]).chain(CHEAP.split(' ')));
        assert_eq!(ran.code, 0, "{line}: {}", ran.stderr);
    };
    line("key add a.ar7 --new-passphrase-file", "phrase");
    line("key add a.ar7 --new-passphrase-command", "echo two");
    for (passphrase, slot) in [("one", 1), ("two", 2)] {
        let listed = run(&bench, &[("AR7_PASSPHRASE", passphrase)], &["key", "list", "a.ar7"]);
        assert!(listed.text().contains(&format!("{slot}: passphrase")), "{}", listed.stderr);
    }
    line("key change a.ar7 1 --new-passphrase-command", "echo three");
    assert_eq!(run(&bench, &[("AR7_PASSPHRASE", "one")], &["ls", "a.ar7"]).code, 3);
    assert_eq!(run(&bench, &[("AR7_PASSPHRASE", "three")], &["ls", "a.ar7"]).code, 0);
}

#[test]
fn a_secret_that_others_can_read_causes_a_warning() {
    let bench = Bench::new();
    archive(&bench);
    bench.ok("create b.ar7");
    bench.write_key("phrase", "secret");
    for (mode, warns) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
        for name in ["key", "phrase"] {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(bench.path(name), permissions).expect("a mode");
        }
        let key = bench.ok("ls b.ar7");
        let phrase = run(&bench, &[], &["ls", "a.ar7", "--passphrase-file", "phrase"]);
        for (name, ran) in [("key", key), ("phrase", phrase)] {
            let warning = format!("ar7: {name}: warning: other users can read this file");
            assert_eq!(ran.stderr.starts_with(&warning), warns, "{mode:o}: {}", ran.stderr);
            assert_eq!((ran.code, ran.stderr.is_empty()), (0, !warns), "{mode:o} {name}");
        }
    }
}
