//! `cargo xtask bench`: measurements. Not part of the tests: what is fast enough
//! depends on the machine, so each is a ratio to something else in the same run.

use anyhow::Result;
use testbed::{install, net};

use crate::build;

/// Measures how long things take, each beside something else in the same run.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// 100 to 30,000 peers applied from nothing, applied again, and one more, beside
    /// `ip -batch` and `bridge -batch` doing the same. Needs root.
    Host,
    /// A real Mesos master with 100, 1,000 and 10,000 agents that register, learn of each other,
    /// join, leave, and come back after a restart, beside the same master with a module that
    /// only answers.
    ///
    /// Everything happens on loopback in a network namespace of its own, so it needs root. With
    /// 10,000 agents it takes some minutes, and 21,500 open files or more in each of two
    /// processes (it raises the limit itself, as root). docs/scaling.md says what each line means.
    Master {
        /// Numbers of agents.
        #[arg(long, value_name = "N,…", default_value = "100,1000,10000")]
        agents: String,
    },
    /// Three real Mesos masters with ZooKeeper, of which the leader is killed again and again
    /// while agents are registered: from the next one's election until it serves, the first
    /// and the last agent are registered, and all know all. Needs root.
    Failover {
        /// Numbers of agents.
        #[arg(long, value_name = "N,…", default_value = "100,1000")]
        agents: String,
        /// How often the leader is killed.
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        falls: u32,
    },
}

pub fn run(options: &Options) -> Result<()> {
    net::available().and_then(|()| install::ensure(install::HOSTS))?;
    match &options.what {
        What::Host => build::run(&["bench", "--bench", "host"]),
        What::Master { agents } => {
            build::run(&["bench", "--bench", "master", "--", "--agents", agents])
        }
        What::Failover { agents, falls } => {
            let falls = falls.to_string();
            build::run(&[
                "bench", "--bench", "master", "--", "--agents", agents, "--falls", &falls,
            ])
        }
    }
}
