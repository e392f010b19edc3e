//! Changes of the networks while the cluster runs, and what follows from them: new
//! lists for the agents, and the way of a removed overlay's ranges back into the pool.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Changed, Held};
use super::metrics::Outbox;
use super::networks::{Change, Held as HeldByOverlay, Networks, Refusal, show};
use super::record::{AgentRecord, EncodedAgent, describe, orphans};
use super::serving::{Context, Serving};
use super::sessions::{Session, Sessions};
use crate::allocation::allocator::{Allocation, AllocationRequest, Allocator, Capacity, DualStack};
use crate::proto;
use crate::proto::internal::{AgentRegisteredMessage, UpdateAgentOverlaysMessage};
use crate::{Level, RequestId, Response, Time};

/// A list that an agent did not ask for is sent again after this time if the agent
/// has not reported since, …
const RESEND_FIRST: Duration = Duration::from_secs(2);
/// … and then in doubling steps up to this. After that the agent's own refresh makes
/// it good.
const RESEND_LIMIT: Duration = Duration::from_secs(32);

/// A request to change an overlay.
#[derive(Debug)]
pub struct ChangeRequest {
    /// For the answer.
    pub request: RequestId,
    /// What is wanted.
    pub change: Change,
    /// To take a removed overlay from agents that have not let go of it.
    pub force: bool,
}

/// Lists that agents got without asking, until they report.
#[derive(Debug, Default)]
pub struct Pushed {
    lists: BTreeMap<Ipv4Addr, UpdateAgentOverlaysMessage>,
    next: Option<(Time, Duration)>,
}

impl Pushed {
    /// When something has to be sent again.
    pub fn due(&self) -> Option<Time> {
        self.next.map(|(at, _)| at)
    }

    /// The agent has answered, or gets another list, or is gone.
    pub fn forget(&mut self, ip: Ipv4Addr) {
        self.lists.remove(&ip);
        if self.lists.is_empty() {
            self.next = None;
        }
    }

    /// Sends lists, and again until they are answered.
    pub fn send(
        &mut self,
        out: &mut Outbox,
        sessions: &mut Sessions,
        lists: BTreeMap<Ipv4Addr, UpdateAgentOverlaysMessage>,
    ) {
        for (ip, list) in lists {
            if send(out, sessions, ip, &list) {
                self.lists.insert(ip, list);
                self.next = Some((out.now() + RESEND_FIRST, RESEND_FIRST));
            }
        }
    }

    /// Sends what is due.
    pub fn tick(&mut self, out: &mut Outbox, sessions: &mut Sessions) {
        let Some((_, delay)) = self.next.filter(|(at, _)| *at <= out.now()) else {
            return;
        };
        self.lists
            .retain(|ip, list| delay <= RESEND_LIMIT && send(out, sessions, *ip, list));
        let delay = delay * 2;
        self.next = (!self.lists.is_empty()).then(|| (out.now() + delay, delay));
    }
}

/// Sends an agent a list, if it can be reached.
fn send(
    out: &mut Outbox,
    sessions: &mut Sessions,
    ip: Ipv4Addr,
    list: &UpdateAgentOverlaysMessage,
) -> bool {
    let Some(session) = sessions
        .get(ip)
        .filter(|session| session.connected && session.is_current)
    else {
        return false;
    };
    // What became of an agent's former ranges it is told until it registers anew.
    let notices = session.notices.clone();
    out.send(
        &session.pid,
        &UpdateAgentOverlaysMessage {
            notices,
            ..list.clone()
        },
    );
    sessions.told(ip, list.revision());
    true
}

/// What memory is to become.
struct Draft {
    networks: Networks,
    allocator: Allocator,
    records: BTreeMap<Ipv4Addr, AgentRecord>,
    changed: BTreeSet<Ipv4Addr>,
    /// What the agents that have registered get now.
    lists: BTreeMap<Ipv4Addr, UpdateAgentOverlaysMessage>,
}

