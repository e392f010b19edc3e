//! Way of a packet through this host, step by step: what the master says beside what the kernel says.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow::{self, Break, Continue};

use overlay_core::util::family::Family;
use overlay_host::lookup::{self, Decision, Flow, Judgement, Protocol, Question, Rules, Way};

use super::report::{State, Step};
use super::words::{forwarding_finding, word, written};
use crate::answers::Agent;
use crate::finding::Finding;
use crate::finding::kinds::{difference, host, path};
use crate::paths::entries::{
    Fault, device_fault, fdb_destinations, fdb_fault, neighbour_fault, rule_faults,
};
use crate::paths::local::Local;
use crate::paths::model::{Gateway, Model, PORT, Place};

/// Result of a step: the walk goes on with a value, or ends because the packet is dropped.
pub type Next<T> = ControlFlow<(), T>;

/// Way by which a packet leaves this host, or where it stays.
#[derive(Debug)]
pub enum Exit<'a> {
    /// It is for this host.
    Here,
    /// It stays on the bridge.
    OnBridge,
    /// It goes through the tunnel to a peer.
    Tunnel(&'a Agent),
    /// It leaves by another device. Has the device, and the address that it has as its source then.
    Outside(String, Option<IpAddr>),
}

/// Packet that is followed, and what was seen of its way.
pub struct Walk<'a> {
    pub model: &'a Model,
    pub local: &'a Local,
    /// Firewall of this host; `None`: this user may not read it.
    pub rules: Option<&'a Rules>,
    pub own: &'a Agent,
    /// Source; `None`: the kernel chooses it.
    pub source: Option<IpAddr>,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub port: Option<u16>,
    pub steps: Vec<Step>,
    pub findings: Vec<Finding>,
}

impl<'a> Walk<'a> {
    /// Follows a packet of a container on this host.
    pub fn follow_container(&mut self, gateway: Gateway<'a>) -> Next<Exit<'a>> {
        self.bridge(&gateway)?;
        if self.destination == gateway.ip {
            return Continue(Exit::Here);
        }
        if gateway.subnet.contains(&self.destination) {
            return Continue(Exit::OnBridge);
        }
        let has_rule = self.rule();
        let decision = self.route(Some(gateway.bridge), has_rule)?;
        let Some(way) = decision else {
            self.firewall("input", gateway.bridge, None)?;
            return Continue(Exit::Here);
        };
        self.forwarding(gateway.bridge)?;
        let device = way.device.clone().unwrap_or_default();
        self.firewall("forward", gateway.bridge, Some(&device))?;
        let source = self.masquerading(&device)?;
        self.exit(&way, source)
    }

    /// Follows a packet of this host itself.
    pub fn follow_host(&mut self) -> Next<Exit<'a>> {
        match self.route(None, true)? {
            None => Continue(Exit::Here),
            Some(way) => self.exit(&way, None),
        }
    }

