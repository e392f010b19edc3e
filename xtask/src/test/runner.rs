//! Runs `cargo nextest` or `cargo test`, and counts passed and failed tests.

use std::io::{BufRead, BufReader, IsTerminal};
use std::ops::AddAssign;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::groups;
use crate::build;

/// Results of test runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// All runners exited successfully. (A runner can fail without a failed test.)
    pub ok: bool,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ok &= other.ok;
    }
}

/// Feature that makes the module fail on demand, for tests only.
pub const FEATURE: &str = "mesos-overlay/fault-injection";

/// Arguments that select the features of all runs. Runs with different features would rebuild
/// each other's files.
pub const FEATURES: [&str; 2] = ["--features", FEATURE];

/// A test runner: `cargo nextest` or `cargo test`, with environment variables.
pub struct Runner {
    nextest: bool,
    environment: Vec<(&'static str, String)>,
}

impl Runner {
    /// Selects nextest if it is installed.
    pub fn choose(environment: Vec<(&'static str, String)>) -> Runner {
        let mut version = build::cargo(&["nextest", "--version"]);
        let nextest = version
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success());
        Runner {
            nextest,
            environment,
        }
    }

    /// Runs the tests of these groups, or all if there are none; of these the ones whose names
    /// contain `filter`.
    pub fn tests(&self, groups: &[String], filter: Option<&str>) -> Result<Counts> {
        let mut arguments = match self.nextest {
            true => vec!["nextest", "run", "--no-fail-fast", "--no-tests", "pass"],
            false => vec!["test", "--no-fail-fast"],
        };
        if !self.nextest && groups.is_empty() {
            arguments.push("--all-targets"); // without it the doc tests run, which follow separately
        }
        arguments.extend(FEATURES);
        arguments.push("--workspace");
        for group in groups {
            match group.as_str() {
                groups::UNIT => arguments.extend(["--lib", "--bins"]),
                group => arguments.extend(["--test", group]),
            }
        }
        arguments.extend(filter);
        self.run(&arguments)
    }

    /// Runs the examples in doc comments, which nextest cannot run.
    pub fn doc_tests(&self, filter: Option<&str>) -> Result<Counts> {
        let mut arguments = vec!["test", "--workspace", "--doc"];
        arguments.extend(FEATURES);
        arguments.extend(filter.map(|_| "--"));
        arguments.extend(filter);
        self.run(&arguments)
    }

    fn run(&self, arguments: &[&str]) -> Result<Counts> {
        let line = format!("cargo {}", arguments.join(" "));
        eprintln!("$ {line}");
        let mut cargo = build::cargo(arguments);
        cargo.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if std::io::stderr().is_terminal() {
            cargo.env("CARGO_TERM_COLOR", "always");
        }
        let summary = if arguments[0] == "nextest" {
            NEXTEST
        } else {
            CARGO_TEST
        };
        let (mut counts, success) =
            run_and_count(cargo, summary).with_context(|| format!("running {line}"))?;
        counts.ok = success;
        Ok(counts)
    }
}

/// Start of nextest's summary line. (The output of a failed test, which nextest prints too, may
/// contain a summary of cargo test.)
const NEXTEST: &str = "Summary [";
/// Start of cargo test's summary line, one per test program.
const CARGO_TEST: &str = "test result:";

/// Runs a command, prints its output line by line, and adds up the summaries in it.
fn run_and_count(mut command: Command, summary: &str) -> Result<(Counts, bool)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    forward_signals(child.id().cast_signed())?;
    let counts = Mutex::new(Counts::default());
    let read = |stream: &mut dyn std::io::Read| {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            if let (Some((passed, failed)), Ok(mut counts)) = (parse(&line, summary), counts.lock())
            {
                counts.passed += passed;
                counts.failed += failed;
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| out.map(|mut out| read(&mut out)));
        scope.spawn(|| err.map(|mut err| read(&mut err)));
    });
    let status = child.wait()?;
    CHILD.store(0, Ordering::SeqCst);
    Ok((counts.into_inner().unwrap_or_default(), status.success()))
}

/// Id of the process that receives forwarded signals; 0: none.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Keeps this process alive on Ctrl-C until the runner, which gets the signal too, has ended its
/// tests. Forwards SIGTERM, which only this process gets.
fn forward_signals(child: i32) -> Result<()> {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    CHILD.store(child, Ordering::SeqCst);
    if WATCHED.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let child = nix::unistd::Pid::from_raw(CHILD.load(Ordering::SeqCst));
            if child.as_raw() == 0 {
                std::process::exit(128 + signal);
            }
            if signal == SIGTERM {
                let _ = nix::sys::signal::kill(child, nix::sys::signal::SIGTERM); // it may have ended
            }
        }
    });
    Ok(())
}

/// Returns the numbers of passed and failed tests in a runner's summary line.
///
/// nextest: `     Summary [   1.2s] 3 tests run: 2 passed (1 slow), 1 failed, 4 skipped`;
/// cargo test: `test result: ok. 2 passed; 1 failed; …`.
fn parse(line: &str, summary: &str) -> Option<(usize, usize)> {
    let plain = without_colours(line);
    if !plain.trim_start().starts_with(summary) {
        return None;
    }
    let words: Vec<&str> = plain.split_whitespace().collect();
    let number_before = |names: &[&str]| {
        let is = |word: &str| names.contains(&word.trim_end_matches([',', ';']));
        words
            .windows(2)
            .filter(|pair| is(pair[1]))
            .filter_map(|pair| pair[0].parse::<usize>().ok())
            .sum()
    };
    Some((
        number_before(&["passed"]),
        number_before(&["failed", "timed"]),
    ))
}

fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, escape)) = rest.split_once('\u{1b}') {
        plain += before;
        rest = escape.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_summaries() {
        let nextest = "     Summary [   1.234s] 5 tests run: 2 passed (1 slow), 2 failed, 1 timed out, 4 skipped";
        assert_eq!(parse(nextest, NEXTEST), Some((2, 3)));
        let coloured = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m1\u{1b}[0m test run: \u{1b}[1m1\u{1b}[0m passed, 0 skipped";
        assert_eq!(parse(coloured, NEXTEST), Some((1, 0)));
        let cargo =
            "test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out";
        assert_eq!(parse(cargo, CARGO_TEST), Some((7, 1)));
        assert_eq!(parse(cargo, NEXTEST), None, "the output of a failed test");
        assert_eq!(parse("3 passed", CARGO_TEST), None);
    }

    #[test]
    fn one_bad_runner_spoils_it() {
        let mut counts = Counts {
            passed: 1,
            failed: 0,
            ok: true,
        };
        counts += Counts {
            passed: 2,
            failed: 0,
            ok: false,
        };
        assert_eq!(
            counts,
            Counts {
                passed: 3,
                failed: 0,
                ok: false
            }
        );
    }
}
