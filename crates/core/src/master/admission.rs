//! Which processes may be agents, by what a registration says of its sender.
//!
//! The address of an agent becomes a route into the tunnel on every host, so it must be one that
//! a host on the underlay can have.

use std::net::{IpAddr, Ipv4Addr};

use super::hosts::taken_ranges;
use super::ledger::Ledger;
use super::trust::Trust;
use super::{Leadership, Master};
use crate::util::special_purpose;
use crate::util::special_purpose::SpecialRange;
use crate::{AGENT_ID, Level, Upid};

/// Returns the address by which a registering agent is known. `me` is the master.
///
/// # Errors
/// The sender cannot be an agent. The error is a phrase.
pub fn check_sender(from: &Upid, me: &Upid) -> Result<Ipv4Addr, String> {
    if from.id != AGENT_ID {
        return Err(format!("agents are called {AGENT_ID}"));
    }
    if from.address.port() == 0 {
        return Err("no process has port 0".to_owned());
    }
    let IpAddr::V4(ip) = from.address.ip() else {
        return Err("agents need an IPv4 address, and this is an IPv6 one".to_owned());
    };
    match special_purpose::of_host(ip.into(), me.address.ip()) {
        Some(range) => Err(no_agent_in(&range, ip)),
        None => Ok(ip),
    }
}

fn no_agent_in(range: &SpecialRange, ip: Ipv4Addr) -> String {
    let remedy = range.remedy(ip.into());
    format!("no agent has an address in {range}{remedy}")
}

/// Returns the reason, as a phrase, why an agent cannot have this address: it belongs to
/// containers or VTEPs. A range that also contains the address of the master, `me`, excludes
/// nobody: then the networks overlap the underlay, and addresses do not tell them apart.
fn taken(ip: Ipv4Addr, me: IpAddr, ledger: &Ledger) -> Option<String> {
    let ip = IpAddr::V4(ip);
    let range =
        taken_ranges(ledger).find(|range| range.net.contains(&ip) && !range.net.contains(&me))?;
    Some(format!(
        "its address lies in {}, the range of {}",
        range.net, range.owner
    ))
}

/// Returns the reason, as a phrase, why an agent cannot have an address of loopback: there is an
/// agent that does not. Each of them would send into its own host what is for the other one.
/// Provisional agents do not count: anybody can make one up.
fn beside_other_hosts(ip: Ipv4Addr, ledger: &Ledger) -> Option<String> {
    let range = special_purpose::of_address(ip.into()).filter(|_| ip.is_loopback())?;
    let exists = |other: &Ipv4Addr| ledger.trust(*other) != Some(Trust::Provisional);
    let mut others = ledger.agents().filter(|other| !other.is_loopback());
    let other = others.find(exists)?;
    Some(format!(
        "its address lies in {range}, and agent {other} is on another host{}; if agent {other} is gone for good, \
         delete it with /overlay-master/agents/delete",
        range.remedy(ip.into())
    ))
}

impl Master {
    /// Drops the registration of a process that cannot be an agent, without an answer.
    pub(super) fn drop_registration(&mut self, from: &Upid, reason: &str) {
        self.out.counters.registers.dropped += 1;
        self.out.warn("not an agent", || {
            format!("Dropped the registration of {from}: {reason}")
        });
    }

    /// Returns why a serving master cannot serve an agent at this address. An agent that has an
    /// allocation is served.
    pub(super) fn why_taken(&self, ip: Ipv4Addr) -> Option<String> {
        let super::Phase::Serving(leadership) = &self.phase else {
            return None;
        };
        let ledger = leadership.ledger();
        if ledger.allocation(ip).is_some() {
            return None;
        }
        beside_other_hosts(ip, ledger).or_else(|| taken(ip, self.me.address.ip(), ledger))
    }

    /// Warns if this master has an address of loopback, and an agent on another host registers.
    pub(super) fn warn_of_own_address(&mut self, ip: Ipv4Addr) {
        let me = self.me.address.ip();
        if me.is_loopback() && !ip.is_loopback() {
            self.out.warn("own address", || {
                format!(
                    "Agent {ip} registers with this master, whose own address {me} is one of loopback: other \
                     hosts cannot reach it; start the Mesos master with --ip or LIBPROCESS_IP, the address of its \
                     host on the network (/etc/hosts may map the name of the host to {me})"
                )
            });
        }
    }

