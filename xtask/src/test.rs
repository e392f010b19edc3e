//! `cargo xtask test`: the tests of the whole workspace, and what they need.

pub mod runner;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use testbed::mesos::Mesos;
use testbed::{install, net, paths, skip};

use crate::build;
pub use runner::FEATURES;
use runner::{Counts, Runner};

/// Runs the tests, and installs, fetches and builds what they need.
///
/// A group is a file of tests/, or "unit" for the tests beside the code:
///
///     unit                 anywhere
///     agent, master, simulation, c_abi, symbols
///                          anywhere; neither kernel nor a running Mesos is needed
///     bindings             libclang, to generate the Rust declarations of the C header
///     kernel, kernel_*     root, or a user namespace:
///                          unshare --user --map-root-user --mount cargo xtask test
///     docker, docker_*     root, and Docker, of which each test host runs an engine of its own
///     mesos                Mesos, which is fetched (27 MB, checked); for some of it root
///
/// What cannot run on this machine is skipped, and the reasons are listed at the end. With
/// CI=true in the environment a skipped test is a failed one. Everything runs on loopback or
/// between network namespaces of the tests' own, and nothing is left behind.
///
/// Tests run with cargo nextest if it is installed, and with cargo test if not.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Run only tests whose name contains this.
    filter: Option<String>,
    /// Run only this group: "unit", or the name of a file in tests/ without .rs.
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    let mut environment = vec![("TESTBED_BUILT", "1".to_owned())];
    prepare(&mut environment)?;
    let skipped = SkippedFile::new()?;
    environment.push((skip::FILE_VARIABLE, skipped.path.display().to_string()));

    let runner = Runner::choose(environment);
    let mut counts = runner.tests(options.group.as_deref(), options.filter.as_deref())?;
    if options.group.is_none() {
        counts += runner.doc_tests(options.filter.as_deref())?;
    }
    Ok(summary(&counts, &skipped.reasons()))
}

/// Installs, fetches and builds. What cannot be had here costs the tests that need
/// it, not all of them: they are told why.
fn prepare(environment: &mut Vec<(&'static str, String)>) -> Result<()> {
    let hosts = net::available().and_then(|()| install::ensure(install::HOSTS));
    if let Err(error) = hosts {
        eprintln!("no network namespaces: {error:#}");
    }
    let mesos = install::ensure(install::MESOS).and_then(|()| Mesos::get());
    if let Err(error) = mesos {
        eprintln!("no Mesos: {error:#}");
        environment.push((
            skip::NO_MESOS_VARIABLE,
            format!("{error:#}").replace('\n', "; "),
        ));
    }
    // Not where there may be no hosts: the package starts an engine of its own.
    let docker = match net::available() {
        Ok(()) => install::ensure(install::DOCKER),
        Err(_) => Ok(()),
    };
    if let Err(error) = docker {
        eprintln!("no container engines: {error:#}");
    }
    if let Err(error) = install::ensure(install::ZOOKEEPER) {
        eprintln!("no ZooKeeper: {error:#}");
    }
    if let Err(error) = install::ensure(install::BINDGEN) {
        eprintln!("no libclang: {error:#}");
    }
    build::run(paths::BUILD_PROGRAMS)
}

fn summary(counts: &Counts, skipped: &[String]) -> ExitCode {
    println!();
    for reason in skipped {
        println!("skipped {reason}");
    }
    // A skipped test returned early, which counts as passed for the test runner.
    let passed = counts.passed.saturating_sub(skipped.len());
    println!(
        "{passed} passed, {} failed, {} skipped",
        counts.failed,
        skipped.len()
    );
    match counts.ok {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Where the tests note that they were skipped.
struct SkippedFile {
    path: PathBuf,
}

impl SkippedFile {
    fn new() -> Result<SkippedFile> {
        let path = paths::target().join(format!("skipped-{}.txt", std::process::id()));
        fs::write(&path, "").with_context(|| format!("writing {}", path.display()))?;
        Ok(SkippedFile { path })
    }

    fn reasons(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for SkippedFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // it lies in target/ and does no harm
    }
}
