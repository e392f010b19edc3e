//! Tests of the ledger: its invariants after random operations.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::allocation::prefix::overlap;
use crate::config::Network;
use crate::config::master::parse;
use crate::config::overlay::parse_request;
use crate::master::networks::Change;
use crate::master::recovery::recover;
use crate::master::trust::Trust;

const ALL: AllocationRequest = AllocationRequest {
    allocate_subnet: true,
    mesos_bridge: true,
    docker_bridge: true,
    enable_ipv6: true,
};

/// Ranges that a few agents exhaust: 6 VTEP addresses, 4 subnets of `small`.
fn configured() -> Arc<Network> {
    let text = r#"{"network": {"vtep_subnet": "44.128.0.0/29", "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [
        {"name": "small", "subnet": "9.0.0.0/24", "prefix": 26},
        {"name": "dual", "subnet": "9.1.0.0/24", "prefix": 27, "subnet6": "fd01:b::/64", "prefix6": 67},
        {"name": "off", "subnet": "9.2.0.0/24", "prefix": 26, "enabled": false}]}}"#;
    Arc::new(parse("m", text).unwrap().config.network)
}

fn agent(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// A ledger with the log that it is written to, and the agents that have registered.
struct World {
    file: Arc<Network>,
    ledger: Ledger,
    registered: RegisteredAgents,
    /// The latest state that is in the log.
    log: Vec<u8>,
    /// The write under way.
    in_flight: Option<(Delta, Bytes)>,
    /// The agents as the latest delta and those before it have them.
    delivered: BTreeMap<Ipv4Addr, Arc<EncodedAgent>>,
    /// The networks of the latest delta with networks.
    delivered_networks: Arc<Networks>,
}

impl World {
    fn new() -> World {
        let file = configured();
        let recovery = recover(&file, proto::State::default()).unwrap();
        let ledger = Ledger::new(recovery);
        World {
            file,
            delivered_networks: ledger.networks.clone(),
            ledger,
            registered: RegisteredAgents::new(),
            log: Vec::new(),
            in_flight: None,
            delivered: BTreeMap::new(),
        }
    }

    /// Begins anew with the state in the log, as a master does after a write that failed.
    fn recover(&mut self) {
        let state = proto::State::decode(self.log.as_slice()).unwrap();
        let recovery = recover(&self.file, state).expect("every state can be recovered");
        self.ledger = Ledger::new(recovery);
        self.registered.clear();
        self.in_flight = None;
        self.delivered = self.ledger.committed().agents.clone();
        self.delivered_networks = self.ledger.networks.clone();
    }

    /// Allocates as a registration does. `ended` are the agents whose leases have ended.
    fn register(&mut self, ip: Ipv4Addr, request: AllocationRequest, ended: &[Ipv4Addr]) {
        let ended: Vec<_> = ended.iter().copied().filter(|other| *other != ip).collect();
        loop {
            let before = self.ledger.allocator.clone();
            let shortage =
                match self
                    .ledger
                    .allocate(ip, request, Trust::Legacy, &Allocation::default())
                {
                    Ok(granted) => {
                        assert_eq!(granted.exhausted, []);
                        break;
                    }
                    Err(shortage) => shortage,
                };
            assert_eq!(self.ledger.allocator, before, "nothing was allocated");
            let Some((_, agents)) = self.ledger.choose_reclaim(ip, &shortage, &ended) else {
                let granted = self.ledger.allocate_available(
                    ip,
                    request,
                    Trust::Legacy,
                    &Allocation::default(),
                );
                assert!(granted.is_ok() || self.ledger.allocation(ip).is_none());
                break;
            };
            assert!(!agents.is_empty(), "each round reclaims from an agent");
            for other in agents {
                self.registered.remove(&other);
                let registered = self.registered.clone();
                self.ledger.reclaim(other, || registered);
            }
        }
        if self.ledger.allocation(ip).is_some() {
            self.ledger.take_reclaimed(ip);
        }
        let agent = RegisteredAgent {
            is_unproven: false,
            requested: request,
            is_connected: true,
            accepts_list: true,
            trust: Trust::Legacy,
        };
        self.registered.insert(ip, agent);
    }

    fn begin_write(&mut self) {
        if self.in_flight.is_some() || !self.ledger.has_uncommitted() {
            return;
        }
        let (delta, state) = self.ledger.take_delta();
        for (ip, agent) in delta.agents() {
            match agent {
                Some(agent) => _ = self.delivered.insert(ip, agent.clone()),
                None => _ = self.delivered.remove(&ip),
            }
        }
        if let Some(networks) = &delta.networks {
            self.delivered_networks = networks.clone();
        }
        let written = proto::State::decode(state.clone()).unwrap();
        let records = self.ledger.records.values();
        let records: Vec<_> = records.map(|record| record.encoded.decode()).collect();
        assert_eq!(written.agents, records, "the state has every record");
        self.in_flight = Some((delta, state));
    }

    fn finish_write(&mut self) {
        let Some((delta, state)) = self.in_flight.take() else {
            return;
        };
        self.log = state.to_vec();
        self.ledger.commit(delta);
        let log = proto::State::decode(state).unwrap();
        let committed = self.ledger.committed().agents.values();
        let committed: Vec<_> = committed.map(|agent| agent.decode()).collect();
        assert_eq!(committed, log.agents, "the committed view is the log");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Register(number, request, ended) => {
                let ended: Vec<_> = ended.into_iter().map(agent).collect();
                self.register(agent(number), request, &ended);
            }
            Step::Disconnect(number) => _ = self.registered.remove(&agent(number)),
            Step::Delete(number) => {
                self.registered.remove(&agent(number));
                let registered = self.registered.clone();
                self.ledger.delete(agent(number), || registered);
                assert_eq!(self.ledger.allocation(agent(number)), None);
            }
            Step::Reclaim(number) => {
                self.registered.remove(&agent(number));
                let registered = self.registered.clone();
                let before = self.ledger.allocation(agent(number)).cloned();
                self.ledger.reclaim(agent(number), || registered);
                if before.is_some() {
                    let reclaimed = self.ledger.reclaimed.get(agent(number));
                    assert_eq!(reclaimed, before.as_ref());
                }
            }
            Step::Release(number) => {
                let revision = self.ledger.networks().revision;
                let released = |name: &str| name.len() % 2 == usize::from(number % 2);
                let overlays = self
                    .ledger
                    .released_overlays(agent(number), revision, |name| !released(name));
                let registered = self.registered.clone();
                self.ledger
                    .release_overlays(agent(number), &overlays, || registered);
            }
            Step::Change(change, removal) => {
                let before = self.ledger.networks.clone();
                let registered = self.registered.clone();
                match self.ledger.change_networks(&change, removal, &registered) {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => assert_eq!(self.ledger.networks, before),
                }
            }
            Step::BeginWrite => self.begin_write(),
            Step::FinishWrite => self.finish_write(),
            Step::FailWrite => self.recover(),
        }
        self.check();
    }

    /// Checks the invariants of the module's text.
    fn check(&self) {
        let ledger = &self.ledger;
        check_no_overlap(&ledger.records);
        let mut used = Allocator::new(&ledger.networks.network);
        for (ip, record) in &ledger.records {
            assert_eq!(used.reserve(&record.content.allocation), Ok(()));
            check_record(&ledger.networks, *ip, record);
        }
        assert_eq!(ledger.allocator, used, "used is what the records have");
        let holders = DrainHolders::new(&ledger.networks, &ledger.records);
        assert_eq!(ledger.drain_holders, holders);
        self.check_deltas();
    }

    /// Checks that nothing is missing in the deltas up to the next one.
    fn check_deltas(&self) {
        let ledger = &self.ledger;
        let ips = ledger.records.keys().chain(self.delivered.keys());
        for ip in ips.filter(|ip| !ledger.has_uncommitted_of(**ip)) {
            let encoded = ledger.records.get(ip).map(|record| &record.encoded);
            assert_eq!(self.delivered.get(ip), encoded, "{ip} is in a delta");
        }
        if !ledger.uncommitted.networks {
            let delivered = &self.delivered_networks;
            assert_eq!(*delivered, ledger.networks, "the networks are in a delta");
        }
    }
}

