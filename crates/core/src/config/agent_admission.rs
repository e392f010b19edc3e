//! Which agents a master serves, and what becomes of those that do not come back:
//! `agent_addresses` and `agent_lease`.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::duration;
use super::reader::{ConfigError, Object};

/// Agents of the predecessor wait for up to ten minutes between two registrations.
/// After a change of masters one may be unheard of for that long, and well.
const SHORT_LEASE: Duration = Duration::from_secs(15 * 60);

/// `agent_addresses`: the addresses that agents may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentAddresses {
    /// Empty: any.
    nets: Vec<Ipv4Net>,
}

impl AgentAddresses {
    /// Whether an agent may have this one.
    pub fn admit(&self, ip: Ipv4Addr) -> bool {
        self.nets.is_empty() || self.nets.iter().any(|net| net.contains(&ip))
    }

    pub(super) fn read(top: &Object<'_>) -> Result<AgentAddresses, ConfigError> {
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
            "has bits set behind its prefix (is \"{}\" meant?)",
            net.trunc()
        )),
        Err(_) if text.contains(':') => {
            Err("is not IPv4; agents are known by their IPv4 addresses".to_owned())
        }
        Err(_) => Err("is neither a network nor an address".to_owned()),
    }
}

/// `agent_lease`; `None`: agents keep what they have until they are deleted.
pub(super) fn lease(top: &Object<'_>) -> Result<Option<Duration>, ConfigError> {
    const KEY: &str = "agent_lease";
    let lease = top.parsed(KEY, duration::REMEDY, duration::parse)?;
    if lease.is_some_and(|lease| lease < SHORT_LEASE) {
        top.warn(
            KEY,
            "shorter than 15 minutes: an agent that is well, but slow to return after a change of masters, \
             may lose what its containers use",
        );
    }
    Ok(lease)
}
