//! What the agents of a generator know, and what they answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Error, Result, bail};
use overlay_core::proto::agent_overlay_info::State;
use overlay_core::proto::agent_overlay_info::state::Status;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredAcknowledgement, AgentRegisteredMessage,
    PeersReceivedMessage, PeersVersion, RegisterAgentMessage, RegistrationRefusedMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::protocol::peer_list_codec::unpack;
use prost::Message as _;

use super::wire::Message;

/// What one agent went through.
#[derive(Debug, Default)]
pub struct Agent {
    /// The master told it its overlays.
    pub answered: Option<Instant>,
    /// The master acknowledged its report.
    pub registered: Option<Instant>,
    /// Its position in the history of peers.
    pub version: PeersVersion,
    /// It is gone for good.
    pub left: bool,
}

impl Agent {
    /// Its registration.
    pub fn registration(&self) -> Vec<u8> {
        let network_config = AgentNetworkConfig {
            docker_bridge: Some(true),
            ..Default::default()
        };
        let (peers, unpacks_peers) = (Some(self.version), Some(true));
        RegisterAgentMessage {
            network_config,
            peers,
            unpacks_peers,
        }
        .encode_to_vec()
    }

    /// Begins anew, with what it knows of its peers.
    pub fn start(&mut self) {
        *self = Agent {
            version: self.version,
            ..Agent::default()
        };
    }
}

/// What the messages about peers said, read once for all who got the same.
#[derive(Debug, Default)]
pub struct History {
    epoch: u64,
    /// Messages of this epoch that were read, by their version and their base.
    read: BTreeSet<(u64, Option<u64>)>,
    /// Who was in the list of the epoch before.
    former: BTreeSet<Ipv4Addr>,
    /// The version since which a peer is in the list.
    appeared: BTreeMap<Ipv4Addr, u64>,
    /// The version since which it is not.
    removed: BTreeMap<Ipv4Addr, u64>,
}

impl History {
    /// Another master leads.
    pub fn end_epoch(&mut self) {
        let former = std::mem::take(&mut self.appeared).into_keys().collect();
        *self = History {
            former,
            ..History::default()
        };
    }

    /// Whether the content of this message is known; the beginning of it is enough to tell.
    pub fn knows(&self, prefix: &[u8]) -> bool {
        position(prefix).is_some_and(|Position { at, base, .. }| {
            at.epoch() == self.epoch && self.read.contains(&(at.version(), base))
        })
    }

    /// The version that an agent needs to know all of `ips`; `None`: nobody was told yet.
    pub fn version_with(&self, ips: impl Iterator<Item = Ipv4Addr>) -> Option<PeersVersion> {
        let versions = ips.map(|ip| self.appeared.get(&ip).copied());
        let version = versions.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        Some(PeersVersion {
            epoch: Some(self.epoch),
            version: Some(version),
            ..Default::default()
        })
    }

    /// The version that an agent needs to know that `ip` left.
    pub fn version_without(&self, ip: Ipv4Addr) -> Option<PeersVersion> {
        let version = self.removed.get(&ip).copied()?;
        Some(PeersVersion {
            epoch: Some(self.epoch),
            version: Some(version),
            ..Default::default()
        })
    }

