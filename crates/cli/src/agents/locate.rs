//! Agents in Mesos: their ids, hostnames and ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use overlay_core::util::line::{list_first, one_line};
use schemars::JsonSchema;
use serde::Serialize;

use crate::answers::mesos;
use crate::connection::{AskError, Master};
use crate::output::Failure;

/// Port of Mesos agents, unless they are told another one.
const AGENT_PORT: u16 = 5051;
/// Number of agents that a sentence names.
const NAMED: usize = 10;

/// Agent, as Mesos knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Located {
    /// Id in Mesos.
    pub id: String,
    /// Hostname in Mesos.
    pub hostname: String,
    /// Address of its endpoints, `ip:port`.
    pub address: String,
    /// True if it is connected to the Mesos master.
    pub active: bool,
}

/// Agents by address.
#[derive(Debug, Default)]
pub struct Slaves(BTreeMap<Ipv4Addr, Located>);

impl Slaves {
    /// Asks the Mesos master for all agents.
    ///
    /// # Errors
    /// The master does not answer it.
    pub fn ask(master: &Master) -> Result<Slaves, AskError> {
        Ok(Slaves::new(master.json("/slaves")?))
    }

    fn new(slaves: mesos::Slaves) -> Slaves {
        let plain = |text: &str| one_line(text, 256).into_owned();
        let located = slaves.slaves.into_iter().filter_map(|slave| {
            let address = slave.address()?.to_owned();
            let (ip, port) = address.rsplit_once(':')?;
            let _: u16 = port.parse().ok()?;
            let ip: Ipv4Addr = ip.parse().ok()?;
            let located = Located {
                id: plain(&slave.id),
                hostname: plain(&slave.hostname),
                active: slave.active,
                address,
            };
            Some((ip, located))
        });
        Slaves(located.collect())
    }

    /// Returns an agent by its address.
    pub fn get(&self, ip: Ipv4Addr) -> Option<&Located> {
        self.0.get(&ip)
    }

    /// Returns the address of the agent with this hostname or id; `None`: there is none.
    ///
    /// # Errors
    /// Several agents have this hostname.
    pub fn find(&self, name: &str) -> Result<Option<Ipv4Addr>, Failure> {
        let is_named = |located: &Located| located.hostname == name || located.id == name;
        let agents = self.0.iter().filter(|(_, located)| is_named(located));
        let ips: Vec<Ipv4Addr> = agents.map(|(ip, _)| *ip).collect();
        match ips[..] {
            [] => Ok(None),
            [ip] => Ok(Some(ip)),
            _ => {
                let ips: Vec<String> = ips.iter().map(Ipv4Addr::to_string).collect();
                let ips = list_first(&ips, NAMED);
                Err(
                    format!("several agents are named {name}; give the address of one: {ips}")
                        .into(),
                )
            }
        }
    }

    /// Returns the address of an agent's endpoints, `ip:port`.
    pub fn endpoint(&self, ip: Ipv4Addr) -> String {
        let located = self.get(ip);
        located.map_or_else(|| usual_endpoint(ip), |located| located.address.clone())
    }
}

/// Returns the address of an agent's endpoints, with the usual port.
fn usual_endpoint(ip: Ipv4Addr) -> String {
    format!("{}:{AGENT_PORT}", IpAddr::from(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_found_by_address_hostname_and_id() {
        let answer = r#"{"slaves":[
            {"id":"S1","hostname":"one.example","pid":"slave(1)@10.0.0.1:6051","active":true},
            {"id":"S2","hostname":"two","pid":"no address"},
            {"id":"S3","hostname":"three","pid":"slave(1)@[::1]:5051"}]}"#;
        let slaves = Slaves::new(serde_json::from_str(answer).unwrap());
        let first = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(slaves.find("one.example"), Ok(Some(first)));
        assert_eq!(slaves.find("S1"), Ok(Some(first)));
        assert_eq!(slaves.find("two"), Ok(None));
        assert_eq!(slaves.endpoint(first), "10.0.0.1:6051");
        assert_eq!(slaves.endpoint(Ipv4Addr::new(10, 0, 0, 2)), "10.0.0.2:5051");
    }

    #[test]
    fn a_hostname_of_several_agents_names_none() {
        let answer = r#"{"slaves":[
            {"id":"S1","hostname":"localhost","pid":"slave(1)@10.0.0.1:5051"},
            {"id":"S2","hostname":"localhost","pid":"slave(1)@10.0.0.2:5051"}]}"#;
        let slaves = Slaves::new(serde_json::from_str(answer).unwrap());
        let Failure(sentence) = slaves.find("localhost").unwrap_err();
        assert!(
            sentence.ends_with("give the address of one: 10.0.0.1, 10.0.0.2"),
            "{sentence}"
        );
        assert!(slaves.find("S2").unwrap().is_some());
    }
}