impl Serving {
    /// Changes an overlay; the answer comes when the log has the change.
    pub fn change(&mut self, cx: &mut Context<'_>, asked: ChangeRequest) {
        let ChangeRequest {
            request,
            change,
            force,
        } = asked;
        let status = if matches!(change, Change::Add(_)) {
            201
        } else {
            200
        };
        let name = change.name().to_owned();
        let before = self.networks.known(&name).cloned();
        match self.draft(cx.sessions, &change, force) {
            Err(Refusal { status, sentence }) => {
                cx.out.respond(request, Response::text(status, &sentence));
                return;
            }
            Ok(None) => {
                self.gathering.held.changes.push(Changed {
                    request,
                    name,
                    status: 200,
                    before: None,
                });
                return;
            }
            Ok(Some(draft)) => {
                cx.out.log(Level::Info, self.about(&change, force, &draft));
                self.adopt(draft);
            }
        }
        self.gathering.held.changes.push(Changed {
            request,
            name,
            status,
            before,
        });
    }

    /// What the operators read of a change.
    fn about(&self, change: &Change, force: bool, draft: &Draft) -> String {
        let name = change.name();
        let revision = draft.networks.revision;
        let is = draft
            .networks
            .overlay(name)
            .map(|(_, info)| show(info))
            .unwrap_or_default();
        let was = self.networks.known(name).map(show).unwrap_or_default();
        let holders = |records: &BTreeMap<_, AgentRecord>| {
            records
                .values()
                .filter(|record| record.allocation.overlays.contains_key(name))
                .count()
        };
        match change {
            Change::Add(_) => format!("Adding overlay {name}, {is} (revision {revision})"),
            Change::Replace(_) => {
                format!("Changing overlay {name} from {was} to {is} (revision {revision})")
            }
            Change::HandBack(_) => {
                format!(
                    "Overlay {name} is as in the configuration again, {is} (revision {revision})"
                )
            }
            Change::Remove(_) if force => format!(
                "Removing overlay {name}, {was}, by force: what {} agents have of it is free at once (revision \
                 {revision})",
                holders(&self.records)
            ),
            Change::Remove(_) => format!(
                "Removing overlay {name}, {was}; agents that have to let go of it: {} (revision {revision})",
                holders(&draft.records)
            ),
        }
    }

    /// What agents hold of each overlay, in memory.
    fn held_by_overlay(&self) -> HeldByOverlay {
        held_by_overlay(&self.records)
    }

    /// What memory would be after this change; `None`: what it is.
    fn draft(
        &self,
        sessions: &Sessions,
        change: &Change,
        force: bool,
    ) -> Result<Option<Draft>, Refusal> {
        let name = change.name();
        let taken_by_force = force && matches!(change, Change::Remove(_));
        let mut records = self.records.clone();
        let mut touched = BTreeSet::new();
        if taken_by_force {
            for (ip, record) in &mut records {
                if record.allocation.overlays.remove(name).is_some() {
                    touched.insert(*ip);
                }
            }
        }
        let networks = match self.networks.changed(change, &held_by_overlay(&records)) {
            // The change was made before; what is new is the force.
            Ok(None) if !touched.is_empty() => self.networks.settled(&held_by_overlay(&records)),
            Err(refusal) if touched.is_empty() => return Err(refusal),
            // Without what agents hold there would be no such overlay.
            Err(_) => self.networks.settled(&held_by_overlay(&records)),
            Ok(None) => return Ok(None),
            Ok(Some(networks)) => networks,
        };
        let draft = Draft::new(self, sessions, networks, records, touched);
        if !taken_by_force && let Some((config, _)) = draft.networks.overlay(name) {
            let room = |networks: &Networks, allocator: &Allocator, records| {
                let missing = missing(networks, name, sessions, records);
                in_vain(missing, allocator.capacity(Some(name)))
            };
            let short = room(&draft.networks, &draft.allocator, &draft.records);
            let was_short = room(&self.networks, &self.allocator, &self.records);
            for (range, short, was_short) in [
                (config.v4, short.v4, was_short.v4),
                (config.v6, short.v6, was_short.v6),
            ] {
                let Some(range) = range.filter(|_| short > was_short) else {
                    continue;
                };
                return Err(Refusal {
                    status: 409,
                    sentence: format!(
                        "Overlay {name} would be too small: {} of the registered agents would get no /{} of {}; \
                         give a larger range or a longer prefix.",
                        short, range.prefix, range.net
                    ),
                });
            }
        }
        Ok(Some(draft))
    }

