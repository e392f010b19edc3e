//! `mesos-overlay check host`: looks at the host that it runs on, before an installation or any time.

mod engine;
mod kernel;
mod library;
mod managers;
mod mesos;
mod packets;
mod scene;
mod settings;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::{Finding, Severity};
use crate::output::page::{DIM, ERROR, GOOD, Page, WARNING, styled};
use crate::output::progress::Progress;
use crate::output::{Failure, OutputOptions, Report, finish};
pub use library::unusable as unusable_library;
use scene::Scene;

/// Checks this host, before an installation or any time:
///
/// - kernel: features, forwarding, reverse path filter, router advertisements
/// - network: network managers, firewalls, UDP port 64000, MTUs
/// - container engine: reachable, release
/// - Mesos: CNI plugins, isolation, directories, ZooKeeper, leading master, worker threads
/// - address of the agent, and configurations of the modules
/// - libraries that the module needs
///
/// Nothing is changed. As root the command tries what an agent makes in a network namespace of its
/// own, for which the kernel can load modules. What needs Mesos is skipped on a host without it.
#[derive(Debug, Default, clap::Args)]
#[command(
    about = "Checks this host, before an installation or any time",
    verbatim_doc_comment,
    after_long_help = EXAMPLES
)]
pub struct Options {
    /// Role of the host. Without this option: that of the Mesos processes that run here, or agent.
    #[arg(long, value_name = "ROLE", value_enum)]
    role: Option<RoleOption>,
    /// Configuration file of the agent module. Without this option: the one that the Mesos on this
    /// host loads, or /etc/mesos/overlay/agent.json.
    #[arg(long, value_name = "FILE")]
    agent_config: Option<PathBuf>,
    /// Configuration file of the master module. Without this option: the one that the Mesos on this
    /// host loads, or /etc/mesos/overlay/master.json.
    #[arg(long, value_name = "FILE")]
    master_config: Option<PathBuf>,
    /// Library of the modules. Without this option: the one that the Mesos on this host loads, or
    /// /usr/lib/mesos/modules/libmesos_overlay.so.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Directory that stands for / where configurations of network managers and Mesos are read, for an
    /// image of a host.
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    root: PathBuf,
    #[command(flatten)]
    output: OutputOptions,
}

const EXAMPLES: &str = "\
Examples:
  mesos-overlay check host
      Before an installation on an agent, or when something is wrong with it
  mesos-overlay check host --role master
      Before an installation on a master
  mesos-overlay check host --module /tmp/libmesos_overlay.so
      Whether another library of the modules would load here
  mesos-overlay check host -o json | jq -r '.findings[].code'
      The codes of what is wrong, for scripts";

/// Role of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum RoleOption {
    /// Masters.
    Master,
    /// Agents.
    Agent,
    /// Both on one host.
    Both,
}

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// Nothing is wrong.
    Ok,
    /// There is a warning about it.
    Warning,
    /// There is an error.
    Error,
    /// It was not checked. `seen` has the reason.
    Skipped,
}

/// Check of a part of the host.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct Check {
    /// Part of the host.
    name: &'static str,
    /// Result.
    result: Outcome,
    /// What is there, or the reason why it was not checked.
    seen: String,
    #[serde(skip)]
    findings: Vec<Finding>,
}

impl Check {
    /// Returns a check that was made. `seen` says what is there.
    fn made(name: &'static str, seen: impl Into<String>, findings: Vec<Finding>) -> Check {
        let worst = findings.iter().map(|finding| finding.severity).min();
        let result = match worst {
            None => Outcome::Ok,
            Some(Severity::Warning) => Outcome::Warning,
            Some(Severity::Error) => Outcome::Error,
        };
        Check {
            name,
            result,
            seen: seen.into(),
            findings,
        }
    }

    /// Returns a check that was not made, for a reason.
    fn skipped(name: &'static str, reason: impl Into<String>) -> Check {
        Check {
            name,
            result: Outcome::Skipped,
            seen: reason.into(),
            findings: Vec::new(),
        }
    }
}

/// Result of the command.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HostReport {
    /// All checks, in a fixed order.
    checks: Vec<Check>,
    #[serde(skip)]
    findings: Vec<Finding>,
}

impl Report for HostReport {
    const COMMAND: &'static str = "check host";

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        let rows = self.checks.iter().map(|check| {
            let (style, word) = match check.result {
                Outcome::Ok => (GOOD, "ok"),
                Outcome::Warning => (WARNING, "warning"),
                Outcome::Error => (ERROR, "error"),
                Outcome::Skipped => (DIM, "skipped"),
            };
            vec![
                check.name.to_owned(),
                styled(style, word),
                check.seen.clone(),
            ]
        });
        page.table(&["CHECK", "RESULT", "SEEN"], &[], rows)
    }
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    finish(options.output, examine(options))
}

fn examine(options: &Options) -> Result<HostReport, Failure> {
    let _progress = Progress::new("checking this host", 0);
    let scene = Scene::look(options)?;
    let checks: Vec<Check> = CHECKS.iter().map(|check| check(&scene)).collect();
    let mut findings: Vec<Finding> = checks
        .iter()
        .flat_map(|check| check.findings.clone())
        .collect();
    findings.sort_by_key(|finding| finding.severity);
    Ok(HostReport { checks, findings })
}

/// All checks, in the order of the table.
const CHECKS: &[fn(&Scene) -> Check] = &[
    kernel::kernel,
    kernel::features,
    settings::forwarding,
    settings::reverse_path_filter,
    settings::router_advertisements,
    managers::networkd,
    managers::network_manager,
    packets::firewall,
    packets::port,
    packets::mtu,
    engine::engine,
    mesos::plugins,
    mesos::isolation,
    mesos::cni_dir,
    mesos::zookeeper,
    mesos::leading_master,
    mesos::worker_threads,
    mesos::address,
    mesos::configuration,
    library::library,
];
