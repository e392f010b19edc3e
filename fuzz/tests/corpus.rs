//! Runs all inputs in `corpus/`, and compares the seeds in it with those of `seeds`.
//!
//! After a change of the seeds: `UPDATE_CORPUS=1 cargo test -p fuzz`.
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{TARGETS, seeds};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target)
}

#[test]
fn the_corpus_is_survived() {
    for target in TARGETS {
        let files: Vec<PathBuf> = fs::read_dir(corpus(target.name))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for file in files {
            println!("{}", file.display());
            (target.run)(&fs::read(file).unwrap());
        }
    }
}

#[test]
fn the_seeds_are_in_the_corpus() {
    for (target, name, bytes) in seeds::all() {
        let file = corpus(target).join(name);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        let there = fs::read(&file).unwrap_or_default();
        assert!(
            there == bytes,
            "{} is out of date; see the top of this file",
            file.display()
        );
    }
}
