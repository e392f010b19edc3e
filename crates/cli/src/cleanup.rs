//! `mesos-overlay cleanup`: makes the host and its container engine match a desired state
//! without overlays.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use overlay_core::config::{AgentConfig, agent};
use overlay_core::host_api::desired::{Cni, Desired, Removal};
use overlay_core::host_api::engine::DEFAULT_SOCKET;
use overlay_host::docker::{Mode, remove_all};
use overlay_host::files::{self, Links};
use overlay_host::{Operation, Tense, preview, reconcile_and_verify};

/// Exit status of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// Success: all objects were removed, or there were none.
    Done = 0,
    /// Failure: an object could not be removed. Standard error has the reason.
    Failed = 1,
    /// The arguments are wrong. The same status as clap's.
    Usage = 2,
    /// Use by containers: some objects remain.
    InUse = 3,
}

/// Size limit of the agent's configuration file, in bytes.
const CONFIG_LIMIT: u64 = 16 << 20;

/// Timeout of one call of the container engine. The removal of a network takes longest, some
/// seconds on a busy host.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(15);

/// Removes everything that belongs to overlay networks from this host:
///
/// - VXLAN devices vtep<VNI> on UDP port 64000, with their neighbours, FDB entries and routes
/// - bridges m-<network> of the Mesos containerizer
/// - routing rules with protocol 142, and rules for table 42 without a protocol
/// - CNI configurations (see --agent-config and --cni-dir)
/// - firewall rules, ipsets and nftables tables of the overlays
/// - Docker networks, with their bridges d-<network>
///
/// IP forwarding stays on, because other software may need it.
///
/// Stop the Mesos agent first. Otherwise its overlay module restores everything within seconds.
/// The command needs root and works in the network namespace in which it is started.
///
/// Exit status:
///   0  everything was removed
///   1  something could not be removed
///   2  wrong usage
///   3  something remains because containers use it
#[derive(Debug, clap::Args)]
#[command(
    about = "Removes everything that belongs to overlay networks from this host",
    verbatim_doc_comment
)]
pub struct Options {
    /// Print what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Remove bridges even if containers are attached, and the routes and rules that these
    /// need. The containers lose their network.
    #[arg(long, verbatim_doc_comment)]
    force: bool,
    /// Configuration file of the agent module, from which the directory of the CNI
    /// configurations and the socket of the container engine are read.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "cni_dir",
        verbatim_doc_comment
    )]
    agent_config: Option<PathBuf>,
    /// Directory of the CNI configurations. Without this option and --agent-config they
    /// are not removed.
    #[arg(long, value_name = "DIRECTORY", verbatim_doc_comment)]
    cni_dir: Option<PathBuf>,
    /// Socket of the container engine. Without this option it is read from --agent-config,
    /// or is /var/run/docker.sock.
    #[arg(long, value_name = "SOCKET", verbatim_doc_comment)]
    docker_socket: Option<PathBuf>,
}

/// Parts of the host that are cleaned up.
struct Target {
    /// Desired state without overlays.
    desired: Desired,
    engine_socket: PathBuf,
}

/// Result of a cleanup, or of a dry run.
#[derive(Default)]
struct Outcome {
    /// Operations that were applied, or would be.
    operations: Vec<Operation>,
    /// Failures, one sentence each.
    problems: Vec<String>,
    /// Objects that remain because containers use them, one sentence each.
    in_use: Vec<String>,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    let target = match target(options) {
        Ok(target) => target,
        Err(sentence) => return fail(Status::Usage, &sentence),
    };
    if !nix::unistd::geteuid().is_root() {
        return fail(
            Status::Failed,
            "only root may change the network configuration; try sudo",
        );
    }
    let mode = if options.dry_run {
        Mode::DryRun
    } else {
        Mode::Apply
    };
    let mut outcome = Outcome::default();
    // Docker networks come first: their bridges are devices of the host.
    clean_engine(&target.engine_socket, mode, &mut outcome);
    clean_host(&target.desired, mode, &mut outcome);
    print(&outcome, mode);
    ExitCode::from(outcome.status() as u8)
}

