//! State of simulated agents, and their answers to the master.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Error, Result, bail};
use bytes::Bytes;
use overlay_core::proto::agent_overlay_info::State;
use overlay_core::proto::agent_overlay_info::state::Status;
use overlay_core::proto::internal::{
    AgentNetworkConfig, AgentRegisteredAcknowledgement, AgentRegisteredMessage,
    PeersReceivedMessage, PeersVersion, RegisterAgentMessage, RegistrationChallengeMessage,
    RegistrationRefusedMessage, UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::messages::Named;
use overlay_core::protocol::peer_list_codec::unpack;
use prost::Message as _;

use super::wire::Message;
use crate::sessions::AgentSession;

/// State of a simulated agent.
#[derive(Debug, Default)]
pub struct Agent {
    /// Time at which the first list of overlays arrived.
    pub answered: Option<Instant>,
    /// Time at which the master acknowledged the report.
    pub registered: Option<Instant>,
    /// Version of the list of peers.
    pub version: PeersVersion,
    /// The agent has left and will not return.
    pub left: bool,
    /// Session with the master; `None` before the start.
    session: Option<AgentSession>,
}

impl Agent {
    /// Returns an encoded registration.
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
            ..Default::default()
        }
        .encode_to_vec()
    }

    /// Resets the agent, which keeps its list of peers, for a session with a master.
    pub fn start(&mut self, session: AgentSession) {
        *self = Agent {
            version: self.version,
            session: Some(session),
            ..Agent::default()
        };
    }

    /// Returns a message with the session.
    pub fn seal(&mut self, name: &str, body: &[u8]) -> Bytes {
        match &mut self.session {
            Some(session) => session.seal(name, body),
            None => Bytes::copy_from_slice(body),
        }
    }
}

/// History of peers from the messages to all agents; each message is decoded once.
#[derive(Debug, Default)]
pub struct History {
    epoch: u64,
    /// Decoded messages of this epoch, by version and base.
    read: BTreeSet<(u64, Option<u64>)>,
    /// Peers in the list of the previous epoch.
    former: BTreeSet<Ipv4Addr>,
    /// First version in which a peer is in the list.
    appeared: BTreeMap<Ipv4Addr, u64>,
    /// First version without a peer.
    removed: BTreeMap<Ipv4Addr, u64>,
}

impl History {
    /// Starts a new epoch, that of another leader.
    pub fn end_epoch(&mut self) {
        let former = std::mem::take(&mut self.appeared).into_keys().collect();
        *self = History {
            former,
            ..History::default()
        };
    }

    /// Returns true if the message was decoded before; the first bytes of the body suffice.
    pub fn knows(&self, prefix: &[u8]) -> bool {
        position(prefix).is_some_and(|Position { at, base, .. }| {
            at.epoch() == self.epoch && self.read.contains(&(at.version(), base))
        })
    }

    /// Returns the first version of the list that contains all of `ips`; `None`: one was not sent yet.
    pub fn version_with(&self, ips: impl Iterator<Item = Ipv4Addr>) -> Option<PeersVersion> {
        let versions = ips.map(|ip| self.appeared.get(&ip).copied());
        let version = versions.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        Some(PeersVersion {
            epoch: Some(self.epoch),
            version: Some(version),
            ..Default::default()
        })
    }

    /// Returns the first version of the list without `ip`; `None`: the departure was not sent yet.
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
            // An epoch that has been ended has no peers left.
            if self.epoch != 0 {
                self.end_epoch();
            }
            self.epoch = epoch;
        }
        if let (Some(_), Some(base)) = (message.since, message.base) {
            // The previous list contained the same peers.
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

/// Version of an `UpdatePeersMessage`, and of the lists on which it builds.
struct Position {
    at: PeersVersion,
    base: Option<u64>,
    since: Option<PeersVersion>,
}

/// Decodes the first fields of an `UpdatePeersMessage`.
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
    // No agent leaves while all register again.
    if base.is_some() && matches!(decode_key(&mut field), Ok((104, WireType::LengthDelimited))) {
        since = version(&mut field);
    }
    Some(Position { at, base, since })
}

/// Handles a message to an agent. Returns the name and body of the answer; `None`: no answer.
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
                session: None,
            };
            Ok(Some((PeersReceivedMessage::NAME, received.encode_to_vec())))
        }
        RegistrationChallengeMessage::NAME => {
            let session = agent
                .session
                .as_mut()
                .context("a challenge before the start")?;
            session.take_token(body);
            Ok(Some((RegisterAgentMessage::NAME, agent.registration())))
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

/// Returns true if a message builds on the list of an agent.
fn follows(own: PeersVersion, Position { at, base, since }: &Position) -> bool {
    let same = own.epoch() == at.epoch();
    match base {
        Some(base) => {
            *since == Some(own) || (same && (*base..=at.version()).contains(&own.version()))
        }
        None => !same || at.version() >= own.version(),
    }
}