    /// Follows a packet that arrives through the tunnel from a peer.
    pub fn follow_peer(&mut self, peer: &'a Agent, is_container: bool) -> Next<Exit<'a>> {
        self.tunnel_input(peer)?;
        self.device()?;
        let vtep = self.local.vtep.clone().unwrap_or_default();
        let family = Family::from(self.destination);
        // The peer masquerades what goes to something else than a container.
        let is_overlay = !matches!(
            self.model.locate(self.destination),
            Place::Host(_) | Place::Vtep(_)
        );
        if is_container && !is_overlay {
            self.source = peer.vtep(family).or(self.source);
        }
        let Some(way) = self.route(Some(&vtep), true)? else {
            self.firewall("input", &vtep, None)?;
            return Continue(Exit::Here);
        };
        self.forwarding(&vtep)?;
        let device = way.device.clone().unwrap_or_default();
        self.firewall("forward", &vtep, Some(&device))?;
        match self.model.locate(self.destination) {
            Place::Container(_, gateway) | Place::Gateway(_, gateway) => {
                self.bridge(&gateway)?;
                Continue(Exit::OnBridge)
            }
            _ => Continue(Exit::Outside(device, None)),
        }
    }

    /// Adds a step. A finding with the state [`State::Drops`] ends the walk.
    pub fn step(
        &mut self,
        step: &'static str,
        model: Option<String>,
        kernel: Option<String>,
        fault: Option<(State, Finding)>,
    ) -> Next<()> {
        let state = match (&fault, &kernel) {
            (Some((state, _)), _) => *state,
            (None, None) => State::Unknown,
            (None, Some(_)) => State::Ok,
        };
        self.steps.push(Step {
            host: self.own.ip.to_string(),
            step,
            model,
            kernel,
            state,
        });
        self.findings.extend(fault.map(|(_, finding)| finding));
        match state {
            State::Drops => Break(()),
            _ => Continue(()),
        }
    }

    /// Returns the fault as one that drops the packet.
    pub(super) fn drops(&self, fault: &Fault) -> (State, Finding) {
        (State::Drops, fault.finding(self.own.ip, self.own.ip))
    }

    /// Looks at a bridge of containers.
    fn bridge(&mut self, gateway: &Gateway<'_>) -> Next<()> {
        let model = format!(
            "{} {}, gateway {}",
            gateway.bridge, gateway.subnet, gateway.ip
        );
        let name = gateway.bridge;
        let (kernel, sentence) = match self.local.lookup.link(name) {
            Err(error) => (error, None),
            Ok(None) => (
                "does not exist".to_owned(),
                Some(format!("this host has no bridge {name}")),
            ),
            Ok(Some(link)) => {
                let addresses = link.addresses.iter().map(|net| net.addr().to_string());
                let addresses: Vec<String> = addresses.collect();
                let has_gateway = link.addresses.iter().any(|net| net.addr() == gateway.ip);
                let sentence = match (link.is_up, has_gateway) {
                    (false, _) => Some(format!("the bridge {name} of this host is down")),
                    (true, false) => Some(format!(
                        "the bridge {name} of this host does not have the gateway's address {}",
                        gateway.ip
                    )),
                    (true, true) => None,
                };
                let state = if link.is_up { "up" } else { "down" };
                (format!("{state}, {}", addresses.join(" ")), sentence)
            }
        };
        let fault = sentence.map(|sentence| {
            self.drops(&Fault {
                kind: &difference::BRIDGE,
                sentence,
            })
        });
        self.step("bridge", Some(model), Some(kernel), fault)
    }

    /// Looks at the rule of the containers' table, and returns whether it is there. It decides only
    /// about packets to other agents' own addresses.
    fn rule(&mut self) -> bool {
        let Place::Host(_) = self.model.locate(self.destination) else {
            return true;
        };
        let source = self.source;
        let is_of_source = |range: ipnet::IpNet| source.is_some_and(|ip| range.contains(&ip));
        let mut ranges = self
            .model
            .overlays
            .iter()
            .flat_map(|overlay| overlay.ranges());
        let Some(range) = ranges.find(|range| is_of_source(*range)) else {
            return true;
        };
        let model = format!("from {range} lookup {}", self.local.table);
        let faults = rule_faults(self.local, self.own);
        let fault = faults
            .into_iter()
            .find(|(_, fault)| fault.sentence.contains(&model));
        let (kernel, fault) = match fault {
            None => (model.clone(), None),
            Some((overlay, fault)) => (
                "missing".to_owned(),
                Some((State::Differs, fault.finding(self.own.ip, overlay))),
            ),
        };
        let is_there = fault.is_none();
        let _ = self.step("rule", Some(model), Some(kernel), fault);
        is_there
    }

    /// Looks whether packets that arrive on a device are forwarded.
    fn forwarding(&mut self, device: &str) -> Next<()> {
        let family = Family::from(self.destination);
        let is_on = lookup::forwards(family) == Some(true);
        let of_device = lookup::device_forwards(device, family);
        let kernel = match (is_on, of_device) {
            (false, _) => "off",
            (true, false) => "off on this device",
            (true, true) => "on",
        };
        // For IPv6 the switch of the device decides where the device comes from.
        let is_dropped = !of_device || !is_on;
        let fault = is_dropped.then(|| (State::Drops, forwarding_finding(device, family)));
        let model = format!("on for {device}");
        self.step("forwarding", Some(model), Some(kernel.to_owned()), fault)
    }

    /// Asks the firewall about the packet.
    fn firewall(&mut self, way: &str, from: &str, to: Option<&str>) -> Next<()> {
        let flow = Flow {
            from: from.to_owned(),
            to: to.map(str::to_owned),
            source: self.source.unwrap_or(self.own.ip.into()),
            destination: self.destination,
            protocol: self.protocol,
            port: self.port,
        };
        let what = match to {
            Some(to) => format!("{way} {from} to {to}"),
            None => format!("{way} {from}"),
        };
        self.judge(&flow, what)
    }

    fn judge(&mut self, flow: &Flow, what: String) -> Next<()> {
        let judgement = match self.rules {
            Some(rules) => rules.judge(flow),
            None => Judgement::Unknown("needs root".to_owned()),
        };
        let (kernel, fault) = match judgement {
            Judgement::Passes => (Some(format!("{what}: passes")), None),
            Judgement::Depends => (Some(format!("{what}: no rule drops it for certain")), None),
            Judgement::Unknown(_) => (None, None),
            Judgement::Dropped(rule) => {
                let finding = host::FIREWALL_DROPS
                    .finding(
                        format!("this host's firewall drops packets ({what}): {rule}"),
                        "Let them through there, and in the configuration that the rule comes from",
                    )
                    .about(self.own.ip);
                (
                    Some(format!("{what}: {rule}")),
                    Some((State::Drops, finding)),
                )
            }
        };
        self.step("firewall", Some("passes".to_owned()), kernel, fault)
    }

    /// Looks whether the packet gets the host's source address, and returns that.
    fn masquerading(&mut self, device: &str) -> Next<Option<IpAddr>> {
        let Some(source) = self.source else {
            return Continue(None);
        };
        let ip = self.destination;
        let mut ranges = self
            .model
            .overlays
            .iter()
            .flat_map(|overlay| overlay.ranges());
        let is_wanted = !ranges.any(|range| range.contains(&ip));
        let by = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let found = self.rules.map(|rules| rules.masquerades(source, ip));
        let kernel = match &found {
            Some(Ok(found)) => Some(by(*found)),
            _ => None,
        };
        let is_tunnel = self.local.vtep.as_deref() == Some(device);
        let is_missing = is_wanted && !is_tunnel && matches!(found, Some(Ok(false)));
        let fault = is_missing.then(|| {
            self.drops(&Fault {
                kind: &difference::FIREWALL,
                sentence: format!("no rule of the overlays masquerades packets from {source} to {ip}, so that no answer comes back"),
            })
        });
        let is_masqueraded = kernel.as_deref() == Some("yes");
        self.step("masquerading", Some(by(is_wanted)), kernel, fault)?;
        let own = match is_tunnel {
            true => self.own.vtep(Family::from(ip)),
            false => Some(self.own.ip.into()),
        };
        Continue(own.filter(|_| is_masqueraded))
    }

    /// Follows a packet out of the host.
    fn exit(&mut self, way: &Way, source: Option<IpAddr>) -> Next<Exit<'a>> {
        let device = way.device.clone().unwrap_or_default();
        if self.local.vtep.as_deref() == Some(&device) {
            let next = way.via.unwrap_or(self.destination);
            let place = self.model.locate(next);
            let target = self.model.locate(self.destination);
            let Some(peer) = place.agent().or(target.agent()) else {
                let finding = self.nobody();
                self.step("tunnel", None, Some(device), Some((State::Drops, finding)))?;
                return Break(());
            };
            self.tunnel(peer, next)?;
            return Continue(Exit::Tunnel(peer));
        }
        match self.model.locate(self.destination) {
            Place::Container(agent, _) if agent.ip == self.own.ip => Continue(Exit::OnBridge),
            _ => Continue(Exit::Outside(device, source)),
        }
    }

