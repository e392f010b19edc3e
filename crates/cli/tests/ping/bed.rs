//! A cluster with an overlay of both families, and ways to break it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::net::Host;
use testbed::program::{Outcome, Program};
use testbed::{skip, wait};

/// Timeout of a step, long enough for a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A cluster.
pub struct Bed {
    pub cluster: Cluster,
    stopped: Vec<Pid>,
}

impl Bed {
    /// Starts a cluster, and waits until each host reaches all others; `None`: the test is skipped.
    pub fn start(test: &str, agents: usize) -> Option<Bed> {
        if !skip::require_hosts(test) {
            return None;
        }
        skip::require_mesos(test)?;
        let mut setup = ClusterConfig::new(agents, Placement::Hosts).unwrap();
        setup.network = json!({
            "vtep_subnet": "44.128.0.0/20",
            "vtep_subnet6": "fd01:a::/64",
            "vtep_mac_oui": "70:B3:D5:00:00:00",
            "overlays": [{
                "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24,
                "subnet6": "fd01:b::/64", "prefix6": 80,
            }],
        });
        let mut cluster = Cluster::prepare(&setup).unwrap();
        // Stopped agents shall not be lost.
        cluster.master.set("MESOS_MAX_AGENT_PING_TIMEOUTS", "600");
        cluster.start_all().unwrap();
        cluster.wait_overlays(LIMIT).unwrap();
        let bed = Bed {
            cluster,
            stopped: Vec::new(),
        };
        bed.wait_well();
        Some(bed)
    }

    /// Returns the program on the host of an agent, by its number from 0.
    pub fn program(&self, agent: usize) -> Program {
        Program::at(
            env!("CARGO_BIN_EXE_mesos-overlay"),
            &self.cluster.agents[agent],
        )
    }

    /// Returns the host of an agent.
    pub fn host(&self, agent: usize) -> &Host {
        self.cluster.agents[agent].host().unwrap()
    }

    /// Runs a command of words that are separated by blanks on the host of an agent.
    #[track_caller]
    pub fn on(&self, agent: usize, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        self.host(agent).run(words[0], &words[1..]).unwrap()
    }

    /// Returns the overlay of an agent, as the master shows it.
    pub fn overlay(&self, agent: usize) -> Value {
        let state = self.cluster.master.overlay_state().unwrap();
        let ip = self.cluster.agents[agent].ip();
        let mut agents = state["agents"].as_array().unwrap().iter();
        let found = agents.find(|agent| agent["ip"] == ip.as_str());
        found.unwrap()["overlays"][0].clone()
    }

    /// Runs a command on the host of the first agent, and returns the outcome. A second fault would
    /// hide in it.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.program(0).ask(arguments).unwrap()
    }

    /// Asserts that a command on the first agent's host finds exactly these.
    #[track_caller]
    pub fn finds(&self, arguments: &[&str], codes: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        let found = outcome.codes().unwrap();
        let expected: BTreeSet<String> = codes.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{outcome}");
        outcome
    }

    /// Waits until nothing is wrong for any of the hosts.
    #[track_caller]
    pub fn wait_well(&self) {
        for agent in 0..self.cluster.agents.len() {
            wait::until("every path to work", LIMIT, || {
                let outcome = self.program(agent).ask(&["ping"])?;
                ensure!(outcome.code() == Some(0), "{outcome}");
                Ok(Some(()))
            })
            .unwrap();
        }
    }

    /// Stops the process of an agent, so that it repairs nothing.
    pub fn stop(&mut self, agent: usize) {
        let pid = Pid::from_raw(self.cluster.agents[agent].pid().unwrap() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        self.stopped.push(pid);
    }

    /// Lets all agents go on, and waits until they have repaired their hosts.
    pub fn go_on(&mut self) {
        for pid in self.stopped.drain(..) {
            kill(pid, Signal::SIGCONT).unwrap();
        }
        self.wait_well();
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for pid in self.stopped.drain(..) {
            let _ = kill(pid, Signal::SIGCONT);
        }
    }
}
