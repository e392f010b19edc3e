//! `cargo xtask fuzz`: looks for bytes that something must not do to us.
//!
//! The engine is libFuzzer from the crate `libfuzzer-sys`, with the compiler's own
//! coverage; both work with a stable toolchain. (`cargo fuzz` would want a nightly one,
//! for sanitizers, of which code without `unsafe` has little.)

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

/// Look for bytes from the network, the log or a file that break what must hold.
///
/// As many targets as there are processors are searched at a time, each beginning with what is
/// kept in fuzz/corpus; what is found on the way to new code is kept in target/fuzz, for the next
/// run. Bytes that break something are written to target/fuzz/TARGET-crashes: put them into
/// fuzz/corpus with the fix.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Only this one: a directory of fuzz/corpus.
    target: Option<String>,
    /// For how long, in all.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

/// Makes the compiler count which code runs, and tell what is compared, as libFuzzer
/// wants it; and fast enough to search with. Arithmetic is checked, as in all debug builds.
const FLAGS: &str = "--cfg fuzzing -Copt-level=1 -Ccodegen-units=16 -Cpasses=sancov-module \
                     -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The longest input, bytes.
const LONGEST: usize = 4096;

/// Seconds that one input may take. (A debug build on a busy machine.)
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
        "something that must hold does not: {}; see above",
        broken.join(", ")
    );
    println!(
        "fuzz: {} targets, {seconds} s each: nothing found",
        targets.len()
    );
    Ok(())
}

fn corpus() -> PathBuf {
    paths::workspace().join("fuzz/corpus")
}

/// The targets, or the one that is named.
fn targets(one: Option<&str>) -> Result<Vec<String>> {
    let directory = corpus();
    let entries =
        fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let Some(one) = one else { return Ok(names) };
    if !names.iter().any(|name| name == one) {
        bail!("there is no target {one}; there is {}", names.join(", "));
    }
    Ok(vec![one.to_owned()])
}

fn build_program() -> Result<PathBuf> {
    // As the tests are built: what we depend on is compiled once for both.
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
    // RUSTFLAGS would be for all that we depend on, too, of which no coverage is wanted.
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
        "the engine cannot be built here; the corpus is played without it by: cargo xtask test --group corpus"
    );
    Ok(paths::target().join("debug/fuzz"))
}

/// Searches one target; gives whether nothing was found.
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
        // New inputs go into the first directory.
        .args([found, corpus().join(target)])
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    // At once, since others are at work, too.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    match output.status.success() {
        true => println!("fuzz: {target}, {seconds} s: {}", summary(&said)),
        false => println!("fuzz: {target}: something was found\n{said}"),
    }
    Ok(output.status.success())
}

/// How much was tried, and what came of it.
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
