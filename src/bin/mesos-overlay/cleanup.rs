//! `mesos-overlay cleanup`: a host without overlay networks is a host on which
//! nothing is desired. The rest is the agent's own work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mesos_overlay::core::config::agent;
use mesos_overlay::host::desired::{Cni, Desired, Removal};
use mesos_overlay::host::{make_right, preview};

/// Everything was removed, or there was nothing.
const DONE: u8 = 0;
/// Something could not be removed; standard error says what and why.
const FAILED: u8 = 1;
/// What was asked for makes no sense. (clap's own status for this.)
const USAGE: u8 = 2;
/// Containers still use some of it, and that stayed.
const IN_USE: u8 = 3;

/// Removes everything of the overlay networks from this host: the VXLAN devices vtep<VNI> on UDP
/// port 64000 with neighbours, FDB entries and routes, the bridges m-<network>, the rules for
/// routing table 42, the CNI configurations, and what masquerades the containers' traffic.
///
/// Stop the Mesos agent first: its module would put everything back within seconds. It works in
/// the network namespace that it is started in, and needs root. Forwarding stays on, since others
/// may need it. Networks of Docker go with `docker network rm`.
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
    /// The agent module's configuration file: its cni_dir is where the CNI configurations are.
    #[arg(long, value_name = "FILE", conflicts_with = "cni_dir")]
    agent_config: Option<PathBuf>,
    /// The directory of the CNI configurations. Without it and --agent-config they stay.
    #[arg(long, value_name = "DIRECTORY")]
    cni_dir: Option<PathBuf>,
}

pub fn run(options: &Options) -> ExitCode {
    let desired = match desired(options) {
        Ok(desired) => desired,
        Err(sentence) => return failed(USAGE, &sentence),
    };
    if !nix::unistd::geteuid().is_root() {
        return failed(FAILED, "only root may change the network configuration; try sudo");
    }
    if options.dry_run { show(&desired) } else { remove(&desired) }
}

/// Nothing, and where to look for it.
fn desired(options: &Options) -> Result<Desired, String> {
    let dir = match (&options.cni_dir, &options.agent_config) {
        (Some(dir), _) if !dir.is_dir() => {
            return Err(format!("--cni-dir: {} is not a directory", dir.display()));
        }
        (Some(dir), _) => dir.clone(),
        (None, Some(file)) => cni_dir_of(file)?,
        (None, None) => PathBuf::new(),
    };
    let removal = if options.force { Removal::Forced } else { Removal::Thorough };
    Ok(Desired { cni: Cni { dir, data_dir: None }, removal, ..Desired::default() })
}

fn cni_dir_of(file: &Path) -> Result<PathBuf, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("--agent-config: cannot read {}: {error}", file.display()))?;
    let parsed = agent::parse(&file.display().to_string(), &text);
    parsed.map(|parsed| parsed.config.cni_dir).map_err(|error| format!("--agent-config: {error}"))
}

fn show(desired: &Desired) -> ExitCode {
    let preview = preview(desired);
    if preview.operations.is_empty() {
        println!("nothing to remove");
    }
    preview.operations.iter().for_each(|line| println!("would {line}"));
    end(&preview.problems, &preview.draining)
}

fn remove(desired: &Desired) -> ExitCode {
    // For its lines; what is there is read again.
    let before = preview(desired);
    let report = make_right(desired);
    let mut problems = report.host;
    let after = preview(desired);
    let gone = before.operations.iter().filter(|line| !after.operations.contains(line));
    gone.for_each(|line| println!("{}", in_the_past(line)));
    if before.operations.is_empty() {
        println!("nothing to remove");
    }
    for line in after.operations {
        if !problems.iter().any(|problem| problem.contains(&line)) {
            problems.push(format!("{line}: it is there again; does the Mesos agent still run?"));
        }
    }
    end(&problems, &after.draining)
}

/// `remove device …` becomes `removed device …`.
fn in_the_past(line: &str) -> String {
    match line.split_once(' ') {
        Some((verb, rest)) if verb.ends_with('e') => format!("{verb}d {rest}"),
        _ => format!("done: {line}"),
    }
}

fn end(problems: &[String], draining: &[String]) -> ExitCode {
    problems.iter().for_each(|problem| eprintln!("error: {problem}"));
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
