//! Step of a packet's way: the routing decision, compared with what the master says.

use std::net::IpAddr;
use std::ops::ControlFlow::{Break, Continue};

use overlay_core::util::family::Family;
use overlay_host::lookup::{self, Decision, DropReason, Question, Way};
use overlay_host::reconcile::MAIN_TABLE;

use super::report::State;
use super::walk::{Next, Walk};
use super::words::{forwarding_finding, nobody, word, written};
use crate::finding::Finding;
use crate::finding::kinds::{host, path};
use crate::paths::entries::Fault;
use crate::paths::model::Place;

impl Walk<'_> {
    /// Asks the kernel for the route; `None`: the packet is for this host. `has_rule`: the rule of the
    /// containers' table is there.
    pub(super) fn route(&mut self, arrives_on: Option<&str>, has_rule: bool) -> Next<Option<Way>> {
        let expected = self.expected_way(arrives_on.is_some());
        let question = Question {
            destination: self.destination,
            source: self.source,
            arrives_on,
        };
        let model = expected.as_ref().map(|(text, ..)| text.clone());
        let decision = match self.local.lookup.route(&question) {
            // Kernels from 6.13 on have one error for all packets whose source cannot be right.
            Ok(Decision::Drop(DropReason::Invalid)) if self.comes_back_elsewhere(arrives_on) => {
                Decision::Drop(DropReason::ReversePath)
            }
            Ok(decision) => decision,
            Err(error) => {
                self.step("route", model, Some(error), None)?;
                return Break(());
            }
        };
        match decision {
            Decision::Local => {
                let fault = expected.filter(|(_, device, _)| device.is_some()).map(|_| {
                    self.drops(&Fault {
                        kind: &path::ROUTE_WRONG,
                        sentence: format!("this host has the address {} itself", self.destination),
                    })
                });
                self.step("route", model, Some("this host".to_owned()), fault)?;
                Continue(None)
            }
            Decision::Drop(reason) => {
                let fault = self.drop_fault(reason, model.as_deref(), arrives_on);
                self.step("route", model, Some(word(reason).to_owned()), Some(fault))?;
                Break(())
            }
            Decision::Forward(way) => {
                let text = written(&way);
                let fault = self.wrong_way(&way, expected, has_rule);
                self.step("route", model, Some(text), fault)?;
                Continue(Some(way))
            }
        }
    }

    /// Returns whether the strict filter drops packets of this source that arrive on a device.
    fn comes_back_elsewhere(&self, arrives_on: Option<&str>) -> bool {
        let (Some(device), Some(source @ IpAddr::V4(_))) = (arrives_on, self.source) else {
            return false;
        };
        let question = Question {
            destination: source,
            source: None,
            arrives_on: None,
        };
        let leads_here = matches!(
            self.local.lookup.route(&question),
            Ok(Decision::Forward(Way { device: Some(back), .. })) if back == device
        );
        lookup::is_strict(device) && !leads_here
    }

    /// Returns what is wrong with a route that the kernel chose.
    fn wrong_way(
        &self,
        way: &Way,
        expected: Option<(String, Option<String>, Option<IpAddr>)>,
        has_rule: bool,
    ) -> Option<(State, Finding)> {
        let nobody = match self.model.locate(self.destination) {
            Place::Unassigned(..) | Place::UnassignedVtep(_) | Place::WithoutBridge(..) => {
                Some(self.nobody())
            }
            _ => None,
        };
        if let Some(finding) = nobody {
            return Some((State::Drops, finding));
        }
        let (text, device, via) = expected?;
        let is_right = way.device == device && (via.is_none() || way.via == via);
        if is_right {
            return None;
        }
        // The finding about the rule explains it, and the host's own address is reached anyway.
        if !has_rule {
            return None;
        }
        Some(self.drops(&Fault {
            kind: &path::ROUTE_WRONG,
            sentence: format!(
                "packets to {} take the route \"{}\", the master says {text}",
                self.destination,
                written(way)
            ),
        }))
    }

    /// Returns the finding about an address that nobody has.
    pub(super) fn nobody(&self) -> Finding {
        let ip = self.destination;
        nobody(ip, &self.model.locate(ip))
    }

    /// Returns the route that the master's answer leads to: as text, its device and its gateway;
    /// `None`: the answer says nothing of it.
    fn expected_way(&self, is_forwarded: bool) -> Option<(String, Option<String>, Option<IpAddr>)> {
        let ip = self.destination;
        let place = self.model.locate(ip);
        let peer = place.agent()?;
        if peer.ip == self.own.ip {
            return match place {
                Place::Container(_, gateway) => Some((
                    format!("{} dev {}", gateway.subnet, gateway.bridge),
                    Some(gateway.bridge.to_owned()),
                    None,
                )),
                Place::WithoutBridge(..) => None,
                _ => Some(("this host".to_owned(), None, None)),
            };
        }
        let vtep = Some(self.own.vxlan()?.vtep_name.clone());
        let name = vtep.clone().unwrap_or_default();
        let via = peer.vtep(Family::from(ip));
        let through = |prefix: String, table: u32| {
            let table = match table {
                MAIN_TABLE => String::new(),
                table => format!(" table {table}"),
            };
            let gateway = via.map_or(String::new(), |via| format!(" via {via}"));
            (
                format!("{prefix}{gateway} dev {name}{table}"),
                vtep.clone(),
                via,
            )
        };
        match place {
            Place::Container(_, gateway) | Place::Gateway(_, gateway) => {
                let subnets = peer.overlays.iter().flat_map(|overlay| overlay.subnets());
                let around = subnets
                    .into_iter()
                    .find(|subnet| subnet.contains(&gateway.ip));
                let prefix = around.unwrap_or(gateway.subnet);
                Some(through(prefix.to_string(), MAIN_TABLE))
            }
            Place::Vtep(_) => Some((format!("on the link of {name}"), vtep, None)),
            Place::Host(_) if is_forwarded => Some(through(ip.to_string(), self.local.table)),
            _ => None,
        }
    }

    /// Returns the finding about a packet that the kernel's routing drops.
    fn drop_fault(
        &self,
        reason: DropReason,
        expected: Option<&str>,
        arrives_on: Option<&str>,
    ) -> (State, Finding) {
        let ip = self.destination;
        let family = Family::from(ip);
        if reason == DropReason::ReversePath {
            let device = arrives_on.unwrap_or_default();
            let finding = host::REVERSE_PATH_FILTER.finding(
                format!("the kernel drops packets from {} that arrive on {device}, since the way back leads over another device (rp_filter)", self.source.map_or_else(String::new, |ip| ip.to_string())),
                format!("Set loose filtering: sysctl -w net.ipv4.conf.all.rp_filter=2, and the same for {device} if it is 1"),
            );
            return (State::Drops, finding.about(device));
        }
        if let Some(device) = arrives_on.filter(|device| !lookup::device_forwards(device, family)) {
            return (State::Drops, forwarding_finding(device, family));
        }
        if expected.is_none() && !matches!(self.model.locate(ip), Place::Outside) {
            return (State::Drops, self.nobody());
        }
        match expected {
            Some(expected) => self.drops(&Fault {
                kind: &path::ROUTE_WRONG,
                sentence: format!(
                    "the kernel has no route to {ip} ({}), the master says {expected}",
                    word(reason)
                ),
            }),
            None => {
                let finding = path::NO_ROUTE.finding(
                    format!("this host has no route to {ip} ({})", word(reason)),
                    "Add a route to it, or a default route",
                );
                (State::Drops, finding.about(ip))
            }
        }
    }
}
