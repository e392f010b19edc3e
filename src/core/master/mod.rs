//! The master's state machine: who leads, what the log holds, who registered.

use super::config::MasterConfig;
use super::{Effect, Input, Machine, Time, Upid};

/// The overlay master of one Mesos master.
#[derive(Debug)]
pub struct Master {
    _config: MasterConfig,
    _me: Upid,
}

impl Master {
    /// A master that knows of no leader yet. `me` is its own pid, `seed` the source
    /// of its randomness.
    pub fn new(config: MasterConfig, me: Upid, seed: u64) -> Master {
        let _ = seed;
        Master { _config: config, _me: me }
    }
}

impl Machine for Master {
    fn handle(&mut self, _now: Time, _input: Input) {}

    fn poll_effect(&mut self) -> Option<Effect> {
        None
    }

    fn poll_timeout(&self) -> Option<Time> {
        None
    }
}
