//! Survey of the firewall for operators: reads, and changes nothing.

use overlay_core::host_api::desired::{Desired, Firewall as Choice};
use overlay_core::util::family::Family;

use super::attempt::Attempt;
use super::desired::FirewallDesired;
use super::op::NatBackend;
use super::others;
use super::tools::Tools;

/// Firewall of a host, as far as it concerns the overlays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallSurvey {
    /// Tool that masquerading is written with: `iptables and ipset`, or `nft`. The error says which
    /// tools are missing.
    pub tool: Result<&'static str, String>,
    /// Firewalls that drop packets between the overlays or of the tunnels: what drops them, and the
    /// remedy.
    pub obstacles: Vec<(String, String)>,
    /// Parts that cannot be read, one sentence each.
    pub unreadable: Vec<String>,
}

/// Looks at the firewall of the network namespace of the calling thread. `desired` names the devices and
/// ranges of the overlays.
pub fn survey_firewall(desired: &Desired) -> FirewallSurvey {
    let tools = Tools::find();
    let content = FirewallDesired::from_host(desired);
    let is_ours = desired.firewall != Choice::None;
    let choice = if is_ours {
        desired.firewall
    } else {
        Choice::Auto
    };
    let tool = tools.choose_backend(choice);
    let mut attempt = Attempt::new(&content, choice, &tools);
    let rules = attempt.look(*tool.as_ref().unwrap_or(&NatBackend::Nftables));
    let mut obstacles = others::obstacles(&content, &rules);
    if !is_ours {
        // Nobody writes the rules that pass what these drop.
        obstacles.extend(Family::BOTH.into_iter().filter_map(|family| {
            others::of_used_iptables(&content, family, rules.rules.get(&family)?)
        }));
    }
    let obstacles = obstacles.into_iter().map(|obstacle| {
        let sentence = obstacle.sentence;
        // Sentences of the agent have the remedy behind the first semicolon that begins with "let".
        match sentence.split_once("; let them") {
            Some((what, remedy)) => (what.to_owned(), format!("let them{remedy}")),
            None => (sentence, String::new()),
        }
    });
    FirewallSurvey {
        obstacles: obstacles.collect(),
        tool: tool.map(|backend| match backend {
            NatBackend::Iptables => "iptables and ipset",
            NatBackend::Nftables => "nft",
        }),
        unreadable: attempt
            .faults
            .into_iter()
            .map(|fault| fault.problem.text)
            .collect(),
    }
}