    /// Makes memory what was drafted.
    fn adopt(&mut self, draft: Draft) {
        let Draft {
            networks,
            allocator,
            records,
            changed,
            mut lists,
        } = draft;
        self.networks = Arc::new(networks);
        self.allocator = allocator;
        self.records = records;
        self.holders = holders(&self.networks, &self.records);
        self.gathering.changed.extend(changed);
        self.gathering.networks = true;
        // Those whose answer is in the same write get the new list as their answer.
        let Held {
            registrations,
            pushes,
            ..
        } = &mut self.gathering.held;
        for (ip, (_, answer)) in registrations {
            if let Some(list) = lists.remove(ip) {
                *answer = list;
            }
        }
        // A list of an earlier change is out of date, also that of an agent which is not
        // there any more: should it come back before the write is done, it gets an answer.
        *pushes = lists;
    }

    /// The log has a change.
    pub(super) fn answer_change(&mut self, cx: &mut Context<'_>, changed: Changed) {
        let Changed {
            request,
            name,
            status,
            before,
        } = changed;
        let overlay = self
            .overlay_json(&name, before.as_ref())
            .unwrap_or_default();
        let mut response = Response::json(overlay, None);
        response.status = status;
        if status == 201 {
            response
                .headers
                .push(("Location", format!("/overlay-master/overlays/{name}")));
        }
        cx.out.respond(request, response);
    }

    // What is removed comes back.

    /// An agent says which overlays it still has something of.
    pub(super) fn let_go(
        &mut self,
        cx: &mut Context<'_>,
        ip: Ipv4Addr,
        report: &AgentRegisteredMessage,
    ) {
        let Some(record) = self
            .records
            .get(&ip)
            .filter(|record| !record.orphans.is_empty())
        else {
            return;
        };
        let told = cx.sessions.get(ip).and_then(|session| session.told);
        // What a report says that was made before this lead's first list is out of date.
        let Some(revision) = report
            .revision
            .filter(|revision| told.is_some_and(|told| *revision <= told))
        else {
            return;
        };
        let has = |name: &str| {
            report.draining.iter().any(|draining| draining == name)
                || report
                    .overlays
                    .iter()
                    .any(|overlay| overlay.info.name == name)
        };
        let is_gone = |name: &&str| {
            self.networks
                .removed(name)
                .is_some_and(|removed| removed <= revision)
                && !has(name)
        };
        let orphans = record
            .orphans
            .iter()
            .map(|overlay| overlay.info.name.as_str());
        let gone: Vec<String> = orphans.filter(is_gone).map(str::to_owned).collect();
        if gone.is_empty() {
            return;
        }
        self.give_back(ip, &gone);
        for name in gone {
            cx.out.log(
                Level::Info,
                format!("Agent {ip} has let go of overlay {name}"),
            );
        }
        self.settle(cx);
    }

