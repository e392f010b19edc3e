//! Results of the reconciliation of host and container engine.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::desired::Desired;
use super::engine::EngineDesired;
use super::problem::{Problem, ProblemKind};
use super::usage::InUse;

/// Result of an [`Effect::ApplyHost`](crate::Effect::ApplyHost).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostReport {
    /// Generation of the effect.
    pub generation: u64,
    /// Errors of the desired overlays that are not in place, by name, one sentence each. An
    /// error of the whole host may be the reason.
    pub overlays: BTreeMap<String, String>,
    /// Problems that do not concern a single overlay (VXLAN device, forwarding, a peer).
    pub host: Vec<Problem>,
    /// Sentences about bridges that are not desired and still have containers, by name of the
    /// bridge.
    pub draining_bridges: BTreeMap<String, String>,
    /// Names of overlays that are not desired and whose objects the host keeps, because
    /// containers use them.
    pub draining_overlays: BTreeSet<String>,
    /// Networks of the host's devices that are not the overlays'.
    pub networks: BTreeSet<IpNet>,
    /// Number of operations, without those on peers that the kernel rejected; 0: the host
    /// already matched as far as it can.
    pub operations: usize,
}

impl HostReport {
    /// Returns the report of an attempt that did nothing, for the reason in `sentence`.
    pub fn failed(desired: &Desired, sentence: String) -> HostReport {
        let overlays = desired
            .overlays
            .keys()
            .map(|name| (name.clone(), sentence.clone()))
            .collect();
        HostReport {
            overlays,
            host: vec![Problem::new(ProblemKind::Reconciliation, "", sentence)],
            ..HostReport::default()
        }
    }

    /// Returns whether two reports differ at most in generation and number of operations.
    pub fn says_the_same_as(&self, other: &HostReport) -> bool {
        (&self.overlays, &self.host) == (&other.overlays, &other.host)
            && self.draining_bridges == other.draining_bridges
            && self.draining_overlays == other.draining_overlays
            && self.networks == other.networks
    }

    /// Returns whether the host matches the desired state.
    pub fn is_ok(&self) -> bool {
        self.overlays.is_empty() && self.host.is_empty()
    }
}

/// Result of an [`Effect::ApplyEngine`](crate::Effect::ApplyEngine).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineReport {
    /// Generation of the effect.
    pub generation: u64,
    /// Reason why the engine could not be reached; `None`: it was.
    pub engine: Option<String>,
    /// Errors of the desired networks that are not in place, by name, one sentence each.
    /// Networks have the names of their overlays.
    pub overlays: BTreeMap<String, String>,
    /// Networks that are kept because containers use them, and other conditions that operators
    /// should know. The engine's worker handles these without another request.
    pub notes: Vec<Problem>,
    /// Names of networks of this module that are not desired and still exist.
    pub draining_networks: BTreeSet<String>,
    /// Addresses in use of the desired networks.
    pub usage: BTreeMap<String, InUse>,
    /// Number of operations; 0: the engine already matched.
    pub operations: usize,
}

impl EngineReport {
    /// Returns the report of an attempt that did nothing, for the reason in `sentence`.
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

    /// Returns whether all networks are as desired.
    pub fn is_ok(&self) -> bool {
        self.overlays.is_empty() && self.engine.is_none()
    }
}