/// Checks that no two agents share an address.
fn check_no_overlap(records: &BTreeMap<Ipv4Addr, AgentRecord>) {
    let nets: Vec<IpNet> = records
        .values()
        .flat_map(|record| {
            let vtep = record.content.allocation.vtep.iter().flatten();
            let vtep = vtep.map(|net| IpNet::from(net.addr()));
            let overlays = record.content.allocation.overlays.values();
            let subnets = overlays.flat_map(|nets| [nets.v4, nets.v6]).flatten();
            vtep.chain(subnets)
        })
        .collect();
    for (index, a) in nets.iter().enumerate() {
        for b in &nets[..index] {
            assert!(!overlap(*a, *b), "{a} and {b} belong to two agents");
        }
    }
}

/// Checks that the parts of a record agree with each other and with the networks.
fn check_record(networks: &Networks, ip: Ipv4Addr, record: &AgentRecord) {
    let RecordContent {
        allocation,
        inactive,
        ..
    } = &record.content;
    assert!(!allocation.overlays.is_empty(), "{ip} has no overlay");
    let names = allocation.overlays.keys().map(String::as_str);
    let not_in_force: BTreeSet<_> = names
        .filter(|name| networks.overlay(name).is_none())
        .collect();
    let noted = inactive.iter().map(|overlay| overlay.info.name.as_str());
    assert_eq!(noted.collect::<BTreeSet<_>>(), not_in_force, "{ip}");
    let described = record.content.describe(&networks.network, ip);
    assert_eq!(record.encoded.decode(), described.stored, "{ip} is encoded");
}

