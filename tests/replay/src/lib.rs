//! Gives every input that fuzzing has kept (`tests/fuzz/seeds`) to its fuzz target, in the workspace's own build: without
//! the fuzzer, and without its instrumentation.
//!
//! A program of `tests/` names the targets of one plugin (two plugins cannot be linked into one) or of what is no plugin. It
//! reads them as they are, with this crate in the fuzzer's place: `extern crate patchbay_replay as libfuzzer_sys`.

use std::path::{Path, PathBuf};

/// What a fuzz target does with an input.
#[macro_export]
macro_rules! fuzz_target {
    (|$data:ident: &[u8]| $work:expr) => {
        pub(crate) fn run($data: &[u8]) {
            $work
        }
    };
}

/// A test for each of these targets.
#[macro_export]
macro_rules! targets {
    ($($name:ident)*) => {
        #[path = "../../fuzz/fuzz_targets"]
        mod fuzz_targets {
            $(pub(crate) mod $name;)*
        }

        $(#[test]
        fn $name() {
            $crate::replay(stringify!($name), fuzz_targets::$name::run);
        })*
    };
}

/// Gives a target what was kept for it.
///
/// # Panics
///
/// When there is nothing, or the target panics: it is said with which file.
pub fn replay(target: &str, run: fn(&[u8])) {
    let seeds = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target));
    assert!(!seeds.is_empty(), "there are no seeds: `tests/fuzz/run 20 {target}` makes some");
    for seed in seeds {
        let bytes = std::fs::read(&seed).unwrap_or_default();
        let ended = std::panic::catch_unwind(|| run(&bytes));
        assert!(ended.is_ok(), "with {}", seed.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_in_a_program() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let programs = files(&here.join("tests"));
        let texts: Vec<String> = programs.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        let targets = files(&here.join("../fuzz/fuzz_targets"));
        assert!(targets.len() > 30);
        for target in targets {
            let name = target.file_stem().unwrap().to_str().unwrap();
            let words = texts.iter().flat_map(|text| text.split_whitespace());
            assert_eq!(words.filter(|word| *word == name).count(), 1, "{name}");
        }
    }
}
