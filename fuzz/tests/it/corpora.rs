//! The inputs in the tree stay valid: every seed and every regression keeps its promise, the seeds equal those that the
//! code generates, and every target has a program.

use std::fs;
use std::path::Path;

use ar7_fuzz::corpus::Inputs;
use ar7_fuzz::{TARGETS, Target};

/// Maximum size in bytes of all seeds of one target, because they are stored in the tree.
const SEEDS_MAX: usize = 32 << 10;

#[test]
fn every_seed_and_every_regression_keeps_its_promise() {
    let mut count = 0;
    for target in TARGETS {
        for inputs in [Inputs::Seeds, Inputs::Regressions] {
            count += replay(target, inputs);
        }
    }
    assert!(count >= TARGETS.len(), "only {count} inputs");
}

/// Replays every input that a campaign left here.
#[test]
#[ignore = "takes long if the corpora are large"]
fn every_input_of_a_campaign_keeps_its_promise() {
    for target in TARGETS {
        let count = replay(target, Inputs::Found);
        let found = Inputs::Found.read(target).expect("a directory that can be read");
        assert_eq!(count, found.len(), "{}", target.name);
    }
}

/// Passes the inputs to their target. Returns their number.
fn replay(target: &Target, inputs: Inputs) -> usize {
    let inputs = inputs.read(target).expect("a directory that can be read");
    for (path, bytes) in &inputs {
        println!("{}", path.display());
        (target.run)(bytes);
    }
    inputs.len()
}

#[test]
fn seeds_equal_those_that_the_code_generates() {
    for target in TARGETS {
        let found = Inputs::Seeds.read(target).expect("a directory that can be read");
        let found: Vec<Vec<u8>> = found.into_iter().map(|(_, bytes)| bytes).collect();
        let name = target.name;
        assert!(found == (target.seeds)(), "{name}: out of date: run `cargo xtask fuzz --seeds`");
        let length: usize = found.iter().map(Vec::len).sum();
        assert!(length <= SEEDS_MAX, "the seeds of {name} have {length} bytes");
    }
}

#[test]
fn every_target_has_a_program() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = own.join("fuzz_targets");
    let manifest = fs::read_to_string(own.join("Cargo.toml")).expect("the manifest");
    for target in TARGETS {
        let name = target.name;
        let program = fs::read_to_string(folder.join(format!("{name}.rs"))).expect("a program");
        assert!(program.contains(&format!("ar7_fuzz::{name}(bytes)")), "{name} runs itself");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is in the manifest");
    }
    let programs = manifest.matches("required-features = [\"programs\"]").count();
    assert_eq!(programs, TARGETS.len(), "a program for each target");
}