    /// Takes from an agent what it holds of these overlays, which are not in force.
    fn give_back(&mut self, ip: Ipv4Addr, names: &[String]) {
        let Some(record) = self.records.get_mut(&ip) else {
            return;
        };
        for name in names {
            record.allocation.overlays.remove(name);
            self.holders
                .get_mut(name)
                .map(|holders| holders.remove(&ip));
        }
        self.gathering.changed.insert(ip);
        if record.allocation.overlays.is_empty() {
            // Nothing to carry through the tunnel: the VTEP goes back.
            let allocation = std::mem::take(&mut record.allocation);
            self.allocator.release(&allocation);
            self.records.remove(&ip);
            return;
        }
        record
            .orphans
            .retain(|overlay| !names.contains(&overlay.info.name));
        let network = &self.networks.network;
        let description = describe(
            network,
            ip,
            &record.allocation,
            record.requested,
            &record.orphans,
        );
        record.entry = EncodedAgent::renewed(None, &description.stored, description.sent.iter());
    }

    /// An agent holds nothing any more.
    pub(super) fn forget_holder(&mut self, cx: &mut Context<'_>, ip: Ipv4Addr) {
        self.gathering.held.pushes.remove(&ip);
        self.pushed.forget(ip);
        let mut held = false;
        for holders in self.holders.values_mut() {
            held |= holders.remove(&ip);
        }
        if held {
            self.settle(cx);
        }
    }