/// Returns the target that the options name.
fn target(options: &Options) -> Result<Target, String> {
    let config = options
        .agent_config
        .as_deref()
        .map(read_config)
        .transpose()?;
    let dir = match (&options.cni_dir, &config) {
        (Some(dir), _) if !dir.is_dir() => {
            return Err(format!("--cni-dir: {} is not a directory", dir.display()));
        }
        (Some(dir), _) => dir.clone(),
        (None, Some(config)) => config.cni_dir.clone(),
        (None, None) => PathBuf::new(),
    };
    let file_prefix = config.as_ref().map(|config| config.cni_file_prefix.clone());
    let file_prefix = file_prefix.unwrap_or_default();
    let configured = config.and_then(|config| config.docker_socket);
    let engine_socket = options
        .docker_socket
        .clone()
        .or(configured)
        .unwrap_or_else(|| DEFAULT_SOCKET.into());
    let removal = if options.force {
        Removal::Forced
    } else {
        Removal::Thorough
    };
    let desired = Desired {
        cni: Cni {
            dir,
            data_dir: None,
            file_prefix,
        },
        removal,
        ..Desired::default()
    };
    Ok(Target {
        desired,
        engine_socket,
    })
}

fn read_config(file: &Path) -> Result<AgentConfig, String> {
    let text = files::read_text(file, Links::Follow, CONFIG_LIMIT)
        .map_err(|error| format!("--agent-config: cannot read {}: {error}", file.display()))?;
    let parsed = agent::parse(&file.display().to_string(), &text);
    parsed
        .map(|parsed| parsed.config)
        .map_err(|error| format!("--agent-config: {error}"))
}

fn clean_engine(socket: &Path, mode: Mode, outcome: &mut Outcome) {
    match remove_all(socket, ENGINE_TIMEOUT, mode) {
        Ok(removal) => {
            outcome.operations.extend(removal.operations);
            outcome.problems.extend(removal.problems);
            outcome.in_use.extend(removal.in_use);
        }
        Err(sentence) => outcome.problems.push(sentence),
    }
}

fn clean_host(desired: &Desired, mode: Mode, outcome: &mut Outcome) {
    let (operations, problems, in_use) = match mode {
        Mode::DryRun => {
            let preview = preview(desired);
            (preview.operations, preview.problems, preview.draining)
        }
        Mode::Apply => {
            let result = reconcile_and_verify(desired);
            (result.applied, result.problems, result.draining)
        }
    };
    outcome.operations.extend(operations);
    outcome.problems.extend(problems);
    let with_hint = |sentence| format!("{sentence} (--force removes it)");
    outcome.in_use.extend(in_use.into_iter().map(with_hint));
}

impl Outcome {
    fn status(&self) -> Status {
        match (self.problems.is_empty(), self.in_use.is_empty()) {
            (false, _) => Status::Failed,
            (true, false) => Status::InUse,
            (true, true) => Status::Done,
        }
    }

    fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.status() == Status::Done
    }
}

/// Prints operations on standard output, and everything that remains on standard error.
fn print(outcome: &Outcome, mode: Mode) {
    for operation in &outcome.operations {
        match mode {
            Mode::DryRun => println!("would {}", operation.describe(Tense::Infinitive)),
            Mode::Apply => println!("{}", operation.describe(Tense::Past)),
        }
    }
    if outcome.is_empty() {
        println!("nothing to remove");
    }
    for problem in &outcome.problems {
        eprintln!("error: {problem}");
    }
    for sentence in &outcome.in_use {
        eprintln!("in use: {sentence}");
    }
}

fn fail(status: Status, sentence: &str) -> ExitCode {
    eprintln!("error: {sentence}");
    ExitCode::from(status as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failure has precedence, since the operator has to act on it.
    #[test]
    fn status_follows_from_problems_and_remaining_objects() {
        let some = || vec!["sentence".to_owned()];
        for (problems, in_use, status) in [
            (vec![], vec![], Status::Done),
            (vec![], some(), Status::InUse),
            (some(), vec![], Status::Failed),
            (some(), some(), Status::Failed),
        ] {
            let outcome = Outcome {
                operations: Vec::new(),
                problems,
                in_use,
            };
            assert_eq!(outcome.status(), status);
            assert_eq!(outcome.is_empty(), status == Status::Done);
        }
    }
}
