//! The inputs that are kept are run, and targets, their programs and the folders of their inputs are the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn fuzz(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz(folder)).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn inputs_that_are_kept_do_no_harm() {
    for (name, target) in TARGETS {
        let folder = fuzz("corpus").join(name);
        let inputs = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut count = 0;
        for path in inputs {
            // A failing test shows it: the last line before the panic is the input.
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count >= 5, "{name} has {count} inputs");
    }
}

#[test]
fn every_target_has_a_program_and_inputs() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for name in targets {
        let program = fs::read_to_string(fuzz("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        let body = format!("fuzz_target!(|input: &[u8]| pinstream::fuzzing::run(\"{name}\", input));\n");
        assert!(program.ends_with(&body), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n")), "{name}");
    }
}
