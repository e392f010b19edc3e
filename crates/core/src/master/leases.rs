//! Leases: what agents hold that have not been heard of for long is given to others,
//! when those would get nothing otherwise, or when the operator says so.
//!
//! Giving back and giving out are in one write of the log.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;

use super::batch::Deletion;
use super::endpoints::ToReclaim;
use super::record::AgentRecord;
use super::serving::{Context, Serving, summary};
use super::sessions::Sessions;
use crate::allocation::allocator::{Allocation, AllocationRequest, Exhausted};
use crate::allocation::prefix::overlap;
use crate::{Level, RequestId, Response, Time};

/// The beginning of what an agent is told that had lost what it held.
const ENDED: &str =
    "This agent was not heard of for longer than its lease, and what it held was given back";

/// Why an agent's lease has not ended.
#[derive(Debug, PartialEq, Eq)]
enum Holds {
    /// Its link is up, as far as we know.
    Connected,
    /// It registered and waits for its answer.
    Registering,
    /// It was heard of this long ago only.
    Heard(Duration),
}

impl Serving {
    /// Gives an agent what it asks for and does not hold yet, what it held formerly
    /// first, and if need be what others held whose leases ended. Returns what it holds
    /// then, and what it lacks; the error refuses it.
    pub fn complete(
        &mut self,
        cx: &mut Context<'_>,
        ip: Ipv4Addr,
        requested: AllocationRequest,
    ) -> Result<(Allocation, Vec<Exhausted>), Exhausted> {
        loop {
            let held = self
                .records
                .get(&ip)
                .map(|record| record.allocation.clone())
                .unwrap_or_default();
            let former = self.former.get(ip).cloned().unwrap_or_default();
            let mut allocation = held.clone();
            let outcome = self.allocator.allocate_preferring(
                &self.networks.network,
                requested,
                &mut allocation,
                &former,
            );
            let lacking = match &outcome {
                Ok(lacking) => lacking.as_slice(),
                Err(exhausted) => std::slice::from_ref(exhausted),
            };
            let Some((exhausted, from)) = self.relief(cx, ip, requested, &allocation, lacking)
            else {
                return outcome.map(|lacking| (allocation, lacking));
            };
            // Taking from others may change more than this agent's share: it starts anew.
            self.allocator.release(&allocation.without(&held));
            for other in from {
                self.reclaim_one(
                    cx,
                    other,
                    &format!("agent {ip} needs it: {}", exhausted.reason()),
                );
            }
        }
    }

