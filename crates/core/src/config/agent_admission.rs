//! The agents that a master serves, and for how long: `agent_addresses` and `agent_lease`.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::duration;
use super::reader::{Field, Object, Reported};

/// Lease below which a warning is logged. C++ agents wait up to ten minutes between two
/// registrations, so a healthy one can be silent for that long after a change of masters.
const SHORT_LEASE: Duration = Duration::from_secs(15 * 60);

/// The addresses that agents may have: `agent_addresses`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentAddresses {
    /// The permitted networks. If empty, all addresses are permitted.
    nets: Vec<Ipv4Net>,
}

impl AgentAddresses {
    /// Returns whether an agent with this address is served.
    pub fn admit(&self, ip: Ipv4Addr) -> bool {
        self.nets.is_empty() || self.nets.iter().any(|net| net.contains(&ip))
    }

    pub(super) fn read(top: &Object<'_>) -> Result<AgentAddresses, Reported> {
        const KEY: &str = "agent_addresses";
        let remedy = "write IPv4 networks or addresses, such as [\"10.0.0.0/8\", \"192.168.7.9\"]";
        let Some(nets) = top.strings(KEY, remedy, network)? else {
            return Ok(AgentAddresses::default());
        };
        if nets.is_empty() {
            let remedy = "name the networks that agents are in, or remove agent_addresses to serve all agents";
            return Err(top.wrong(KEY, "is empty: no agent would be served", remedy));
        }
        Ok(AgentAddresses { nets })
    }
}

fn network(text: &str) -> Result<Ipv4Net, String> {
    let net = text
        .parse()
        .or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from));
    match net {
        Ok(net) if net.addr() == net.network() => Ok(net),
        Ok(net) => Err(format!(
            "has bits set after its prefix (is \"{}\" meant?)",
            net.trunc()
        )),
        Err(_) if text.contains(':') => {
            Err("is not IPv4; agents are known by their IPv4 addresses".to_owned())
        }
        Err(_) => Err("is neither a network nor an address".to_owned()),
    }
}

/// Reads `agent_lease`. Without one, agents keep their allocations until they are deleted.
pub(super) fn lease(top: &Object<'_>) -> Field<Duration> {
    const KEY: &str = "agent_lease";
    let lease = top.parsed(KEY, duration::REMEDY, duration::parse)?;
    if lease.is_some_and(|lease| lease < SHORT_LEASE) {
        top.warn(
            KEY,
            "shorter than 15 minutes: a healthy agent that is slow to return after a change of masters may \
             lose the addresses of its containers",
        );
    }
    Ok(lease)
}