#[derive(Clone, Debug)]
enum Step {
    /// The agent registers; the leases of these have ended.
    Register(u8, AllocationRequest, Vec<u8>),
    Disconnect(u8),
    Delete(u8),
    Reclaim(u8),
    /// The agent releases some overlays that are not in force.
    Release(u8),
    Change(Change, Removal),
    BeginWrite,
    FinishWrite,
    FailWrite,
}

const OVERLAYS: [&str; 4] = ["small", "dual", "off", "new"];

fn change() -> impl Strategy<Value = Change> {
    let ranges = [
        r#""subnet": "9.0.0.0/24", "prefix": 26"#,
        r#""subnet": "9.0.0.0/24", "prefix": 28"#,
        r#""subnet": "9.0.0.0/23", "prefix": 25"#,
        r#""subnet": "9.1.0.0/24", "prefix": 27, "subnet6": "fd01:b::/64", "prefix6": 67"#,
        r#""subnet": "9.1.0.0/24", "prefix": 26, "enabled": false"#,
        r#""subnet": "9.3.0.0/24", "prefix": 26, "subnet6": "fd01:c::/64", "prefix6": 66"#,
    ];
    let definition = (
        prop::sample::select(OVERLAYS.to_vec()),
        prop::sample::select(ranges.to_vec()),
    )
        .prop_map(|(name, range)| {
            let text = format!(r#"{{"name": "{name}", {range}}}"#);
            parse_request("body", &text, None).unwrap().definition
        });
    let name = prop::sample::select(OVERLAYS.to_vec()).prop_map(str::to_owned);
    prop_oneof![
        definition.clone().prop_map(Change::Add),
        definition.prop_map(Change::Replace),
        name.clone().prop_map(Change::ResetToFile),
        name.prop_map(Change::Remove),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 1..=8_u8;
    let request = (any::<bool>(), any::<bool>()).prop_map(|(allocate_subnet, enable_ipv6)| {
        AllocationRequest {
            allocate_subnet,
            enable_ipv6,
            ..ALL
        }
    });
    let request = prop_oneof![2 => Just(ALL), 1 => request];
    let ended = prop::collection::vec(number(), 0..4);
    let removal = prop_oneof![Just(Removal::Drain), Just(Removal::Force)];
    prop_oneof![
        8 => (number(), request, ended)
            .prop_map(|(number, request, ended)| Step::Register(number, request, ended)),
        1 => number().prop_map(Step::Disconnect),
        1 => number().prop_map(Step::Delete),
        1 => number().prop_map(Step::Reclaim),
        4 => number().prop_map(Step::Release),
        3 => (change(), removal).prop_map(|(change, removal)| Step::Change(change, removal)),
        4 => Just(Step::BeginWrite),
        4 => Just(Step::FinishWrite),
        1 => Just(Step::FailWrite),
    ]
}

proptest! {
    #[test]
    fn every_operation_keeps_the_invariants(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        // Everything that is written can be read again.
        world.finish_write();
        world.begin_write();
        world.finish_write();
        let before = world.ledger.records.clone();
        let networks = world.ledger.networks().network.clone();
        world.recover();
        prop_assert!(world.ledger.agents().eq(before.keys().copied()));
        for (ip, record) in &world.ledger.records {
            let (now, before) = (&record.content.allocation, &before[ip].content.allocation);
            prop_assert_eq!(&now.overlays, &before.overlays);
            // An address that the VTEP got after the overlays were removed is in no overlay.
            for (now, before) in now.vtep.iter().zip(before.vtep.iter()) {
                prop_assert!(now.is_none() || now == before);
            }
        }
        prop_assert_eq!(&world.ledger.networks().network, &networks);
    }
}

#[test]
fn a_shortage_changes_nothing_and_what_is_available_can_be_had() {
    let mut world = World::new();
    for number in 1..=4 {
        world.register(agent(number), ALL, &[]);
    }
    world.begin_write();
    world.finish_write();
    let shortage = world
        .ledger
        .allocate(agent(5), ALL, Trust::Legacy, &Allocation::default())
        .unwrap_err();
    assert_eq!(shortage.exhausted.len(), 1);
    assert!(!world.ledger.has_uncommitted());
    world.check();
    let granted = world
        .ledger
        .allocate_available(agent(5), ALL, Trust::Legacy, &Allocation::default())
        .unwrap();
    assert!(granted.is_new);
    assert_eq!(granted.exhausted, shortage.exhausted);
    assert_eq!(granted.list.overlays.len(), 1);
    assert!(granted.list.problems[0].starts_with("no /26 is left for overlay small"));
    assert!(world.ledger.has_uncommitted_of(agent(5)));
    assert!(!world.ledger.has_uncommitted_of(agent(4)));
    world.check();
}

#[test]
fn an_agent_without_an_overlay_in_force_gets_no_other_vtep_address() {
    let mut world = World::new();
    for number in 1..=4 {
        world.register(agent(number), ALL, &[]);
    }
    // Overlay `small` is exhausted, so this one has `dual` only.
    let only_v4 = AllocationRequest {
        enable_ipv6: false,
        ..ALL
    };
    world.register(agent(5), only_v4, &[]);
    let remove = Change::Remove("dual".to_owned());
    let none = RegisteredAgents::new();
    let made = world.ledger.change_networks(&remove, Removal::Drain, &none);
    assert!(made.unwrap().is_some());
    let before = world.ledger.allocation(agent(5)).cloned();
    world.register(agent(5), ALL, &[]);
    assert_eq!(world.ledger.allocation(agent(5)).cloned(), before);
    world.check();
}

#[test]
fn an_unchanged_registration_is_no_change() {
    let mut world = World::new();
    world.register(agent(1), ALL, &[]);
    world.begin_write();
    let granted = world
        .ledger
        .allocate(agent(1), ALL, Trust::Legacy, &Allocation::default())
        .unwrap();
    assert!(!granted.is_new && !world.ledger.has_uncommitted());
    assert_eq!(granted.list.overlays.len(), 2);
    // A request without a bridge changes what is sent, and not the record.
    let request = AllocationRequest {
        docker_bridge: false,
        ..ALL
    };
    let granted = world
        .ledger
        .allocate(agent(1), request, Trust::Legacy, &Allocation::default())
        .unwrap();
    let sent = &granted.list.overlays;
    assert!(sent.iter().all(|overlay| overlay.docker_bridge.is_none()));
    assert!(!granted.is_new && !world.ledger.has_uncommitted_of(agent(1)));
    // More bridges change the record, but not the allocation.
    world.register(agent(2), request, &[]);
    world.begin_write();
    let granted = world
        .ledger
        .allocate(agent(2), ALL, Trust::Legacy, &Allocation::default())
        .unwrap();
    assert!(!granted.is_new && world.ledger.has_uncommitted_of(agent(2)));
}

#[test]
fn a_delta_has_the_networks_if_they_changed() {
    let mut world = World::new();
    world.register(agent(1), ALL, &[]);
    let (delta, _) = world.ledger.take_delta();
    assert!(delta.concerns(agent(1)) && !delta.concerns(agent(2)));
    let remove = Change::Remove("off".to_owned());
    let made = world
        .ledger
        .change_networks(&remove, Removal::Drain, &RegisteredAgents::new())
        .unwrap();
    assert!(made.unwrap().lists.is_empty());
    assert!(world.ledger.has_uncommitted_of(agent(2)));
    let (delta, _) = world.ledger.take_delta();
    assert!(
        delta.concerns(agent(2)),
        "the networks are part of every answer"
    );
    assert!(world.ledger.committed().networks.overlay("off").is_some());
    world.ledger.commit(delta);
    assert!(world.ledger.committed().networks.overlay("off").is_none());
}

/// An agent of the log has bridges and no subnets, and requests subnets and no bridges.
#[test]
fn a_stored_bridge_without_a_subnet_is_none() {
    let mut world = World::new();
    world.register(agent(1), ALL, &[]);
    world.begin_write();
    world.finish_write();
    let mut state = proto::State::decode(world.log.as_slice()).unwrap();
    for overlay in &mut state.agents[0].overlays {
        assert!(overlay.mesos_bridge.is_some() && overlay.docker_bridge.is_some());
        (overlay.subnet, overlay.subnet6) = (None, None);
    }
    world.log = state.encode_to_vec();
    world.recover();
    let no_bridges = AllocationRequest {
        mesos_bridge: false,
        docker_bridge: false,
        ..ALL
    };
    let nothing = AllocationRequest {
        allocate_subnet: false,
        ..no_bridges
    };
    for request in [nothing, no_bridges] {
        world.register(agent(1), request, &[]);
        world.check();
        for overlay in world.ledger.records[&agent(1)].encoded.decode().overlays {
            let bridges = (overlay.mesos_bridge, overlay.docker_bridge);
            assert_eq!(bridges, (None, None));
            assert_eq!(overlay.subnet.is_some(), request.allocate_subnet);
        }
    }
}
