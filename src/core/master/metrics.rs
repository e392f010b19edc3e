//! The master's numbers.

use super::{Master, Phase};
use crate::core::allocator::Exhausted;
use crate::core::message::Named;
use crate::core::metrics::Metric;
use crate::wire::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, RegisterAgentMessage, UpdateAgentOverlaysMessage,
};

/// What happened since this machine was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// VTEP addresses that were wanted and not there, by family.
    pub ips: [u64; 2],
    /// Subnets that were wanted and not there, by family.
    pub subnets: [u64; 2],
    /// `RegisterAgentMessage`s.
    pub registers: Taken,
    /// `AgentRegisteredMessage`s.
    pub reports: Taken,
    /// `UpdateAgentOverlaysMessage`s sent.
    pub updates_sent: u64,
    /// `AgentRegisteredAcknowledgement`s sent.
    pub acknowledgements_sent: u64,
}

/// Messages of one kind that came.
#[derive(Debug, Default)]
pub struct Taken {
    /// All of them.
    pub received: u64,
    /// Those of them that were of no use.
    pub dropped: u64,
}

impl Counters {
    /// A message is sent.
    pub fn sent(&mut self, name: &str) {
        match name {
            UpdateAgentOverlaysMessage::NAME => self.updates_sent += 1,
            AgentRegisteredAcknowledgement::NAME => self.acknowledgements_sent += 1,
            _ => {}
        }
    }

    /// Messages were of no use.
    pub fn dropped(&mut self, name: &str, count: u64) {
        match name {
            RegisterAgentMessage::NAME => self.registers.dropped += count,
            AgentRegisteredMessage::NAME => self.reports.dropped += count,
            _ => {}
        }
    }

    /// Something could not be given.
    pub fn exhausted(&mut self, exhausted: &Exhausted) {
        let counters = if exhausted.overlay.is_none() { &mut self.ips } else { &mut self.subnets };
        counters[usize::from(exhausted.range.addr().is_ipv6())] += 1;
    }
}

impl Master {
    pub(super) fn all_metrics(&self) -> Vec<Metric> {
        let counted = &self.out.counters;
        let count = |name: &'static str, count: u64| Metric::count(name, count);
        vec![
            Metric::flag("overlay/master/recovering", matches!(self.phase, Phase::Recovering(_))),
            count("overlay/master/ip_allocation_failures", counted.ips[0]),
            count("overlay/master/ip6_allocation_failures", counted.ips[1]),
            count("overlay/master/subnet_allocation_failures", counted.subnets[0]),
            count("overlay/master/subnet6_allocation_failures", counted.subnets[1]),
            // A bridge is half of a subnet that is there.
            count("overlay/master/bridge_allocation_failures", 0),
            count("overlay/master/internal/register_agent_messages_received", counted.registers.received),
            count("overlay/master/internal/register_agent_messages_dropped", counted.registers.dropped),
            count("overlay/master/internal/update_agent_overlays_messages_sent", counted.updates_sent),
            count("overlay/master/internal/agent_registered_messages_received", counted.reports.received),
            count("overlay/master/internal/agent_registered_messages_dropped", counted.reports.dropped),
            count(
                "overlay/master/internal/agent_registered_acknowledgements_sent",
                counted.acknowledgements_sent,
            ),
        ]
    }
}