    /// Looks at the VXLAN device.
    fn device(&mut self) -> Next<()> {
        let vtep = self.own.vxlan();
        let model = vtep.map(|vxlan| format!("{} {}", vxlan.vtep_name, vxlan.vtep_ip.addr()));
        let kernel = self.local.device.as_ref().map_or_else(
            || "does not exist".to_owned(),
            |device| {
                let state = if device.up { "up" } else { "down" };
                format!("{state}, {}, MTU {}", device.mac, device.mtu)
            },
        );
        let fault = device_fault(self.local, self.own).map(|fault| self.drops(&fault));
        self.step("tunnel", model, Some(kernel), fault)
    }

    /// Follows a packet into the tunnel to a peer; `next` is the next hop in it.
    fn tunnel(&mut self, peer: &Agent, next: IpAddr) -> Next<()> {
        self.device()?;
        let (Some(mac), Some(device)) = (peer.vtep_mac(), self.local.device.as_ref()) else {
            return Continue(());
        };
        let found = device.neighbours.get(&next).and_then(|found| found.mac);
        let kernel = found.map_or("missing".to_owned(), |mac| format!("{next} is {mac}"));
        let fault = neighbour_fault(device, next, mac).map(|fault| self.drops(&fault));
        self.step(
            "neighbour",
            Some(format!("{next} is {mac}")),
            Some(kernel),
            fault,
        )?;
        let to = fdb_destinations(device, mac);
        let to: Vec<String> = to.iter().map(ToString::to_string).collect();
        let kernel = match to.is_empty() {
            true => "missing".to_owned(),
            false => format!("{mac} to {}", to.join(" ")),
        };
        let fault = fdb_fault(device, mac, peer.ip).map(|fault| self.drops(&fault));
        self.step(
            "fdb",
            Some(format!("{mac} to {}", peer.ip)),
            Some(kernel),
            fault,
        )?;
        self.underlay(peer.ip)
    }

