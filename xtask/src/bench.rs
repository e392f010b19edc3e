//! `cargo xtask bench`: measurements. They are not tests: absolute times depend on the machine, so
//! each is compared with a baseline in the same run.

use anyhow::Result;
use packaging::release;
use testbed::{install, net};

use crate::build;

/// Measures performance, compared with a baseline in the same run.
///
/// Benchmarks need root. They make network namespaces of their own, which are removed at the end and
/// on Ctrl-C. Missing packages are installed; all but `host` and `dns` fetch Apache Mesos 1.11.0
/// (27 MB, with a checksum) the first time.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, clap::Subcommand)]
enum Benchmark {
    /// Measure an agent's host: add 100 to 30,000 peers, reconcile again, and add one more peer.
    ///
    /// The baseline are `ip -batch` and `bridge -batch` with the same changes.
    Host,
    /// Measure a real Mesos master with 100, 1,000 and 10,000 simulated agents.
    ///
    /// The agents register, get the list of peers, join, leave, and return after a restart of the
    /// master. The baseline is the same master with a module that only answers. With 10,000 agents
    /// it takes some minutes and up to 21,500 open files in each of two processes (root may raise
    /// the limit, which this does). docs/dev/performance.md explains the results.
    Master {
        /// Numbers of agents.
        #[arg(long, value_name = "N,…", default_value = "100,1000,10000")]
        agents: String,
        /// Authenticate all messages with a key (auth_key_file).
        #[arg(long)]
        key: bool,
    },
    /// Measure failovers of three real Mesos masters with ZooKeeper.
    ///
    /// The leader is killed repeatedly while agents are registered. Times are from the election of
    /// the next leader until it serves, until the first and the last agent are registered, and
    /// until all agents have the list of peers.
    Failover {
        /// Numbers of agents.
        #[arg(long, value_name = "N,…", default_value = "100,1000")]
        agents: String,
        /// Number of failovers.
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        falls: u32,
    },
    /// Measure commands of the operators' program beside a real Mesos master with 100, 1,000 and
    /// 10,000 simulated agents.
    ///
    /// Time and highest memory of each command. The baseline is a plain request for the state.
    Program {
        /// Numbers of agents.
        #[arg(long, value_name = "N,…", default_value = "100,1000,10000")]
        agents: String,
    },
    /// Measure the name server beside NSD with the same zone, of 1,000, 10,000 and 100,000 tasks.
    ///
    /// Answers a second, and times of answers at 10,000 questions a second. Both servers have one
    /// processor, and the clients another. Installs Debian's nsd and dnsperf. Before that, time and
    /// memory of the whole state of 100,000 tasks, and the time from a change to its answer.
    Dns,
}

pub fn run(options: &Options) -> Result<()> {
    net::available().and_then(|()| install::ensure(install::HOSTS))?;
    match &options.benchmark {
        Benchmark::Host => build::run(&["bench", "--bench", "host"]),
        Benchmark::Master { agents, key } => {
            let arguments = [
                "bench", "--bench", "master", "--", "--agents", agents, "--key",
            ];
            let count = if *key {
                arguments.len()
            } else {
                arguments.len() - 1
            };
            build::run(&arguments[..count])
        }
        Benchmark::Failover { agents, falls } => {
            let falls = falls.to_string();
            build::run(&[
                "bench", "--bench", "master", "--", "--agents", agents, "--falls", &falls,
            ])
        }
        Benchmark::Dns => {
            build::run(&["bench", "--package", "overlay-dns", "--bench", "dns_state"])?;
            build::run(&["bench", "--package", "overlay-dns", "--bench", "questions"])
        }
        Benchmark::Program { agents } => {
            release::build()?;
            let program = release::paths().program.display().to_string();
            build::run(&[
                "bench",
                "--bench",
                "program",
                "--",
                "--agents",
                agents,
                "--program",
                &program,
            ])
        }
    }
}