    /// Overlays that nobody holds anything of any more are gone for good; others may
    /// take their place.
    fn settle(&mut self, cx: &mut Context<'_>) {
        let free: Vec<String> = self
            .holders
            .iter()
            .filter(|(_, holders)| holders.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        if free.is_empty() {
            return;
        }
        for name in free {
            self.holders.remove(&name);
            cx.out.log(
                Level::Info,
                format!("Overlay {name} is drained; its ranges are free"),
            );
        }
        let settled = self.networks.settled(&self.held_by_overlay());
        if settled.revision != self.networks.revision {
            cx.out.log(
                Level::Info,
                "An overlay of the configuration that was left out can be now",
            );
            let draft = Draft::new(
                self,
                cx.sessions,
                settled,
                self.records.clone(),
                BTreeSet::new(),
            );
            self.adopt(draft);
        } else if settled != *self.networks {
            self.networks = Arc::new(settled);
            self.gathering.networks = true;
        }
    }
}

impl Draft {
    /// What follows from other networks: what agents have of overlays that are no more
    /// stays with them, and those that have registered get what there is to get.
    /// `touched`: agents that hold less than they did.
    fn new(
        serving: &Serving,
        sessions: &Sessions,
        networks: Networks,
        mut records: BTreeMap<Ipv4Addr, AgentRecord>,
        mut changed: BTreeSet<Ipv4Addr>,
    ) -> Draft {
        let network = &networks.network;
        let mut allocator = Allocator::new(network);
        records.retain(|_, record| !record.allocation.overlays.is_empty());
        for record in records.values() {
            let reserved = allocator.reserve(&record.allocation);
            debug_assert!(reserved.is_ok(), "{reserved:?} was held and is not free");
        }
        let mut lists = BTreeMap::new();
        // Those that wait for their answer get it even if their connection broke since.
        let is_there = |ip, session: &Session| session.connected || serving.is_being_answered(ip);
        let registered: BTreeMap<_, _> = sessions
            .iter()
            .filter(|(ip, session)| session.is_current && is_there(*ip, session))
            .collect();
        let ips: BTreeSet<_> = records.keys().chain(registered.keys()).copied().collect();
        for ip in ips {
            let record = records.get(&ip);
            let session = registered.get(&ip);
            let Some(requested) = session
                .map(|session| session.requested)
                .or(record.map(|record| record.requested))
            else {
                continue;
            };
            let mut allocation = record
                .map(|record| record.allocation.clone())
                .unwrap_or_default();
            let mut problems = Vec::new();
            if session.is_some() {
                let lacking = allocator
                    .allocate_missing(network, requested, &mut allocation)
                    .unwrap_or_else(|refused| vec![refused]);
                problems = lacking.iter().map(ToString::to_string).collect();
            }
            let (record, sent) = renewed(network, ip, allocation, requested, record);
            if session.is_some_and(|session| session.takes_news()) || serving.is_being_answered(ip)
            {
                let list = UpdateAgentOverlaysMessage {
                    overlays: sent,
                    problems,
                    revision: Some(networks.revision),
                    ..Default::default()
                };
                lists.insert(ip, list);
            }
            let Some(record) = record else { continue };
            if records
                .get(&ip)
                .is_none_or(|before| before.entry != record.entry)
            {
                changed.insert(ip);
            }
            records.insert(ip, record);
        }
        Draft {
            networks,
            allocator,
            records,
            changed,
            lists,
        }
    }
}

/// What an agent holds in the form of other networks; `None`: nothing.
fn renewed(
    network: &crate::config::Network,
    ip: Ipv4Addr,
    allocation: Allocation,
    requested: AllocationRequest,
    before: Option<&AgentRecord>,
) -> (Option<AgentRecord>, Vec<proto::AgentOverlayInfo>) {
    if allocation.overlays.is_empty() {
        return (None, Vec::new());
    }
    let mut orphans = before
        .map(|record| orphans(network, &record.entry.info().overlays))
        .unwrap_or_default();
    orphans.retain(|overlay| allocation.overlays.contains_key(&overlay.info.name));
    let description = describe(network, ip, &allocation, requested, &orphans);
    let before = before.map(|record| &record.entry);
    let entry = EncodedAgent::renewed(before, &description.stored, description.sent.iter());
    (
        Some(AgentRecord {
            allocation,
            requested,
            orphans,
            entry,
        }),
        description.sent,
    )
}

fn held_by_overlay(records: &BTreeMap<Ipv4Addr, AgentRecord>) -> HeldByOverlay {
    let mut held = HeldByOverlay::new();
    for (ip, record) in records {
        for (name, nets) in &record.allocation.overlays {
            held.entry(name.clone()).or_default().push((*ip, *nets));
        }
    }
    held
}

/// Who holds something of overlays that are not in force.
pub fn holders(
    networks: &Networks,
    records: &BTreeMap<Ipv4Addr, AgentRecord>,
) -> BTreeMap<String, BTreeSet<Ipv4Addr>> {
    let mut holders: BTreeMap<String, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for (ip, record) in records
        .iter()
        .filter(|(_, record)| !record.orphans.is_empty())
    {
        for name in record
            .allocation
            .overlays
            .keys()
            .filter(|name| networks.overlay(name).is_none())
        {
            holders.entry(name.clone()).or_default().insert(*ip);
        }
    }
    holders
}

/// How many agents should have a subnet of an overlay and have none.
fn missing(
    networks: &Networks,
    name: &str,
    sessions: &Sessions,
    records: &BTreeMap<Ipv4Addr, AgentRecord>,
) -> DualStack<u128> {
    let mut missing = DualStack::default();
    let Some((config, _)) = networks.overlay(name) else {
        return missing;
    };
    let newcomers = sessions.iter().filter(|(ip, session)| {
        session.connected && session.is_current && !records.contains_key(ip)
    });
    let newcomers = newcomers.map(|(_, session)| (session.requested, None));
    let agents = records
        .values()
        .map(|record| (record.requested, record.allocation.overlays.get(name)));
    for (requested, nets) in agents.chain(newcomers) {
        let Some(share) = requested.requested_families(config) else {
            continue;
        };
        missing.v4 += u128::from(share.v4 && nets.is_none_or(|nets| nets.v4.is_none()));
        missing.v6 += u128::from(share.v6 && nets.is_none_or(|nets| nets.v6.is_none()));
    }
    missing
}

/// How many of those that are missing something would not find it in what is left.
fn in_vain(missing: DualStack<u128>, room: Capacity) -> DualStack<u128> {
    DualStack {
        v4: missing.v4.saturating_sub(room.free.unwrap_or(0)),
        v6: missing.v6.saturating_sub(room.free6.unwrap_or(0)),
    }
}
