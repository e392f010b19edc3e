//! The operators' program at the end of the demo.

use anyhow::{Result, ensure};
use packaging::release;
use testbed::cluster::Cluster;
use testbed::program::Program;

use super::part::Part;

/// Output of a command of the program, with the command.
pub struct Shown {
    /// Command as somebody types it.
    pub command: String,
    /// Standard output.
    pub output: String,
}

/// Runs `mesos-overlay status` and, on hosts with a data plane, `ping`, on the host of the first
/// agent.
///
/// # Errors
/// The program found something, or could not ask.
pub fn run(part: Part, cluster: &Cluster) -> Result<Vec<Shown>> {
    let program = Program::at(release::paths().program, &cluster.agents[0]);
    let master = cluster.master.address().to_string();
    let commands: &[&[&str]] = match part {
        // Without a host of its own it would take other Mesos processes of the machine for its own.
        Part::Loopback => &[&["status", "--master", &master]],
        Part::Whole | Part::Attached => &[&["status"], &["ping"]],
    };
    let mut shown = Vec::new();
    for arguments in commands {
        let command = format!("mesos-overlay {}", arguments.join(" "));
        let outcome = program.run(arguments)?;
        ensure!(outcome.status.success(), "{command}: {outcome}");
        shown.push(Shown {
            command,
            output: outcome.stdout,
        });
    }
    Ok(shown)
}