    /// The first thing of those that are lacking that can be had from agents whose leases
    /// ended, and those agents: as few as possible, and those not heard of for longest.
    fn relief<'a>(
        &self,
        cx: &Context<'_>,
        ip: Ipv4Addr,
        requested: AllocationRequest,
        allocation: &Allocation,
        lacking: &'a [Exhausted],
    ) -> Option<(&'a Exhausted, Vec<Ipv4Addr>)> {
        if lacking.is_empty() {
            return None;
        }
        let lapsed = self.lapsed(cx);
        let others: Vec<_> = lapsed.iter().filter(|(_, other)| *other != ip).collect();
        let allocations: Vec<_> = others
            .iter()
            .filter_map(|(_, ip)| Some(&self.records.get(ip)?.allocation))
            .collect();
        lacking.iter().find_map(|exhausted| {
            let network = &self.networks.network;
            let chosen = self.allocator.choose_reclaim(
                network,
                requested,
                allocation,
                exhausted,
                &allocations,
            )?;
            Some((
                exhausted,
                chosen.into_iter().map(|index| others[index].1).collect(),
            ))
        })
    }

    /// The agents whose leases ended, by the time of their latest contact.
    fn lapsed(&self, cx: &Context<'_>) -> BTreeSet<(Time, Ipv4Addr)> {
        let Some(lease) = cx.lease else {
            return BTreeSet::new();
        };
        let ended = self
            .records
            .keys()
            .filter(|ip| self.holds(cx, lease, **ip).is_none());
        ended.map(|ip| (cx.sessions.contact(*ip), *ip)).collect()
    }

    /// Why this agent's lease has not ended; `None`: it has.
    fn holds(&self, cx: &Context<'_>, lease: Duration, ip: Ipv4Addr) -> Option<Holds> {
        let silence = cx.out.now().since(cx.sessions.contact(ip));
        if cx.sessions.is_connected(ip) {
            Some(Holds::Connected)
        } else if self.is_being_answered(ip) || cx.writer.is_to_answer(ip) {
            Some(Holds::Registering)
        } else {
            (silence < lease).then_some(Holds::Heard(silence))
        }
    }

    /// Gives back what an agent holds whose lease ended.
    fn reclaim_one(&mut self, cx: &mut Context<'_>, ip: Ipv4Addr, why: &str) {
        let Some(record) = self.records.get(&ip) else {
            return;
        };
        let silence = cx.out.now().since(cx.sessions.contact(ip)).as_secs();
        let held = summary(&record.allocation);
        let line =
            format!("Reclaiming {held} from agent {ip}, not heard of for {silence} s; {why}");
        cx.out.log(Level::Warning, line);
        let Some(AgentRecord {
            allocation, entry, ..
        }) = self.take_all_from(cx, ip, true)
        else {
            return;
        };
        self.former
            .add(ip, allocation, Bytes::copy_from_slice(&entry.stored));
    }

    /// `POST /overlay-master/agents/reclaim`: all of them with one write, or none.
    pub fn reclaim(
        &mut self,
        cx: &mut Context<'_>,
        asked: &ToReclaim,
        request: RequestId,
        jsonp: Option<String>,
    ) {
        let agents = match self.to_reclaim(cx, asked) {
            Ok(agents) => agents,
            Err(sentence) => return cx.out.respond(request, Response::conflict(&sentence)),
        };
        for ip in &agents {
            self.reclaim_one(cx, *ip, "the operator wants it back");
        }
        self.gathering.held.deletions.push(Deletion {
            request,
            jsonp,
            reclaims: true,
        });
    }

    /// Whom to reclaim from. The error says why nothing is done.
    fn to_reclaim(&self, cx: &Context<'_>, asked: &ToReclaim) -> Result<Vec<Ipv4Addr>, String> {
        let Some(lease) = cx.lease else {
            return Err(
                "Nothing was reclaimed: no lease ends without agent_lease in the master's \
                        configuration. What an agent held that is gone for good is given back by \
                        /overlay-master/agents/delete."
                    .to_owned(),
            );
        };
        let Some(named) = &asked.agents else {
            return Ok(self.lapsed(cx).into_iter().map(|(_, ip)| ip).collect());
        };
        let known: Vec<_> = named
            .iter()
            .copied()
            .filter(|ip| self.records.contains_key(ip))
            .collect();
        let in_force: Vec<_> = known
            .iter()
            .filter_map(|ip| {
                Some(match self.holds(cx, lease, *ip)? {
                    Holds::Connected => format!("{ip} (connected)"),
                    Holds::Registering => format!("{ip} (registering)"),
                    Holds::Heard(ago) => format!("{ip} (heard of {} s ago)", ago.as_secs()),
                })
            })
            .collect();
        if in_force.is_empty() {
            return Ok(known);
        }
        Err(format!(
            "Nothing was reclaimed. Leases ({} s) that have not ended: {}.",
            lease.as_secs_f64(),
            in_force.join(", ")
        ))
    }

    /// An agent registers that had lost what it held: it is told what became of that.
    pub(super) fn welcome_back(
        &mut self,
        cx: &mut Context<'_>,
        ip: Ipv4Addr,
        allocation: &Allocation,
        lacking: &[Exhausted],
    ) {
        // One that gets nothing may have better luck the next time.
        let Some(former) = self
            .former
            .get(ip)
            .filter(|_| !allocation.overlays.is_empty())
        else {
            return;
        };
        let notice = self.notice(former, allocation, lacking);
        cx.out.log(
            Level::Info,
            format!("Agent {ip} is back and is told: {notice}"),
        );
        cx.sessions.set_notices(ip, vec![notice]);
        self.former.remove(ip);
        self.gathering.changed.insert(ip);
    }

    fn notice(
        &self,
        former: &Allocation,
        allocation: &Allocation,
        lacking: &[Exhausted],
    ) -> String {
        let lost = |overlay: Option<&str>| {
            let (before, now) = (former.part(overlay), allocation.part(overlay));
            let is_lacking = lacking
                .iter()
                .any(|exhausted| exhausted.overlay.as_deref() == overlay);
            let pairs = [(before.v4, now.v4), (before.v6, now.v6)].into_iter();
            let lost = pairs.filter_map(|(before, now)| match (before?, now) {
                (before, Some(now)) if before.addr() != now.addr() => Some((before, Some(now))),
                // What it does not ask for any more is not missed.
                (before, None) if is_lacking => Some((before, None)),
                _ => None,
            });
            lost.map(|(before, now)| self.exchange(overlay, before, now))
                .collect::<Vec<_>>()
        };
        let overlays = former.overlays.keys().flat_map(|name| lost(Some(name)));
        let lost: Vec<_> = lost(None).into_iter().chain(overlays).collect();
        match lost.is_empty() {
            true => format!("{ENDED}; it has back what it asks for of it."),
            false => format!("{ENDED}. It has {}.", lost.join("; ")),
        }
    }

    /// What an agent has instead of what it had.
    fn exchange(&self, overlay: Option<&str>, before: IpNet, now: Option<IpNet>) -> String {
        let show = |net: IpNet| {
            if overlay.is_some() {
                net.to_string()
            } else {
                net.addr().to_string()
            }
        };
        let now = now.map_or_else(|| "nothing".to_owned(), show);
        let what = overlay.map_or_else(
            || "as its VTEP".to_owned(),
            |name| format!("of overlay {name}"),
        );
        let is_it = |net: &IpNet| match overlay {
            None => net.addr() == before.addr(),
            Some(_) => overlap(*net, before),
        };
        let taker = self.holder(|other| other.part(overlay).iter().flatten().any(is_it));
        let taker = taker.map_or_else(String::new, |ip| format!(" (agent {ip} has that now)"));
        format!("{now} {what} instead of {}{taker}", show(before))
    }

    fn holder(&self, holds: impl Fn(&Allocation) -> bool) -> Option<Ipv4Addr> {
        self.records
            .iter()
            .find(|(_, record)| holds(&record.allocation))
            .map(|(ip, _)| *ip)
    }
}

/// What an agent is told whose lease ended, should it be there after all.
pub fn parting(sessions: &Sessions, ip: Ipv4Addr, now: Time) -> String {
    format!(
        "{ENDED}: the last contact was {} s ago.",
        now.since(sessions.contact(ip)).as_secs()
    )
}
