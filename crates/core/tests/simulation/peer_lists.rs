//! Checks of lists of peers: each message must lead from a list that the agent can have to the
//! list in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;
use overlay_core::host_api::desired::Peer;
use overlay_core::proto::internal as wire;
use overlay_core::proto::internal::{PeersVersion, UpdatePeersMessage};
use overlay_core::protocol::peer_list_codec::unpack;

/// Peers by underlay address.
pub type List = BTreeMap<String, Peer>;

/// Epoch and version.
type Version = (u64, u64);

/// All lists that were sent.
#[derive(Default)]
pub struct Lists {
    lists: BTreeMap<Version, Rc<List>>,
    /// Versions that each agent was sent or reported, by its address.
    had: BTreeSet<(String, Version)>,
    /// Latest version of each epoch.
    newest: BTreeMap<u64, u64>,
}

fn pair(version: PeersVersion) -> Version {
    (version.epoch(), version.version())
}

/// Parses a peer of a message.
pub fn read(told: &wire::Peer) -> Peer {
    let mut vtep_ips: Vec<IpAddr> = vec![told.vtep_ip.parse().unwrap()];
    vtep_ips.extend(told.vtep_ip6.iter().map(|ip| ip.parse::<IpAddr>().unwrap()));
    let subnets = told
        .subnets
        .iter()
        .flat_map(|subnet| [&subnet.subnet, &subnet.subnet6]);
    let mut subnets: Vec<IpNet> = subnets
        .flatten()
        .map(|subnet| subnet.parse().unwrap())
        .collect();
    subnets.sort();
    Peer {
        vtep_ips,
        vtep_mac: told.vtep_mac.parse().unwrap(),
        subnets,
    }
}

/// Returns all peers of a message, packed or not.
pub fn peers(message: &UpdatePeersMessage) -> Vec<wire::Peer> {
    let packed = message
        .packed
        .as_deref()
        .map(|packed| unpack(packed).expect("a master packs well"));
    message
        .peers
        .iter()
        .cloned()
        .chain(packed.into_iter().flatten())
        .collect()
}

impl Lists {
    /// Records the version that an agent reports.
    pub fn says(&mut self, agent: String, version: PeersVersion) {
        self.had.insert((agent, pair(version)));
    }

    /// Returns whether this is the latest version of its epoch.
    pub fn is_newest(&self, version: PeersVersion) -> bool {
        self.newest.get(&version.epoch()) == Some(&version.version())
    }

    /// Applies a message to an agent. Returns the list that the agent has afterwards.
    pub fn told(
        &mut self,
        agent: String,
        message: &UpdatePeersMessage,
    ) -> Result<Rc<List>, String> {
        let to = pair(message.version);
        let told = peers(message)
            .into_iter()
            .map(|peer| (peer.ip.clone(), read(&peer)));
        let list = match message.base {
            None => told.collect(),
            Some(base) => {
                let from = message.since.map_or((to.0, base), pair);
                if base > to.1 {
                    return Err(format!("tells {agent} of the past: {base} to {to:?}"));
                }
                if !self.had.contains(&(agent.clone(), from)) {
                    return Err(format!(
                        "builds on {from:?}, which {agent} was not told and has not said"
                    ));
                }
                let before = self
                    .lists
                    .get(&from)
                    .ok_or("builds on a list that nobody was told")?
                    .clone();
                let mut list = List::clone(&before);
                // The same list has two numbers.
                self.lists.entry((to.0, base)).or_insert(before);
                message.removed.iter().for_each(|ip| _ = list.remove(ip));
                list.extend(told);
                list
            }
        };
        let newest = self.newest.entry(to.0).or_default();
        if to.1 < *newest {
            return Err(format!("tells {agent} of version {to:?} after {newest}"));
        }
        *newest = to.1;
        self.had.insert((agent.clone(), to));
        let known = self
            .lists
            .entry(to)
            .or_insert_with(|| Rc::new(list.clone()));
        match **known == list {
            true => Ok(known.clone()),
            false => Err(format!(
                "leads {agent} to {list:?} as version {to:?}, and others to {known:?}"
            )),
        }
    }
}
