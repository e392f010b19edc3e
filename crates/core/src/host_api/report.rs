//! Results of host and container-engine reconciliation.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::Desired;
use super::engine::EngineDesired;
use super::usage::InUse;

/// What became of one [`Effect::ApplyHost`](crate::Effect::ApplyHost).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostReport {
    /// Which one.
    pub generation: u64,
    /// For every desired overlay that is not right: why, in one sentence. What is
    /// wrong with the host as a whole may be the reason.
    pub overlays: BTreeMap<String, String>,
    /// What is not right with the host beyond one overlay (the VXLAN device,
    /// forwarding, a peer), one sentence each.
    pub host: Vec<String>,
    /// Overlays that are gone but for their containers, one sentence each.
    pub draining: Vec<String>,
    /// The names of overlays that are not desired, and of which the host still has
    /// something because containers use it.
    pub used: BTreeSet<String>,
    /// Operations that it took, without those that the kernel refused of some peers; 0: the host
    /// was right already, as far as it can be.
    pub operations: usize,
}

impl HostReport {
    /// Nothing of `desired` could be done, for one reason.
    pub fn failed(desired: &Desired, sentence: String) -> HostReport {
        let overlays = desired
            .overlays
            .keys()
            .map(|name| (name.clone(), sentence.clone()))
            .collect();
        HostReport {
            overlays,
            host: vec![sentence],
            ..HostReport::default()
        }
    }

    /// Whether two reports differ in numbers only.
    pub fn says_the_same_as(&self, other: &HostReport) -> bool {
        (&self.overlays, &self.host) == (&other.overlays, &other.host)
            && (&self.draining, &self.used) == (&other.draining, &other.used)
    }

    /// Whether everything is as desired.
    pub fn is_ok(&self) -> bool {
        self.overlays.is_empty() && self.host.is_empty()
    }
}

/// What became of one [`Effect::ApplyEngine`](crate::Effect::ApplyEngine).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineReport {
    /// Which one.
    pub generation: u64,
    /// Why nothing at all could be done: the engine is absent or does not answer.
    pub engine: Option<String>,
    /// For every desired network that is not right: why, in one sentence. The
    /// overlays and their networks have the same names.
    pub overlays: BTreeMap<String, String>,
    /// What else an operator should know, one sentence each: a network that is kept
    /// because containers use it. It is looked after without being asked for again.
    pub notes: Vec<String>,
    /// The names of networks of ours that are not desired and still there.
    pub used: BTreeSet<String>,
    /// Addresses in use of the desired networks.
    pub usage: BTreeMap<String, InUse>,
    /// Operations that it took; 0: the engine was right already.
    pub operations: usize,
}

impl EngineReport {
    /// Nothing of `desired` could be done, for one reason.
    pub fn failed(desired: &EngineDesired, sentence: String) -> EngineReport {
        let overlays = desired
            .networks
            .keys()
            .map(|name| (name.clone(), sentence.clone()))
            .collect();
        EngineReport {
            overlays,
            engine: Some(sentence),
            ..EngineReport::default()
        }
    }

    /// Whether every desired network is right.
    pub fn is_ok(&self) -> bool {
        self.overlays.is_empty() && self.engine.is_none()
    }
}
