//! `mesos-overlay cleanup`: a host without overlay networks is a host on which
//! nothing is desired. The rest is the agent's own work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use overlay_core::config::{AgentConfig, agent};
use overlay_core::host_api::desired::{Cni, Desired, Removal};
use overlay_core::host_api::engine::DEFAULT_SOCKET;
use overlay_host::docker::remove_all;
use overlay_host::{preview, reconcile_once};

/// Everything was removed, or there was nothing.
const DONE: u8 = 0;
/// Something could not be removed; standard error says what and why.
const FAILED: u8 = 1;
/// What was asked for makes no sense. (clap's own status for this.)
const USAGE: u8 = 2;
/// Containers still use some of it, and that stayed.
const IN_USE: u8 = 3;

/// How long one call to the container engine may take. Taking a network down is
/// the longest, some seconds on a busy host.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(15);

/// Removes everything of the overlay networks from this host: the VXLAN devices vtep<VNI> on UDP
/// port 64000 with neighbours, FDB entries and routes, the bridges m-<network>, the rules for
/// routing table 42, the CNI configurations, what masquerades the containers' traffic, and the
/// Docker networks.
///
/// Stop the Mesos agent first: its module would put everything back within seconds. It works in
/// the network namespace that it is started in, and needs root. Forwarding stays on, since others
/// may need it.
///
/// Exit status: 0 everything is gone; 1 something could not be removed; 2 wrong usage; 3 containers
/// still use some of it, which stayed.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Print what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Remove bridges too that containers are on, and what these need: they lose their network.
    #[arg(long)]
    force: bool,
    /// The agent module's configuration file: says where the CNI configurations and the container
    /// engine are.
    #[arg(long, value_name = "FILE", conflicts_with = "cni_dir")]
    agent_config: Option<PathBuf>,
    /// The directory of the CNI configurations. Without it and --agent-config they stay.
    #[arg(long, value_name = "DIRECTORY")]
    cni_dir: Option<PathBuf>,
    /// Where the container engine listens. Without it: as --agent-config says, or
    /// /var/run/docker.sock.
    #[arg(long, value_name = "SOCKET")]
    docker_socket: Option<PathBuf>,
}

/// What is to be found where.
struct Places {
    desired: Desired,
    engine: PathBuf,
}

pub fn run(options: &Options) -> ExitCode {
    let places = match places(options) {
        Ok(places) => places,
        Err(sentence) => return failed(USAGE, &sentence),
    };
    if !nix::unistd::geteuid().is_root() {
        return failed(
            FAILED,
            "only root may change the network configuration; try sudo",
        );
    }
    let networks = remove_all(&places.engine, ENGINE_TIMEOUT, options.dry_run);
    let (mut lines, mut problems, mut draining) = match networks {
        Ok(networks) => (networks.done, Vec::new(), networks.kept),
        Err(sentence) => (Vec::new(), vec![sentence], Vec::new()),
    };
    let host = if options.dry_run {
        show(&places.desired)
    } else {
        remove(&places.desired)
    };
    lines.extend(host.lines);
    problems.extend(host.problems);
    draining.extend(host.draining);
    for line in &lines {
        println!(
            "{}",
            if options.dry_run {
                format!("would {line}")
            } else {
                in_the_past(line)
            }
        );
    }
    if lines.is_empty() && problems.is_empty() && draining.is_empty() {
        println!("nothing to remove");
    }
    end(&problems, &draining)
}

/// Nothing, and where to look for it.
fn places(options: &Options) -> Result<Places, String> {
    let config = options.agent_config.as_deref().map(read).transpose()?;
    let dir = match (&options.cni_dir, &config) {
        (Some(dir), _) if !dir.is_dir() => {
            return Err(format!("--cni-dir: {} is not a directory", dir.display()));
        }
        (Some(dir), _) => dir.clone(),
        (None, Some(config)) => config.cni_dir.clone(),
        (None, None) => PathBuf::new(),
    };
    let configured = config.and_then(|config| config.docker_socket);
    let engine = options
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
        },
        removal,
        ..Desired::default()
    };
    Ok(Places { desired, engine })
}

fn read(file: &Path) -> Result<AgentConfig, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("--agent-config: cannot read {}: {error}", file.display()))?;
    let parsed = agent::parse(&file.display().to_string(), &text);
    parsed
        .map(|parsed| parsed.config)
        .map_err(|error| format!("--agent-config: {error}"))
}

/// What was done, or would be, and what was not.
struct Outcome {
    lines: Vec<String>,
    problems: Vec<String>,
    draining: Vec<String>,
}

fn show(desired: &Desired) -> Outcome {
    let preview = preview(desired);
    Outcome {
        lines: preview.operations,
        problems: preview.problems,
        draining: preview.draining,
    }
}

fn remove(desired: &Desired) -> Outcome {
    // For its lines; what is there is read again.
    let before = preview(desired);
    let report = reconcile_once(desired);
    let mut problems = report.host;
    let after = preview(desired);
    let gone = before
        .operations
        .into_iter()
        .filter(|line| !after.operations.contains(line));
    let lines = gone.collect();
    for line in after.operations {
        if !problems.iter().any(|problem| problem.contains(&line)) {
            problems.push(format!(
                "{line}: it is there again; does the Mesos agent still run?"
            ));
        }
    }
    Outcome {
        lines,
        problems,
        draining: after.draining,
    }
}

/// `remove device …` becomes `removed device …`.
fn in_the_past(line: &str) -> String {
    match line.split_once(' ') {
        Some((verb, rest)) if verb.ends_with('e') => format!("{verb}d {rest}"),
        _ => format!("done: {line}"),
    }
}

fn end(problems: &[String], draining: &[String]) -> ExitCode {
    problems
        .iter()
        .for_each(|problem| eprintln!("error: {problem}"));
    for sentence in draining {
        eprintln!("in use: {sentence} (--force removes them)");
    }
    let status = match (problems, draining) {
        ([_, ..], _) => FAILED,
        (_, [_, ..]) => IN_USE,
        _ => DONE,
    };
    ExitCode::from(status)
}

fn failed(status: u8, sentence: &str) -> ExitCode {
    eprintln!("error: {sentence}");
    ExitCode::from(status)
}
