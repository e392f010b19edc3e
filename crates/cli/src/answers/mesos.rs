//! Answers of Mesos's own endpoints, as far as the program uses them.

use serde::Deserialize;

/// Answer of the master's `/slaves`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Slaves {
    /// Registered agents.
    #[serde(default)]
    pub slaves: Vec<Slave>,
}

/// Agent in the master's `/slaves`.
#[derive(Clone, Debug, Deserialize)]
pub struct Slave {
    /// Id.
    pub id: String,
    /// Hostname.
    pub hostname: String,
    /// Libprocess id, `slave(1)@ip:port`.
    pub pid: String,
    /// True if the agent is connected.
    #[serde(default)]
    pub active: bool,
}

impl Slave {
    /// Returns the address of the agent, `ip:port`.
    pub fn address(&self) -> Option<&str> {
        Some(self.pid.rsplit_once('@')?.1)
    }
}
