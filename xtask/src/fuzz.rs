//! `cargo xtask fuzz`: searches for inputs that violate the rules of the fuzz targets.
//!
//! The engine is libFuzzer from the crate `libfuzzer-sys`, with the compiler's coverage
//! instrumentation; both work with a stable toolchain. (`cargo fuzz` needs a nightly one for
//! sanitizers, which find little in code without `unsafe`.)

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use testbed::paths;

use crate::build;
use crate::test::runner;

/// Searches for inputs of the network, the log or a file that violate the rules of a fuzz target.
///
/// One target per processor runs at a time. Each starts with its corpus in fuzz/corpus; inputs
/// that reach new code are kept in target/fuzz for the next run. Inputs that fail are written to
/// target/fuzz/TARGET-crashes; add them to fuzz/corpus together with the fix. Nothing is
/// installed; a C++ compiler must be there. Ctrl-C ends the search and keeps what it found.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Run this target only: the name of a directory in fuzz/corpus.
    target: Option<String>,
    /// Duration of the whole search.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

/// Compiler flags: coverage counters and traces of comparisons for libFuzzer, and some
/// optimisation. Overflow checks are on, as in all debug builds.
const FLAGS: &str = "--cfg fuzzing -Copt-level=1 -Ccodegen-units=16 -Cpasses=sancov-module \
                     -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Limit of an input, bytes.
const LONGEST: usize = 4096;

/// Timeout of one input, seconds; long enough for a debug build on a busy machine.
const PATIENCE: u64 = 30;

pub fn run(options: &Options) -> Result<()> {
    let targets = targets(options.target.as_deref())?;
    let program = build_program()?;
    let threads = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(targets.len());
    let rounds = targets.len().div_ceil(threads) as u64;
    let seconds = (options.seconds / rounds).max(1);
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<&str>> {
        let mut broken = Vec::new();
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !search(&program, target, seconds)? {
                broken.push(target.as_str());
            }
        }
        Ok(broken)
    };
    let broken = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?);
        joined.collect::<Result<Vec<_>>>()
    })?
    .concat();
    ensure!(
        broken.is_empty(),
        "inputs that fail were found for {}; see above",
        broken.join(", ")
    );
    println!(
        "fuzz: {} targets, {seconds} s each: no input fails",
        targets.len()
    );
    Ok(())
}

fn corpus() -> PathBuf {
    paths::workspace().join("fuzz/corpus")
}

/// Returns the names of all targets, or the given one if it exists.
fn targets(one: Option<&str>) -> Result<Vec<String>> {
    let directory = corpus();
    let entries =
        fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let Some(one) = one else { return Ok(names) };
    if !names.iter().any(|name| name == one) {
        bail!(
            "there is no target {one}; targets are: {}",
            names.join(", ")
        );
    }
    Ok(vec![one.to_owned()])
}

fn build_program() -> Result<PathBuf> {
    // The features of the tests, so that dependencies are compiled once for both.
    let features = format!("fuzz/engine,{}", runner::FEATURE);
    let arguments = [
        "build",
        "--workspace",
        "--bin",
        "fuzz",
        "--features",
        &features,
    ];
    eprintln!(
        "$ cargo {} # with fuzz/rustc and {FLAGS}",
        arguments.join(" ")
    );
    // RUSTFLAGS would instrument the dependencies too.
    let status = build::cargo(&arguments)
        .env(
            "RUSTC_WORKSPACE_WRAPPER",
            paths::workspace().join("fuzz/rustc"),
        )
        .env("FUZZ_FLAGS", FLAGS)
        .status()
        .context("running cargo")?;
    ensure!(
        status.success(),
        "the engine cannot be built here; to run the corpus without it: cargo xtask test --group corpus"
    );
    Ok(paths::target().join("debug/fuzz"))
}

/// Searches with one target. Returns true if no input fails.
fn search(program: &Path, target: &str, seconds: u64) -> Result<bool> {
    let found = paths::target().join("fuzz").join(target);
    let crashes = paths::target()
        .join("fuzz")
        .join(format!("{target}-crashes"));
    for directory in [&found, &crashes] {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let output = Command::new(program)
        .env("FUZZ_TARGET", target)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={PATIENCE}"))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .args(["-verbosity=0", "-print_final_stats=1", "-rss_limit_mb=2048"])
        // libFuzzer writes new inputs to the first directory.
        .args([found, corpus().join(target)])
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    // Printed as one piece, since other targets print too.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    match output.status.success() {
        true => println!("fuzz: {target}, {seconds} s: {}", summary(&said)),
        false => println!("fuzz: {target}: an input fails\n{said}"),
    }
    Ok(output.status.success())
}

/// Summarizes the statistics of libFuzzer.
fn summary(said: &str) -> String {
    let number = |of: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(of));
        line.map_or("?", |value| value.trim_start_matches(':').trim())
    };
    format!(
        "{} inputs, {} of them kept",
        number("stat::number_of_executed_units"),
        number("stat::new_units_added")
    )
}

#[cfg(test)]
#[test]
fn summarizes() {
    let said =
        "INFO: x\nstat::number_of_executed_units: 314938\nstat::new_units_added:          1247\n";
    assert_eq!(summary(said), "314938 inputs, 1247 of them kept");
    assert_eq!(summary(""), "? inputs, ? of them kept");
}