    fn take(&mut self, body: &[u8]) -> Result<()> {
        if self.knows(body) {
            return Ok(());
        }
        let mut message = UpdatePeersMessage::decode(body).context("an UpdatePeersMessage")?;
        if let Some(packed) = message.packed.take() {
            message.peers.extend(unpack(&packed).map_err(Error::msg)?);
        }
        let (epoch, version) = (message.version.epoch(), message.version.version());
        if epoch != self.epoch {
            // Unless it has ended before: then nothing is left to remember.
            if self.epoch != 0 {
                self.end_epoch();
            }
            self.epoch = epoch;
        }
        if let (Some(_), Some(base)) = (message.since, message.base) {
            // The list before said the same.
            self.former
                .iter()
                .for_each(|ip| _ = self.appeared.entry(*ip).or_insert(base));
        }
        self.read.insert((version, message.base));
        for peer in message.peers {
            let ip: Ipv4Addr = peer
                .ip
                .parse()
                .with_context(|| format!("the peer {:?}", peer.ip))?;
            let since = self.appeared.entry(ip).or_insert(version);
            *since = version.min(*since);
        }
        for ip in message.removed {
            let ip: Ipv4Addr = ip.parse().with_context(|| format!("the peer {ip:?}"))?;
            self.appeared.remove(&ip);
            self.removed.entry(ip).or_insert(version);
        }
        Ok(())
    }
}

/// Where an `UpdatePeersMessage` leads, and from where.
struct Position {
    at: PeersVersion,
    base: Option<u64>,
    since: Option<PeersVersion>,
}

/// What stands at the beginning of an `UpdatePeersMessage`.
fn position(prefix: &[u8]) -> Option<Position> {
    use prost::encoding::{WireType, decode_key, decode_varint};
    fn version(rest: &mut &[u8]) -> Option<PeersVersion> {
        let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
        let (version, behind) = rest.split_at_checked(length)?;
        *rest = behind;
        PeersVersion::decode(version).ok()
    }
    let mut rest = prefix;
    let (100, WireType::LengthDelimited) = decode_key(&mut rest).ok()? else {
        return None;
    };
    let at = version(&mut rest)?;
    let (mut base, mut since) = (None, None);
    let mut field = rest;
    if let Ok((101, WireType::Varint)) = decode_key(&mut field) {
        base = Some(decode_varint(&mut field).ok()?);
    }
    // Nobody leaves while all register again.
    if base.is_some() && matches!(decode_key(&mut field), Ok((104, WireType::LengthDelimited))) {
        since = version(&mut field);
    }
    Some(Position { at, base, since })
}

/// Lets an agent take in a message; gives what it answers, if it does.
pub fn receive(
    agent: &mut Agent,
    history: &mut History,
    message: &Message,
) -> Result<Option<(&'static str, Vec<u8>)>> {
    let body = message.body.as_slice();
    match message.name.as_str() {
        UpdateAgentOverlaysMessage::NAME => {
            agent.answered.get_or_insert_with(Instant::now);
            let mut overlays = UpdateAgentOverlaysMessage::decode(body)?.overlays;
            let ok = State {
                status: Some(Status::Ok.into()),
                error: None,
            };
            overlays
                .iter_mut()
                .for_each(|overlay| overlay.state = Some(ok.clone()));
            let report = AgentRegisteredMessage {
                overlays,
                ..Default::default()
            };
            Ok(Some((AgentRegisteredMessage::NAME, report.encode_to_vec())))
        }
        AgentRegisteredAcknowledgement::NAME => {
            agent.registered.get_or_insert_with(Instant::now);
            Ok(None)
        }
        UpdatePeersMessage::NAME => {
            history.take(body)?;
            let position = position(body).context("an UpdatePeersMessage without a version")?;
            if follows(agent.version, &position) {
                agent.version = position.at;
            }
            let received = PeersReceivedMessage {
                version: agent.version,
            };
            Ok(Some((PeersReceivedMessage::NAME, received.encode_to_vec())))
        }
        RegistrationRefusedMessage::NAME => {
            bail!(
                "a registration was refused: {}",
                RegistrationRefusedMessage::decode(body)?.reason
            )
        }
        name => bail!("the master sent {name}"),
    }
}

/// Whether a message leads on from where an agent is.
fn follows(own: PeersVersion, Position { at, base, since }: &Position) -> bool {
    let same = own.epoch() == at.epoch();
    match base {
        Some(base) => {
            *since == Some(own) || (same && (*base..=at.version()).contains(&own.version()))
        }
        None => !same || at.version() >= own.version(),
    }
}
