//! `cargo xtask test`: installs, fetches and builds the needs of the tests, and runs them.

mod groups;
pub mod runner;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use packaging::{chroots, kept};
use testbed::docker::{Release, release};
use testbed::mesos::Mesos;
use testbed::{compiler, install, net, paths, skip};

use crate::build;
pub use runner::FEATURES;
use runner::{Counts, Runner};

/// Runs the tests.
///
/// Before that it installs missing packages (as root, on Debian or Ubuntu; elsewhere it prints
/// their names), fetches Apache Mesos 1.11.0 (27 MB, with a checksum) into target/, and builds
/// the programs that tests start, and what is released.
///
/// Tests that cannot run on this machine are skipped, and the reasons are listed at the end. With
/// CI=true in the environment a skipped test fails. All tests use loopback addresses or network
/// namespaces of their own. Each removes its namespaces, processes and files at its end, and
/// so does Ctrl-C.
///
/// Docker's engine in the tests is the installed one. TESTBED_DOCKER=28.5 or 26.1 in the
/// environment selects a later release, which is fetched from Debian into target/ (70 MB,
/// signed); some tests need 28.5 in any case. So is g++ 9, with which the C++ code is compiled
/// beside the installed compiler (50 MB).
///
/// Tests run with cargo nextest if it is installed, else with cargo test.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_long_help = groups::table())]
pub struct Options {
    /// Run only tests whose name contains this text.
    filter: Option<String>,
    /// Run only this group, or these if given several times; `cargo xtask test --help` lists them.
    #[arg(long = "group", short, value_name = "GROUP")]
    groups: Vec<String>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    options
        .groups
        .iter()
        .try_for_each(|group| groups::check(group))?;
    let mut environment = vec![("TESTBED_BUILT", "1".to_owned())];
    prepare(&mut environment)?;
    if groups::selected(&options.groups, groups::OF_THE_SDK) {
        if let Err(error) = install::ensure(install::SDK) {
            eprintln!("cannot build with the SDK: {error:#}");
        }
        packaging::built::build()?;
    }
    if groups::selected(&options.groups, &[groups::PACKAGES, groups::INSTALL]) {
        let packages = install::ensure(install::PACKAGES).and_then(|()| kept::get().map(drop));
        report("make the packages", packages);
    }
    if groups::selected(&options.groups, &[groups::INSTALL]) && net::available().is_ok() {
        let systems = install::ensure(install::CHROOTS).and_then(|()| chroots::make_all());
        report("make file systems of Debian's releases", systems);
    }
    let skipped = SkippedFile::new()?;
    environment.push((skip::FILE_VARIABLE, skipped.path.display().to_string()));

    let runner = Runner::choose(environment);
    let mut counts = runner.tests(&options.groups, options.filter.as_deref())?;
    if options.groups.is_empty() {
        counts += runner.doc_tests(options.filter.as_deref())?;
    }
    Ok(summary(&counts, &skipped.reasons()))
}

/// Installs packages, fetches Mesos and builds the test bed's programs. If one of the needs is
/// not available on this machine, only the tests that depend on it are skipped.
fn prepare(environment: &mut Vec<(&'static str, String)>) -> Result<()> {
    let hosts = net::available().and_then(|()| install::ensure(install::HOSTS));
    if let Err(error) = hosts {
        eprintln!("cannot make network namespaces: {error:#}");
    }
    let mesos = install::ensure(install::MESOS).and_then(|()| Mesos::get());
    if let Err(error) = mesos {
        eprintln!("cannot run Mesos: {error:#}");
        environment.push((
            skip::NO_MESOS_VARIABLE,
            format!("{error:#}").replace('\n', "; "),
        ));
    }
    // The package starts an engine, so it is installed only where tests can use it.
    let docker = match net::available() {
        Ok(()) => install::ensure(install::DOCKER),
        Err(_) => Ok(()),
    };
    match docker {
        Ok(()) if net::available().is_ok() => fetch_engines(environment),
        Ok(()) => {}
        Err(error) => eprintln!("cannot run Docker: {error:#}"),
    }
    if let Err(error) = install::ensure(install::ZOOKEEPER) {
        eprintln!("cannot run ZooKeeper: {error:#}");
    }
    if let Err(error) = compiler::oldest() {
        eprintln!("cannot compile with an old g++: {error:#}");
    }
    if let Err(error) = install::ensure(install::JQ) {
        eprintln!("cannot run the filters in the documentation: {error:#}");
    }
    if let Err(error) = install::ensure(install::BROWSER) {
        eprintln!("cannot run a browser: {error:#}");
    }
    if let Err(error) = install::ensure(install::BINDGEN) {
        eprintln!("cannot load libclang: {error:#}");
    }
    build::run(paths::BUILD_PROGRAMS)
}

/// Prints why something cannot be done. The tests that need it fail or are skipped with the reason.
fn report(what: &str, outcome: Result<()>) {
    if let Err(error) = outcome {
        eprintln!("cannot {what}: {error:#}");
    }
}

/// Fetches the releases of Docker that tests use beside the installed one. Without them the tests
/// that need them are skipped.
fn fetch_engines(environment: &mut Vec<(&'static str, String)>) {
    let fetched = Release::selected()
        .and_then(|selected| selected.fetch())
        .and_then(|()| Release::named("28.5")?.fetch());
    if let Err(error) = fetched {
        eprintln!("cannot fetch Docker: {error:#}");
        let reason = format!("{error:#}").replace('\n', "; ");
        environment.push((release::NO_FETCH_VARIABLE, reason));
    }
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

/// A file to which skipped tests write their names and reasons, a line each.
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