    /// Warns of agents in the log whose addresses no new agent may have. They were admitted by
    /// an earlier release, or before an overlay got this range.
    pub(super) fn warn_of_doubtful_agents(&mut self, leadership: &Leadership) {
        let ledger = leadership.ledger();
        let me = self.me.address.ip();
        let why = |ip: Ipv4Addr| {
            let special = special_purpose::of_host(ip.into(), me);
            let special = special.map(|range| format!("its address lies in {range}"));
            special
                .or_else(|| beside_other_hosts(ip, ledger))
                .or_else(|| taken(ip, me, ledger))
        };
        let doubtful = ledger.agents().filter_map(|ip| Some((ip, why(ip)?)));
        let doubtful: Vec<(Ipv4Addr, String)> = doubtful.collect();
        if let Some((first, why)) = doubtful.first() {
            let line = format!(
                "Agents in the replicated log with addresses that no host should have: {}, among them {first} \
                 ({why}). They keep their subnets; delete those that are no agents of this cluster with \
                 /overlay-master/agents/delete",
                doubtful.len()
            );
            self.out.log(Level::Warning, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns a pid of any form, also one that the C ABI does not let in.
    fn pid(text: &str) -> Upid {
        let (id, address) = text.split_once('@').unwrap();
        Upid::new(id, address.parse().unwrap())
    }

    fn sender(from: &str, me: &str) -> Result<Ipv4Addr, String> {
        check_sender(&pid(from), &pid(me))
    }

    const MASTER: &str = "overlay-master@10.0.0.250:5050";

    #[test]
    fn only_agents_on_the_underlay_register() {
        let agent = |ip: &str| sender(&format!("overlay-agent@{ip}:5051"), MASTER);
        for ip in [
            "10.0.0.1",
            "192.168.7.9",
            "8.8.8.8",
            "100.64.0.1",
            "10.0.0.250",
        ] {
            assert_eq!(agent(ip), Ok(ip.parse().unwrap()));
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(agent(ip).unwrap_err().contains("range"), "{ip}");
        }
        for (from, word) in [
            ("overlay-agent@[fd01::1]:5051", "IPv4"),
            ("overlay-agent2@10.0.0.1:5051", "called overlay-agent"),
            ("slave(1)@10.0.0.1:5051", "called overlay-agent"),
        ] {
            let reason = sender(from, MASTER).unwrap_err();
            assert!(reason.contains(word), "{from}: {reason}");
        }
    }

    #[test]
    fn no_process_has_port_0() {
        let from = Upid::new(AGENT_ID, "10.0.0.1:0".parse().unwrap());
        let reason = check_sender(&from, &pid(MASTER)).unwrap_err();
        assert_eq!(reason, "no process has port 0");
    }

    #[test]
    fn agents_are_on_loopback_where_the_master_is() {
        let local = "overlay-agent@127.0.1.1:5051";
        assert!(sender(local, "overlay-master@127.0.0.1:5050").is_ok());
        assert_eq!(
            sender(local, MASTER).unwrap_err(),
            "no agent has an address in the loopback range 127.0.0.0/8; start its Mesos agent with --ip or \
             LIBPROCESS_IP, the address of its host on the network (/etc/hosts may map the name of the host to \
             127.0.1.1)"
        );
    }

    proptest! {
        #[test]
        fn who_registers_has_the_address_of_a_host(from: u32, me: u32, port: u16) {
            let pid = |id: &str, ip: u32, port| Upid::new(id, (Ipv4Addr::from(ip), port).into());
            let me = pid("overlay-master", me, 5050);
            if let Ok(ip) = check_sender(&pid(AGENT_ID, from, port), &me) {
                prop_assert_eq!(u32::from(ip), from);
                prop_assert!(port != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast());
                prop_assert!(!ip.is_loopback() || me.address.ip().is_loopback());
            }
        }
    }
}