    /// Looks at the route of the tunnel's packets.
    fn underlay(&mut self, to: Ipv4Addr) -> Next<()> {
        let question = Question {
            destination: to.into(),
            source: Some(self.own.ip.into()),
            arrives_on: None,
        };
        let (kernel, fault) = match self.local.lookup.route(&question) {
            Err(error) => (Some(error), None),
            Ok(Decision::Forward(way)) => (Some(written(&way)), None),
            Ok(Decision::Local) => (Some("this host".to_owned()), None),
            Ok(Decision::Drop(reason)) => {
                let finding = path::NO_ROUTE.finding(
                    format!("this host has no route to the host {to} ({})", word(reason)),
                    "Add a route to it, or a default route",
                );
                (
                    Some(word(reason).to_owned()),
                    Some((State::Drops, finding.about(to))),
                )
            }
        };
        self.step(
            "underlay",
            Some(format!("UDP {PORT} to {to}")),
            kernel,
            fault,
        )
    }

    /// Asks the firewall about the tunnel's packets of a peer.
    fn tunnel_input(&mut self, peer: &Agent) -> Next<()> {
        let question = Question {
            destination: peer.ip.into(),
            source: Some(self.own.ip.into()),
            arrives_on: None,
        };
        let from = match self.local.lookup.route(&question) {
            Ok(Decision::Forward(Way {
                device: Some(device),
                ..
            })) => device,
            _ => return Continue(()),
        };
        let flow = Flow {
            source: peer.ip.into(),
            destination: self.own.ip.into(),
            protocol: Protocol::Udp,
            port: Some(PORT),
            to: None,
            from,
        };
        let what = format!("input {} UDP {PORT}", flow.from);
        self.judge(&flow, what)
    }
}
